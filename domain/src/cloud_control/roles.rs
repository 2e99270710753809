//! What each built-in role may do: one line an action, deny by default. A command that is not in this table can be given
//! by nobody, and a test fails until somebody has decided who may.
//!
//! Commands without a public route are given to no role: only decisions, triggers, deadlines and tools give them.

/// All built-in roles, alphabetical.
pub static ROLES: &[&str] =
    &["accountant", "admin", "auditor", "coo", "dispatcher", "driver", "manager", "mover", "ops_hq", "sales"];

/// Who runs the board.
const DISPATCH: &str = "admin dispatcher manager ops_hq";
/// Who reports from a journey, and the board on a crew's behalf.
const CREW: &str = "admin dispatcher driver manager mover ops_hq";
/// The same, for what is the driver's to say.
const DRIVERS: &str = "admin dispatcher driver manager ops_hq";
/// Who sees to warnings.
const WATCH: &str = "admin coo dispatcher manager ops_hq";
/// Who runs a branch: its people and trucks.
const MANAGE: &str = "admin manager";
/// Who runs the company.
const ADMIN: &str = "admin";
/// Who looks over the whole company.
const OVERSEE: &str = "admin auditor coo manager ops_hq";
/// Who looks at the board.
const BOARD: &str = "accountant admin auditor coo dispatcher manager ops_hq sales";
/// Who looks at the records of people and trucks.
const RECORDS: &str = "accountant admin auditor coo dispatcher manager ops_hq";
/// Everybody. An auditor's own invitation is taken up by a tool, since an auditor gives no command.
const COMMANDERS: &str = "accountant admin coo dispatcher driver manager mover ops_hq sales";
const EVERYBODY: &str = "accountant admin auditor coo dispatcher driver manager mover ops_hq sales";

/// Who may do what, by action: `<stream>.<command>`, `<stream>.read`, `view.<view>`, `ledger.read`, `live`.
const MATRIX: &[(&str, &str)] = &[
    ("alert.acknowledge", WATCH),
    ("alert.read", RECORDS),
    ("alert.resolve", WATCH),
    ("alert.snooze", WATCH),
    ("company.change_plan", ADMIN),
    ("company.change_settings", ADMIN),
    ("company.close", ADMIN),
    ("company.read", EVERYBODY),
    ("company.reinstate", ADMIN),
    ("company.restore_settings", ADMIN),
    ("company.set_audit_mode", ADMIN),
    ("company.suspend", ADMIN),
    ("crew_member.certify", MANAGE),
    ("crew_member.hire", MANAGE),
    ("crew_member.leave", MANAGE),
    ("crew_member.read", RECORDS),
    ("crew_member.record_licence", MANAGE),
    ("crew_member.reinstate", MANAGE),
    ("crew_member.suspend", MANAGE),
    ("dispatch_session.close", DISPATCH),
    ("dispatch_session.hand_over", DISPATCH),
    ("dispatch_session.open", DISPATCH),
    ("dispatch_session.pin_journey", DISPATCH),
    ("dispatch_session.read", RECORDS),
    ("ledger.read", "admin auditor"),
    ("live", EVERYBODY),
    ("location.close", ADMIN),
    ("location.open", ADMIN),
    ("location.read", EVERYBODY),
    ("location.rename", MANAGE),
    // Counts of the whole installation: no company's data, but none of a branch's business either.
    ("service_account.read", OVERSEE),
    ("service_account.register", ADMIN),
    ("service_account.retire", ADMIN),
    ("service_account.revoke_token", ADMIN),
    ("truck.back_in_service", MANAGE),
    ("truck.commission", MANAGE),
    ("truck.out_of_service", DISPATCH),
    ("truck.read", "accountant admin auditor coo dispatcher manager ops_hq sales"),
    ("truck.retire", MANAGE),
    ("truck_journey.acknowledge", CREW),
    ("truck_journey.add_stop", DISPATCH),
    ("truck_journey.arrive", CREW),
    ("truck_journey.assign_crew", DISPATCH),
    ("truck_journey.cancel", DISPATCH),
    ("truck_journey.delay", CREW),
    ("truck_journey.depart", DRIVERS),
    ("truck_journey.dispatch", DISPATCH),
    ("truck_journey.end_break", CREW),
    ("truck_journey.end_overnight", CREW),
    ("truck_journey.finish_work", CREW),
    ("truck_journey.plan", DISPATCH),
    ("truck_journey.raise_issue", CREW),
    ("truck_journey.read", EVERYBODY),
    ("truck_journey.reassign_truck", DISPATCH),
    ("truck_journey.record_gps", CREW),
    ("truck_journey.release_crew", DISPATCH),
    ("truck_journey.reorder_stops", DISPATCH),
    ("truck_journey.report_status", CREW),
    ("truck_journey.resolve_issue", DISPATCH),
    ("truck_journey.return_to_yard", CREW),
    ("truck_journey.skip_stop", DISPATCH),
    ("truck_journey.start_break", CREW),
    ("truck_journey.start_overnight", CREW),
    ("truck_journey.start_work", CREW),
    ("truck_journey.tag", DISPATCH),
    ("truck_journey.untag", DISPATCH),
    ("user.accept", COMMANDERS),
    ("user.change_role", ADMIN),
    ("user.invite", ADMIN),
    ("user.lock", ADMIN),
    ("user.read", OVERSEE),
    ("user.remove", ADMIN),
    ("user.revoke_token", ADMIN),
    ("user.unlock", ADMIN),
    ("view.alerts", RECORDS),
    ("view.dispatch_board", BOARD),
    ("view.journey_track", EVERYBODY),
    ("view.users", OVERSEE),
];

