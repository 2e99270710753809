//! What is said of a journey beside its steps: delays, issues, live statuses and tags.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Command, Event, Outcome, Refusal, TruckJourney};
use crate::{
    command_control::places::Position,
    kernel::{Context, Decision, Id, Minutes, Personal, Timestamp},
};

/// How many issues may be open at once.
pub const ISSUES_MAX: usize = 100;
/// How many tags a journey may have.
pub const TAGS_MAX: usize = 50;

/// What sort of thing is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum IssueKind {
    /// Someone was hurt, or could be.
    Safety,
    /// Goods or a building were damaged.
    Damage,
    /// The truck or its equipment.
    Truck,
    /// The way in, parking, an elevator.
    Access,
    /// The customer, or what was agreed.
    Customer,
    /// Someone of the crew.
    Crew,
    /// Anything else.
    Other,
}

/// Something that is wrong with a journey and not yet settled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Issue {
    /// What sort of thing.
    pub kind: IssueKind,
    /// What exactly.
    pub note: String,
    /// When it was seen.
    pub occurred_at: Timestamp,
}

/// How it goes, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum ReportedStatus {
    /// As planned.
    OnSchedule,
    /// Later than planned.
    RunningLate,
    /// Held up on the road.
    InTraffic,
    /// Nobody is there yet.
    WaitingForCustomer,
    /// The way in, an elevator or a dock is not free.
    WaitingForAccess,
    /// Something is wrong with the truck.
    TruckTrouble,
    /// The crew needs help.
    NeedHelp,
    /// Something else, as the note says.
    Other,
}

/// What the crew last said of how it goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct LiveStatusUpdate {
    /// In a word.
    pub status: ReportedStatus,
    /// In the crew's words.
    pub note: Option<String>,
    /// Where the truck was.
    pub position: Option<Personal<Position>>,
    /// When this was so.
    pub occurred_at: Timestamp,
}

impl TruckJourney {
    pub(super) fn delay(&self, minutes: Minutes, reason: String, at: Option<Timestamp>, context: &Context) -> Outcome {
        self.live()?;
        if minutes == Minutes(0) {
            return Err(Refusal::NoDelay);
        }
        Ok(Event::Delayed { minutes, reason, occurred_at: context.occurred(at)? }.into())
    }

    pub(super) fn raise_issue(
        &self,
        kind: IssueKind,
        note: String,
        at: Option<Timestamp>,
        context: &Context,
    ) -> Outcome {
        self.live()?;
        if self.issues.len() >= ISSUES_MAX {
            return Err(Refusal::TooManyIssues { limit: ISSUES_MAX });
        }
        Ok(Event::IssueRaised { issue: context.id(0), kind, note, occurred_at: context.occurred(at)? }.into())
    }

    /// Also when the journey is over: some things are only settled later.
    pub(super) fn resolve_issue(
        &self,
        issue: Id<Issue>,
        how: String,
        at: Option<Timestamp>,
        context: &Context,
    ) -> Outcome {
        self.known()?;
        if !self.issues.contains_key(&issue) {
            return Err(Refusal::NoSuchIssue { issue });
        }
        Ok(Event::IssueResolved { issue, how, occurred_at: context.occurred(at)? }.into())
    }

    pub(super) fn report_status(&self, report: Command, context: &Context) -> Outcome {
        let Command::ReportStatus { status, note, position, occurred_at } = report else {
            return Ok(Decision::nothing());
        };
        self.live()?;
        Ok(Event::StatusReported { status, note, position, occurred_at: context.occurred(occurred_at)? }.into())
    }

    pub(super) fn tag(&self, tag: String) -> Outcome {
        self.known()?;
        if !is_tag(&tag) {
            return Err(Refusal::NotATag);
        }
        if self.tags.contains(&tag) {
            return Ok(Decision::nothing());
        }
        if self.tags.len() >= TAGS_MAX {
            return Err(Refusal::TooManyTags { limit: TAGS_MAX });
        }
        Ok(Event::Tagged { tag }.into())
    }

    pub(super) fn untag(&self, tag: String) -> Outcome {
        self.known()?;
        Ok(if self.tags.contains(&tag) { Event::Untagged { tag }.into() } else { Decision::nothing() })
    }

    pub(super) fn delayed(&mut self, minutes: Minutes) {
        self.delayed_minutes = Minutes(self.delayed_minutes.0.saturating_add(minutes.0));
    }

    pub(super) fn issue_raised(&mut self, event: Event) {
        if let Event::IssueRaised { issue, kind, note, occurred_at } = event {
            self.issues.insert(issue, Issue { kind, note, occurred_at });
        }
    }

    /// Reports may come late; only a newer one takes the place of the one before.
    pub(super) fn status_reported(&mut self, event: Event) {
        if let Event::StatusReported { status, note, position, occurred_at } = event
            && self.status.as_ref().is_none_or(|last| last.occurred_at <= occurred_at)
        {
            self.status = Some(LiveStatusUpdate { status, note, position, occurred_at });
        }
    }
}

fn is_tag(tag: &str) -> bool {
    let fits = |(place, byte): (usize, u8)| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || (place > 0 && matches!(byte, b'_' | b'-'))
    };
    (1..=40).contains(&tag.len()) && tag.bytes().enumerate().all(fits)
}
