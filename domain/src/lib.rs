//! The pure rules of a moving company. No clock, no randomness, no I/O: the same entries always give the same states,
//! documents and commands.

pub mod calendar_capacity;
pub mod cloud_control;
pub mod command_control;
pub mod contracts;
pub mod crew_customer;
pub mod kernel;
pub mod ledger;

use command_control::places::{Fixes, Position};
use kernel::{Address, Email, Kind, Module, Name, Phone, Rules, Words, kind};

/// All modules, alphabetical. Everything downstream (host, routes, contracts, authorization, subjects) walks this list.
pub static MODULES: &[&Module] =
    &[&calendar_capacity::MODULE, &cloud_control::MODULE, &command_control::MODULE, &crew_customer::MODULE];

/// All kinds of personal data, alphabetical.
pub static KINDS: &[Kind] = &[
    kind::<Address>(),
    kind::<Email>(),
    kind::<Fixes>(),
    kind::<Name>(),
    kind::<Phone>(),
    kind::<Position>(),
    kind::<Words>(),
];

/// The rules of the aggregates whose streams have this name.
pub fn rules(stream: &str) -> Option<&'static dyn Rules> {
    MODULES.iter().flat_map(|module| module.aggregates).copied().find(|rules| rules.stream() == stream)
}

/// The module that the streams of this name belong to.
pub fn module_of(stream: &str) -> Option<&'static Module> {
    MODULES.iter().copied().find(|module| module.aggregates.iter().any(|rules| rules.stream() == stream))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::schema::Schemas;

    #[track_caller]
    fn ascending<T: AsRef<str>>(names: &[T]) {
        assert!(names.windows(2).all(|pair| pair[0].as_ref() < pair[1].as_ref()), "must be alphabetical, each once");
    }

    #[test]
    fn the_lists_are_alphabetical_and_every_stream_has_one_owner() {
        ascending(&MODULES.iter().map(|module| module.name).collect::<Vec<_>>());
        ascending(&KINDS.iter().map(|kind| kind.name).collect::<Vec<_>>());
        for module in MODULES {
            ascending(&module.aggregates.iter().map(|rules| rules.stream()).collect::<Vec<_>>());
            ascending(&module.triggers.iter().map(|trigger| trigger.name()).collect::<Vec<_>>());
            for rules in module.aggregates {
                assert_eq!(module_of(rules.stream()).expect("is listed").name, module.name);
                assert_eq!(super::rules(rules.stream()).expect("is listed").stream(), rules.stream());
            }
        }
        assert!(rules("nothing").is_none() && module_of("nothing").is_none());
    }

    #[test]
    fn every_message_and_field_says_what_it_is() {
        let mut schemas = Schemas::default();
        let mut found = Vec::new();
        for rules in MODULES.iter().flat_map(|module| module.aggregates) {
            let contract = rules.contract(&mut schemas);
            for message in contract.commands.iter().chain(&contract.events).chain(&contract.refusals) {
                let name = format!("{}.{}", contract.stream, message.name);
                let fields = message.schema["properties"].as_object().expect("a message has fields");
                let bare = fields.iter().filter(|(_, schema)| schema.get("description").is_none());
                found.extend(bare.map(|(field, _)| format!("{name}: {field}")));
                found.extend(message.about.is_empty().then_some(name));
            }
        }
        assert!(found.is_empty(), "these have no docs: {found:?}");
    }
}
