//! Whether the broker's stream still has what it acknowledged.

/// The last message that relays know to be in the stream: where it stands there, and the id that it was published under.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tip {
    pub(super) sequence: u64,
    /// Empty where it is not known.
    pub(super) message_id: String,
}

/// What relays know of the stream. Of a generation it counts only while that lasts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) generation: i64,
    /// Which stream it is.
    pub(super) created: String,
    pub(super) tip: Tip,
}

/// The stream as the broker shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) created: String,
    /// The place of its last message.
    pub(super) last: u64,
    /// The id of the message where the known tip stood, empty where it was published without, as no relay does; `None`
    /// where there is no message any more, as it was kept long enough.
    pub(super) at_tip: Option<String>,
}

/// How the broker's stream was found to have less than what relays know to be in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shortfall {
    /// It is another stream.
    Lost,
    /// Its last messages are gone.
    Behind,
    /// The connection is another: the last that were acknowledged over the one before, and not recorded, may be gone.
    Perhaps,
}

/// What is known of the stream's places, by which consumers go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Places {
    /// Up to here each holds what it always held.
    pub(super) intact: u64,
    /// Whether those after may have come to hold something else.
    pub(super) are_doubtful: bool,
}

impl Known {
    /// Nothing was ever published.
    pub(super) fn is_new(&self) -> bool {
        self.created.is_empty()
    }

    /// What the stream that was `found` lacks. A stream that lost its last messages may be as long again, by those that came
    /// after: then another message stands where the known one stood.
    pub(super) fn shortfall(&self, found: &Found) -> Option<Shortfall> {
        let Tip { sequence, message_id } = &self.tip;
        if self.created != found.created {
            return Some(Shortfall::Lost);
        }
        let is_another = !message_id.is_empty() && found.at_tip.as_ref().is_some_and(|id| id != message_id);
        (*sequence > found.last || is_another).then_some(Shortfall::Behind)
    }

    /// What this makes of the places that consumers go by.
    pub(super) fn places(&self, shortfall: Option<Shortfall>) -> Places {
        let is_lost = matches!(shortfall, Some(Shortfall::Lost | Shortfall::Behind));
        Places { intact: if is_lost { 0 } else { self.tip.sequence }, are_doubtful: shortfall.is_some() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shortfall(known: &str, created: &str, last: u64, at_tip: Option<&str>) -> Option<Shortfall> {
        let tip = Tip { sequence: 7, message_id: known.into() };
        let found = Found { created: created.into(), last, at_tip: at_tip.map(Into::into) };
        Known { generation: 1, created: "first".into(), tip }.shortfall(&found)
    }

    #[test]
    fn a_stream_that_has_what_it_acknowledged_lacks_nothing() {
        assert_eq!(shortfall("a:7", "first", 7, Some("a:7")), None);
        assert_eq!(shortfall("a:7", "first", 9, Some("a:7")), None);
        // Too old to be kept, or of a relay that did not say which it was.
        assert_eq!(shortfall("a:7", "first", 9, None), None);
        assert_eq!(shortfall("", "first", 9, Some("b:1")), None);
    }

    #[test]
    fn another_stream_has_lost_all() {
        assert_eq!(shortfall("a:7", "second", 9, Some("a:7")), Some(Shortfall::Lost));
    }

    #[test]
    fn a_stream_that_lost_its_last_messages_is_behind_even_when_it_is_as_long_again() {
        assert_eq!(shortfall("a:7", "first", 6, None), Some(Shortfall::Behind));
        assert_eq!(shortfall("a:7", "first", 7, Some("a:8")), Some(Shortfall::Behind));
        assert_eq!(shortfall("a:7", "first", 9, Some("a:8")), Some(Shortfall::Behind));
        assert_eq!(shortfall("a:7", "first", 9, Some("")), Some(Shortfall::Behind));
    }
}
