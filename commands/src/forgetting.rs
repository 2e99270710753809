//! Forgets, now and then, the answers to people that are too old to be asked for again: otherwise they would outgrow the
//! ledger.

use std::time::Duration;

use cnc_domain::kernel::Seconds;
use tokio::sync::watch;

use crate::Host;

/// For so long a person's idempotency key gives its answer again.
pub const KEPT: Seconds = Seconds(30 * 24 * 60 * 60);
/// How often old answers are looked for.
const EVERY: Duration = Duration::from_hours(1);

/// Forgets old answers at once and about hourly, until `stop` says so. Others may do it to the same ledger at the same
/// time: what one has forgotten, the next does not find.
pub async fn forget_answers(host: Host, mut stop: watch::Receiver<bool>) {
    tokio::select! {
        biased;
        // A sender that is gone means the same.
        _ = stop.wait_for(|stop| *stop) => {}
        () = forget_for_ever(&host) => {}
    }
}

async fn forget_for_ever(host: &Host) {
    let mut failing = false;
    loop {
        // By the database's time: a process whose clock is ahead must not forget what is still to be asked for.
        if let Err(fault) = host.clock().look().await {
            tracing::debug!(%fault, "the clock could not be compared");
        }
        match host.ledger().forget_answers(host.now().minus(KEPT)).await {
            Ok(count) => {
                failing = false;
                tracing::debug!(count, "old answers were forgotten");
            }
            // Nothing but room is lost meanwhile, and whatever else is wrong with the database is told by others.
            Err(fault) if !failing => {
                failing = true;
                tracing::warn!(%fault, "old answers could not be forgotten; it is tried again every hour");
            }
            Err(_) => {}
        }
        tokio::time::sleep(EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use std::{
        path::Path,
        sync::{Arc, Mutex},
    };

    use cnc_domain::{
        kernel::{CommandId, CompanyId, Timestamp},
        ledger::{Answer, Append, Hash, Idempotency, Ledger},
    };

    use super::*;
    use crate::{Clock, HostOptions, Keyring, MasterKey, ledger::SqliteLedger};

    const COMPANY: CompanyId = CompanyId::number(1);
    const NOON: Timestamp = Timestamp::from_seconds(1_800_000_000);

    /// An answer that is remembered under this key; nothing else is recorded.
    async fn answer(ledger: &dyn Ledger, key: &str, for_ever: bool, now: Timestamp) {
        let (actor, key, fingerprint) = ("user:1".into(), key.into(), [7; 32]);
        let idempotency = Idempotency { actor, for_ever, refusals: false, key, fingerprint };
        let command = CommandId::number(7);
        let append = Append {
            company: COMPANY,
            founds: true,
            now,
            facts: Hash::default(),
            checks: Vec::new(),
            drafts: Vec::new(),
            idempotency: Some(idempotency),
            answer: Answer { command, position: 0, sequence: 0, recorded: 0, rejection: None, replayed: false },
        };
        ledger.append(vec![append]).await.expect("no fault").remove(0).expect("is answered");
    }

    async fn knows(ledger: &dyn Ledger, key: &str) -> bool {
        ledger.answered(COMPANY, "user:1", key).await.expect("is read").is_some()
    }

    /// A host whose clock stands where it is set.
    async fn host(folder: &Path, clock: &Arc<Mutex<Timestamp>>) -> Host {
        let clock = clock.clone();
        let clock =
            Clock { wall: Arc::new(move || *clock.lock().expect("locks")), steady: Arc::new(|| Duration::ZERO) };
        let options = HostOptions { clock, ..HostOptions::default() };
        let master = MasterKey::create(&folder.join("master.key")).expect("a key");
        let keyring = Keyring::sqlite(folder, master).await.expect("opens");
        Host::start(Arc::new(SqliteLedger::open(folder).expect("opens")), keyring, options).expect("starts")
    }

    #[tokio::test(start_paused = true)]
    async fn answers_to_people_are_forgotten_after_thirty_days_and_others_never() {
        let folder = tempfile::tempdir().expect("a folder");
        let clock = Arc::new(Mutex::new(NOON.plus(KEPT)));
        let host = host(folder.path(), &clock).await;
        let ledger = host.ledger().clone();
        answer(&*ledger, "old", false, NOON.minus(Seconds(1))).await;
        answer(&*ledger, "of a tool", true, NOON.minus(Seconds(1))).await;
        answer(&*ledger, "younger", false, NOON).await;
        let (stop, stopped) = watch::channel(false);
        let working = tokio::spawn(forget_answers(host.clone(), stopped));
        while knows(&*ledger, "old").await {}
        assert!(knows(&*ledger, "younger").await && knows(&*ledger, "of a tool").await);
        *clock.lock().expect("locks") = NOON.plus(KEPT).plus(Seconds(1));
        while knows(&*ledger, "younger").await {
            tokio::time::advance(EVERY).await;
        }
        assert!(knows(&*ledger, "of a tool").await);
        stop.send(true).expect("listens");
        working.await.expect("ends");
    }
}
