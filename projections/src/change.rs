//! What a view tells those who watch it.

use cnc_domain::{
    kernel::{CompanyId, LocationId},
    ledger::Position,
};

use crate::Row;

/// A change to one row of a view.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Whose.
    pub company: CompanyId,
    /// The view.
    pub view: &'static str,
    /// The row's key. Empty where it is not known what changed: query again.
    pub key: String,
    /// The view's position with this change.
    pub position: Position,
    /// Who has seen the view at this position, or at any later one up to `position`, has missed nothing before this
    /// change. Who has only seen it earlier must query again.
    pub previous: Position,
    /// The row's branch now.
    pub location: Option<LocationId>,
    /// The row; `None` where it was removed.
    pub row: Option<Row>,
    /// The row's branch before, where it was there and had one: who may see that branch only must drop the row.
    pub was_location: Option<LocationId>,
    /// The whole view was built anew: whoever has seen it at any position must query again.
    pub rebuilt: bool,
}

impl Change {
    /// Whether it only says that something changed, not what.
    pub fn is_unknown(&self) -> bool {
        self.key.is_empty()
    }
}
