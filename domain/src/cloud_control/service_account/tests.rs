//! A service account's rules, a sentence each.

use super::*;
use crate::kernel::{Actor, Given, Id, Minutes, Timestamp, UserId, given};

const NORTH: LocationId = LocationId::number(5);
const SOUTH: LocationId = LocationId::number(6);

fn registration() -> Registration {
    Registration { name: "Night export".into(), role: "auditor".into(), locations: None }
}

fn registered() -> Event {
    Event::Registered(registration())
}

fn by(role: &str) -> Actor {
    Actor::User { user: UserId::number(9), role: role.into() }
}

fn in_minutes(minutes: u32) -> Timestamp {
    given::context().now.plus(Minutes(minutes))
}

fn new(number: u128, minutes: u32) -> NewToken {
    NewToken { token: Id::number(number), locations: None, expires: in_minutes(minutes) }
}

fn issued(number: u128, minutes: u32) -> Event {
    let NewToken { token, locations, expires } = new(number, minutes);
    Event::TokenIssued(IssuedToken { token, locations, issued_at: in_minutes(0), expires })
}

#[test]
fn a_service_account_is_registered_once_and_retired_once() {
    let given = ServiceAccount::given;
    given(vec![]).by(by("admin")).when(Command::Register(registration())).then([registered()]);
    given(vec![registered()]).by(by("admin")).when(Command::Register(registration())).then_nothing();
    let other = || Registration { name: "Day export".into(), ..registration() };
    given(vec![registered()]).by(by("admin")).when(Command::Register(other())).refused(Refusal::AlreadyRegistered);
    let king = Registration { role: "king".into(), ..registration() };
    given(vec![]).when(Command::Register(king)).refused(Refusal::UnknownRole { role: "king".into() });
    given(vec![registered()]).by(by("admin")).when(Command::Retire).then([Event::Retired]);
    given(vec![registered(), Event::Retired]).by(by("admin")).when(Command::Retire).then_nothing();
    given(vec![]).by(by("admin")).when(Command::Retire).refused(Refusal::NotRegistered);
}

#[test]
fn nobody_registers_or_retires_what_reaches_further_than_they() {
    let above = || Refusal::AboveYourRole { role: "auditor".into(), yours: "manager".into() };
    ServiceAccount::given([]).by(by("manager")).when(Command::Register(registration())).refused(above());
    ServiceAccount::given([registered()]).by(by("manager")).when(Command::Retire).refused(above());
    let outside = || Refusal::OutsideYourBranches { yours: BTreeSet::from([NORTH]) };
    let bound = |branch| Registration { locations: Some(BTreeSet::from([branch])), ..registration() };
    for registration in [registration(), bound(SOUTH)] {
        let given = |events| ServiceAccount::given(events).by(by("admin")).within([NORTH]);
        given(vec![]).when(Command::Register(registration.clone())).refused(outside());
        for command in [Command::Retire, Command::IssueToken(new(1, 5)), Command::RevokeToken { token: Id::number(1) }]
        {
            given(vec![Event::Registered(registration.clone())]).when(command).refused(outside());
        }
    }
    let north = Event::Registered(bound(NORTH));
    ServiceAccount::given([]).by(by("admin")).within([NORTH]).when(Command::Register(bound(NORTH))).then([north]);
}

#[test]
fn a_token_is_issued_and_taken_back() {
    let given = |events| ServiceAccount::given(events).by(Actor::tool("cnc"));
    let (issue, revoke) =
        (|number, minutes| Command::IssueToken(new(number, minutes)), Command::RevokeToken { token: Id::number(1) });
    let revoked = || Event::TokenRevoked { token: Id::number(1) };
    given(vec![registered()]).when(issue(1, 5)).then([issued(1, 5)]);
    given(vec![registered(), issued(1, 5)]).when(issue(1, 5)).then_nothing();
    given(vec![registered()]).when(issue(1, 0)).refused(Refusal::TokenRunOut);
    given(vec![]).when(issue(1, 5)).refused(Refusal::NotRegistered);
    given(vec![registered(), Event::Retired]).when(issue(1, 5)).refused(Refusal::Retired);
    given(vec![registered(), issued(1, 5)]).when(revoke.clone()).then([revoked()]);
    given(vec![registered(), issued(1, 5), revoked()]).when(revoke).then_nothing();
}

#[test]
fn a_bearer_has_so_many_good_tokens_and_those_that_ran_out_are_forgotten() {
    let many = (0..TOKENS_MAX as u128).map(|nth| issued(1_000 + nth, 5));
    let all: Vec<Event> = [registered()].into_iter().chain(many).collect();
    let given = || ServiceAccount::given(all.clone()).by(Actor::tool("cnc"));
    let limit = TOKENS_MAX;
    given().when(Command::IssueToken(new(1, 5))).refused(Refusal::TooManyTokens { limit });
    let NewToken { token, locations, expires } = new(1, 60);
    let later = IssuedToken { token, locations, issued_at: in_minutes(5), expires };
    given().at(in_minutes(5)).when(Command::IssueToken(new(1, 60))).then([Event::TokenIssued(later.clone())]);
    let mut account = ServiceAccount::default();
    all.into_iter().chain([Event::TokenIssued(later)]).for_each(|event| account.evolve(event));
    assert_eq!(account.tokens().all().count(), 1);
}
