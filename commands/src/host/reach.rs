//! What a sender reaches: the same answer for what belongs to branches of others as for what does not exist.
//!
//! What a command is addressed to must be within its sender's scope, before and after, and so must all that it carries
//! commands to. What branches lend each other is excepted: whoever may assign trucks and crew may ask for any, and can
//! always let go of them; but why one of another branch refuses is said by its code alone.

use cnc_domain::kernel::{Rejection, Scope};
use serde_json::Value;

use super::{Job, carry::Task};
use crate::unit::{Seen, Stop, Unit};

/// Lets a command in to what it is addressed to, where its sender reaches that and it stands where the sender saw it.
/// Whether it is hidden from the sender: then the command is decided as if it did not exist.
pub fn enter(unit: &Unit<'_>, job: &Job<'_>, place: usize, seen: &Seen) -> Result<bool, Stop> {
    let request = job.request;
    let is_hidden = !seen.is_within(&request.scope);
    let stands = if is_hidden { 0 } else { seen.before.sequence };
    let begins = job.served.commands.get(&request.command.name).is_some_and(|command| command.begins);
    // A tool is told by the rules what is wrong with asking for what does not exist.
    let has_signed_in = request.actor.role().is_some();
    if stands == 0 && has_signed_in && (!begins || request.if_match.is_some_and(|sequence| sequence != 0)) {
        return Err(Stop::NotFound);
    }
    if request.if_match.is_some_and(|sequence| sequence != stands) {
        return Err(Stop::Mismatch(stands));
    }
    if is_hidden {
        unit.hide(place);
    }
    unit.bind(place);
    Ok(is_hidden)
}

/// Lets a command in that another carries.
pub async fn carried(unit: &Unit<'_>, task: &Task, scope: &Scope) -> Result<(), Stop> {
    if scope.is_unlimited() {
        return Ok(());
    }
    let served = unit.served(&task.stream)?;
    let command = served.commands.get(&task.command.name);
    if command.is_some_and(|command| command.lends) {
        return Ok(());
    }
    let (place, seen) = unit.see(served, task.id).await?;
    let exists = seen.now.sequence > 0 || command.is_some_and(|command| command.begins);
    if !exists || !seen.is_within(scope) {
        return Err(Stop::NotFound);
    }
    unit.bind(place);
    Ok(())
}

/// What the sender is told of what came of it.
pub fn leave(unit: &Unit<'_>, scope: &Scope, is_hidden: bool, run: Result<(), Stop>) -> Result<(), Stop> {
    match run {
        Err(Stop::Fault(fault)) => Err(Stop::Fault(fault)),
        _ if !unit.is_within(scope) => Err(Stop::NotFound),
        Ok(()) if is_hidden => Err(Stop::NotFound),
        Err(Stop::Rejected(rejection)) => Err(Stop::Rejected(discreet(unit, scope, rejection))),
        other => other,
    }
}

/// A rejection without what it tells of branches that its reader does not see.
fn discreet(unit: &Unit<'_>, scope: &Scope, rejection: Rejection) -> Rejection {
    let is_elsewhere = rejection.by.as_ref().is_some_and(|by| !unit.reaches(by, scope));
    if scope.is_unlimited() || !is_elsewhere {
        return rejection;
    }
    let message = format!("it belongs to another branch, and refuses: {}", rejection.code);
    Rejection { message, facts: Value::Object(serde_json::Map::new()), ..rejection }
}
