//! Who waits for which view, and what views told them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use cnc_domain::{
    kernel::{self, CompanyId, LocationId},
    ledger::Position,
};
use serde_json::Value;
use tokio::sync::{broadcast, mpsc, watch};

use super::fresh::Fresh;
use crate::{Change, Found, Health, Row, store::Build};

/// How many batches of changes a watcher may be behind before it loses some.
const BEHIND_MAX: usize = 1_024;

type Key = (CompanyId, &'static str);

/// Positions of views as this process knows them, and their changes.
pub(super) struct Board {
    changes: broadcast::Sender<Arc<Vec<Change>>>,
    views: Mutex<HashMap<Key, Known>>,
    /// Where what this process folds is told to other processes.
    out: OnceLock<mpsc::Sender<Folded>>,
}

/// What one write changed in a view.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub company: CompanyId,
    pub view: &'static str,
    /// Where the view stood before.
    pub from: Position,
    /// Where it stands now.
    pub to: Position,
    /// `None` where it is not known what changed.
    pub changes: Option<Vec<Change>>,
}

/// What this process changed in a view by one write, with documents as text.
#[derive(Clone, Debug)]
pub(crate) struct Folded {
    pub company: CompanyId,
    pub view: &'static str,
    /// Where the view stood before.
    pub from: Position,
    /// Where it stands now.
    pub to: Position,
    /// Each with the branch that the document had before; `None` where it is not known what changed.
    pub changes: Option<Vec<(kernel::Change, Option<LocationId>)>>,
}

struct Known {
    position: watch::Sender<Position>,
    /// Everything up to here was told.
    told: Position,
    /// The position is that of the view, not a place for those who wait for it.
    started: bool,
    /// Rows as they are at the position.
    fresh: Fresh,
    /// How well the view was when one of them was read last.
    health: Health,
    /// Which build it is of, where that was asked.
    build: Option<Build>,
}

impl Default for Board {
    fn default() -> Self {
        Self { changes: broadcast::channel(BEHIND_MAX).0, views: Mutex::default(), out: OnceLock::new() }
    }
}

impl Board {
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Vec<Change>>> {
        self.changes.subscribe()
    }

    /// Has what this process folds told to other processes too, once for its life. Who takes too long to pass it on loses
    /// some: each batch says where the view stood before, so that its hearers notice.
    pub fn tell_others(&self, length: usize) -> mpsc::Receiver<Folded> {
        let (out, batches) = mpsc::channel(length);
        // Where it is told already, this receiver is closed at once.
        let _ = self.out.set(out);
        batches
    }

    /// Whether anybody here listens to changes.
    pub fn is_watched(&self) -> bool {
        self.changes.receiver_count() > 0
    }

    /// Whether anybody, here or elsewhere, is told what this process folds.
    pub fn is_told_on(&self) -> bool {
        self.is_watched() || self.out.get().is_some()
    }

    /// A view stands at a position, and what came before is not told here.
    pub fn start(&self, company: CompanyId, view: &'static str, at: Position) {
        let mut views = self.lock();
        let known = views.entry((company, view)).or_insert_with(|| Known::at(at));
        if !known.started || *known.position.borrow() < at {
            known.told = known.told.max(at);
            known.started = true;
            known.fresh.forget();
            known.position.send_replace(at);
        }
    }

    /// A view's live build is this one, and stands here. Where it was another before, whoever knows anything of the view must
    /// query again, also where both stand at the same position.
    pub fn built(&self, company: CompanyId, view: &'static str, at: Position, build: Build) {
        let mut views = self.lock();
        let known = views.entry((company, view)).or_insert_with(|| Known::at(at));
        let before = known.build.replace(build);
        if known.started && before.is_some_and(|before| before != build) {
            known.told = at;
            known.fresh.forget();
            known.position.send_replace(at);
            let rebuilt = Change { rebuilt: true, ..unknown(company, view, at) };
            // Nobody listening is no fault.
            let _ = self.changes.send(Arc::new(vec![rebuilt]));
        }
    }

