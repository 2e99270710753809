//! Why a journey says no.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Issue, Life, Pause, Stop, StopState};
use crate::{
    crew_customer::CrewMember,
    kernel::{Id, OutOfTime, Timestamp, Window, marker},
};

/// Why a journey says no. That a member or a truck is not free, out of service or without a licence, they say themselves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The journey is on the plan already.
    #[error("the journey is already planned")]
    AlreadyPlanned,
    /// There is no such journey yet.
    #[error("the journey is not planned")]
    NotPlanned,
    /// The window ends before it starts.
    #[error("the window must end after it starts")]
    WindowBackward {
        /// The window.
        window: Window,
    },
    /// The journey has ended.
    #[error("the journey is over: it was {life}")]
    Over {
        /// How it ended.
        life: Life,
    },
    /// The step is not the journey's next.
    #[error("the journey is {life}, and must be {needed} for this step")]
    OutOfOrder {
        /// Where the journey is.
        life: Life,
        /// Where it must be.
        needed: Life,
    },
    /// The step is not the stop's next.
    #[error("the stop is {state}, and must be {needed} for this step")]
    StopOutOfOrder {
        /// The stop.
        stop: Id<Stop>,
        /// Where it is.
        state: StopState,
        /// Where it must be.
        needed: StopState,
    },
    /// The journey has no such stop.
    #[error("the journey has no such stop")]
    NoSuchStop {
        /// The stop that was named.
        stop: Id<Stop>,
    },
    /// Another stop is next.
    #[error("another stop is next; reorder or skip stops first")]
    NotNextStop {
        /// The stop that was named.
        stop: Id<Stop>,
        /// The stop that is next.
        next: Id<Stop>,
    },
    /// All stops are done or skipped.
    #[error("no stop is ahead")]
    NoStopAhead,
    /// The truck cannot leave while it is bound for, or at, another stop.
    #[error("the stop before is {state}; finish or skip it first")]
    StopUnfinished {
        /// The stop that comes first.
        stop: Id<Stop>,
        /// Where it is.
        state: StopState,
    },
    /// The truck cannot return while stops are open.
    #[error("{} stops are neither done nor skipped", stops.len())]
    StopsOpen {
        /// Which.
        stops: Vec<Id<Stop>>,
    },
    /// Two stops would have one id.
    #[error("the journey already has a stop with this id")]
    StopKnown {
        /// The id.
        stop: Id<Stop>,
    },
    /// A new order must name the stops that are ahead, each once.
    #[error("the new order must name each stop that is ahead once")]
    NotTheStopsAhead {
        /// The stops that are ahead, in their present order.
        ahead: Vec<Id<Stop>>,
    },
    /// A journey has at most this many stops.
    #[error("a journey has at most {limit} stops")]
    TooManyStops {
        /// How many.
        limit: usize,
    },
    /// Nobody was named.
    #[error("name at least one crew member")]
    NobodyNamed,
    /// A member was named twice.
    #[error("a crew member is named twice")]
    NamedTwice {
        /// Who.
        member: Id<CrewMember>,
    },
    /// A journey has at most this many people.
    #[error("a journey has a crew of at most {limit}")]
    TooManyCrew {
        /// How many.
        limit: usize,
    },
    /// Nobody is assigned.
    #[error("nobody is assigned to the journey")]
    NoCrew,
    /// The member is not of this crew.
    #[error("the crew member is not assigned to the journey")]
    NotAssigned {
        /// Who.
        member: Id<CrewMember>,
    },
    /// The crew rests.
    #[error("the crew is {pause}; end that first")]
    Paused {
        /// Why it rests.
        pause: Pause,
        /// Since when.
        since: Timestamp,
    },
    /// There is no such rest to end.
    #[error("the crew is not {pause}")]
    NotPaused {
        /// What should be ended.
        pause: Pause,
    },
    /// Goods were loaded, so that the journey must be finished.
    #[error("goods were loaded; the journey must be finished")]
    AlreadyLoaded {
        /// The stop where.
        stop: Id<Stop>,
    },
    /// No such issue is open.
    #[error("no such issue is open")]
    NoSuchIssue {
        /// The issue that was named.
        issue: Id<Issue>,
    },
    /// A journey has at most this many open issues.
    #[error("at most {limit} issues can be open; resolve some first")]
    TooManyIssues {
        /// How many.
        limit: usize,
    },
    /// The tag is blank, too long or has other letters.
    #[error("a tag has 1 to 40 lower-case letters, digits, '_' and '-'")]
    NotATag,
    /// A journey has at most this many tags.
    #[error("a journey has at most {limit} tags")]
    TooManyTags {
        /// How many.
        limit: usize,
    },
    /// A delay is longer than nothing.
    #[error("a delay is at least a minute")]
    NoDelay,
    /// A chunk must have fixes.
    #[error("the chunk has no fixes")]
    NoFixes,
    /// A fix is too far in the future.
    #[error("a fix of {last_at} is in the future; the latest that is taken is of {latest}")]
    FixInFuture {
        /// The time of the latest fix.
        last_at: Timestamp,
        /// The latest time that would have been taken.
        latest: Timestamp,
    },
    /// A journey takes fixes of at most this many devices.
    #[error("a journey takes fixes of at most {limit} devices")]
    TooManyDevices {
        /// How many.
        limit: usize,
    },
    /// Too many chunks of the device are missing in between.
    #[error("too many chunks of the device are missing; send chunk {missing} first")]
    ChunksMissing {
        /// The device.
        device: Id<marker::Device>,
        /// The first chunk that is missing.
        missing: u32,
    },
    /// The device's clock is too far from the server's.
    #[error("it cannot have occurred then: between {earliest} and {latest} is taken")]
    OutOfTime {
        /// The earliest time that would have been taken.
        earliest: Timestamp,
        /// The latest.
        latest: Timestamp,
    },
}

impl From<OutOfTime> for Refusal {
    fn from(OutOfTime { latest, earliest }: OutOfTime) -> Self {
        Self::OutOfTime { earliest, latest }
    }
}
