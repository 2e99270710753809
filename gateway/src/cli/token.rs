//! `cnc token`: tokens for the API, signed with the installation's own key and known to the company's ledger.

use std::collections::BTreeSet;

use cnc_domain::{
    cloud_control::tokens::TokenId,
    kernel::{CompanyId, LocationId, Minutes, ServiceAccountId, UserId},
};
use serde_json::{Value, json};

use super::{
    in_existing,
    output::{Failure, Out},
};
use crate::{
    clock,
    issuing::{self, NotIssued},
    principal::Principal,
    run::{Config, Rooms},
};

/// Issue tokens for the API, take them back, list them
#[derive(Debug, clap::Subcommand)]
pub enum Token {
    /// Issue a token to a user or a service account
    ///
    /// Use it as `authorization: Bearer TOKEN`. It is good for their role and branches until it expires, is revoked, or they
    /// are locked or removed. That it was issued is an entry of the company's ledger.
    Issue {
        #[command(flatten)]
        bearer: BearerArgs,
        /// Only this location (may be given more than once); all of theirs where none is named
        #[arg(long, value_name = "ID")]
        location: Vec<LocationId>,
        /// For how long
        #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=8760))]
        hours: u32,
    },
    /// Take a token back: within a second it is no longer good anywhere
    Revoke {
        #[command(flatten)]
        bearer: BearerArgs,
        /// The token's id, as `cnc token list` shows it
        #[arg(value_name = "TOKEN-ID")]
        token: TokenId,
    },
    /// List the tokens that somebody was issued and that are good
    List {
        #[command(flatten)]
        bearer: BearerArgs,
    },
}

/// Whose token.
#[derive(Debug, clap::Args)]
pub struct BearerArgs {
    /// The company: see `cnc company list`
    #[arg(long, value_name = "ID")]
    company: CompanyId,
    #[command(flatten)]
    named: Named,
}

/// Who bears it.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Named {
    /// The user: see `cnc user invite`
    #[arg(long, value_name = "ID")]
    user: Option<UserId>,
    /// The service account: see `cnc service-account register`
    #[arg(long, value_name = "ID")]
    service_account: Option<ServiceAccountId>,
}

impl BearerArgs {
    fn principal(&self) -> Principal {
        let Named { user, service_account } = self.named;
        let account = service_account.unwrap_or_default();
        user.map_or(Principal::ServiceAccount(account), Principal::User)
    }
}

pub async fn run(command: &Token, config: Config, out: Out) -> Result<(), Failure> {
    in_existing(&config, async |rooms| match command {
        Token::Issue { bearer, location, hours } => issue(rooms, bearer, location, *hours, out).await,
        Token::Revoke { bearer, token } => revoke(rooms, bearer, *token, out).await,
        Token::List { bearer } => list(rooms, bearer, out).await,
    })
    .await
}

async fn issue(
    rooms: &Rooms,
    bearer: &BearerArgs,
    location: &[LocationId],
    hours: u32,
    out: Out,
) -> Result<(), Failure> {
    let locations = (!location.is_empty()).then(|| location.iter().copied().collect::<BTreeSet<_>>());
    let now = clock::now();
    let times = (now, now.plus(Minutes(hours * 60)));
    let (company, principal) = (bearer.company, bearer.principal());
    let issued = issuing::issue((&rooms.host, &rooms.tokens), company, principal, locations, times).await?;
    let (token, claims) = (issued.token, issued.claims);
    let said = json!({ "token": token, "id": claims.jti, "bearer": principal.to_string(), "role": claims.role,
        "expires": claims.expires() });
    out.say(&token, &said)
}

async fn revoke(rooms: &Rooms, bearer: &BearerArgs, token: TokenId, out: Out) -> Result<(), Failure> {
    let principal = bearer.principal();
    if !issuing::revoke(&rooms.host, bearer.company, principal, token).await? {
        return Err(Failure::Missing(format!("{principal} has no good token {token}: see `cnc token list`")));
    }
    out.say(format_args!("{token} is revoked"), &json!({ "id": token, "revoked": true }))
}

async fn list(rooms: &Rooms, bearer: &BearerArgs, out: Out) -> Result<(), Failure> {
    let known = issuing::known(&rooms.host, bearer.company, bearer.principal()).await?;
    let now = clock::now();
    let mut tokens = known.tokens.all().filter(|token| token.expires > now).peekable();
    if tokens.peek().is_none() && !out.json() {
        return out.say("no token of theirs is good", &Value::Null);
    }
    for token in tokens {
        let text = format!("{}  issued {}  good until {}", token.token, token.issued_at, token.expires);
        let said = json!({ "id": token.token, "issued": token.issued_at, "expires": token.expires,
            "locations": token.locations });
        out.say(text, &said)?;
    }
    Ok(())
}

impl From<NotIssued> for Failure {
    fn from(not_issued: NotIssued) -> Self {
        match not_issued {
            NotIssued::Unknown(_) => Self::Missing(not_issued.to_string()),
            NotIssued::Rejected(_) => Self::Usage(not_issued.to_string()),
            NotIssued::Fault(fault) => fault.into(),
        }
    }
}
