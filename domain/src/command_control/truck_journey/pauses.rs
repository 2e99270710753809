//! Breaks and nights of the crew. While it rests, no step is taken.

use super::{Event, Life, Outcome, Pause, Paused, Refusal, TruckJourney};
use crate::kernel::{Context, Timestamp};

impl TruckJourney {
    pub(super) fn start_pause(&self, pause: Pause, at: Option<Timestamp>, context: &Context) -> Outcome {
        self.be(Life::Departed)?;
        self.awake()?;
        let occurred_at = context.occurred(at)?;
        Ok(match pause {
            Pause::Break => Event::BreakStarted { occurred_at },
            Pause::Overnight => Event::OvernightStarted { occurred_at },
        }
        .into())
    }

    pub(super) fn end_pause(&self, pause: Pause, at: Option<Timestamp>, context: &Context) -> Outcome {
        self.live()?;
        if !matches!(self.course.paused, Some(Paused { pause: now, .. }) if now == pause) {
            return Err(Refusal::NotPaused { pause });
        }
        let occurred_at = context.occurred(at)?;
        Ok(match pause {
            Pause::Break => Event::BreakEnded { occurred_at },
            Pause::Overnight => Event::OvernightEnded { occurred_at },
        }
        .into())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Command, TruckJourney, samples::*};
    use super::*;
    use crate::kernel::{Given, Minutes};

    #[test]
    fn a_break_begins_and_ends_under_way() {
        TruckJourney::given(departed())
            .at(NOON)
            .when(Command::StartBreak { occurred_at: None })
            .then([Event::BreakStarted { occurred_at: NOON }]);
        TruckJourney::given(departed().chain([Event::BreakStarted { occurred_at: NOON }]))
            .at(NOON.plus(Minutes(30)))
            .when(Command::EndBreak { occurred_at: None })
            .then([Event::BreakEnded { occurred_at: NOON.plus(Minutes(30)) }]);
    }

    #[test]
    fn a_journey_of_several_days_stays_overnight_and_goes_on() {
        TruckJourney::given(departed())
            .at(NOON)
            .when(Command::StartOvernight { occurred_at: None })
            .then([Event::OvernightStarted { occurred_at: NOON }]);
        TruckJourney::given(departed().chain([Event::OvernightStarted { occurred_at: NOON }]))
            .at(NOON.plus(Minutes(600)))
            .when(Command::EndOvernight { occurred_at: None })
            .then([Event::OvernightEnded { occurred_at: NOON.plus(Minutes(600)) }]);
    }

    #[test]
    fn no_step_is_taken_while_the_crew_rests() {
        for step in [
            Command::Arrive { stop: LOAD, position: None, occurred_at: None },
            Command::StartBreak { occurred_at: None },
            Command::ReturnToYard { occurred_at: None },
        ] {
            TruckJourney::given(departed().chain([Event::OvernightStarted { occurred_at: NOON }]))
                .at(NOON)
                .when(step)
                .refused(Refusal::Paused { pause: Pause::Overnight, since: NOON });
        }
    }

    #[test]
    fn there_is_no_break_before_departing() {
        TruckJourney::given([planned()])
            .when(Command::StartBreak { occurred_at: None })
            .refused(Refusal::OutOfOrder { life: Life::Planned, needed: Life::Departed });
    }

    #[test]
    fn a_rest_that_has_not_begun_cannot_end() {
        TruckJourney::given(departed())
            .when(Command::EndBreak { occurred_at: None })
            .refused(Refusal::NotPaused { pause: Pause::Break });
        TruckJourney::given(departed().chain([Event::BreakStarted { occurred_at: NOON }]))
            .when(Command::EndOvernight { occurred_at: None })
            .refused(Refusal::NotPaused { pause: Pause::Overnight });
    }
}
