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
        Ok(Decision::unless(!self.tags.contains(&tag), Event::Untagged { tag }))
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

#[cfg(test)]
mod tests {
    use super::super::{Life, samples::*};
    use super::*;
    use crate::kernel::{Aggregate, Given, given};

    fn issue() -> Id<Issue> {
        given::context().id(0)
    }
    fn raised() -> Event {
        Event::IssueRaised { issue: issue(), kind: IssueKind::Access, note: "No elevator".into(), occurred_at: NOON }
    }
    fn raise() -> Command {
        Command::RaiseIssue { kind: IssueKind::Access, note: "No elevator".into(), occurred_at: None }
    }
    fn resolve() -> Command {
        Command::ResolveIssue { issue: issue(), how: "The stairs are wide".into(), occurred_at: None }
    }
    fn resolved() -> Event {
        Event::IssueResolved { issue: issue(), how: "The stairs are wide".into(), occurred_at: NOON }
    }
    fn report() -> Command {
        let status = ReportedStatus::InTraffic;
        Command::ReportStatus {
            status,
            note: Some("Bridge".into()),
            position: Some(position("cG9z")),
            occurred_at: None,
        }
    }
    fn reported(occurred_at: Timestamp) -> Event {
        let status = ReportedStatus::InTraffic;
        Event::StatusReported { status, note: Some("Bridge".into()), position: Some(position("cG9z")), occurred_at }
    }
    fn delay(minutes: u32) -> Command {
        Command::Delay { minutes: Minutes(minutes), reason: "Traffic".into(), occurred_at: None }
    }
    fn tag(tag: &str) -> Command {
        Command::Tag { tag: tag.into() }
    }
    fn tagged(tag: impl Into<String>) -> Event {
        Event::Tagged { tag: tag.into() }
    }

    #[test]
    fn a_delay_is_said_with_its_reason_and_delays_add_up() {
        let delayed = || Event::Delayed { minutes: Minutes(20), reason: "Traffic".into(), occurred_at: NOON };
        TruckJourney::given(departed()).at(NOON).when(delay(20)).then([delayed()]);
        TruckJourney::given(departed()).when(delay(0)).refused(Refusal::NoDelay);
        let mut journey = TruckJourney::default();
        journey.evolve(delayed());
        journey.evolve(delayed());
        assert_eq!(journey.delayed_minutes, Minutes(40));
    }

    #[test]
    fn an_issue_is_raised_and_settled_even_after_the_journey() {
        TruckJourney::given(departed()).at(NOON).when(raise()).then([raised()]);
        TruckJourney::given(departed().chain([raised()])).at(NOON).when(resolve()).then([resolved()]);
        let later = departed().chain([raised(), Event::Returned { occurred_at: NOON }]);
        TruckJourney::given(later).at(NOON).when(resolve()).then([resolved()]);
    }

    #[test]
    fn an_issue_that_is_not_open_cannot_be_settled() {
        for events in [vec![planned()], vec![planned(), raised(), resolved()]] {
            TruckJourney::given(events).when(resolve()).refused(Refusal::NoSuchIssue { issue: issue() });
        }
    }

    #[test]
    fn so_many_issues_can_be_open() {
        let many = (0..ISSUES_MAX as u128).map(|nth| Event::IssueRaised {
            issue: Id::number(1000 + nth),
            kind: IssueKind::Other,
            note: "Something".into(),
            occurred_at: NOON,
        });
        TruckJourney::given([planned()].into_iter().chain(many))
            .when(raise())
            .refused(Refusal::TooManyIssues { limit: ISSUES_MAX });
    }

    #[test]
    fn the_newest_status_is_the_live_one() {
        TruckJourney::given(departed()).at(NOON).when(report()).then([reported(NOON)]);
        let mut journey = TruckJourney::default();
        let newest = NOON.plus(Minutes(5));
        journey.evolve(reported(newest));
        journey.evolve(reported(NOON));
        assert_eq!(journey.status.map(|status| status.occurred_at), Some(newest));
    }

    #[test]
    fn a_tag_is_put_on_once_and_taken_off_once() {
        TruckJourney::given([planned()]).when(tag("piano")).then([tagged("piano")]);
        TruckJourney::given([planned(), tagged("piano")]).when(tag("piano")).then_nothing();
        let untag = || Command::Untag { tag: "piano".into() };
        TruckJourney::given([planned(), tagged("piano")]).when(untag()).then([Event::Untagged { tag: "piano".into() }]);
        TruckJourney::given([planned()]).when(untag()).then_nothing();
    }

    #[test]
    fn what_is_no_tag_or_one_too_many_is_refused() {
        for text in ["", " ", "Piano", "-piano", &"a".repeat(41)] {
            TruckJourney::given([planned()]).when(tag(text)).refused(Refusal::NotATag);
        }
        let many = (0..TAGS_MAX).map(|nth| tagged(format!("t{nth}")));
        TruckJourney::given([planned()].into_iter().chain(many))
            .when(tag("piano"))
            .refused(Refusal::TooManyTags { limit: TAGS_MAX });
    }

    #[test]
    fn nothing_is_said_of_a_journey_that_is_unknown_or_over() {
        for command in [delay(5), raise(), resolve(), report(), tag("piano"), Command::Untag { tag: "piano".into() }] {
            TruckJourney::given([]).when(command).refused(Refusal::NotPlanned);
        }
        for command in [delay(5), raise(), report()] {
            TruckJourney::given(returned()).when(command).refused(Refusal::Over { life: Life::Returned });
        }
    }
}
