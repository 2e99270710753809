//! The read side: folds of every company's ledger, kept beside it and served.
//!
//! A [`Store`] keeps documents and positions; an [`Engine`] reads a [`Feed`](cnc_domain::ledger::Feed) and folds what is
//! new into the store: the [`VIEWS`], and the triggers of the modules. Nothing here can append to a ledger.

mod change;
mod engine;
mod feed;
mod places;
mod query;
mod store;
mod view;
pub mod views;

pub use change::Change;
pub use engine::{AsOfError, Difference, Engine, EngineFolds, FoldStatus, Poison, Pruned, Rebuilt, Skipped, Verified};
pub use feed::{FeedOptions, JetStreamFeed, hear_changes, tell_changes};
pub use places::{Place, Places};
pub use query::{Found, Health, LIMIT_MAX, Page, Query, QueryError, Row, Unwell};
#[cfg(feature = "simulation")]
pub use store::simulated;
pub use store::{Store, TriggerState, TriggerStore, carry_triggers, holds_folds};
pub use view::{VIEWS, View, view};
