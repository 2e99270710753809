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