    /// Views stand here, after the store lost its last commits: what is known beyond is forgotten. Those who were told of
    /// it may be told again.
    pub fn set_back(&self, standing: &HashMap<Key, Position>) {
        for (key, known) in self.lock().iter_mut().filter(|(_, known)| known.started) {
            let at = standing.get(key).copied().unwrap_or(0);
            if *known.position.borrow() > at {
                known.told = known.told.min(at);
                known.fresh.forget();
                known.position.send_replace(at);
            }
        }
    }

    /// A row that was read a moment ago, as it is where the view is.
    pub fn fresh(&self, company: CompanyId, view: &'static str, key: &str) -> Option<Found> {
        let views = self.lock();
        let known = views.get(&(company, view)).filter(|known| known.started)?;
        let row = known.fresh.get(key)?.clone();
        Some(Found { row: Some(row), position: *known.position.borrow(), health: known.health })
    }

    /// Keeps what was read from the store, where the view has not moved past it meanwhile.
    pub fn keep_fresh(&self, company: CompanyId, view: &'static str, found: &Found) {
        let Some(row) = &found.row else { return };
        let mut views = self.lock();
        let known = views.get_mut(&(company, view)).filter(|known| known.started);
        if let Some(known) = known.filter(|known| *known.position.borrow() <= found.position) {
            known.health = found.health;
            known.fresh.keep(row.clone());
        }
    }

    /// How far a view is, as this process knows.
    pub fn position(&self, company: CompanyId, view: &'static str) -> Option<Position> {
        self.lock().get(&(company, view)).filter(|known| known.started).map(|known| *known.position.borrow())
    }

    /// A view has moved, and this changed; `None` where it is not known what, since nobody was listening.
    pub fn tell(
        &self,
        company: CompanyId,
        view: &'static str,
        from: Position,
        to: Position,
        changes: Option<Vec<kernel::Change>>,
        were: &[(String, Option<LocationId>)],
    ) {
        let were: HashMap<&str, Option<LocationId>> = were.iter().map(|(key, was)| (key.as_str(), *was)).collect();
        let with_was = |change: kernel::Change| {
            let was = were.get(change.key.as_str()).copied().flatten();
            (change, was)
        };
        let changes: Option<Vec<_>> = changes.map(|changes| changes.into_iter().map(with_was).collect());
        // Where nobody listens here, nobody asks what it was.
        let known = changes.as_ref().filter(|changes| changes.is_empty() || self.is_watched());
        let read = |(change, was_location): &(kernel::Change, Option<LocationId>)| Change {
            company,
            view,
            key: change.key.clone(),
            position: to,
            previous: from,
            location: change.location,
            row: change.doc.is_some().then(|| row(change, to)),
            was_location: *was_location,
            rebuilt: false,
        };
        let read = known.map(|changes| changes.iter().map(read).collect());
        if let Some(out) = self.out.get() {
            // A full queue loses this batch, and its hearers read it from the store.
            let _ = out.try_send(Folded { company, view, from, to, changes });
        }
        self.announce(Batch { company, view, from, to, changes: read });
    }

    /// The same with changes that are made already. Their `previous` is set to what was told last. What was announced
    /// before is not announced again.
    pub fn announce(&self, batch: Batch) {
        let mut views = self.lock();
        let known = views.entry((batch.company, batch.view)).or_insert_with(|| Known::at(batch.from));
        let at = *known.position.borrow();
        if !known.started || at < batch.from {
            // Nobody here knows what came between: whoever has seen the view before must ask.
            known.told = batch.from;
            known.fresh.forget();
        } else if batch.to <= at {
            return;
        }
        self.put(known, batch);
    }

    /// Announces what another process says that it folded, where it continues what is known here. False where something
    /// between the two is missing.
    pub fn heard(&self, batch: Batch) -> bool {
        let mut views = self.lock();
        let known = views.entry((batch.company, batch.view)).or_insert_with(|| Known::at(batch.from));
        let at = *known.position.borrow();
        if !known.started {
            known.told = batch.from;
        } else if batch.to <= at {
            return true;
        } else if batch.from != at {
            return false;
        }
        self.put(known, batch);
        true
    }

