//! A user's rules, a sentence each.

use super::*;
use crate::kernel::{Given, Id, Nothing, UserId};

fn invitation() -> Invitation {
    Invitation {
        name: Personal::sample(Id::<()>::number(2), "QW5u", Nothing),
        email: Personal::sample(Id::<()>::number(2), "YW5u", Nothing),
        role: "dispatcher".into(),
        locations: Some(BTreeSet::from([LocationId::number(5)])),
    }
}

fn invited() -> Event {
    Event::Invited(invitation())
}

fn locked() -> Event {
    Event::Locked { reason: "a lost phone".into() }
}

fn duties(role: &str) -> Duties {
    Duties { role: role.into(), locations: None }
}

fn lock() -> Command {
    Command::Lock { reason: "a lost phone".into() }
}

/// The user of the tests, acting for themselves.
fn me() -> Actor {
    Actor::User { user: UserId::number(2), role: "dispatcher".into() }
}

#[test]
fn somebody_is_invited_once_into_a_role_that_there_is() {
    User::given([]).when(Command::Invite(invitation())).then([invited()]);
    User::given([invited()]).when(Command::Invite(invitation())).then_nothing();
    let other = || Invitation { role: "king".into(), ..invitation() };
    User::given([invited()]).when(Command::Invite(other())).refused(Refusal::AlreadyInvited);
    User::given([]).when(Command::Invite(other())).refused(Refusal::UnknownRole { role: "king".into() });
}

#[test]
fn only_the_invited_take_up_their_invitation_or_a_tool_for_them() {
    User::given([invited()]).by(me()).when(Command::Accept).then([Event::Accepted]);
    User::given([invited()]).by(Actor::tool("sign_up")).when(Command::Accept).then([Event::Accepted]);
    User::given([invited(), Event::Accepted]).by(me()).when(Command::Accept).then_nothing();
    User::given([invited()]).when(Command::Accept).refused(Refusal::NotYours);
    User::given([invited(), locked()])
        .by(me())
        .when(Command::Accept)
        .refused(Refusal::Locked { reason: "a lost phone".into() });
}

#[test]
fn who_was_not_invited_or_was_removed_can_be_given_nothing() {
    for command in [Command::Accept, Command::ChangeRole(duties("driver")), lock(), Command::Unlock] {
        User::given([]).when(command.clone()).refused(Refusal::NotInvited);
        User::given([invited(), Event::Removed]).when(command).refused(Refusal::Removed);
    }
    User::given([]).when(Command::Remove).refused(Refusal::NotInvited);
}

#[test]
fn a_role_is_changed_by_others_only() {
    let change = |role| Command::ChangeRole(duties(role));
    let changed = || Event::RoleChanged(duties("manager"));
    User::given([invited()]).when(change("manager")).then([changed()]);
    User::given([invited(), changed()]).when(change("manager")).then_nothing();
    User::given([invited()]).when(change("king")).refused(Refusal::UnknownRole { role: "king".into() });
    User::given([invited()]).by(me()).when(change("admin")).refused(Refusal::Yourself);
}

#[test]
fn a_user_is_locked_and_unlocked() {
    User::given([invited()]).when(lock()).then([locked()]);
    User::given([invited(), locked()]).when(lock()).then_nothing();
    User::given([invited()]).by(me()).when(lock()).refused(Refusal::Yourself);
    User::given([invited(), locked()]).when(Command::Unlock).then([Event::Unlocked]);
    User::given([invited()]).when(Command::Unlock).then_nothing();
}

#[test]
fn a_user_is_removed_once_and_by_others_only() {
    User::given([invited()]).when(Command::Remove).then([Event::Removed]);
    User::given([invited(), Event::Removed]).when(Command::Remove).then_nothing();
    User::given([invited()]).by(me()).when(Command::Remove).refused(Refusal::Yourself);
}
