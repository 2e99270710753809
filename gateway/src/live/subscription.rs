//! What one client is told of one view: where it stands, which rows it has, and what a change means for it.

use std::collections::{BTreeMap, HashSet};

use cnc_domain::{kernel::LocationId, ledger::Position};
use cnc_projections::{Change, Row};

use crate::{authorize::Grant, catalog::Served, matching};

/// One subscription.
pub(super) struct Subscription {
    /// The client's name for it.
    pub id: String,
    /// The view.
    pub view: &'static Served,
    /// Which of its rows.
    pub filters: Vec<(String, String)>,
    /// What the client may see of it.
    pub grant: Grant,
    /// Everything up to here has been looked at.
    pub position: Position,
    /// The position that the client was told last.
    pub told: Position,
    /// The rows that the client has; unknown after it resumed.
    known: Option<HashSet<String>>,
    known_max: usize,
}

/// What changes mean for one client.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Told {
    pub rows: Vec<Row>,
    pub removed: Vec<String>,
}

/// Why a subscription cannot go on with what it was told.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Gap {
    /// It is not known what changed since its position.
    Missed,
    /// The view was built anew: what was told before may be wrong.
    Rebuilt,
}

impl Subscription {
    /// A subscription that has seen nothing yet.
    pub fn new(
        id: String,
        view: &'static Served,
        filters: BTreeMap<String, String>,
        grant: Grant,
        known_max: usize,
    ) -> Self {
        let filters = filters.into_iter().collect();
        Self { id, view, filters, grant, position: 0, told: 0, known: Some(HashSet::new()), known_max }
    }

    /// Starts where the client says that it stands.
    pub fn resume(&mut self, after: Position) {
        (self.position, self.told, self.known) = (after, after, None);
    }

    /// Notes that the client gets these rows.
    pub fn gives(&mut self, rows: &[Row]) {
        if let Some(known) = &mut self.known {
            known.extend(rows.iter().map(|row| row.key.clone()));
            if known.len() > self.known_max {
                self.known = None;
            }
        }
    }

    /// Takes a batch of the engine: those of its changes that are of this view and new. Where something was missed in
    /// between, nothing is taken.
    pub fn take(&mut self, batch: &[Change]) -> Result<Option<Told>, Gap> {
        let (company, view) = (self.grant.company(), self.view.name());
        let mut position = self.position;
        let mut news = Vec::new();
        for change in batch.iter().filter(|change| change.company == company && change.view == view) {
            if change.rebuilt {
                return Err(Gap::Rebuilt);
            }
            if change.position <= self.position {
                continue;
            }
            if change.is_unknown() || change.previous > position {
                return Err(Gap::Missed);
            }
            position = position.max(change.position);
            news.push(change);
        }
        self.position = position;
        Ok((!news.is_empty()).then(|| self.tell(news)))
    }

    /// What changes mean here, each row once, as it is after all of them.
    pub fn tell<'a>(&mut self, changes: impl IntoIterator<Item = &'a Change>) -> Told {
        let mut last: BTreeMap<&str, (&Change, bool)> = BTreeMap::new();
        for change in changes {
            let was_mine = change.was_location.is_some_and(|was| self.covers(Some(was)));
            let entry = last.entry(&change.key).or_insert((change, false));
            *entry = (change, entry.1 || was_mine);
        }
        let mut told = Told::default();
        for (key, (change, was_mine)) in last {
            match &change.row {
                Some(row) if self.shows(row) => told.rows.push(row.clone()),
                row => {
                    // A row that was somebody else's all the time is not even named.
                    let is_mine = if row.is_some() {
                        self.covers(change.location)
                    } else {
                        change.was_location.is_none() && self.covers(change.location)
                    };
                    if self.drops(key, was_mine || is_mine) {
                        told.removed.push(key.to_owned());
                    }
                }
            }
        }
        self.gives(&told.rows);
        told
    }

    /// Whether a client that may have seen rows of this branch may have seen the row. What somebody takes part in is not
    /// told by its branch: they start from a snapshot, after which it is known what they have.
    fn covers(&self, location: Option<LocationId>) -> bool {
        !self.grant.sees_own_only() && self.grant.scope().covers(location)
    }

    fn shows(&self, row: &Row) -> bool {
        self.grant.sees(self.view, row) && matching::matches(&row.doc, &self.filters)
    }

    /// Whether the client must be told that a row is gone: where it has it, or, where that is not known, where it may
    /// know of it.
    fn drops(&mut self, key: &str, may_know: bool) -> bool {
        match &mut self.known {
            Some(known) => known.remove(key),
            None => may_know,
        }
    }
}