/// For whom personal data of a kind is opened. An auditor reads everything, sealed.
const OPENS: &[(&str, &str)] = &[
    ("address", "admin dispatcher driver manager mover ops_hq sales"),
    ("email", "admin manager sales"),
    ("fixes", DISPATCH),
    ("name", "accountant admin coo dispatcher manager ops_hq sales"),
    ("phone", "admin dispatcher manager ops_hq sales"),
    ("position", CREW),
    ("text", MANAGE),
];

/// Who sees the restricted members of documents.
const RESTRICTED: &str = "accountant admin auditor coo manager";

/// Who sees and does, of the work in the field, only what they take part in themselves.
const PARTICIPANTS: &str = "driver mover";

/// All actions that any role may do, alphabetical.
pub fn actions() -> impl Iterator<Item = &'static str> {
    MATRIX.iter().map(|(action, _)| *action)
}

/// Whether who has this role may do this.
pub fn may(role: &str, action: &str) -> bool {
    names(MATRIX, action, role)
}

/// Whether this role is at least the other: whoever has it may do, and is shown, all that the other may. Nobody gives a
/// role that theirs is not at least.
pub fn is_at_least(role: &str, other: &str) -> bool {
    let holds =
        |table: &[(&str, &str)]| table.iter().all(|(what, _)| !names(table, what, other) || names(table, what, role));
    holds(MATRIX)
        && holds(OPENS)
        && (may_see_restricted(role) || !may_see_restricted(other))
        && (!is_participant(role) || is_participant(other))
}

/// Whether personal data of this kind is opened for who has this role.
pub fn may_open(role: &str, kind: &str) -> bool {
    names(OPENS, kind, role)
}

/// Whether who has this role sees the restricted members of documents.
pub fn may_see_restricted(role: &str) -> bool {
    RESTRICTED.split(' ').any(|name| name == role)
}

/// Whether who has this role sees and does, of the work in the field, only what they take part in themselves.
pub fn is_participant(role: &str) -> bool {
    PARTICIPANTS.split(' ').any(|name| name == role)
}

