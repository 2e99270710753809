//! What the system promises, looked at when the storm is over.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use cnc_domain::{
    kernel::{self, Actor, CompanyId, Deadline, Sent, Timestamp, Told, Tried, try_batch},
    ledger::{Entry, Feed as _, Hash, Head, verify},
};
use cnc_projections::{Engine, Query};

use uuid::Uuid;

use super::{
    World, process,
    tills::{self, Event},
    weather::Life,
};

/// How long all may take to come to rest once nothing fails any more.
const REST: u64 = 900;

/// How far a clock that something is recorded by may be ahead.
const CLOCKS_APART: kernel::Seconds = kernel::Seconds(5);

/// How long after the last news folds may hold documents.
const IDLE: u64 = 30;

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

/// Waits until all has begun: a trigger is silent about what was recorded before its first start.
pub async fn begun(world: &Arc<World>) -> Promise {
    Auditor::new(world).rest().await
}

/// Looks at all that was promised.
pub async fn keep(world: &Arc<World>) -> Promise {
    let auditor = Auditor::new(world);
    auditor.rest().await?;
    if world.climate.crashes > 0 {
        // Now no news will tell anybody what was lost.
        world.crash_databases();
        auditor.rest().await?;
    }
    auditor.folds().await?;
    for company in &world.companies {
        let (entries, last) = auditor.chain(*company).await?;
        auditor.answers(*company, &entries)?;
        triggers(&entries, last)?;
        published(world, *company, &entries)?;
        auditor.view(*company, &entries).await?;
    }
    idle(world).await
}

