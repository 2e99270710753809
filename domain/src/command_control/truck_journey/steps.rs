//! The steps of a journey, from telling the crew to coming back.

use super::{Command, Event, Life, Outcome, Refusal, Stop, StopState, TruckJourney};
use crate::{
    command_control::places::Position,
    kernel::{Context, Decision, Id, Personal, Seconds, Timestamp},
};

impl TruckJourney {
    pub(super) fn dispatch(&self, at: Option<Timestamp>, context: &Context) -> Outcome {
        self.be(Life::Planned)?;
        Ok(Event::Dispatched { occurred_at: context.occurred(at)? }.into())
    }

    pub(super) fn acknowledge(&self, at: Option<Timestamp>, context: &Context) -> Outcome {
        self.be(Life::Dispatched)?;
        Ok(Event::Acknowledged { occurred_at: context.occurred(at)? }.into())
    }

    pub(super) fn depart(&self, depart: Command, context: &Context) -> Outcome {
        let Command::Depart { to, position, expected_at, occurred_at } = depart else {
            return Ok(Decision::nothing());
        };
        if self.course.life != Life::Departed {
            self.be(Life::Acknowledged)?;
        }
        self.awake()?;
        if self.crew.is_empty() {
            return Err(Refusal::NoCrew);
        }
        let to = self.may_leave_for(to)?;
        let occurred_at = context.occurred(occurred_at)?;
        let (position, fix_at) = self.left_from(position, occurred_at, context);
        Ok(Event::Departed { to, position, fix_at, expected_at, occurred_at }.into())
    }

    pub(super) fn arrive(
        &self,
        stop: Id<Stop>,
        position: Option<Personal<Position>>,
        at: Option<Timestamp>,
        context: &Context,
    ) -> Outcome {
        self.step_at(stop, StopState::EnRoute)?;
        Ok(Event::Arrived { stop, position, occurred_at: context.occurred(at)? }.into())
    }

    pub(super) fn start_work(&self, stop: Id<Stop>, at: Option<Timestamp>, context: &Context) -> Outcome {
        self.step_at(stop, StopState::Arrived)?;
        Ok(Event::WorkStarted { stop, occurred_at: context.occurred(at)? }.into())
    }

    pub(super) fn finish_work(&self, stop: Id<Stop>, at: Option<Timestamp>, context: &Context) -> Outcome {
        self.step_at(stop, StopState::Working)?;
        Ok(Event::WorkFinished { stop, occurred_at: context.occurred(at)? }.into())
    }

    pub(super) fn return_to_yard(&self, at: Option<Timestamp>, context: &Context) -> Outcome {
        self.be(Life::Departed)?;
        self.awake()?;
        let open = self.course.stops.iter().filter(|stop| !stop.state.is_over());
        let stops: Vec<_> = open.map(|stop| stop.plan.stop).collect();
        if !stops.is_empty() {
            return Err(Refusal::StopsOpen { stops });
        }
        let occurred_at = context.occurred(at)?;
        Ok(Decision::from(Event::Returned { occurred_at }).also(self.release_all(context)))
    }

    pub(super) fn cancel(&self, reason: String, at: Option<Timestamp>, context: &Context) -> Outcome {
        self.live()?;
        if let Some(stop) = self.course.loaded_at() {
            return Err(Refusal::AlreadyLoaded { stop: stop.plan.stop });
        }
        let occurred_at = context.occurred(at)?;
        Ok(Decision::from(Event::Cancelled { reason, occurred_at }).also(self.release_all(context)))
    }

    /// Refuses a step at a stop that is not its next.
    fn step_at(&self, stop: Id<Stop>, needed: StopState) -> Result<(), Refusal> {
        self.live()?;
        let state = self.stop(stop)?.state;
        self.be(Life::Departed)?;
        self.awake()?;
        if state == needed { Ok(()) } else { Err(Refusal::StopOutOfOrder { stop, state, needed }) }
    }

    /// The stop that the truck may leave for, which is the next, once it has finished with the one before.
    fn may_leave_for(&self, to: Option<Id<Stop>>) -> Result<Id<Stop>, Refusal> {
        if let Some(stop) = to {
            self.stop(stop)?;
        }
        if let Some(Stop { plan, state, .. }) = self.course.current() {
            return Err(Refusal::StopUnfinished { stop: plan.stop, state: *state });
        }
        let next = self.course.next().ok_or(Refusal::NoStopAhead)?.plan.stop;
        match to {
            Some(stop) if stop != next => Err(Refusal::NotNextStop { stop, next }),
            _ => Ok(next),
        }
    }

