//! `cnc token`: a token for the API, signed with the installation's own key.

use cnc_domain::{
    cloud_control::roles::ROLES,
    kernel::{CompanyId, Id, LocationId, UserId},
};
use serde_json::json;
use uuid::Uuid;

use super::{
    in_existing,
    output::{Failure, Out},
};
use crate::{clock, run::Config, tokens::Claims};

/// Issue a token for the API
///
/// Use it as `authorization: Bearer TOKEN`. It is good for one company and one role, and stays good until it expires, so
/// keep --hours short.
#[derive(Debug, clap::Args)]
pub struct Token {
    /// The company: see `cnc company list`
    #[arg(long, value_name = "ID")]
    company: CompanyId,
    /// The role, which says what the bearer may do
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(ROLES.iter().copied()))]
    role: String,
    /// The user; a new one where none is named
    #[arg(long, value_name = "ID")]
    user: Option<UserId>,
    /// Only this location (may be given more than once); all of them where none is named
    #[arg(long, value_name = "ID")]
    location: Vec<LocationId>,
    /// For how long
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=8760))]
    hours: u32,
}

pub async fn run(command: &Token, config: Config, out: Out) -> Result<(), Failure> {
    let user = command.user.unwrap_or_else(|| Id::new(Uuid::now_v7()));
    let claims = Claims::new(user, command.company, &command.role, clock::now(), command.hours * 3600);
    let claims = if command.location.is_empty() { claims } else { claims.within(command.location.iter().copied()) };
    let token = in_existing(&config, async |rooms| match rooms.ledger.head(command.company).await? {
        Some(_) => Ok(rooms.tokens.issue(&claims)?),
        None => Err(Failure::no_company(command.company)),
    });
    let token = token.await?;
    out.say(&token, &json!({ "token": token, "user": user, "expires": claims.expires() }))
}
