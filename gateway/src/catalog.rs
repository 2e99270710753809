//! What can be asked for: every stream, command and view, looked up by name. It is made once from `MODULES` and
//! `VIEWS`, and every route, authorization action and contract comes from it.

use std::{collections::BTreeMap, sync::LazyLock};

use cnc_domain::{
    MODULES,
    kernel::{
        FoldKind,
        schema::{Contract, DocumentContract, MessageContract, Schemas},
    },
};
use cnc_projections::{VIEWS, View};

/// All streams and views by name.
pub struct Catalog {
    streams: BTreeMap<String, Stream>,
    views: BTreeMap<&'static str, Served>,
}

/// A kind of aggregate.
pub struct Stream {
    /// The module that it belongs to.
    pub module: &'static str,
    /// Its messages.
    pub contract: Contract,
}

/// A view as it is served.
pub struct Served {
    /// The view.
    pub view: &'static View,
    /// Its main document: the one with the view's name.
    pub document: DocumentContract,
    reading: String,
}

/// The catalog of this program.
pub fn catalog() -> &'static Catalog {
    static CATALOG: LazyLock<Catalog> = LazyLock::new(Catalog::new);
    &CATALOG
}

/// The triggers of all modules.
pub(crate) fn triggers() -> Vec<&'static dyn FoldKind> {
    MODULES.iter().flat_map(|module| module.triggers).copied().collect()
}

impl Catalog {
    fn new() -> Self {
        let mut schemas = Schemas::default();
        let mut streams = BTreeMap::new();
        for module in MODULES {
            for rules in module.aggregates {
                let contract = rules.contract(&mut schemas);
                streams.insert(contract.stream.clone(), Stream { module: module.name, contract });
            }
        }
        let served = VIEWS.iter().filter_map(|view| {
            let name = view.kind.name();
            let document = view.kind.documents(&mut schemas).into_iter().find(|document| document.name == name)?;
            Some((name, Served { view, document, reading: format!("view.{name}") }))
        });
        Self { streams, views: served.collect() }
    }

    /// All streams, by name.
    pub fn streams(&self) -> impl Iterator<Item = &Stream> {
        self.streams.values()
    }

    /// All views, by name.
    pub fn views(&self) -> impl Iterator<Item = &Served> {
        self.views.values()
    }

    /// The stream of this name.
    pub fn stream(&self, name: &str) -> Option<&Stream> {
        self.streams.get(name)
    }

    /// The view of this name.
    pub fn view(&self, name: &str) -> Option<&Served> {
        self.views.get(name)
    }
}

impl Stream {
    /// The commands that have a public route.
    pub fn commands(&self) -> impl Iterator<Item = &MessageContract> {
        self.contract.commands.iter().filter(|command| !command.internal)
    }

    /// The public command of this name.
    pub fn command(&self, name: &str) -> Option<&MessageContract> {
        self.commands().find(|command| command.name == name)
    }

    /// The action of giving `command`.
    pub fn action(&self, command: &str) -> String {
        format!("{}.{command}", self.contract.stream)
    }

    /// The action of reading state and history.
    pub fn reading(&self) -> String {
        format!("{}.read", self.contract.stream)
    }
}

impl Served {
    /// The view's name.
    pub fn name(&self) -> &'static str {
        self.document.name
    }

    /// The action of reading the view.
    pub fn reading(&self) -> &str {
        &self.reading
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_view_has_a_main_document_of_its_own_name() {
        assert_eq!(catalog().views().count(), VIEWS.len());
    }

    #[test]
    fn an_internal_command_has_no_route() {
        for stream in catalog().streams() {
            for command in stream.contract.commands.iter().filter(|command| command.internal) {
                assert!(stream.command(&command.name).is_none(), "{}", stream.action(&command.name));
            }
        }
    }
}
