//! A user's rules, a sentence each.

use super::*;
use crate::kernel::{Given, Id, Minutes, Nothing, UserId, given};

const NORTH: LocationId = LocationId::number(5);
const SOUTH: LocationId = LocationId::number(6);
const ANN: Id<CrewMember> = Id::number(40);
const BOB: Id<CrewMember> = Id::number(41);

fn invitation() -> Invitation {
    Invitation {
        name: Personal::sample(Id::<()>::number(2), "QW5u", Nothing),
        email: Personal::sample(Id::<()>::number(2), "YW5u", Nothing),
        role: "dispatcher".into(),
        locations: Some(BTreeSet::from([NORTH])),
        crew_member: None,
    }
}

fn invited() -> Event {
    Event::Invited(invitation())
}

fn locked() -> Event {
    Event::Locked { reason: "a lost phone".into() }
}

fn duties(role: &str) -> Duties {
    Duties { role: role.into(), locations: None, crew_member: None }
}

fn lock() -> Command {
    Command::Lock { reason: "a lost phone".into() }
}

/// Somebody who runs the company.
fn admin() -> Actor {
    Actor::User { user: UserId::number(9), role: "admin".into() }
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
    User::given([invited()]).by(admin()).when(change("manager")).then([changed()]);
    User::given([invited(), changed()]).by(admin()).when(change("manager")).then_nothing();
    User::given([invited()]).by(admin()).when(change("king")).refused(Refusal::UnknownRole { role: "king".into() });
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

#[test]
fn nobody_gives_or_takes_away_a_role_above_theirs() {
    let manager = || Actor::User { user: UserId::number(9), role: "manager".into() };
    let above = |role: &str| Refusal::AboveYourRole { role: role.into(), yours: "manager".into() };
    let invite = |role: &str| Command::Invite(Invitation { role: role.into(), ..invitation() });
    User::given([]).by(manager()).when(invite("admin")).refused(above("admin"));
    User::given([]).by(manager()).when(invite("auditor")).refused(above("auditor"));
    User::given([]).by(manager()).when(invite("dispatcher")).then([invited()]);
    let boss = || Event::Invited(Invitation { role: "admin".into(), ..invitation() });
    for command in [Command::ChangeRole(duties("driver")), lock(), Command::Unlock, Command::Remove] {
        User::given([boss()]).by(manager()).when(command).refused(above("admin"));
    }
    User::given([invited()]).by(manager()).when(Command::ChangeRole(duties("admin"))).refused(above("admin"));
    User::given([boss()]).by(Actor::tool("cnc")).when(Command::Remove).then([Event::Removed]);
}

#[test]
fn nobody_gives_or_takes_away_a_branch_that_is_not_theirs() {
    let outside = || Refusal::OutsideYourBranches { yours: BTreeSet::from([NORTH]) };
    let bound = |locations: Option<&[LocationId]>| Invitation {
        locations: locations.map(|locations| locations.iter().copied().collect()),
        ..invitation()
    };
    for locations in [None, Some(&[NORTH, SOUTH][..]), Some(&[SOUTH])] {
        let invitation = bound(locations);
        User::given([]).within([NORTH]).when(Command::Invite(invitation.clone())).refused(outside());
        let duties = invitation.duties();
        User::given([invited()]).within([NORTH]).when(Command::ChangeRole(duties)).refused(outside());
        for command in [Command::ChangeRole(bound(Some(&[NORTH])).duties()), lock(), Command::Unlock, Command::Remove] {
            User::given([Event::Invited(invitation.clone())]).within([NORTH]).when(command).refused(outside());
        }
    }
    User::given([]).within([NORTH]).when(Command::Invite(invitation())).then([invited()]);
    User::given([invited()]).within([NORTH, SOUTH]).when(Command::Remove).then([Event::Removed]);
}

#[test]
fn a_user_is_seen_in_each_of_their_branches() {
    let mut user = User::default();
    user.evolve(invited());
    assert!(user.is_within(&Scope::within([NORTH])) && !user.is_within(&Scope::within([SOUTH])));
    user.evolve(Event::RoleChanged(duties("manager")));
    assert!(user.is_within(&Scope::within([SOUTH])), "who is bound to no branch is seen in all");
}

#[test]
fn whoever_is_a_crew_member_is_linked_to_it_and_to_one_at_a_time() {
    let user: UserId = given::context().me();
    let link = |member| Also::to(member, crew_member::Command::LinkUser { user });
    let unlink = |member| Also::to(member, crew_member::Command::UnlinkUser { user });
    let crew = |member| Invitation { crew_member: Some(member), ..invitation() };
    let is_ann = || Event::Invited(crew(ANN));
    User::given([]).when(Command::Invite(crew(ANN))).then([is_ann()]).also([link(ANN)]);
    User::given([is_ann()]).when(Command::Invite(crew(ANN))).then_nothing().also([]);
    let duties = crew(BOB).duties();
    User::given([is_ann()])
        .when(Command::ChangeRole(duties.clone()))
        .then([Event::RoleChanged(duties)])
        .also([unlink(ANN), link(BOB)]);
    User::given([is_ann()]).when(Command::Remove).then([Event::Removed]).also([unlink(ANN)]);
}

#[test]
fn a_user_is_issued_tokens_by_the_operators_tool_and_loses_them_by_whoever_may_govern_them() {
    let (now, expires) = (given::context().now, given::context().now.plus(Minutes(60)));
    let token: TokenId = Id::number(50);
    let issue = || Command::IssueToken(NewToken { token, locations: None, expires });
    let issued = || Event::TokenIssued(IssuedToken { token, locations: None, issued_at: now, expires });
    let (revoke, revoked) = (|| Command::RevokeToken { token }, || Event::TokenRevoked { token });
    let tool = || Actor::tool("cnc");
    User::given([invited()]).by(tool()).when(issue()).then([issued()]);
    User::given([invited(), issued()]).by(tool()).when(issue()).then_nothing();
    User::given([]).by(tool()).when(issue()).refused(Refusal::NotInvited);
    User::given([invited(), Event::Removed]).by(tool()).when(issue()).refused(Refusal::Removed);
    User::given([invited()]).at(expires).by(tool()).when(issue()).refused(Refusal::TokenRunOut);
    User::given([invited(), issued()]).by(admin()).when(revoke()).then([revoked()]);
    User::given([invited(), issued(), revoked()]).by(admin()).when(revoke()).then_nothing();
    User::given([invited(), issued()])
        .by(admin())
        .within([SOUTH])
        .when(revoke())
        .refused(Refusal::OutsideYourBranches { yours: BTreeSet::from([SOUTH]) });
}
