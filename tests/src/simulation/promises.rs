//! What the system promises, looked at when the storm is over.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use cnc_domain::{
    kernel::{Actor, CompanyId, Timestamp},
    ledger::{Entry, Feed as _, Head, verify},
};
use cnc_projections::{Engine, Query};

use super::{
    World, process,
    tills::{self, Event},
    weather::Life,
};

/// How long all may take to come to rest once nothing fails any more.
const REST: u64 = 900;

type Promise<T = ()> = Result<T, String>;

fn told(fault: impl std::fmt::Display) -> String {
    fault.to_string()
}

/// Who looks: a process that meets no fault.
struct Auditor {
    world: Arc<World>,
    ledger: cnc_commands::ledger::memory::MemoryLedger,
    store: cnc_projections::Store,
    engine: Engine,
}

/// Looks at all that was promised.
pub async fn keep(world: &Arc<World>) -> Promise {
    let life = Life::new(world, "auditor".into(), true);
    let store = world.databases.store(life.clone());
    let engine = Engine::new(Arc::new(world.server.ledger(life.clone())), store.clone(), process::folds());
    let auditor = Auditor { world: world.clone(), ledger: world.server.ledger(life), store, engine };
    auditor.rest().await?;
    auditor.folds().await?;
    for company in &world.companies {
        let entries = auditor.chain(*company).await?;
        auditor.answers(*company, &entries)?;
        triggers(&entries)?;
        auditor.view(*company, &entries).await?;
    }
    Ok(())
}