/// What folds have loaded they forget, once there was no news for a while.
async fn idle(world: &World) -> Promise {
    let mut held = 0;
    for _ in 0..IDLE {
        held = world.processes().iter().flatten().map(|process| process.engine.held_bytes()).sum();
        if held == 0 {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Err(format!("folds hold {held} bytes, long after the last news"))
}

impl Auditor {
    fn new(world: &Arc<World>) -> Self {
        let life = Life::new(world, "auditor".into(), true);
        let store = world.databases.store(life.clone());
        let engine = Engine::new(Arc::new(world.server.ledger(life.clone())), store.clone(), process::folds());
        Self { world: world.clone(), ledger: world.server.ledger(life), store, engine }
    }

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
        let published = self.world.exchange.messages();
        let mut positions: BTreeSet<_> =
            published.iter().map(|message| (message.company, message.head.position)).collect();
        positions.retain(|(company, _)| heads.iter().any(|(there, _)| there == company));
        if (positions.len() as u64) < heads.iter().map(|(_, head)| head.position).sum() {
            return Ok(Some(format!("the stream has only {} entries", positions.len())));
        }
        let waiting = outbox.waiting(Timestamp::LAST, 1).await.map_err(told)?;
        let (_, due) = outbox.ring(Timestamp::from_micros(0)).await.map_err(told)?;
        Ok(waiting.first().map(|parcel| format!("{parcel:?}")).or_else(|| due.map(|due| format!("due {due}"))))
    }

    /// The chain verifies up to the head; positions and sequences have no gap; time does not run backwards, and no entry is
    /// of a time that has not come.
    async fn chain(&self, company: CompanyId) -> Promise<(Vec<Entry>, Hash)> {
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
        let latest = self.world.now().plus(CLOCKS_APART);
        for entry in &entries {
            let last = sequences.entry((entry.stream.clone(), entry.id)).or_insert(0);
            *last += 1;
            if entry.at > latest {
                return Err(format!(
                    "position {} was recorded at {}, which has not come yet",
                    entry.position, entry.at
                ));
            }
            if entry.sequence != *last {
                return Err(format!("position {}: sequence {} after {}", entry.position, entry.sequence, *last - 1));
            }
        }
        Ok((entries, lines.last().map(Hash::of).unwrap_or_default()))
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
            let held = sum(entries, given.till.uuid(), answer.position);
            let refused_at = answer.rejection.as_ref().and_then(|rejection| rejection.facts["sum"].as_i64());
            if refused_at.is_some_and(|sum| sum != held) {
                return Err(format!("{} was refused for {refused_at:?}, while the till held {held}", given.key));
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
            if *sum < 0 {
                return Err(format!("position {}: a till holds {sum}, which no rule allows", entry.position));
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

/// What a till holds after a position.
fn sum(entries: &[Entry], till: Uuid, until: u64) -> i64 {
    let own = entries.iter().filter(|entry| entry.id == till && entry.position <= until).filter_map(tills::event);
    own.fold(0, |sum, event| match event {
        Event::CameIn { amount } => sum + amount,
        Event::WentOut { amount } => sum - amount,
        Event::Counted | Event::Locked => sum,
    })
}

/// What the trigger sends of these entries was done exactly once each, and so was, for each till, its last deadline, and none
/// before its time.
fn triggers(entries: &[Entry], last: Hash) -> Promise {
    let mut acted = HashMap::new();
    let given = |entry: &&Entry| matches!(entry.actor, Actor::Trigger { .. } | Actor::Deadline { .. });
    for entry in entries.iter().filter(given) {
        if let Some(before) = acted.insert(entry.command, entry.position) {
            return Err(format!("a trigger's command acted at position {before} and at {}", entry.position));
        }
    }
    let sent = sent(entries, last)?;
    let mut last = BTreeMap::new();
    for deadline in sent.deadlines {
        match deadline {
            Deadline::Set(due) => {
                let fired = acted.get(&due.parcel.command).and_then(|position| entry_at(entries, *position));
                if let Some(entry) = fired.filter(|entry| entry.at.plus(CLOCKS_APART) < due.at) {
                    return Err(format!("the deadline of {} was given at {}", due.at, entry.at));
                }
                last.insert(due.key, due.parcel)
            }
            Deadline::Cleared(key) => last.remove(&key),
        };
    }
    match sent.parcels.into_iter().chain(last.into_values()).find(|parcel| !acted.contains_key(&parcel.command)) {
        Some(parcel) => Err(format!("was sent and never done: {parcel:?}")),
        None => Ok(()),
    }
}

fn entry_at(entries: &[Entry], position: u64) -> Option<&Entry> {
    entries.get(usize::try_from(position).ok()?.checked_sub(1)?)
}

/// What folding the entries at once, in memory, sends.
fn sent(entries: &[Entry], last: Hash) -> Promise<Sent> {
    let told = Told::chain(entries.to_vec(), last);
    let mut fold = kernel::fold::<tills::Counting>().start();
    loop {
        match try_batch(&mut *fold, &told) {
            Tried::Done => return Ok(fold.outbox().map(kernel::Outbox::take).unwrap_or_default()),
            Tried::Wanted(wanted) => {
                for (shelf, key) in wanted {
                    fold.shelves()[shelf].load(key, None).map_err(self::told)?;
                }
            }
            Tried::Unfoldable { cause, .. } => return Err(cause),
        }
    }
}

/// The stream has every entry, verbatim, and, where nothing befell what was on its way, the first of each in order.
fn published(world: &World, company: CompanyId, entries: &[Entry]) -> Promise {
    let mut firsts: Vec<u64> = Vec::new();
    let mut seen = BTreeSet::new();
    for message in world.exchange.messages().iter().filter(|message| message.company == company) {
        let entry = Entry::read(&message.line).map_err(told)?;
        let own = entries.get(usize::try_from(message.head.position).unwrap_or_default().wrapping_sub(1));
        if own.is_none_or(|own| own.entry_id() != entry.entry_id() || own.previous != entry.previous) {
            return Err(format!("the stream has something else at position {}", message.head.position));
        }
        if seen.insert(message.head.position) {
            firsts.push(message.head.position);
        }
    }
    if seen.len() != entries.len() {
        return Err(format!("the stream has {} of {} entries", seen.len(), entries.len()));
    }
    if world.climate.spares_messages() && !firsts.is_sorted() {
        return Err(format!("the stream has entries in the order {firsts:?}"));
    }
    Ok(())
}
