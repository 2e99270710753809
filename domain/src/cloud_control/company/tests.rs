//! A company's rules, a sentence each.

use super::*;
use crate::{
    cloud_control::standing,
    kernel::{
        Actor, BoardSettings, CommandId, CompanyId, Given, LocationId, Message, State, aggregate, given,
        schema::Schemas,
    },
    ledger::is_company_fact,
};

fn founding() -> Founding {
    Founding {
        name: "Northern Movers".into(),
        currency: Currency::Cad,
        region: "ca-central".into(),
        plan: Plan::default(),
    }
}

fn founded() -> Event {
    Event::Founded(founding())
}

fn suspended() -> Event {
    Event::Suspended { reason: "unpaid".into() }
}

fn closed() -> Event {
    Event::Closed { reason: "merged".into() }
}

fn patient(minutes: u32) -> Settings {
    Settings {
        board: BoardSettings { silence_max_minutes: minutes, ..BoardSettings::default() },
        ..Settings::default()
    }
}

fn changed(minutes: u32, version: u32) -> Event {
    Event::SettingsChanged { settings: patient(minutes), version }
}

fn adoption(version: u32, file: &str) -> Adoption {
    Adoption { stream: "truck".into(), event: "retired".into(), version, sha256: Hash::of(file) }
}

/// What every company that is not at work refuses; others it takes.
fn work() -> [Command; 4] {
    [
        Command::ChangeSettings { settings: patient(30) },
        Command::RestoreSettings { version: 0 },
        Command::ChangePlan { modules: BTreeSet::new() },
        Command::SetAuditMode { enabled: true },
    ]
}

/// Founding in the ledger that it is to be in: the stream's id is the company's.
fn found(events: &[Event], founding: Founding, company: CompanyId) -> Result<Vec<Message>, String> {
    let rules = aggregate::<Company>();
    let mut company_state = Company::default();
    for event in events {
        company_state.evolve(event.clone());
    }
    let context = Context {
        company,
        stream_id: CompanyId::number(1).uuid(),
        command: CommandId::number(3),
        actor: Actor::tool("company"),
        ..given::context()
    };
    let decided = rules.decide(&State::new(company_state), &Message::split(&Command::Found(founding)), &context);
    let events = decided.map_err(|rejection| rejection.code)?.events;
    Ok(events.into_iter().map(|(event, _)| event).collect())
}

#[test]
fn a_company_is_founded_once_in_its_own_ledger() {
    let own = CompanyId::number(1);
    assert_eq!(found(&[], founding(), own), Ok(vec![Message::split(&founded())]));
    assert_eq!(found(&[founded()], founding(), own), Ok(vec![]));
    let other = Founding { name: "Southern Movers".into(), ..founding() };
    assert_eq!(found(&[founded()], other, own), Err("already_founded".into()));
}

#[test]
fn a_second_company_cannot_be_founded_in_a_ledger() {
    Company::given([]).when(Command::Found(founding())).refused(Refusal::OtherCompany);
    assert_eq!(found(&[], founding(), CompanyId::number(9)), Err("other_company".into()));
}

#[test]
fn a_plan_names_modules_that_there_are() {
    let modules = |name: &str| BTreeSet::from([name.to_owned()]);
    let odd = Founding { plan: Plan { modules: modules("flying") }, ..founding() };
    assert_eq!(found(&[], odd, CompanyId::number(1)), Err("unknown_module".into()));
    Company::given([founded()])
        .when(Command::ChangePlan { modules: modules("flying") })
        .refused(Refusal::UnknownModule { module: "flying".into() });
    let changed = || Event::PlanChanged { modules: modules("command_control") };
    let change = || Command::ChangePlan { modules: modules("command_control") };
    Company::given([founded()]).when(change()).then([changed()]);
    Company::given([founded(), changed()]).when(change()).then_nothing();
}

