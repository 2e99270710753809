//! What a back end does for the engine and for queries. Each is written natively; what a batch means is said here.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use async_trait::async_trait;
use cnc_domain::{
    kernel::{self, CommandId, CompanyId, Deadline, LocationId, Seconds, Timestamp},
    ledger::{Fault, Hash, Head, Outbox, Parcel, Position, Replied},
};

use uuid::Uuid;

use super::Plan;
use crate::{Change, Found, Health, Page, Query, QueryError, Unwell};

/// One build of a fold's documents for one company. A fold may have several side by side; one is live.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FoldId {
    pub company: CompanyId,
    pub fold: String,
    pub version: u32,
    pub build: i64,
}

impl FoldId {
    /// Which of a fold's builds it is.
    pub fn build(&self) -> Build {
        (self.version, self.build)
    }
}

/// What a build is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is served, or acts.
    Live,
    /// It is on its way to take the live one's place.
    Building,
    /// A rebuild or a verification by one caller, who alone folds it.
    Scratch,
    /// It was replaced and can be dropped.
    Retired,
    /// It was replaced since it stood at what the ledger does not have, and can be dropped.
    Forked,
}

/// The row of a build.
#[derive(Clone, Debug)]
pub(crate) struct FoldRow {
    pub id: FoldId,
    pub standing: Standing,
    /// All entries up to here are folded.
    pub position: Position,
    /// The hash of the entry there: a ledger that has another is not the one that was folded.
    pub hash: Hash,
    /// Up to here nothing is sent.
    pub silent_until: Position,
    pub poisoned: Option<Poisoned>,
    /// When it was last written.
    pub touched_at: Timestamp,
    /// Of what changed before this position nothing can be told any more.
    pub horizon: Position,
    /// Before this position it is built anew in the place of one that stood at what the ledger does not have, and serves
    /// nobody.
    pub whole_from: Position,
    /// How many entries were skipped.
    pub skipped: u64,
    /// The processes that have begun to fold what comes next, and have not ended it.
    pub begun: Begun,
}

impl Standing {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Building => "building",
            Self::Scratch => "scratch",
            Self::Retired => "retired",
            Self::Forked => "forked",
        }
    }

    /// Reads what was written.
    pub fn named(name: &str) -> Self {
        match name {
            "live" => Self::Live,
            "building" => Self::Building,
            "scratch" => Self::Scratch,
            "forked" => Self::Forked,
            _ => Self::Retired,
        }
    }
}

/// The entry that stopped a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Poisoned {
    pub position: Position,
    pub reason: String,
    pub attempts: u32,
    pub retry_at: Timestamp,
}

/// An entry is tried this often, then it waits for an operator.
const ATTEMPTS_MAX: u32 = 5;
/// The longest that it waits by itself.
const WAITS_MAX: Seconds = Seconds(128);

impl Poisoned {
    /// The `attempts`th failure at `now`: tried again after 2 s, 8 s, 32 s and 128 s.
    pub fn after(attempts: u32, position: Position, reason: &str, now: Timestamp) -> Self {
        let retry_at = if attempts >= ATTEMPTS_MAX {
            Timestamp::LAST
        } else {
            now.plus(Seconds(2 << (2 * (attempts.max(1) - 1))))
        };
        Self { position, reason: reason.chars().take(500).collect(), attempts, retry_at }
    }

    /// Whether it is not to be tried yet. A time further ahead than any wait was set by a process whose clock was ahead.
    pub fn holds(&self, now: Timestamp) -> bool {
        self.waits() || (now < self.retry_at && self.retry_at <= now.plus(WAITS_MAX))
    }

    /// Whether only an operator can let it go on.
    pub fn waits(&self) -> bool {
        self.retry_at == Timestamp::LAST
    }
}

/// How many documents of a build are dropped in one transaction, so that others are not held up.
pub(crate) const DROPPED_AT_ONCE: usize = 5_000;
/// Of more changes than this a watcher is not told one by one.
pub(crate) const CHANGES_MAX: usize = 10_000;

/// The time by this machine's clock.
pub(crate) fn now() -> Timestamp {
    chrono::Utc::now().into()
}

/// Counts live folds that are not well, as both back ends do.
pub(super) fn unwell_text(table: &str) -> String {
    format!(
        "SELECT fold, count(poison_position), sum(CASE WHEN skipped > 0 THEN 1 ELSE 0 END),
            sum(CASE WHEN position < whole_from THEN 1 ELSE 0 END) FROM {table}
         WHERE standing = 'live' AND (poison_position IS NOT NULL OR skipped > 0 OR position < whole_from)
         GROUP BY fold ORDER BY fold"
    )
}