    /// Sent under the lock, so that a view's changes keep their order.
    fn put(&self, known: &mut Known, batch: Batch) {
        let Batch { company, view, to, changes, .. } = batch;
        let mut changes = changes.unwrap_or_else(|| vec![unknown(company, view, to)]);
        known.fresh.hear(&changes, to);
        if !changes.is_empty() {
            for change in &mut changes {
                change.previous = known.told.min(to);
            }
            known.told = to;
            // Nobody listening is no fault.
            let _ = self.changes.send(Arc::new(changes));
        }
        known.started = true;
        known.position.send_replace(to);
    }

    /// Waits until a view is known to have reached `position`; `None` where `patience` was over.
    pub async fn reached(
        &self,
        company: CompanyId,
        view: &'static str,
        position: Position,
        patience: Duration,
    ) -> Option<Position> {
        let mut at = {
            let mut views = self.lock();
            views.entry((company, view)).or_insert_with(|| Known::at(0)).position.subscribe()
        };
        let reached = tokio::time::timeout(patience, at.wait_for(|at| *at >= position)).await;
        reached.ok().and_then(Result::ok).map(|at| *at)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Known>> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn at(position: Position) -> Self {
        let position = watch::channel(position).0;
        let told = *position.borrow();
        let (fresh, health) = (Fresh::default(), Health::default());
        Self { position, told, started: false, fresh, health, build: None }
    }
}

/// A view changed, and nobody here knows how.
fn unknown(company: CompanyId, view: &'static str, to: Position) -> Change {
    let (key, location, row, was_location) = (String::new(), None, None, None);
    Change { company, view, key, position: to, previous: to, location, row, was_location, rebuilt: false }
}

/// A changed document as a row.
pub(crate) fn row(change: &kernel::Change, position: Position) -> Row {
    let value = |text: &str| serde_json::from_str(text).unwrap_or(Value::Null);
    Row {
        doc: change.doc.as_deref().map_or(Value::Null, value),
        restricted: change.restricted.as_deref().map(value),
        key: change.key.clone(),
        location: change.location,
        position,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPANY: CompanyId = CompanyId::number(1);

    fn batch(from: Position, to: Position) -> Batch {
        let changes = Some(vec![Change { key: format!("at {to}"), ..unknown(COMPANY, "board", to) }]);
        Batch { company: COMPANY, view: "board", from, to, changes }
    }

    fn told(changes: &mut broadcast::Receiver<Arc<Vec<Change>>>) -> Vec<(Position, Position)> {
        let batches = std::iter::from_fn(|| changes.try_recv().ok());
        batches
            .flat_map(|batch| batch.iter().map(|change| (change.previous, change.position)).collect::<Vec<_>>())
            .collect()
    }

    #[test]
    fn what_is_heard_continues_what_is_known_or_is_asked_for() {
        let board = Board::default();
        let mut changes = board.subscribe();
        assert!(board.heard(batch(4, 5)), "the first that is heard starts it");
        assert!(board.heard(batch(5, 7)) && board.heard(batch(5, 7)) && board.heard(batch(3, 4)));
        assert!(!board.heard(batch(8, 9)) && !board.heard(batch(6, 9)), "something is missing");
        assert_eq!(board.position(COMPANY, "board"), Some(7));
        assert_eq!(told(&mut changes), [(4, 5), (5, 7)]);
    }

    #[test]
    fn a_gap_in_what_is_announced_is_seen_by_who_watches() {
        let board = Board::default();
        let mut changes = board.subscribe();
        board.start(COMPANY, "board", 3);
        for announced in [batch(3, 4), batch(3, 4), batch(6, 8), batch(4, 6)] {
            board.announce(announced);
        }
        assert_eq!(told(&mut changes), [(3, 4), (6, 8)]);
        board.start(COMPANY, "board", 5);
        assert_eq!(board.position(COMPANY, "board"), Some(8));
    }

    #[test]
    fn a_build_in_the_place_of_another_is_told_also_where_both_stand_at_the_same_position() {
        let board = Board::default();
        board.start(COMPANY, "board", 3);
        board.built(COMPANY, "board", 3, (1, 1));
        let mut changes = board.subscribe();
        board.built(COMPANY, "board", 3, (1, 1));
        assert!(told(&mut changes).is_empty(), "it is the same");
        board.keep_fresh(COMPANY, "board", &found("a", 1, 3));
        for (at, build) in [(3, (1, 2)), (0, (2, 1))] {
            board.built(COMPANY, "board", at, build);
            let change = changes.try_recv().expect("is told")[0].clone();
            assert!(change.rebuilt && change.is_unknown() && self::at(&board, "a").is_none());
            assert_eq!(board.position(COMPANY, "board"), Some(at));
        }
    }

    #[test]
    fn a_view_whose_last_commits_were_lost_stands_where_the_store_has_it_and_tells_again_what_follows() {
        let board = Board::default();
        let mut changes = board.subscribe();
        board.start(COMPANY, "board", 3);
        board.announce(batch(3, 7));
        board.keep_fresh(COMPANY, "board", &found("a", 7, 7));
        board.set_back(&HashMap::from([((COMPANY, "board"), 5)]));
        assert_eq!((board.position(COMPANY, "board"), at(&board, "a")), (Some(5), None));
        board.announce(batch(5, 6));
        board.announce(batch(6, 8));
        assert_eq!(told(&mut changes), [(3, 7), (5, 6), (6, 8)]);
        board.set_back(&HashMap::from([((COMPANY, "board"), 9)]));
        assert_eq!(board.position(COMPANY, "board"), Some(8), "who is behind the store reads it");
    }

    fn found(key: &str, changed_at: Position, position: Position) -> Found {
        let row = Row { key: key.into(), location: None, position: changed_at, doc: Value::Null, restricted: None };
        Found { row: Some(Arc::new(row)), position, health: Health::default() }
    }

    fn at(board: &Board, key: &str) -> Option<(Position, Position)> {
        board.fresh(COMPANY, "board", key).map(|found| (found.row.map_or(0, |row| row.position), found.position))
    }

    #[test]
    fn a_row_that_was_read_is_kept_where_the_view_has_not_passed_it() {
        let board = Board::default();
        board.keep_fresh(COMPANY, "board", &found("a", 1, 3));
        assert_eq!(at(&board, "a"), None, "nobody knows where the view is");
        board.start(COMPANY, "board", 3);
        board.keep_fresh(COMPANY, "board", &found("a", 1, 2));
        assert_eq!(at(&board, "a"), None, "something may have changed it since");
        board.keep_fresh(COMPANY, "board", &found("a", 1, 3));
        board.announce(batch(3, 4));
        assert_eq!((at(&board, "a"), at(&board, "at 4")), (Some((1, 4)), None));
        board.announce(Batch { changes: None, ..batch(4, 5) });
        assert_eq!(at(&board, "a"), None, "nobody knows what changed");
    }

    #[test]
    fn a_row_that_is_kept_takes_changes_but_none_from_before_it_was_read() {
        let board = Board::default();
        board.start(COMPANY, "board", 3);
        let change = |key: &str, to, row: Option<Row>| {
            let change = Change { key: key.into(), row, ..unknown(COMPANY, "board", to) };
            board.announce(Batch { changes: Some(vec![change]), ..batch(to - 1, to) });
        };
        board.keep_fresh(COMPANY, "board", &found("a", 5, 6));
        let row = |at| found("a", at, at).row.map(Arc::unwrap_or_clone);
        change("a", 4, row(4));
        assert_eq!(at(&board, "a"), Some((5, 4)));
        change("a", 5, row(5));
        change("a", 6, row(6));
        assert_eq!(at(&board, "a"), Some((6, 6)));
        change("a", 7, None);
        assert_eq!(at(&board, "a"), None);
    }

    #[test]
    fn a_place_for_who_waits_is_not_a_position() {
        let board = Board::default();
        let mut changes = board.subscribe();
        drop(board.views.lock().map(|mut views| views.insert((COMPANY, "board"), Known::at(0))));
        board.announce(batch(6, 8));
        assert_eq!(told(&mut changes), [(6, 8)]);
    }
}