fn names(table: &[(&str, &str)], what: &str, role: &str) -> bool {
    table
        .binary_search_by_key(&what, |(known, _)| *known)
        .is_ok_and(|place| table[place].1.split(' ').any(|name| name == role))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{KINDS, MODULES, kernel::schema::Schemas};

    /// The actions of every aggregate: its public commands, and reading it. And those that are internal.
    fn of_modules() -> (BTreeSet<String>, BTreeSet<String>) {
        let (mut public, mut internal) = (BTreeSet::new(), BTreeSet::new());
        for rules in MODULES.iter().flat_map(|module| module.aggregates) {
            let contract = rules.contract(&mut Schemas::default());
            public.insert(format!("{}.read", contract.stream));
            for command in contract.commands {
                let action = format!("{}.{}", contract.stream, command.name);
                if command.internal {
                    internal.insert(action)
                } else {
                    public.insert(action)
                };
            }
        }
        (public, internal)
    }

    fn is_command(action: &str) -> bool {
        action.split_once('.').is_some_and(|(subject, verb)| subject != "view" && verb != "read")
    }

    #[test]
    fn the_tables_are_alphabetical_and_name_only_known_roles() {
        for table in [MATRIX, OPENS] {
            assert!(table.windows(2).all(|pair| pair[0].0 < pair[1].0));
            let others = [RESTRICTED, PARTICIPANTS].into_iter().flat_map(|roles| roles.split(' '));
            for role in table.iter().flat_map(|(_, roles)| roles.split(' ')).chain(others) {
                assert!(ROLES.contains(&role), "{role}");
            }
        }
        assert!(ROLES.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn every_action_of_every_module_is_decided_and_nothing_else() {
        let (public, internal) = of_modules();
        let decided: BTreeSet<String> = actions().map(str::to_owned).collect();
        let undecided: Vec<_> = public.difference(&decided).collect();
        assert!(undecided.is_empty(), "say in MATRIX who may {undecided:?}");
        for action in decided.difference(&public) {
            assert!(
                action.starts_with("view.") || ["ledger.read", "live"].contains(&action.as_str()),
                "{action} is not an action"
            );
        }
        for action in &internal {
            assert!(ROLES.iter().all(|role| !may(role, action)), "{action} is internal");
        }
    }

    #[test]
    fn every_kind_of_personal_data_is_decided() {
        assert_eq!(
            OPENS.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(),
            KINDS.iter().map(|kind| kind.name).collect::<Vec<_>>()
        );
    }

    #[test]
    fn what_is_not_in_the_table_is_denied() {
        assert!(!may("admin", "truck_journey.fly"));
        assert!(!may("king", "truck_journey.plan"));
        assert!(!may("", "live") && !may("admin auditor", "ledger.read"));
        assert!(!may_open("admin", "blood_type") && !may_see_restricted("king"));
    }

    #[test]
    fn an_admin_may_do_everything() {
        assert!(actions().all(|action| may("admin", action)));
        assert!(KINDS.iter().all(|kind| may_open("admin", kind.name)) && may_see_restricted("admin"));
    }

    #[test]
    fn a_role_is_at_least_itself_and_an_admin_at_least_everybody() {
        for role in ROLES {
            assert!(is_at_least(role, role) && is_at_least("admin", role), "{role}");
            assert_eq!(is_at_least(role, "admin"), *role == "admin", "{role}");
        }
        assert!(is_at_least("driver", "mover") && !is_at_least("mover", "driver"));
        assert!(!is_at_least("dispatcher", "auditor") && !is_at_least("manager", "auditor"));
    }

    #[test]
    fn an_auditor_reads_everything_opens_nothing_and_gives_no_command() {
        // The process's own figures are no part of the company's records.
        for action in actions() {
            assert_eq!(may("auditor", action), !is_command(action), "{action}");
        }
        assert!(KINDS.iter().all(|kind| !may_open("auditor", kind.name)) && may_see_restricted("auditor"));
    }

    #[test]
    fn a_dispatcher_has_all_of_dispatch_reads_crew_and_trucks_and_hires_nobody() {
        for stream in ["truck_journey.", "dispatch_session.", "alert."] {
            assert!(actions().filter(|action| action.starts_with(stream)).all(|action| may("dispatcher", action)));
        }
        assert!(may("dispatcher", "crew_member.read") && may("dispatcher", "truck.read"));
        assert!(!may("dispatcher", "crew_member.hire") && !may("dispatcher", "ledger.read"));
        for kind in ["name", "phone", "address", "position"] {
            assert!(may_open("dispatcher", kind), "{kind}");
        }
        assert!(!may_open("dispatcher", "email") && !may_open("dispatcher", "text"));
    }

    #[test]
    fn a_mover_takes_the_steps_of_a_crew_and_a_driver_departs_too() {
        let commands = |role: &str| -> BTreeSet<&str> {
            actions().filter(|action| is_command(action) && may(role, action)).collect()
        };
        let (mover, driver) = (commands("mover"), commands("driver"));
        assert!(mover.contains("truck_journey.arrive") && mover.contains("truck_journey.record_gps"));
        assert!(mover.iter().all(|action| action.starts_with("truck_journey.") || *action == "user.accept"));
        assert!(!mover.contains("truck_journey.plan") && !mover.contains("truck_journey.assign_crew"));
        assert_eq!(driver.difference(&mover).collect::<Vec<_>>(), [&"truck_journey.depart"]);
        assert!(!may("mover", "crew_member.read") && !may_open("mover", "phone"));
    }

    #[test]
    fn whoever_reads_the_ledger_or_sets_what_is_restricted_may_see_it() {
        let sets = ["crew_member.hire", "truck.commission", "ledger.read"];
        for role in ROLES.iter().filter(|role| sets.iter().any(|action| may(role, action))) {
            assert!(may_see_restricted(role), "{role}");
        }
    }

    #[test]
    fn sales_and_accounting_look_and_do_not_touch() {
        for role in ["sales", "accountant"] {
            assert!(actions().all(|action| !is_command(action) || !may(role, action) || action == "user.accept"));
        }
        assert!(!may_open("sales", "position") && !may_open("accountant", "address"));
    }
}