/// The longest that a parcel waits after it failed.
const PARCEL_WAITS_MAX: u32 = 300;

/// When a parcel that failed `tries` times is tried again: after 1 s, 2 s, 4 s … 5 min.
pub(crate) fn retry_parcel_at(tries: u32, now: Timestamp) -> Timestamp {
    now.plus(Seconds((1 << tries.saturating_sub(1).min(9)).min(PARCEL_WAITS_MAX)))
}

/// A parcel or deadline as it is kept: whose it is, its command or its key, and its text.
pub(crate) struct KeptParcel<Key> {
    pub company: CompanyId,
    pub key: Key,
    pub text: String,
}

/// Tells what can be read, in its order, from what cannot, with the cause: a program of another version may have written it,
/// which must hold up nothing else.
pub(crate) fn read_parcels<Key>(kept: Vec<KeptParcel<Key>>) -> (Vec<Parcel>, Vec<(KeptParcel<Key>, String)>) {
    let (mut parcels, mut unreadable) = (Vec::new(), Vec::new());
    for one in kept {
        match serde_json::from_str(&one.text) {
            Ok(parcel) => parcels.push(parcel),
            Err(wrong) => {
                let cause = format!("it cannot be read: {wrong}");
                tracing::error!(company = %one.company, cause, "what a trigger sent is put off");
                unreadable.push((one, cause));
            }
        }
    }
    (parcels, unreadable)
}

/// What puts parcels off that cannot be read, as those are that fail.
pub(crate) fn put_off(unreadable: Vec<(KeptParcel<CommandId>, String)>) -> Vec<Replied> {
    let reply = |(kept, cause): (KeptParcel<CommandId>, String)| Replied {
        company: kept.company,
        command: kept.key,
        outcome: Err(cause),
    };
    unreadable.into_iter().map(reply).collect()
}

/// No parcel waits beyond this: a later time was set by a process whose clock was ahead.
pub(crate) fn latest_retry(now: Timestamp) -> Timestamp {
    now.plus(Seconds(PARCEL_WAITS_MAX))
}

/// A document with its restricted members put back in, as text.
pub(crate) fn whole(doc: String, restricted: Option<&str>) -> String {
    let Some(restricted) = restricted.and_then(|text| text.strip_prefix('{')).filter(|text| *text != "}") else {
        return doc;
    };
    let open = doc.strip_suffix('}').unwrap_or(&doc);
    let comma = if open == "{" { "" } else { "," };
    format!("{open}{comma}{restricted}")
}

impl FoldRow {
    /// Where it stands.
    pub fn head(&self) -> Head {
        Head { position: self.position, hash: self.hash }
    }

    /// Whether it is nobody's any more.
    pub fn is_over(&self) -> bool {
        matches!(self.standing, Standing::Retired | Standing::Forked)
    }

    /// Whether it is live, or on its way to be.
    pub fn is_served_or_will_be(&self) -> bool {
        matches!(self.standing, Standing::Live | Standing::Building)
    }

    /// How well what it shows is what the ledger says.
    pub fn health(&self) -> Health {
        Health {
            rebuilding_until: Some(self.whole_from).filter(|whole| self.position < *whole),
            stopped_at: self.poisoned.as_ref().map(|poisoned| poisoned.position),
            skipped: self.skipped,
        }
    }

    /// Up to where a trigger that takes the place of this one is silent. One that was still catching up has answered nothing
    /// of what its own predecessor has.
    pub fn answered_until(&self) -> Position {
        self.position.max(self.silent_until)
    }

    /// Whether this build must leave the place to the one that is live: who rebuilds chooses a version, an engine does not.
    pub fn gives_way_to(&self, live: &Self) -> bool {
        self.standing == Standing::Building && live.id.version > self.id.version
    }
}

/// What opening a company's fold gives.
pub(crate) struct Opened {
    pub row: FoldRow,
    /// Positions that are skipped, on the record.
    pub skipped: BTreeSet<Position>,
}

/// Keys to load from one shelf's table.
pub(crate) struct Wanted {
    pub shelf: usize,
    pub keys: Vec<String>,
}

/// One build's part of a transaction.
pub(crate) struct Write {
    pub plan: Arc<Plan>,
    pub id: FoldId,
    /// Where the row must still stand, or nothing of this is written.
    pub expected: Head,
    pub to: Head,
    /// Changed documents by shelf.
    pub changes: Vec<(usize, Vec<kernel::Change>)>,
    pub parcels: Vec<Parcel>,
    pub deadlines: Vec<Deadline>,
}

/// What was written for one build.
pub(crate) struct Written {
    /// The former branches of main documents that were there, by key.
    pub were: Vec<(String, Option<LocationId>)>,
}