    /// Where the truck left from: as the crew says, or else as the fix nearest to the departure says.
    fn left_from(
        &self,
        position: Option<Personal<Position>>,
        at: Timestamp,
        context: &Context,
    ) -> (Option<Personal<Position>>, Option<Timestamp>) {
        if position.is_some() {
            return (position, None);
        }
        let reach = Seconds(context.settings.device_time.fix_for_departure_seconds);
        match self.gps.mark_near(at, reach) {
            Some(mark) => (Some(mark.position.clone()), Some(mark.at)),
            None => (None, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{StopKind, samples::*};
    use super::*;
    use crate::kernel::{Actor, Given, Minutes};

    const SOON: Timestamp = Timestamp::from_seconds(1_782_907_200 + 600);

    fn depart(to: Option<Id<Stop>>) -> Command {
        Command::Depart { to, position: None, expected_at: None, occurred_at: None }
    }
    fn arrive(stop: Id<Stop>) -> Command {
        Command::Arrive { stop, position: None, occurred_at: None }
    }
    fn start_work(stop: Id<Stop>) -> Command {
        Command::StartWork { stop, occurred_at: None }
    }
    fn finish_work(stop: Id<Stop>) -> Command {
        Command::FinishWork { stop, occurred_at: None }
    }
    fn return_to_yard() -> Command {
        Command::ReturnToYard { occurred_at: None }
    }
    fn cancel() -> Command {
        Command::Cancel { reason: "The customer called".into(), occurred_at: None }
    }
    fn out_of_order(life: Life, needed: Life) -> Refusal {
        Refusal::OutOfOrder { life, needed }
    }

    #[test]
    fn a_journey_goes_step_by_step() {
        let told = TruckJourney::given([planned(), crewed()]).at(NOON);
        told.when(Command::Dispatch { occurred_at: None }).then([Event::Dispatched { occurred_at: NOON }]);
        let said = TruckJourney::given(dispatched()).at(NOON);
        said.when(Command::Acknowledge { occurred_at: None }).then([Event::Acknowledged { occurred_at: NOON }]);
        TruckJourney::given(acknowledged()).at(NOON).when(depart(Some(LOAD))).then([left_for(LOAD)]);
        let [arrived, started, finished] = worked_at(LOAD);
        TruckJourney::given(departed()).at(NOON).when(arrive(LOAD)).then([arrived.clone()]);
        let there = departed().chain([arrived]);
        TruckJourney::given(there).at(NOON).when(start_work(LOAD)).then([started]);
        let working = departed().chain(worked_at(LOAD).into_iter().take(2));
        TruckJourney::given(working).at(NOON).when(finish_work(LOAD)).then([finished]);
        TruckJourney::given(loaded()).at(NOON).when(depart(None)).then([left_for(UNLOAD)]);
        TruckJourney::given(unloaded()).at(NOON).when(return_to_yard()).then([Event::Returned { occurred_at: NOON }]);
    }

    #[test]
    fn a_step_before_its_time_is_refused_with_what_is_needed() {
        let planned = || TruckJourney::given([planned(), crewed()]);
        let acknowledge = Command::Acknowledge { occurred_at: None };
        planned().when(acknowledge).refused(out_of_order(Life::Planned, Life::Dispatched));
        planned().when(depart(None)).refused(out_of_order(Life::Planned, Life::Acknowledged));
        planned().when(arrive(LOAD)).refused(out_of_order(Life::Planned, Life::Departed));
        planned().when(return_to_yard()).refused(out_of_order(Life::Planned, Life::Departed));
        TruckJourney::given(dispatched())
            .when(Command::Dispatch { occurred_at: None })
            .refused(out_of_order(Life::Dispatched, Life::Planned));
    }

    #[test]
    fn a_stops_step_before_its_time_is_refused_with_what_is_needed() {
        let refused = |command, stop, state, needed| {
            TruckJourney::given(departed()).when(command).refused(Refusal::StopOutOfOrder { stop, state, needed });
        };
        refused(arrive(UNLOAD), UNLOAD, StopState::Ahead, StopState::EnRoute);
        refused(start_work(LOAD), LOAD, StopState::EnRoute, StopState::Arrived);
        refused(finish_work(LOAD), LOAD, StopState::EnRoute, StopState::Working);
        TruckJourney::given(departed()).when(arrive(YARD)).refused(Refusal::NoSuchStop { stop: YARD });
    }

    #[test]
    fn a_truck_leaves_for_the_next_stop_when_it_is_done_with_the_one_before() {
        TruckJourney::given(acknowledged())
            .when(depart(Some(UNLOAD)))
            .refused(Refusal::NotNextStop { stop: UNLOAD, next: LOAD });
        TruckJourney::given(departed())
            .when(depart(Some(UNLOAD)))
            .refused(Refusal::StopUnfinished { stop: LOAD, state: StopState::EnRoute });
        TruckJourney::given(acknowledged()).when(depart(Some(YARD))).refused(Refusal::NoSuchStop { stop: YARD });
        TruckJourney::given(unloaded()).when(depart(None)).refused(Refusal::NoStopAhead);
    }

    #[test]
    fn nobody_departs_with_no_crew() {
        let alone = acknowledged().chain([ANN, BOB].map(|member| Event::CrewReleased { member }));
        TruckJourney::given(alone).when(depart(Some(LOAD))).refused(Refusal::NoCrew);
    }

    #[test]
    fn a_departure_has_the_crews_position_or_else_the_nearest_fix() {
        let left =
            |position, fix_at| Event::Departed { to: LOAD, position, fix_at, expected_at: None, occurred_at: SOON };
        let crews = Command::Depart {
            to: None,
            position: Some(position("Y3Jldw")),
            expected_at: None,
            occurred_at: Some(SOON),
        };
        let fixed = || acknowledged().chain([recorded(0, &[NOON])]);
        TruckJourney::given(fixed()).at(SOON).when(crews).then([left(Some(position("Y3Jldw")), None)]);
        TruckJourney::given(fixed())
            .at(SOON)
            .when(depart(None))
            .then([left(Some(position(&NOON.to_string())), Some(NOON))]);
        let old = acknowledged().chain([recorded(0, &[SOON.minus(Minutes(16))])]);
        TruckJourney::given(old).at(SOON).when(depart(None)).then([left(None, None)]);
    }

    #[test]
    fn a_truck_returns_when_all_stops_are_done_or_skipped() {
        TruckJourney::given(loaded()).when(return_to_yard()).refused(Refusal::StopsOpen { stops: vec![UNLOAD] });
        let skipped = Event::StopSkipped { stop: UNLOAD, reason: "Stored".into(), occurred_at: NOON };
        TruckJourney::given(loaded().chain([skipped]))
            .at(NOON)
            .when(return_to_yard())
            .then([Event::Returned { occurred_at: NOON }]);
    }

    #[test]
    fn a_journey_is_called_off_only_before_anything_was_loaded() {
        TruckJourney::given([planned()])
            .at(NOON)
            .when(cancel())
            .then([Event::Cancelled { reason: "The customer called".into(), occurred_at: NOON }]);
        let loading = departed().chain(worked_at(LOAD).into_iter().take(2));
        TruckJourney::given(loading).when(cancel()).refused(Refusal::AlreadyLoaded { stop: LOAD });
        let yard_only = [Event::StopAdded { stop: planned_stop(YARD, StopKind::Yard), before: Some(LOAD) }];
        let at_yard = acknowledged().chain(yard_only).chain([left_for(YARD)]).chain(worked_at(YARD));
        TruckJourney::given(at_yard)
            .at(NOON)
            .when(cancel())
            .then([Event::Cancelled { reason: "The customer called".into(), occurred_at: NOON }]);
    }

    #[test]
    fn nothing_is_done_in_a_journey_that_is_unknown_or_over() {
        let steps = || [depart(None), arrive(LOAD), start_work(LOAD), finish_work(LOAD), return_to_yard(), cancel()];
        for step in steps() {
            TruckJourney::given([]).when(step).refused(Refusal::NotPlanned);
        }
        for step in steps() {
            TruckJourney::given(returned()).when(step).refused(Refusal::Over { life: Life::Returned });
        }
    }

    #[test]
    fn a_device_is_believed_five_minutes_ahead_and_three_days_behind() {
        let (latest, earliest) = (NOON.plus(Minutes(5)), NOON.minus(Minutes(72 * 60)));
        let at = |at| Command::Arrive { stop: LOAD, position: None, occurred_at: Some(at) };
        let arrived = |occurred_at| Event::Arrived { stop: LOAD, position: None, occurred_at };
        for time in [latest, earliest] {
            TruckJourney::given(departed()).at(NOON).when(at(time)).then([arrived(time)]);
        }
        for time in [latest.plus(Seconds(1)), earliest.minus(Seconds(1))] {
            let refusal = Refusal::OutOfTime { earliest, latest };
            TruckJourney::given(departed()).at(NOON).when(at(time)).refused(refusal);
            let tool = Actor::tool("import");
            TruckJourney::given(departed()).at(NOON).by(tool).when(at(time)).then([arrived(time)]);
        }
    }
}