#[test]
fn only_founding_works_on_a_company_that_is_not_founded() {
    for command in work() {
        Company::given([]).when(command).refused(Refusal::NotFounded);
    }
    for command in [
        Command::AdoptSchema(adoption(1, "a")),
        Command::Suspend { reason: "unpaid".into() },
        Command::Reinstate,
        Command::Close { reason: "merged".into() },
    ] {
        Company::given([]).when(command).refused(Refusal::NotFounded);
    }
}

#[test]
fn settings_get_a_new_version_with_each_change() {
    let change = |minutes| Command::ChangeSettings { settings: patient(minutes) };
    Company::given([founded()]).when(change(30)).then([changed(30, 1)]);
    Company::given([founded(), changed(30, 1)]).when(change(40)).then([changed(40, 2)]);
    Company::given([founded(), changed(30, 1)]).when(change(30)).then_nothing();
    Company::given([founded()]).when(Command::ChangeSettings { settings: Settings::default() }).then_nothing();
}

#[test]
fn settings_can_go_back_to_any_earlier_version_and_to_the_defaults() {
    let given = || Company::given([founded(), changed(30, 1), changed(40, 2)]);
    let restored = |settings, restored| [Event::SettingsRestored { settings, restored, version: 3 }];
    given().when(Command::RestoreSettings { version: 1 }).then(restored(patient(30), 1));
    given().when(Command::RestoreSettings { version: 0 }).then(restored(Settings::default(), 0));
    given().when(Command::RestoreSettings { version: 2 }).then_nothing();
    given().when(Command::RestoreSettings { version: 3 }).refused(Refusal::UnknownSettingsVersion {
        version: 3,
        oldest: 0,
        newest: 2,
    });
}

#[test]
fn a_hundred_versions_of_the_settings_are_kept() {
    let many = || (1..=130).map(|version| changed(100 + version, version));
    let given = || Company::given([founded()].into_iter().chain(many()));
    given().when(Command::RestoreSettings { version: 30 }).refused(Refusal::UnknownSettingsVersion {
        version: 30,
        oldest: 31,
        newest: 130,
    });
    given().when(Command::RestoreSettings { version: 31 }).then([Event::SettingsRestored {
        settings: patient(131),
        restored: 31,
        version: 131,
    }]);
}

#[test]
fn a_new_shape_is_adopted_once_and_an_older_program_changes_nothing() {
    let adopt = |version, file| Command::AdoptSchema(adoption(version, file));
    let adopted = |version, file| Event::SchemaAdopted(adoption(version, file));
    Company::given([founded()]).when(adopt(1, "a")).then([adopted(1, "a")]);
    Company::given([founded(), adopted(1, "a")]).when(adopt(1, "a")).then_nothing();
    Company::given([founded(), adopted(1, "a")]).when(adopt(2, "b")).then([adopted(2, "b")]);
    Company::given([founded(), adopted(2, "b")]).when(adopt(1, "a")).then_nothing();
    Company::given([founded(), adopted(1, "a")]).when(adopt(1, "grown")).then([adopted(1, "grown")]);
}

#[test]
fn all_that_happens_to_a_company_is_a_fact_of_it_but_the_adoption_of_shapes() {
    let company = CompanyId::number(1);
    let is_fact = |stream: &str, id: CompanyId, event: &str| is_company_fact(company, (stream, id.uuid()), event);
    for event in aggregate::<Company>().contract(&mut Schemas::default()).events {
        assert_eq!(is_fact(Company::STREAM, company, &event.name), event.name != "schema_adopted", "{}", event.name);
    }
    assert!(!is_fact("truck", company, "suspended") && !is_fact(Company::STREAM, CompanyId::number(2), "suspended"));
}

#[test]
fn reading_is_recorded_once_the_audit_mode_is_on() {
    let set = |enabled| Command::SetAuditMode { enabled };
    let on = || Event::AuditModeSet { enabled: true };
    Company::given([founded()]).when(set(true)).then([on()]);
    Company::given([founded(), on()]).when(set(true)).then_nothing();
    Company::given([founded(), on()]).when(set(false)).then([Event::AuditModeSet { enabled: false }]);
}

