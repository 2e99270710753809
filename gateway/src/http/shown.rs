//! What a role was shown of a document a moment ago, so that what many look at is not made anew for each of them.
//!
//! It is shown again to the same role only, and only for the very row that it was made of and under the settings that it was
//! made under: so it is never older than the row, and of what is counted to the time of reading never more than a second.
//! Whether somebody may see the row at all is asked before, for each request. What was opened for its reader is not
//! kept: clear text of a person goes no further than into one answer.

use std::{sync::Arc, time::Duration};

use cnc_commands::{Standing, cache::Lately};
use cnc_domain::kernel::CompanyId;
use cnc_projections::Row;
use tokio::time::Instant;

/// For how long.
const KEPT_FOR: Duration = Duration::from_secs(1);
/// How many are kept.
const KEPT_MAX: usize = 1_024;
/// A text that is longer is not kept.
const BYTES_MAX: usize = 16 << 10;

/// A company's view, a key of it, and a role.
pub(super) type Place = (CompanyId, &'static str, String, String);

/// What was shown lately.
pub(crate) struct Shown(Lately<Place, Answer>);

#[derive(Clone)]
struct Answer {
    row: Arc<Row>,
    standing: Arc<Standing>,
    text: Arc<str>,
}

impl Default for Shown {
    fn default() -> Self {
        Self(Lately::new(KEPT_MAX, KEPT_FOR))
    }
}

impl Shown {
    /// What was shown of this row under these settings.
    pub fn get(&self, place: &Place, row: &Arc<Row>, standing: &Arc<Standing>) -> Option<Arc<str>> {
        let answer = self.0.get(place)?;
        let same = Arc::ptr_eq(&answer.row, row) && Arc::ptr_eq(&answer.standing, standing);
        same.then_some(answer.text)
    }

    /// Keeps what was shown of it.
    pub fn keep(&self, place: Place, row: Arc<Row>, standing: Arc<Standing>, text: Arc<str>) {
        if text.len() <= BYTES_MAX {
            self.0.put(place, Answer { row, standing, text }, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row() -> Arc<Row> {
        Arc::new(Row { key: "a".into(), location: None, position: 1, doc: json!({}), restricted: None })
    }

    fn place(role: &str) -> Place {
        (CompanyId::number(1), "board", "a".into(), role.into())
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_shown_is_shown_again_to_the_same_role_of_the_same_row_for_a_second() {
        let (shown, one, standing) = (Shown::default(), row(), Arc::new(Standing::default()));
        shown.keep(place("admin"), one.clone(), standing.clone(), "text".into());
        assert_eq!(shown.get(&place("admin"), &one, &standing).as_deref(), Some("text"));
        assert_eq!(shown.get(&place("driver"), &one, &standing), None, "another role");
        assert_eq!(shown.get(&place("admin"), &row(), &standing), None, "another row, though it says the same");
        assert_eq!(shown.get(&place("admin"), &one, &Arc::default()), None, "other settings");
        tokio::time::advance(KEPT_FOR).await;
        assert_eq!(shown.get(&place("admin"), &one, &standing), None, "a second has passed");
    }

    #[test]
    fn a_long_text_is_not_kept() {
        let (shown, one, standing) = (Shown::default(), row(), Arc::new(Standing::default()));
        shown.keep(place("admin"), one.clone(), standing.clone(), "x".repeat(BYTES_MAX + 1).into());
        assert_eq!(shown.get(&place("admin"), &one, &standing), None);
    }
}
