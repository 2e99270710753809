//! A view: a fold whose main document is served.

use cnc_domain::kernel::{FoldKind, Present};
use serde_json::Value;

use crate::views;

/// A fold that is served under its name.
pub struct View {
    /// The fold. Its main document has the view's name and stands first among its shelves.
    pub kind: &'static dyn FoldKind,
    /// What it shows, in a sentence.
    pub about: &'static str,
    /// What is computed when it is read.
    pub present: Option<Present>,
    /// Makes the schema of what is read of the schema of what is kept: the two differ by what `present` does.
    pub describe: fn(&mut Value),
}

/// All views, alphabetical.
pub static VIEWS: &[View] =
    &[views::alerts::VIEW, views::dispatch_board::VIEW, views::journey_track::VIEW, views::users::VIEW];

/// The view of this name.
pub fn view(name: &str) -> Option<&'static View> {
    VIEWS.iter().find(|view| view.kind.name() == name)
}