impl Auditor {
    /// Waits until every fold has reached its ledger's head and nothing is to be carried out any more.
    async fn rest(&self) -> Promise {
        let mut why = String::new();
        for second in 0..REST {
            if second % 100 == 50 {
                // Processes that die again and again stop a fold, which is then an operator's to let go on.
                self.engine.retry(None, None).await.map_err(told)?;
            }
            match self.is_at_rest().await? {
                None => return Ok(()),
                Some(busy) => why = busy,
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Err(format!("the system does not come to rest: {why}"))
    }

    async fn is_at_rest(&self) -> Promise<Option<String>> {
        let heads = self.ledger.heads().await.map_err(told)?;
        let rows = self.engine.status().await.map_err(told)?;
        let live = rows.iter().filter(|row| row.standing == "live");
        if let Some(behind) = live.clone().find(|row| row.lag > 0) {
            return Ok(Some(format!("{behind:?}")));
        }
        if live.count() < heads.len() * 2 {
            return Ok(Some("a fold has not begun".into()));
        }
        let outbox = self.store.outbox();
        let waiting = outbox.waiting(Timestamp::from_micros(i64::MAX), 1).await.map_err(told)?;
        let (_, due) = outbox.ring(Timestamp::from_micros(0)).await.map_err(told)?;
        Ok(waiting.first().map(|parcel| format!("{parcel:?}")).or_else(|| due.map(|due| format!("due {due}"))))
    }

    /// The chain verifies up to the head; positions and sequences have no gap; time does not run backwards.
    async fn chain(&self, company: CompanyId) -> Promise<Vec<Entry>> {
        let mut lines = Vec::new();
        loop {
            let page = self.ledger.read(company, lines.len() as u64, 1_000).await.map_err(told)?;
            if page.is_empty() {
                break;
            }
            lines.extend(page);
        }
        let head: Option<Head> = self.ledger.head(company).await.map_err(told)?;
        verify(&lines, head).map_err(told)?;
        let entries: Result<Vec<_>, _> = lines.iter().map(|line| Entry::read(line)).collect();
        let entries = entries.map_err(told)?;
        let mut sequences = HashMap::new();
        for entry in &entries {
            let last = sequences.entry((entry.stream.clone(), entry.id)).or_insert(0);
            *last += 1;
            if entry.sequence != *last {
                return Err(format!("position {}: sequence {} after {}", entry.position, entry.sequence, *last - 1));
            }
        }
        Ok(entries)
    }

    /// Every answered command is in the ledger exactly as it was answered, and no key acted twice.
    fn answers(&self, company: CompanyId, entries: &[Entry]) -> Promise {
        let keys = self.world.commands();
        let mut acted: HashMap<&str, _> = HashMap::new();
        for entry in entries.iter().filter(|entry| matches!(entry.actor, Actor::User { .. })) {
            let root = entry.correlation.uuid();
            let key = keys.get(&root).ok_or_else(|| format!("nobody gave the command of {}", entry.position))?;
            if *acted.entry(key.as_str()).or_insert(root) != root {
                return Err(format!("the key {key} acted twice, also at position {}", entry.position));
            }
        }
        for given in self.world.given().iter().filter(|given| given.company == company) {
            let answer = &given.answer;
            let own = entries.iter().filter(|entry| entry.correlation.uuid() == answer.command.uuid());
            let own: Vec<_> = own.filter(|entry| matches!(entry.actor, Actor::User { .. })).collect();
            if own.len() != answer.recorded {
                return Err(format!("{} was answered {answer:?}, and the ledger has {} of it", given.key, own.len()));
            }
            let stands = own.last().is_none_or(|last| last.position == answer.position);
            let at = entries.iter().filter(|entry| entry.position <= answer.position && entry.id == given.till.uuid());
            if !stands || at.count() as u64 != answer.sequence {
                return Err(format!("{} was answered {answer:?}, and stands elsewhere", given.key));
            }
        }
        Ok(())
    }

    /// The view has what adding up the ledger gives.
    async fn view(&self, company: CompanyId, entries: &[Entry]) -> Promise {
        let mut sums: BTreeMap<String, (i64, u64)> = BTreeMap::new();
        for entry in entries {
            let Some(event) = tills::event(entry) else { continue };
            let (sum, count) = sums.entry(entry.id.to_string()).or_default();
            *count += 1;
            match event {
                Event::CameIn { amount } => *sum += amount,
                Event::WentOut { amount } => *sum -= amount,
                Event::Counted | Event::Locked => {}
            }
        }
        let query = Query { limit: 100, ..Query::default() };
        let page = self.store.query(company, "till_sums", &query).await.map_err(told)?;
        let number = |row: &cnc_projections::Row, member: &str| row.doc[member].as_i64().unwrap_or(i64::MIN);
        let shown =
            page.rows.iter().map(|row| (row.key.clone(), (number(row, "sum"), number(row, "entries").cast_unsigned())));
        let shown: BTreeMap<_, _> = shown.collect();
        if shown == sums { Ok(()) } else { Err(format!("the view shows {shown:?}, the ledger says {sums:?}")) }
    }

    /// Every fold's documents are what folding the ledger anew gives.
    async fn folds(&self) -> Promise {
        for verified in self.engine.verify(None).await.map_err(told)? {
            if !verified.differences.is_empty() || verified.stopped.is_some() {
                return Err(format!("a fold differs from a fresh one: {verified:?}"));
            }
        }
        Ok(())
    }
}

/// Each entry that a trigger answers was answered exactly once; after the last deadline, each till was locked.
fn triggers(entries: &[Entry]) -> Promise {
    let mut counted: BTreeMap<_, u32> = BTreeMap::new();
    let mut given: HashMap<_, u64> = HashMap::new();
    for entry in entries.iter().filter(|entry| !matches!(entry.actor, Actor::User { .. } | Actor::Tool { .. })) {
        if let Some(before) = given.insert(entry.command, entry.position) {
            return Err(format!("a trigger's command acted at position {before} and at {}", entry.position));
        }
        if let (Some(Event::Counted), Some(cause)) = (tills::event(entry), entry.causation) {
            *counted.entry(cause).or_default() += 1;
        }
    }
    let came_in = |entry: &&Entry| matches!(tills::event(entry), Some(Event::CameIn { .. }));
    for entry in entries.iter().filter(came_in) {
        let times = counted.get(&entry.entry_id()).copied().unwrap_or_default();
        if times != 1 {
            return Err(format!("position {} was answered {times} times by the trigger", entry.position));
        }
        let locked = |other: &Entry| {
            other.id == entry.id
                && other.position > entry.position
                && matches!(tills::event(other), Some(Event::Locked))
        };
        if !entries.iter().any(locked) {
            return Err(format!("no deadline ran out after position {}", entry.position));
        }
    }
    Ok(())
}