impl Told {
    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.removed.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use cnc_domain::kernel::{CompanyId, Scope};
    use serde_json::json;

    use super::*;
    use crate::{authorize::Grant, catalog::catalog};

    const MINE: u128 = 1;
    const THEIRS: u128 = 2;

    fn subscription(filters: &[(&str, &str)]) -> Subscription {
        let view = catalog().view("dispatch_board").expect("is a view");
        let filters = filters.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let grant = Grant::sample(CompanyId::number(7), "dispatcher", Scope::within([LocationId::number(MINE)]));
        let mut subscription = Subscription::new("a".into(), view, filters, grant, 100);
        subscription.position = 10;
        subscription
    }

    fn change(key: &str, (previous, position): (u64, u64), was: Option<u128>, now: Option<(u128, &str)>) -> Change {
        let row = now.map(|(location, stage)| Row {
            key: key.into(),
            location: Some(LocationId::number(location)),
            position,
            doc: json!({ "stage": stage }),
            restricted: None,
        });
        Change {
            company: CompanyId::number(7),
            view: "dispatch_board",
            key: key.into(),
            position,
            previous,
            location: row.as_ref().and_then(|row| row.location),
            row,
            was_location: was.map(LocationId::number),
            rebuilt: false,
        }
    }

    fn names(told: Option<Told>) -> (Vec<String>, Vec<String>) {
        let told = told.unwrap_or_default();
        (told.rows.into_iter().map(|row| row.key).collect(), told.removed)
    }

    #[test]
    fn a_row_of_ones_branch_is_told_and_one_of_others_is_not_even_named() {
        let mut subscription = subscription(&[]);
        let batch = [change("a", (10, 11), None, Some((MINE, "x"))), change("b", (10, 11), None, Some((THEIRS, "x")))];
        assert_eq!(names(subscription.take(&batch).expect("no gap")), (vec!["a".into()], vec![]));
        let batch = [change("b", (11, 12), Some(THEIRS), None)];
        assert_eq!(names(subscription.take(&batch).expect("no gap")), (vec![], vec![]));
        assert_eq!(subscription.position, 12);
    }

    #[test]
    fn a_row_that_leaves_the_branch_the_filter_or_the_view_is_removed() {
        let mut subscription = subscription(&[("stage", "x")]);
        let rows = ["a", "b", "c"].map(|key| change(key, (10, 11), None, Some((MINE, "x"))));
        subscription.take(&rows).expect("no gap");
        let leaving = [
            change("a", (11, 12), Some(MINE), Some((THEIRS, "x"))),
            change("b", (11, 12), Some(MINE), Some((MINE, "y"))),
            change("c", (11, 12), Some(MINE), None),
        ];
        let removed = vec!["a".into(), "b".into(), "c".into()];
        assert_eq!(names(subscription.take(&leaving).expect("no gap")), (vec![], removed));
    }

    #[test]
    fn who_resumes_is_told_of_what_left_but_of_nothing_elsewhere() {
        let mut subscription = subscription(&[("stage", "x")]);
        subscription.resume(10);
        let changes = [
            change("a", (10, 12), Some(MINE), Some((THEIRS, "x"))),
            change("b", (10, 12), Some(MINE), None),
            change("c", (10, 12), Some(THEIRS), None),
            change("d", (10, 12), None, Some((THEIRS, "x"))),
            change("e", (10, 12), Some(MINE), Some((MINE, "y"))),
        ];
        assert_eq!(names(Some(subscription.tell(&changes))), (vec![], vec!["a".into(), "b".into(), "e".into()]));
    }

    #[test]
    fn a_missed_or_unknown_change_is_a_gap_and_an_old_one_is_nothing() {
        let mut subscription = subscription(&[]);
        assert_eq!(subscription.take(&[change("a", (11, 12), None, Some((MINE, "x")))]), Err(Gap::Missed));
        assert_eq!(subscription.take(&[change("", (10, 12), None, None)]), Err(Gap::Missed));
        assert_eq!(subscription.take(&[change("a", (9, 10), None, Some((MINE, "x")))]), Ok(None));
        assert_eq!(subscription.position, 10);
    }
}