#[test]
fn a_suspended_company_is_reinstated_or_closed_and_nothing_else() {
    Company::given([founded()]).when(Command::Suspend { reason: "unpaid".into() }).then([suspended()]);
    Company::given([founded(), suspended()]).when(Command::Suspend { reason: "still".into() }).then_nothing();
    for command in work() {
        Company::given([founded(), suspended()]).when(command).refused(Refusal::Suspended { reason: "unpaid".into() });
    }
    Company::given([founded(), suspended()]).when(Command::Reinstate).then([Event::Reinstated]);
    Company::given([founded()]).when(Command::Reinstate).then_nothing();
    Company::given([founded(), suspended()]).when(Command::Close { reason: "merged".into() }).then([closed()]);
}

#[test]
fn a_closed_company_refuses_everything() {
    Company::given([founded()]).when(Command::Close { reason: "merged".into() }).then([closed()]);
    Company::given([founded(), closed()]).when(Command::Close { reason: "again".into() }).then_nothing();
    for command in work().into_iter().chain([Command::Suspend { reason: "unpaid".into() }, Command::Reinstate]) {
        Company::given([founded(), closed()]).when(command).refused(Refusal::Closed);
    }
}

#[test]
fn others_learn_how_their_company_stands() {
    let stands = |events: Vec<Event>| {
        let mut company = Company::default();
        for event in events {
            company.evolve(event);
        }
        standing(&State::new(company))
    };
    assert_eq!(stands(vec![]), Standing::default());
    assert!(!stands(vec![]).founded);
    let plan = Event::PlanChanged { modules: BTreeSet::from(["command_control".to_owned()]) };
    let found = stands(vec![founded(), changed(30, 1), plan, suspended()]);
    assert!(found.founded && found.suspended && !found.closed);
    assert_eq!(found.settings.board.silence_max_minutes, 30);
    assert!(found.has("command_control") && found.has("cloud_control") && !found.has("crew_customer"));
    assert!(stands(vec![founded()]).has("crew_customer"), "a plan that names no module has all");
    assert!(stands(vec![founded(), closed()]).closed);
}

#[test]
fn a_company_that_is_stopped_or_lacks_the_module_refuses_but_can_be_set_right() {
    let plan = Plan { modules: BTreeSet::from(["command_control".to_owned()]) };
    let works = Standing { founded: true, plan, ..Standing::default() };
    let code = |standing: &Standing, module: &str| standing.refuses(module).map(|rejection| rejection.code);
    assert_eq!(code(&works, "command_control"), None);
    assert_eq!(code(&works, "crew_customer").as_deref(), Some("module_off"));
    let suspended = Standing { suspended: true, ..works };
    assert_eq!(code(&suspended, "crew_customer").as_deref(), Some("company_suspended"));
    let closed = Standing { closed: true, ..suspended };
    assert_eq!(code(&closed, "command_control").as_deref(), Some("company_closed"));
    assert_eq!(code(&closed, "cloud_control"), None);
}

#[test]
fn what_concerns_the_whole_company_is_for_nobody_who_is_bound_to_branches() {
    let branch = LocationId::number(5);
    let others = [
        Command::Suspend { reason: "unpaid".into() },
        Command::Reinstate,
        Command::Close { reason: "merged".into() },
        Command::Reopen,
    ];
    for command in work().into_iter().chain(others) {
        let refusal = Refusal::OutsideYourBranches { yours: BTreeSet::from([branch]) };
        Company::given([founded()]).within([branch]).when(command).refused(refusal);
    }
}

#[test]
fn a_closed_company_is_reopened_and_works_as_before() {
    Company::given([founded(), closed()]).when(Command::Reopen).then([Event::Reopened]);
    Company::given([founded()]).when(Command::Reopen).then_nothing();
    Company::given([]).when(Command::Reopen).refused(Refusal::NotFounded);
    let again = || [founded(), changed(30, 1), closed(), Event::Reopened];
    Company::given(again()).when(Command::ChangeSettings { settings: patient(30) }).then_nothing();
    Company::given(again()).when(Command::Suspend { reason: "unpaid".into() }).then([suspended()]);
    Company::given(again()).when(Command::Close { reason: "merged".into() }).then([closed()]);
}
