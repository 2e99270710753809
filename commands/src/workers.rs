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
            biased;
            () = outbox.filled() => {}
            () = tokio::time::sleep(pause) => {}
            gone = stop.changed() => if gone.is_err() { return },
        }
    }
}

/// Serves what there is. Returns how long to wait for more. All goes by the time of the ledger's database: what is due later
/// must not be given early by a process whose clock is ahead, and one whose clock is not believed gives nothing.
async fn round(outbox: &dyn Outbox, host: &Host) -> Result<Duration, Fault> {
    match host.clock().now().await {
        Ok(_) => {}
        Err(HostError::Fault(fault)) => return Err(fault),
        Err(_) => return Ok(LOOK),
    }
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
    let (fold, company, command) = (parcel.fold.clone(), parcel.company, parcel.command);
    match host.ledger().contains(company, parcel.caused_at).await {
        Ok(true) => {}
        Ok(false) => {
            let at = parcel.caused_at;
            tracing::warn!(%company, fold, %at, "a trigger's command is dropped: the ledger does not have what caused it");
            return Ok(());
        }
        Err(fault) => return Err(fault.to_string()),
    }
    match host.execute_sealed(request(parcel)).await {
        // Or it was carried out before, as another version of the trigger had worded it.
        Ok(_) | Err(HostError::KeyReused) => Ok(()),
        // It was carried along, or will be by a move that is not finished: here nobody takes it out again.
        Err(error @ HostError::Departed) => {
            tracing::info!(%company, fold, %command, "a trigger's command is ended here: the company has moved away");
            Err(error.to_string())
        }
        Err(error) => {
            tracing::warn!(fold, %error, "a trigger's command failed");
            Err(error.to_string())
        }
    }
}

fn request(parcel: Parcel) -> Request {
    let Parcel { company, command, fold, deadline, correlation, causation, also, .. } = parcel;
    let actor = if deadline { Actor::Deadline { deadline: fold } } else { Actor::Trigger { trigger: fold } };
    Request {
        command_id: command,
        correlation: Some(correlation),
        causation: Some(causation),
        idempotency_key: Some(command.to_string()),
        ..Request::internal(company, &also.stream, also.id, also.command, actor)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, sync::Mutex};

    use async_trait::async_trait;
    use cnc_domain::{
        cloud_control::company::{Command, Company, Currency, Founding, Plan},
        kernel::{Also, CommandId, CompanyId, Id, Message, Timestamp},
        ledger::{Due, Head, Ledger},
    };
    use tokio::sync::Notify;

    use super::*;
    use crate::{HostOptions, Keyring, MasterKey, ledger::SqliteLedger};

    const COMPANY: CompanyId = CompanyId::number(1);

    /// An outbox in memory that says when it is empty.
    #[derive(Default)]
    struct Memory {
        parcels: Mutex<Vec<Parcel>>,
        due: Mutex<Vec<Due>>,
        failed: Mutex<Vec<(CommandId, String)>>,
        filled: Notify,
        drained: Notify,
    }

    #[async_trait]
    impl Outbox for Memory {
        async fn waiting(&self, _: Timestamp, limit: usize) -> Result<Vec<Parcel>, Fault> {
            Ok(self.parcels.lock().expect("locks").iter().take(limit).cloned().collect())
        }
        async fn replied(&self, _: Timestamp, replies: Vec<Replied>) -> Result<(), Fault> {
            let done: HashSet<CommandId> = replies.iter().map(|reply| reply.command).collect();
            self.parcels.lock().expect("locks").retain(|parcel| !done.contains(&parcel.command));
            let failed = replies.into_iter().filter_map(|reply| Some((reply.command, reply.outcome.err()?)));
            self.failed.lock().expect("locks").extend(failed);
            if self.parcels.lock().expect("locks").is_empty() && self.due.lock().expect("locks").is_empty() {
                self.drained.notify_one();
            }
            Ok(())
        }
        async fn ring(&self, now: Timestamp) -> Result<(usize, Option<Timestamp>), Fault> {
            let mut due = self.due.lock().expect("locks");
            let (out, rest): (Vec<Due>, Vec<Due>) = due.drain(..).partition(|due| due.at <= now);
            *due = rest;
            let rung = out.len();
            self.parcels.lock().expect("locks").extend(out.into_iter().map(|due| due.parcel));
            Ok((rung, due.iter().map(|due| due.at).min()))
        }
        async fn filled(&self) {
            self.filled.notified().await;
        }
    }

    fn parcel(number: u128, deadline: bool, command: &Command) -> Parcel {
        Parcel {
            company: COMPANY,
            command: CommandId::number(number),
            fold: "understaffed".into(),
            deadline,
            correlation: Id::number(8),
            causation: Id::<()>::number(9).uuid(),
            caused_at: Head::default(),
            also: Also {
                stream: "company".into(),
                id: COMPANY.uuid(),
                command: Message::split(command),
                instead: None,
            },
        }
    }

    async fn host(folder: &std::path::Path) -> Host {
        let ledger: Arc<dyn Ledger> = Arc::new(SqliteLedger::open(folder).expect("opens"));
        let master = MasterKey::create(&folder.join("master.key")).expect("a key");
        let keyring = Keyring::sqlite(folder, master).await.expect("opens");
        let options = HostOptions { adopt_schemas: false, ..HostOptions::default() };
        let host = Host::start(ledger, keyring, options).expect("starts");
        let founding = Founding {
            name: "Harbour Movers".into(),
            currency: Currency::Cad,
            region: "ca-west".into(),
            plan: Plan::default(),
        };
        let found = request(parcel(1, false, &Command::Found(founding)));
        host.execute_sealed(Request { actor: Actor::tool("cnc"), ..found }).await.expect("is answered");
        host
    }

    #[tokio::test]
    async fn parcels_and_deadlines_are_carried_out_once_and_in_order() {
        let folder = tempfile::tempdir().expect("a folder");
        let (host, outbox) = (host(folder.path()).await, Arc::new(Memory::default()));
        let suspend = || Command::Suspend { reason: "unpaid".into() };
        outbox.due.lock().expect("locks").push(Due {
            key: "k".into(),
            at: host.now().plus(cnc_domain::kernel::Seconds(1)),
            parcel: parcel(5, true, &Command::Close { reason: "gone".into() }),
        });
        outbox.parcels.lock().expect("locks").extend([
            parcel(2, false, &suspend()),
            parcel(3, false, &Command::Reinstate),
            // The same command again acts no second time, and a refusal is final.
            parcel(2, false, &suspend()),
            parcel(4, false, &Command::RestoreSettings { version: 7 }),
        ]);
        let (stop, stopped) = watch::channel(false);
        let working = tokio::spawn(carry_out(outbox.clone(), host.clone(), stopped));
        outbox.drained.notified().await;
        stop.send(true).expect("listens");
        working.await.expect("ends");
        assert!(outbox.failed.lock().expect("locks").is_empty());
        let lines = host.ledger().read(COMPANY, 1, 100).await.expect("is read");
        let entries: Vec<_> =
            lines.iter().map(|line| cnc_domain::ledger::Entry::read(line).expect("an entry")).collect();
        let events: Vec<&str> = entries.iter().map(|entry| entry.event.as_str()).collect();
        assert_eq!(events, ["suspended", "reinstated", "closed"]);
        assert_eq!(entries[0].actor, Actor::Trigger { trigger: "understaffed".into() });
        assert_eq!(entries[2].actor, Actor::Deadline { deadline: "understaffed".into() });
        assert_eq!(entries[0].causation, Some(Id::<Company>::number(9).uuid()));
    }
}
