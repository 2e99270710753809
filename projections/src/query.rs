//! Asking a view: filters by equality, one sort, pages by keyset.

use std::{collections::BTreeSet, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use cnc_domain::{
    kernel::LocationId,
    ledger::{Fault, Hash, Position},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The largest page.
pub const LIMIT_MAX: usize = 500;

/// What is asked of a view.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// Members and the values that they must have. Only what the document declares as a filter is allowed.
    pub filters: Vec<(String, String)>,
    /// The member to sort by (a declared sort, or `key`), and whether the largest comes first. By key where absent.
    pub sort: Option<(String, bool)>,
    /// Where the page before ended.
    pub cursor: Option<String>,
    /// How many rows at most: 1 to [`LIMIT_MAX`].
    pub limit: usize,
    /// The branches that the asker may see; `None` for all. Rows without a branch are everybody's.
    pub scope: Option<BTreeSet<LocationId>>,
}

/// A document as it is kept: personal fields sealed, nothing computed.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its key.
    pub key: String,
    /// Its branch.
    pub location: Option<LocationId>,
    /// The view's position when it last changed.
    pub position: Position,
    /// The document without its restricted members.
    pub doc: Value,
    /// The restricted members, for those who may see them.
    pub restricted: Option<Value>,
}

/// Whether what a view shows is what the ledger says up to its position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Health {
    /// It is built anew up to this position, since it stood at what the ledger does not have: before that, it is not shown.
    pub rebuilding_until: Option<Position>,
    /// The entry that stopped it: it shows nothing of that one and of what came after.
    pub stopped_at: Option<Position>,
    /// How many entries it left out, since an operator had them skipped.
    pub skipped: u64,
}

/// In how many companies a fold is not well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unwell {
    /// The fold.
    pub fold: String,
    /// In so many an entry has stopped it.
    pub stopped: u64,
    /// In so many it has left out entries that were skipped.
    pub skipped: u64,
    /// In so many it is built anew, in the place of one that was of another history.
    pub rebuilding: u64,
}

impl Health {
    /// Whether nothing is wrong.
    pub fn is_well(&self) -> bool {
        *self == Self::default()
    }
}

/// One row of a view, where there is one, at one position.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The row. As long as it is the same one, so is what it says.
    pub row: Option<Arc<Row>>,
    /// The view's position.
    pub position: Position,
    /// How well the view is.
    pub health: Health,
}

/// Rows of a view at one position.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The rows, in order.
    pub rows: Vec<Row>,
    /// The cursor of the next page, where there is one.
    pub next: Option<String>,
    /// The view's position.
    pub position: Position,
    /// How well the view is.
    pub health: Health,
}

impl Row {
    /// Whether who sees these branches sees it; rows without a branch are everybody's.
    pub(crate) fn is_within(&self, scope: Option<&BTreeSet<LocationId>>) -> bool {
        let (Some(scope), Some(location)) = (scope, self.location) else { return true };
        scope.contains(&location)
    }
}

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// There is no such view.
    #[error("there is no view {0}")]
    UnknownView(String),
    /// The view has no such filter.
    #[error("{0} is not a filter of this view")]
    UnknownFilter(String),
    /// The filter's value has not the form of its member.
    #[error("{filter} must be {form}")]
    WrongValue {
        /// The filter.
        filter: String,
        /// What it must be.
        form: &'static str,
    },
    /// The view has no such sort.
    #[error("{0} is not a sort of this view")]
    UnknownSort(String),
    /// The cursor is of another query, or none of ours.
    #[error("the cursor is not of this query")]
    Cursor,
    /// The limit is 0 or too large.
    #[error("the limit must be 1 to {LIMIT_MAX}")]
    Limit,
    /// The system failed.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// What a cursor says.
#[derive(Serialize, Deserialize)]
struct Ended {
    /// Of which query it is.
    query: String,
    /// The last row's sort value.
    value: Value,
    /// The last row's key.
    key: String,
}

impl Query {
    /// What makes two pages of one query: all but cursor and limit. The scope is checked on every page anyhow.
    fn print(&self, view: &str) -> String {
        let text = serde_json::to_vec(&(view, &self.filters, &self.sort)).unwrap_or_default();
        URL_SAFE_NO_PAD.encode(&Hash::of(text).0[..9])
    }

    /// The cursor after a row.
    pub(crate) fn cursor_after(&self, view: &str, value: Value, key: &str) -> String {
        let ended = Ended { query: self.print(view), value, key: key.into() };
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&ended).unwrap_or_default())
    }

    /// The sort value and key that the page starts after.
    pub(crate) fn starts_after(&self, view: &str) -> Result<Option<(Value, String)>, QueryError> {
        let Some(cursor) = &self.cursor else { return Ok(None) };
        let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| QueryError::Cursor)?;
        let ended: Ended = serde_json::from_slice(&bytes).map_err(|_| QueryError::Cursor)?;
        // No row has U+0000 in it, and Postgres takes it for no text at all.
        let torn =
            [Some(ended.key.as_str()), ended.value.as_str()].into_iter().flatten().any(|text| text.contains('\0'));
        let ours = ended.query == self.print(view) && !torn;
        if ours { Ok(Some((ended.value, ended.key))) } else { Err(QueryError::Cursor) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_that_holds_what_no_row_can_is_not_ours() {
        let starts = |value: &str, key: &str| {
            let query = Query::default();
            Query { cursor: Some(query.cursor_after("board", value.into(), key)), ..query }.starts_after("board")
        };
        assert_eq!(starts("a", "b").expect("is ours"), Some(("a".into(), "b".to_owned())));
        for (value, key) in [("a", "\0"), ("a\0", "b")] {
            assert!(matches!(starts(value, key), Err(QueryError::Cursor)), "{value:?} {key:?}");
        }
    }
}
