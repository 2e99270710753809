//! The worker that carries out what folds have sent: commands of triggers, and deadlines when they run out.

use std::{sync::Arc, time::Duration};

use cnc_domain::{
    kernel::Actor,
    ledger::{Fault, Outbox, Parcel, Replied},
};
use futures::{StreamExt as _, stream};
use tokio::sync::watch;

use crate::{Host, HostError, Request};

/// How many parcels are taken at once.
const TAKEN: usize = 256;
/// How many aggregates are served at once.
const AT_ONCE: usize = 32;
/// The worker looks at least this often, whatever it is told.
const LOOK: Duration = Duration::from_secs(1);

/// Drains parcels and rings deadlines until `stop` says so. A rule's refusal is an answer like any other; a fault puts the
/// parcel back.
pub async fn carry_out(outbox: Arc<dyn Outbox>, host: Host, mut stop: watch::Receiver<bool>) {
    while !*stop.borrow() {
        let pause = match round(&*outbox, &host).await {
            Ok(pause) => pause,
            Err(fault) => {
                tracing::warn!(%fault, "the outbox could not be served");
                LOOK
            }
        };
        if pause.is_zero() {
            continue;
        }
        tokio::select! {
            () = outbox.filled() => {}
            () = tokio::time::sleep(pause) => {}
            gone = stop.changed() => if gone.is_err() { return },
        }
    }
}

/// Serves what there is. Returns how long to wait for more.
async fn round(outbox: &dyn Outbox, host: &Host) -> Result<Duration, Fault> {
    let (_, next) = outbox.ring(host.now()).await?;
    let parcels = outbox.waiting(host.now(), TAKEN).await?;
    if parcels.is_empty() {
        let until = next.map_or(LOOK, |next| {
            Duration::from_micros(u64::try_from(next.micros() - host.now().micros()).unwrap_or(0))
        });
        return Ok(until.clamp(Duration::from_millis(1), LOOK));
    }
    let replies: Vec<Vec<Replied>> =
        stream::iter(queues(parcels)).map(|queue| serve(host, queue)).buffer_unordered(AT_ONCE).collect().await;
    outbox.replied(host.now(), replies.into_iter().flatten().collect()).await?;
    Ok(Duration::ZERO)
}

/// Parcels for one aggregate stay in their order.
fn queues(parcels: Vec<Parcel>) -> Vec<Vec<Parcel>> {
    let mut queues: Vec<Vec<Parcel>> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for parcel in parcels {
        let key = (parcel.company, parcel.also.stream.clone(), parcel.also.id);
        let place = *places.entry(key).or_insert_with(|| {
            queues.push(Vec::new());
            queues.len() - 1
        });
        queues[place].push(parcel);
    }
    queues
}

/// Gives one aggregate its commands. After a fault the rest wait for the next round, so that none overtakes.
async fn serve(host: &Host, queue: Vec<Parcel>) -> Vec<Replied> {
    let mut replies = Vec::with_capacity(queue.len());
    for parcel in queue {
        let (company, command) = (parcel.company, parcel.command);
        let outcome = give(host, parcel).await;
        let failed = outcome.is_err();
        replies.push(Replied { company, command, outcome });
        if failed {
            break;
        }
    }
    replies
}

async fn give(host: &Host, parcel: Parcel) -> Result<(), String> {
    let fold = parcel.fold.clone();
    match host.execute_sealed(request(parcel)).await {
        Ok(answer) => {
            if let Some(rejection) = answer.rejection {
                tracing::info!(fold, code = rejection.code, "a trigger's command was refused");
            }
            Ok(())
        }
        // It was carried out before, as another version of the trigger had worded it.
        Err(HostError::KeyReused) => Ok(()),
        Err(error) => {
            tracing::warn!(fold, %error, "a trigger's command failed");
            Err(error.to_string())
        }
    }
}

fn request(parcel: Parcel) -> Request {
    let Parcel { company, command, fold, deadline, correlation, causation, also } = parcel;
    let actor = if deadline { Actor::Deadline { deadline: fold } } else { Actor::Trigger { trigger: fold } };
    Request {
        company,
        stream: also.stream,
        id: also.id,
        command: also.command,
        command_id: command,
        actor,
        location: None,
        correlation: Some(correlation),
        causation: Some(causation),
        idempotency_key: Some(command.to_string()),
        if_match: None,
        internal_allowed: true,
        scope: None,
    }
}
