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

#[cfg(test)]
mod tests {
    use super::super::{Life, StopKind, samples::*};
    use super::*;
    use crate::{
        calendar_capacity::truck,
        kernel::{Also, Given, given},
    };

    fn plan(stops: Vec<NewStop>) -> Command {
        let Event::Planned { truck, location, window, recommended_crew, estimated_minutes, .. } = planned() else {
            unreachable!("it is a plan")
        };
        Command::Plan { truck, location, window, stops, recommended_crew, estimated_minutes }
    }
    fn both() -> Vec<NewStop> {
        vec![new_stop(LOAD, StopKind::Load), new_stop(UNLOAD, StopKind::Unload)]
    }
    fn add(stop: Id<Stop>, before: Option<Id<Stop>>) -> Command {
        Command::AddStop { stop: new_stop(stop, StopKind::Yard), before }
    }
    fn skip(stop: Id<Stop>) -> Command {
        Command::SkipStop { stop, reason: "Nobody home".into(), occurred_at: None }
    }
    fn order(events: impl IntoIterator<Item = Event>) -> Vec<Id<Stop>> {
        let mut course = super::super::Course::default();
        events.into_iter().for_each(|event| _ = course.follow(&event));
        course.stops.iter().map(|stop| stop.plan.stop).collect()
    }

    #[test]
    fn planning_reserves_the_truck_for_the_window() {
        let journey = given::context().me();
        TruckJourney::given([])
            .when(plan(both()))
            .then([planned()])
            .also([Also::to(TRUCK, truck::Command::Reserve { journey, window: window() })]);
    }

    #[test]
    fn a_stop_without_an_id_gets_one_that_a_retry_gets_again() {
        let named = NewStop { stop: None, ..new_stop(LOAD, StopKind::Load) };
        let context = given::context();
        assert_eq!(named.clone().named(&context, 1), named.clone().named(&context, 1));
        assert_ne!(named.clone().named(&context, 1).stop, named.named(&context, 2).stop);
    }

    #[test]
    fn a_plan_must_make_sense() {
        TruckJourney::given([planned()]).when(plan(both())).refused(Refusal::AlreadyPlanned);
        let twice = vec![new_stop(LOAD, StopKind::Load), new_stop(LOAD, StopKind::Unload)];
        TruckJourney::given([]).when(plan(twice)).refused(Refusal::StopKnown { stop: LOAD });
        let many = (0..=STOPS_MAX as u128).map(|nth| new_stop(Id::number(1000 + nth), StopKind::Other)).collect();
        TruckJourney::given([]).when(plan(many)).refused(Refusal::TooManyStops { limit: STOPS_MAX });
        let backward = Window { start: NOON, end: NOON };
        let stop = NewStop { window: Some(backward), ..new_stop(LOAD, StopKind::Load) };
        TruckJourney::given([]).when(plan(vec![stop])).refused(Refusal::WindowBackward { window: backward });
        let Command::Plan { truck, location, stops, recommended_crew, estimated_minutes, .. } = plan(both()) else {
            unreachable!("it is a plan")
        };
        let window = backward;
        let command = Command::Plan { truck, location, window, stops, recommended_crew, estimated_minutes };
        TruckJourney::given([]).when(command).refused(Refusal::WindowBackward { window });
    }

    #[test]
    fn a_stop_is_added_last_or_before_one_that_is_ahead() {
        let added = |before| Event::StopAdded { stop: planned_stop(YARD, StopKind::Yard), before };
        TruckJourney::given([planned()]).when(add(YARD, None)).then([added(None)]);
        TruckJourney::given([planned()]).when(add(YARD, Some(UNLOAD))).then([added(Some(UNLOAD))]);
        assert_eq!(order([planned(), added(None)]), [LOAD, UNLOAD, YARD]);
        assert_eq!(order([planned(), added(Some(UNLOAD))]), [LOAD, YARD, UNLOAD]);
    }

    #[test]
    fn a_stop_is_not_added_twice_nor_before_one_that_was_left_for() {
        TruckJourney::given([planned()]).when(add(LOAD, None)).refused(Refusal::StopKnown { stop: LOAD });
        let (stop, state, needed) = (LOAD, StopState::EnRoute, StopState::Ahead);
        TruckJourney::given(departed()).when(add(YARD, Some(LOAD))).refused(Refusal::StopOutOfOrder {
            stop,
            state,
            needed,
        });
        let many = (0..STOPS_MAX as u128 - 2)
            .map(|nth| Event::StopAdded { stop: planned_stop(Id::number(1000 + nth), StopKind::Other), before: None });
        TruckJourney::given([planned()].into_iter().chain(many))
            .when(add(YARD, None))
            .refused(Refusal::TooManyStops { limit: STOPS_MAX });
    }

    #[test]
    fn the_stops_ahead_are_put_into_another_order() {
        let reorder = |stops: &[Id<Stop>]| Command::ReorderStops { stops: stops.to_vec() };
        let reordered = || Event::StopsReordered { stops: vec![UNLOAD, LOAD] };
        TruckJourney::given([planned()]).when(reorder(&[UNLOAD, LOAD])).then([reordered()]);
        assert_eq!(order([planned(), reordered()]), [UNLOAD, LOAD]);
        TruckJourney::given([planned()]).when(reorder(&[LOAD, UNLOAD])).then_nothing();
        for stops in [&[LOAD][..], &[LOAD, LOAD], &[LOAD, YARD], &[LOAD, UNLOAD, YARD]] {
            TruckJourney::given([planned()])
                .when(reorder(stops))
                .refused(Refusal::NotTheStopsAhead { ahead: vec![LOAD, UNLOAD] });
        }
        TruckJourney::given(departed())
            .when(reorder(&[UNLOAD, LOAD]))
            .refused(Refusal::NotTheStopsAhead { ahead: vec![UNLOAD] });
    }

    #[test]
    fn a_stop_is_left_out_until_work_there_began() {
        let skipped = || Event::StopSkipped { stop: LOAD, reason: "Nobody home".into(), occurred_at: NOON };
        let arrived = || departed().chain(worked_at(LOAD).into_iter().take(1));
        TruckJourney::given([planned()]).at(NOON).when(skip(LOAD)).then([skipped()]);
        TruckJourney::given(departed()).at(NOON).when(skip(LOAD)).then([skipped()]);
        TruckJourney::given(arrived()).at(NOON).when(skip(LOAD)).then([skipped()]);
        let (stop, state, needed) = (LOAD, StopState::Done, StopState::Ahead);
        TruckJourney::given(loaded()).when(skip(LOAD)).refused(Refusal::StopOutOfOrder { stop, state, needed });
        TruckJourney::given([planned()]).when(skip(YARD)).refused(Refusal::NoSuchStop { stop: YARD });
    }

    #[test]
    fn the_stops_of_a_journey_that_is_over_or_unknown_stay() {
        for command in [add(YARD, None), Command::ReorderStops { stops: vec![] }, skip(LOAD)] {
            TruckJourney::given(returned()).when(command).refused(Refusal::Over { life: Life::Returned });
        }
        for command in [add(YARD, None), Command::ReorderStops { stops: vec![] }, skip(LOAD)] {
            TruckJourney::given([]).when(command).refused(Refusal::NotPlanned);
        }
    }
}