/// What became of each write of a commit: `None` where another had moved the row or holds it.
pub(crate) type Commit = Vec<Option<Written>>;

/// Loaded documents: their shelf, their key, their text with restricted members.
pub(crate) type Loaded = Vec<(usize, String, String)>;
/// Documents of one shelf: their key, their branch, their text with restricted members.
pub(crate) type Documents = Vec<(String, Option<LocationId>, String)>;
/// The branches that a reader may see; all where there are none named.
pub(crate) type Scope<'a> = Option<&'a BTreeSet<LocationId>>;

/// How far the live build of a fold is.
#[derive(Clone, Debug)]
pub(crate) struct LivePosition {
    pub company: CompanyId,
    pub fold: String,
    pub position: Position,
    /// Which build it is.
    pub build: Build,
}

/// The version of a build, and its number among those of that version.
pub(crate) type Build = (u32, i64);

/// Numbers by which a process notices what happened to the store without news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Generation {
    /// Changes whenever the store may have lost commits that it had confirmed.
    pub losses: i64,
    /// Changes whenever a view's live build is another one.
    pub swaps: i64,
}

/// Processes that have begun to fold what a build reads next, each with a number that it raises while it lives.
pub(crate) type Begun = BTreeMap<Uuid, i64>;

#[async_trait]
pub(crate) trait Storage: Outbox + Send + Sync {
    /// The pools of connections: of each its name, how many are open, and how many of those nobody uses.
    fn pools(&self) -> Vec<(&'static str, usize, usize)> {
        Vec::new()
    }

    /// Makes the tables and indexes of these folds where they are missing.
    async fn prepare(&self, plans: &[Arc<Plan>]) -> Result<(), Fault>;

    /// Remembers, once for a trigger's version, that it must be silent up to these positions where it has no
    /// predecessor.
    async fn register(&self, plan: &Arc<Plan>, heads: &[(CompanyId, Head)]) -> Result<(), Fault>;

    /// Up to where a trigger must be silent in a company, whatever its builds are; `None` where it acts from the first entry.
    async fn registered(&self, plan: &Arc<Plan>, company: CompanyId) -> Result<Option<Head>, Fault>;

    /// The build of this version that the engine should fold, made where there is none: live where nothing is live,
    /// otherwise building. A trigger's predecessor is retired, and the new one silent up to where that was, or was to be.
    ///
    /// `None` where there is none, and a higher version is live or building: so two programs side by side do not replace
    /// each other's builds for ever. Who rebuilds the lower version makes it the live one again.
    async fn open(&self, plan: &Arc<Plan>, company: CompanyId) -> Result<Option<Opened>, Fault>;

    /// The companies in which just this version of a fold is live.
    async fn live_in(&self, plan: &Arc<Plan>) -> Result<Vec<CompanyId>, Fault>;

    /// Puts a new build in the place of one that stands, or stood, at what the ledger does not have: it starts from the first
    /// entry and serves nobody before `whole_from`. A trigger's is silent up to `silent_until`; what its predecessor sent of
    /// later entries, and nobody has carried out, and its deadlines of them, are taken back. False where the build does not
    /// stand there any more.
    async fn replace(
        &self,
        plan: &Arc<Plan>,
        forked: &FoldRow,
        whole_from: Position,
        silent_until: Position,
    ) -> Result<bool, Fault>;

    /// Notes that `process` has begun to fold what a build reads next, and lives, as `beat` says: so one that dies of an entry
    /// is noticed. A commit forgets all who have begun. False where the build does not stand `at` this any more.
    async fn begin(&self, trigger: bool, id: &FoldId, at: Head, process: Uuid, beat: i64) -> Result<bool, Fault>;

    /// Documents (with their restricted members) by shelf and key; those that are not there are left out. `None` where the
    /// build does not stand `at` this position, if one is asked for: then they are not those that belong to it.
    async fn load(
        &self,
        plan: &Arc<Plan>,
        id: &FoldId,
        at: Option<Head>,
        wanted: Vec<Wanted>,
    ) -> Result<Option<Loaded>, Fault>;

    /// Writes all of these in one transaction; those that lost their row are left out. All are views, or all triggers.
    async fn commit(&self, trigger: bool, now: Timestamp, writes: Vec<Write>) -> Result<Commit, Fault>;

    /// Records that the entry at `position` cannot be folded, and counts how often that was found.
    async fn poison(
        &self,
        trigger: bool,
        id: &FoldId,
        position: Position,
        reason: &str,
        now: Timestamp,
    ) -> Result<Poisoned, Fault>;

    /// Takes the poison of a build back, so that it is tried anew.
    async fn retry(&self, trigger: bool, id: &FoldId) -> Result<(), Fault>;

