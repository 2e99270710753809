//! Planning a journey, and changing where it goes.

use super::{
    Command, Event, NewStop, Outcome, Refusal, STOPS_MAX, Stop, StopState, TruckJourney, course::PlannedStop,
    crew::reserve_truck,
};
use crate::kernel::{Context, Decision, Id, Timestamp, Window};

impl TruckJourney {
    pub(super) fn plan(&self, plan: Command, context: &Context) -> Outcome {
        let Command::Plan { truck, location, window, stops, recommended_crew, estimated_minutes } = plan else {
            return Ok(Decision::nothing());
        };
        if self.known().is_ok() {
            return Err(Refusal::AlreadyPlanned);
        }
        forward(window)?;
        if stops.len() > STOPS_MAX {
            return Err(Refusal::TooManyStops { limit: STOPS_MAX });
        }
        let mut named: Vec<PlannedStop> = Vec::with_capacity(stops.len());
        for (stop, nth) in stops.into_iter().zip(0..) {
            stop.window.map_or(Ok(()), forward)?;
            let stop = stop.named(context, nth);
            if named.iter().any(|other| other.stop == stop.stop) {
                return Err(Refusal::StopKnown { stop: stop.stop });
            }
            named.push(stop);
        }
        let planned = Event::Planned { truck, location, window, stops: named, recommended_crew, estimated_minutes };
        Ok(Decision::from(planned).also([reserve_truck(truck, window, context)]))
    }

    pub(super) fn add_stop(&self, stop: NewStop, before: Option<Id<Stop>>, context: &Context) -> Outcome {
        self.live()?;
        if self.course.stops.len() >= STOPS_MAX {
            return Err(Refusal::TooManyStops { limit: STOPS_MAX });
        }
        stop.window.map_or(Ok(()), forward)?;
        if let Some(before) = before {
            self.must_be(before, |state| state == StopState::Ahead)?;
        }
        let stop = stop.named(context, 0);
        if self.course.stop(stop.stop).is_some() {
            return Err(Refusal::StopKnown { stop: stop.stop });
        }
        Ok(Event::StopAdded { stop, before }.into())
    }

    pub(super) fn reorder_stops(&self, stops: Vec<Id<Stop>>) -> Outcome {
        self.live()?;
        let ahead: Vec<Id<Stop>> =
            self.course.stops.iter().filter(|stop| stop.state == StopState::Ahead).map(|stop| stop.plan.stop).collect();
        if stops == ahead {
            return Ok(Decision::nothing());
        }
        let sorted = |ids: &[Id<Stop>]| {
            let mut ids = ids.to_vec();
            ids.sort_unstable();
            ids
        };
        if sorted(&stops) != sorted(&ahead) {
            return Err(Refusal::NotTheStopsAhead { ahead });
        }
        Ok(Event::StopsReordered { stops }.into())
    }

    pub(super) fn skip_stop(
        &self,
        stop: Id<Stop>,
        reason: String,
        at: Option<Timestamp>,
        context: &Context,
    ) -> Outcome {
        self.live()?;
        self.must_be(stop, |state| state <= StopState::Arrived)?;
        Ok(Event::StopSkipped { stop, reason, occurred_at: context.occurred(at)? }.into())
    }

    pub(super) fn planned(&mut self, event: Event) {
        if let Event::Planned { truck, location, window, recommended_crew, estimated_minutes, .. } = event {
            self.truck = Some(truck);
            self.location = Some(location);
            self.window = window;
            self.recommended_crew = recommended_crew;
            self.estimated_minutes = estimated_minutes;
        }
    }

    /// Refuses a stop in another state.
    fn must_be(&self, stop: Id<Stop>, fits: impl Fn(StopState) -> bool) -> Result<(), Refusal> {
        let state = self.stop(stop)?.state;
        if fits(state) { Ok(()) } else { Err(Refusal::StopOutOfOrder { stop, state, needed: StopState::Ahead }) }
    }
}

fn forward(window: Window) -> Result<(), Refusal> {
    if window.is_forward() { Ok(()) } else { Err(Refusal::WindowBackward { window }) }
}
