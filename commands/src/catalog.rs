//! What the host serves: every kind of aggregate with its rules and the forms of its commands, made once at the start
//! from the lists of modules and of kinds of personal data.

use std::{collections::HashMap, sync::Arc};

use cnc_domain::{
    KINDS, MODULES,
    cloud_control::{Standing, standing},
    contracts::schema_files,
    kernel::{
        Kind, Module, Rules, State,
        schema::{Contract, MessageContract, Schemas},
    },
    ledger::{Fault, Hash},
};

use crate::door::{Form, Kinds};

/// The modules, kinds of personal data and the reading of a company's state that a host is started with.
#[derive(Clone, Copy)]
pub struct Catalog {
    /// The modules.
    pub modules: &'static [&'static Module],
    /// The kinds of personal data.
    pub kinds: &'static [Kind],
    /// What the state of a `company` stream says about its standing.
    pub standing: fn(&State) -> Standing,
}

/// The whole product.
impl Default for Catalog {
    fn default() -> Self {
        Self { modules: MODULES, kinds: KINDS, standing }
    }
}

/// One command as the host takes it.
pub struct CommandForm {
    pub form: Form,
    pub internal: bool,
    pub begins: bool,
    pub lends: bool,
}

/// One kind of aggregate as the host serves it.
pub struct Served {
    pub rules: &'static dyn Rules,
    pub stream: &'static str,
    pub module: &'static str,
    pub commands: HashMap<String, CommandForm>,
    pub events: HashMap<String, Shape>,
}

/// The shape that an event is recorded with.
#[derive(Clone, Copy)]
pub struct Shape {
    /// Its number among all shapes of the program.
    pub number: usize,
    pub version: u32,
    pub sha256: Hash,
}

/// All that is served.
pub struct Serving {
    pub kinds: Kinds,
    pub standing: fn(&State) -> Standing,
    streams: HashMap<&'static str, Arc<Served>>,
}

impl Serving {
    pub fn new(catalog: &Catalog) -> Result<Self, Fault> {
        let broken = |cause: String| Fault::broken("compile the forms of commands", cause);
        let mut schemas = Schemas::default();
        let kinds = Kinds::compile(catalog.kinds, &mut schemas).map_err(broken)?;
        let files = schema_files(catalog.modules, &[]);
        let (mut streams, mut shapes) = (HashMap::new(), 0);
        for module in catalog.modules {
            for rules in module.aggregates {
                let contract = rules.contract(&mut schemas);
                let commands = commands(&contract, &kinds).map_err(broken)?;
                let events = contract.events.iter().zip(shapes..).filter_map(|(event, number)| {
                    let path = format!("events/{}.{}.v{}.json", contract.stream, event.name, event.version);
                    let sha256 = Hash::of(files.get(&path)?);
                    Some((event.name.clone(), Shape { number, version: event.version, sha256 }))
                });
                let (stream, events) = (rules.stream(), events.collect());
                shapes += contract.events.len();
                streams
                    .insert(stream, Arc::new(Served { rules: *rules, stream, module: module.name, commands, events }));
            }
        }
        Ok(Self { kinds, standing: catalog.standing, streams })
    }

    pub fn stream(&self, name: &str) -> Option<&Arc<Served>> {
        self.streams.get(name)
    }
}

fn commands(contract: &Contract, kinds: &Kinds) -> Result<HashMap<String, CommandForm>, String> {
    let compiled = contract.commands.iter().map(|command| {
        let form = Form::compile(&command.schema, kinds)
            .map_err(|wrong| format!("{}.{}: {wrong}", contract.stream, command.name))?;
        let MessageContract { internal, begins, lends, .. } = *command;
        Ok((command.name.clone(), CommandForm { form, internal, begins, lends }))
    });
    compiled.collect()
}