    /// Records that the poisoned entry is skipped. False where the build is not poisoned at `position`.
    async fn skip(
        &self,
        trigger: bool,
        id: &FoldId,
        position: Position,
        by: &str,
        now: Timestamp,
    ) -> Result<bool, Fault>;

    /// The rows of all builds of views, or of triggers.
    async fn rows_of(&self, trigger: bool, company: Option<CompanyId>) -> Result<Vec<FoldRow>, Fault>;

    /// The rows of all builds, each with whether it is a trigger's.
    async fn rows(&self, company: Option<CompanyId>) -> Result<Vec<(bool, FoldRow)>, Fault> {
        let mut rows = Vec::new();
        for trigger in [false, true] {
            rows.extend(self.rows_of(trigger, company).await?.into_iter().map(|row| (trigger, row)));
        }
        Ok(rows)
    }

    /// A new scratch build beside the others, from position 0; silent.
    async fn beside(&self, plan: &Arc<Plan>, company: CompanyId) -> Result<Opened, Fault>;

    /// Makes this build the live one, where it is as far as the one that is live (a trigger exactly so), and as silent.
    /// False where it is not, or is an engine's and a higher version is live.
    async fn swap(&self, trigger: bool, id: &FoldId) -> Result<bool, Fault>;

    /// Retires a build and drops [some](DROPPED_AT_ONCE) of its documents; its row, when none is left. Says how many, and
    /// whether all is done.
    async fn drop_some(&self, trigger: bool, id: &FoldId) -> Result<(u64, bool), Fault>;

    /// Drops a build: its row and its documents, some at once, so that others are not held up. Returns how many.
    async fn drop_build(&self, trigger: bool, id: &FoldId) -> Result<u64, Fault> {
        let mut dropped = 0;
        loop {
            let (some, done) = self.drop_some(trigger, id).await?;
            dropped += some;
            if done {
                return Ok(dropped);
            }
        }
    }

    /// Drops the tables of versions that no build uses, but for those of `known`. Returns how many. Who starts a build makes
    /// its tables in the same transaction, so that none can miss them.
    async fn drop_tables(&self, trigger: bool, known: &[(&'static str, u32)]) -> Result<u64, Fault>;

    /// Documents of a build after a key, whole, in the order of keys.
    async fn page(
        &self,
        plan: &Arc<Plan>,
        id: &FoldId,
        shelf: usize,
        after: &str,
        limit: usize,
    ) -> Result<Documents, Fault>;

    /// What a process asks now and then, to notice what nobody told it.
    async fn generation(&self) -> Result<Generation, Fault>;

    /// Positions of live builds of these folds.
    async fn standing(&self, company: Option<CompanyId>, folds: &[String]) -> Result<Vec<LivePosition>, Fault>;

    /// See [`Store::get`](super::Store::get).
    async fn get(&self, plan: &Arc<Plan>, company: CompanyId, key: &str, scope: Scope<'_>) -> Result<Found, Fault>;

    /// See [`Store::query`](super::Store::query).
    async fn query(&self, plan: &Arc<Plan>, company: CompanyId, query: &Query) -> Result<Page, QueryError>;

    /// See [`Store::changes_since`](super::Store::changes_since).
    async fn changes_since(
        &self,
        plan: &Arc<Plan>,
        company: CompanyId,
        position: Position,
        scope: Scope<'_>,
    ) -> Result<Option<Vec<Change>>, Fault>;

    /// The live folds that are not well in some company: of views, or of triggers.
    async fn unwell_of(&self, trigger: bool) -> Result<Vec<Unwell>, Fault>;

    /// Sends commands in the name of folds, each once.
    async fn send(&self, parcels: Vec<Parcel>) -> Result<(), Fault>;

    /// Leaves nothing beside its files that the next start would have to bring in.
    async fn close(&self) -> Result<(), Fault> {
        Ok(())
    }

    /// Forgets removals from before `before`.
    async fn forget_removals(&self, before: Timestamp) -> Result<(), Fault>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_with_a_clock_ahead_put_off_is_tried_again_by_the_others() {
        let now = Timestamp::from_seconds(1_800_000_000);
        for attempts in 1..ATTEMPTS_MAX {
            let poisoned = Poisoned::after(attempts, 7, "odd", now);
            assert!(poisoned.holds(now) && !poisoned.holds(poisoned.retry_at));
            let ahead = Poisoned::after(attempts, 7, "odd", now.plus(Seconds(3_600)));
            assert!(!ahead.holds(now));
        }
        assert!(Poisoned::after(ATTEMPTS_MAX, 7, "odd", now).holds(now), "this one waits for an operator");
    }
}
