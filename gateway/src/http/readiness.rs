//! `/health/ready`: how each part is that this process works with, asked anew each time.
//!
//! **To add a part**: write a function that asks it and returns its [`Condition`], and name it in [`PARTS`], alphabetically. It
//! is asked beside the others, for at most [`ANSWERS_WITHIN`]; one that [fails](Condition::Failed) makes the process not ready.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc, time::Duration};

use axum::{Json, extract::State};
use cnc_domain::{
    kernel::CompanyId,
    ledger::{Fault, MESSAGE_BYTES_MAX, Writable},
};
use cnc_projections::Unwell;
use futures::{
    FutureExt as _,
    future::{BoxFuture, join_all, ready as ready_now},
};
use serde_json::{Value, json};

use super::app::App;
use crate::{catalog::catalog, problem::Problem};

/// A part that does not answer for so long counts as away.
const ANSWERS_WITHIN: Duration = Duration::from_millis(500);

/// What asks a part how it is.
type Ask = fn(&App) -> BoxFuture<'_, Condition>;

/// Every part, by its name in the answer.
const PARTS: &[(&str, Ask)] = &[
    ("clock", |app| ready_now(clock(app)).boxed()),
    ("folds", |app| folds(app).boxed()),
    ("ledger", |app| ledger(app).boxed()),
    ("nats", |app| ready_now(nats(app)).boxed()),
    ("views", |app| views(app).boxed()),
];

/// How a part is. Whoever asks needs no token, so a reason says what an operator has to know, and nothing of the inside: the
/// cause of a fault goes to the log.
#[derive(Debug)]
pub(super) enum Condition {
    /// It works.
    Ok,
    /// This process has no such part.
    Absent,
    /// It does not work, and the process goes on without it, slower.
    Degraded(Cow<'static, str>),
    /// It does not work, and the process cannot do its work without it.
    Failed(Cow<'static, str>),
}

impl<T> From<Result<T, Fault>> for Condition {
    fn from(asked: Result<T, Fault>) -> Self {
        match asked {
            Ok(_) => Self::Ok,
            Err(fault) => {
                tracing::warn!(doing = fault.doing, cause = fault.cause, "not ready");
                Self::Failed("does not answer".into())
            }
        }
    }
}

/// Folds that are stopped, or that lack entries, make no process less ready than another: they are said, and that is all.
async fn folds(app: &App) -> Condition {
    let unwell = match app.engine.unwell().await {
        Ok(unwell) => unwell,
        Err(fault) => return Err::<(), _>(fault).into(),
    };
    let says = unwell.iter().flat_map(|Unwell { fold, stopped, skipped, rebuilding }| {
        let counts = [("is stopped", stopped), ("lacks skipped entries", skipped), ("is built anew", rebuilding)];
        let counts = counts.into_iter().filter(|(_, companies)| **companies > 0);
        counts.map(move |(what, companies)| {
            let noun = if *companies == 1 { "company" } else { "companies" };
            format!("{fold} {what} for {companies} {noun}")
        })
    });
    match says.collect::<Vec<_>>().join("; ") {
        well if well.is_empty() => Condition::Ok,
        unwell => Condition::Degraded(unwell.into()),
    }
}

fn clock(app: &App) -> Condition {
    app.host.clock().skew().map_or(Condition::Ok, |skew| Condition::Failed(skew.to_string().into()))
}

async fn ledger(app: &App) -> Condition {
    match app.host.ledger().writable().await {
        Ok(Writable::Yes) => Condition::Ok,
        Ok(Writable::AtRisk(risk)) => Condition::Degraded(risk.into()),
        Ok(Writable::No(reason)) => Condition::Failed(reason.into()),
        Err(fault) => Err::<(), _>(fault).into(),
    }
}

fn nats(app: &App) -> Condition {
    match app.parts.nats_is_connected() {
        None => Condition::Absent,
        Some(true) => match app.parts.nats_takes_only() {
            None => Condition::Ok,
            Some(bytes) => Condition::Degraded(
                format!("its max_payload of {bytes} bytes is less than the {MESSAGE_BYTES_MAX} that an entry may take")
                    .into(),
            ),
        },
        Some(false) => Condition::Degraded("not connected".into()),
    }
}

async fn views(app: &App) -> Condition {
    match catalog().views().next() {
        // As those who ask read it: what the role may not do is found here, and not by the first who asks.
        Some(view) if app.parts.serves() => app.store.get(CompanyId::nil(), view.name(), "", None).await.into(),
        Some(view) => app.store.position(CompanyId::nil(), view.name()).await.into(),
        None => Condition::Absent,
    }
}

/// Says what the process does and how its parts are, each `ok` or the reason why not. 503 where it cannot do its work.
pub(super) async fn ready(State(app): State<Arc<App>>) -> Result<Json<Value>, Problem> {
    let asked = PARTS.iter().map(async |(part, ask)| {
        let condition = tokio::time::timeout(ANSWERS_WITHIN, ask(&app)).await;
        (*part, condition.unwrap_or(Condition::Failed("does not answer".into())))
    });
    let (mut parts, mut failed) = (BTreeMap::new(), Vec::new());
    for (part, condition) in join_all(asked).await {
        let says = match condition {
            Condition::Absent => continue,
            Condition::Ok => Cow::Borrowed("ok"),
            Condition::Degraded(reason) => reason,
            Condition::Failed(reason) => {
                failed.push(format!("{part}: {reason}"));
                reason
            }
        };
        parts.insert(part, says);
    }
    if failed.is_empty() {
        return Ok(Json(json!({ "status": "ready", "roles": app.parts.roles.names(), "parts": parts })));
    }
    Err(Problem::not_ready(failed.join("; "), json!(parts)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_alphabetical_and_named_once() {
        assert!(PARTS.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn the_reason_of_a_fault_tells_nothing_of_its_cause() {
        let condition = Condition::from(Err::<(), _>(Fault::passing("reading", "postgres://ann:s3cret@host is away")));
        assert!(matches!(&condition, Condition::Failed(reason) if reason == "does not answer"), "{condition:?}");
    }
}
