//! All integration tests, in one binary: it links once, and its tests run side by side.

mod folds;
mod host;
mod ledger;
