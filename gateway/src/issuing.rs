//! Issuing tokens and taking them back. Both are entries of the ledger: who issued which token to whom until when is on the
//! record, and a token that the record does not know is no token, whoever has signed it.

use std::collections::BTreeSet;

use cnc_commands::{Host, HostError, Request};
use cnc_domain::{
    cloud_control::{
        ServiceAccount, User,
        service_account::Registration,
        tokens::{NewToken, TokenId, Tokens as Issued},
    },
    kernel::{Actor, CommandId, CompanyId, Id, LocationId, Message, Rejection, Timestamp},
    ledger::Fault,
};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    principal::Principal,
    tokens::{Claims, Tokens},
};

/// A token that was issued.
#[derive(Clone, Debug)]
pub struct Bearer {
    /// What its bearer sends.
    pub token: String,
    /// What it says.
    pub claims: Claims,
}

/// Why a token could not be issued, shown or taken back.
#[derive(Debug, thiserror::Error)]
pub enum NotIssued {
    /// The company knows nobody of this name.
    #[error("the company knows no {0}")]
    Unknown(Principal),
    /// The rules say no.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The system failed.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// What a company knows of somebody who may be issued a token.
#[derive(Clone, Debug)]
pub struct Known {
    /// Their role.
    pub role: String,
    /// The tokens that they were issued.
    pub tokens: Issued,
}

/// What the company knows of a principal, as its ledger says now.
pub async fn known(host: &Host, company: CompanyId, principal: Principal) -> Result<Known, NotIssued> {
    let state = host.state_now(company, principal.stream(), principal.id()).await.map_err(fault)?;
    let known = state.as_ref().and_then(|state| match principal {
        Principal::User(_) => {
            let user: &User = state.get()?;
            user.duties().map(|duties| Known { role: duties.role, tokens: user.tokens().clone() })
        }
        Principal::ServiceAccount(_) => {
            let account: &ServiceAccount = state.get()?;
            let Registration { role, .. } = account.registration()?;
            Some(Known { role: role.clone(), tokens: account.tokens().clone() })
        }
    });
    known.ok_or(NotIssued::Unknown(principal))
}

/// Issues a token on behalf of an operator's tool: the entry first, then the signature.
pub async fn issue(
    (host, tokens): (&Host, &Tokens),
    company: CompanyId,
    principal: Principal,
    locations: Option<BTreeSet<LocationId>>,
    (now, expires): (Timestamp, Timestamp),
) -> Result<Bearer, NotIssued> {
    let role = known(host, company, principal).await?.role;
    // A token counts in whole seconds, and the record says what it says.
    let expires = Timestamp::from_seconds(expires.micros().div_euclid(1_000_000));
    let token: TokenId = Id::new(Uuid::now_v7());
    let new = NewToken { token, locations: locations.clone(), expires };
    give(host, company, principal, ("issue_token", &new)).await?;
    let claims = Claims { locations, ..Claims::new(token, principal, company, &role, (now, expires)) };
    Ok(Bearer { token: tokens.issue(&claims)?, claims })
}

/// Takes a token back on behalf of an operator's tool: whether it was good.
pub async fn revoke(host: &Host, company: CompanyId, principal: Principal, token: TokenId) -> Result<bool, NotIssued> {
    known(host, company, principal).await?;
    give(host, company, principal, ("revoke_token", &serde_json::json!({ "token": token }))).await
}

/// Gives a command to whoever the token names: whether anything was recorded.
async fn give(
    host: &Host,
    company: CompanyId,
    principal: Principal,
    (name, fields): (&str, &impl Serialize),
) -> Result<bool, NotIssued> {
    let fields = serde_json::value::to_raw_value(fields).map_err(|cause| Fault::broken("issuing a token", cause))?;
    let command = Message { name: name.into(), fields };
    let request = Request {
        command_id: CommandId::new(Uuid::now_v7()),
        ..Request::internal(company, principal.stream(), principal.id(), command, Actor::tool("cnc"))
    };
    let answer = host.execute(request).await.map_err(fault)?;
    match answer.rejection {
        Some(rejection) => Err(rejection.into()),
        None => Ok(answer.recorded > 0),
    }
}

fn fault(error: HostError) -> NotIssued {
    match error {
        HostError::Fault(fault) => NotIssued::Fault(fault),
        other => NotIssued::Fault(Fault::broken("issuing a token", other)),
    }
}
