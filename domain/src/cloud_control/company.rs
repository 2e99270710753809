//! The company itself: its name and plan, its settings with all their versions, and whether it may be worked in.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    kernel::{Aggregate, Context, Decision, Lifespan, Rejection, Settings, State},
    ledger::Hash,
};

/// How many versions of its settings a company can go back by.
const VERSIONS_KEPT: usize = 100;

/// What a company may be asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Found it. Its ledger begins with this.
    Found(Founding),
    /// Set its settings, all of them.
    ChangeSettings {
        /// The settings. A part or a figure that is left out gets its default.
        settings: Settings,
    },
    /// Go back to the settings of an earlier version.
    RestoreSettings {
        /// Which version.
        version: u32,
    },
    /// Switch modules on and off.
    ChangePlan {
        /// The modules that are on; all where none is named.
        modules: BTreeSet<String>,
    },
    /// Say whether readings are recorded too.
    SetAuditMode {
        /// Whether they are.
        enabled: bool,
    },
    /// Record with which shape an event is recorded from now on. Given at the first append of a new shape.
    AdoptSchema(Adoption),
    /// Stop all work in it for now.
    Suspend {
        /// Why.
        #[schemars(length(min = 1, max = 500))]
        reason: String,
    },
    /// End a suspension.
    Reinstate,
    /// Stop all work in it for good. Its history stays.
    Close {
        /// Why.
        #[schemars(length(min = 1, max = 500))]
        reason: String,
    },
}

/// What happened to a company.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// It was founded.
    Founded(Founding),
    /// Its settings were changed.
    SettingsChanged {
        /// All settings, as they are now.
        settings: Settings,
        /// Their version, counted from 1.
        version: u32,
    },
    /// It went back to the settings of an earlier version.
    SettingsRestored {
        /// All settings, as they are now.
        settings: Settings,
        /// The version that was gone back to.
        restored: u32,
        /// Their version now.
        version: u32,
    },
    /// Modules were switched on or off.
    PlanChanged {
        /// The modules that are on; all where none is named.
        modules: BTreeSet<String>,
    },
    /// Readings are, or are no longer, recorded too.
    AuditModeSet {
        /// Whether they are.
        enabled: bool,
    },
    /// An event is recorded with this shape from now on.
    SchemaAdopted(Adoption),
    /// All work in it was stopped for now.
    Suspended {
        /// Why.
        reason: String,
    },
    /// Its suspension ended.
    Reinstated,
    /// All work in it was stopped for good.
    Closed {
        /// Why.
        reason: String,
    },
}

/// Why a company says no.
#[derive(Clone, Debug, Serialize, JsonSchema, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// There is no such company yet.
    #[error("the company has not been founded")]
    NotFounded,
    /// It was founded before, otherwise.
    #[error("the company has been founded before")]
    AlreadyFounded,
    /// A company's stream has the company's own id.
    #[error("a company cannot be founded in the ledger of another")]
    OtherCompany,
    /// It is suspended.
    #[error("the company is suspended: {reason}")]
    Suspended {
        /// Why.
        reason: String,
    },
    /// It is closed.
    #[error("the company is closed")]
    Closed,
    /// There is no module of this name.
    #[error("there is no module {module}")]
    UnknownModule {
        /// The name.
        module: String,
    },
    /// There is no such version to go back to.
    #[error("there are no settings of version {version}")]
    UnknownSettingsVersion {
        /// The version that was asked for.
        version: u32,
        /// The oldest that is kept.
        oldest: u32,
        /// The newest.
        newest: u32,
    },
}

/// What a company is founded with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Founding {
    /// Its name.
    #[schemars(length(min = 1, max = 200))]
    pub name: String,
    /// What its money is counted in.
    pub currency: Currency,
    /// Where its data is kept, such as `ca-central`.
    #[schemars(length(min = 1, max = 60))]
    pub region: String,
    /// What it has subscribed to.
    pub plan: Plan,
}

/// What a company has subscribed to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Plan {
    /// The modules that are on; all where none is named.
    pub modules: BTreeSet<String>,
}

/// What money is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[schemars(inline)]
pub enum Currency {
    /// Canadian dollars.
    Cad,
    /// US dollars.
    Usd,
}

/// The shape that an event is recorded with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Adoption {
    /// The kind of aggregate.
    #[schemars(length(min = 1, max = 60))]
    pub stream: String,
    /// The event.
    #[schemars(length(min = 1, max = 60))]
    pub event: String,
    /// The version of its shape.
    pub version: u32,
    /// The SHA-256 of its schema's file.
    pub sha256: Hash,
}

/// The company itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Company {
    founding: Option<Founding>,
    audit_enabled: bool,
    suspended: Option<String>,
    closed: bool,
    /// The settings' version, 0 where they never were changed.
    version: u32,
    /// The newest versions of the settings, the current one last.
    settings: Vec<Settings>,
    /// The newest shape of each event, by `stream.event`.
    schemas: BTreeMap<String, Adopted>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
struct Adopted {
    version: u32,
    sha256: Hash,
}

/// What others must know of their company before anything of theirs is decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Its settings.
    pub settings: Arc<Settings>,
    /// Its plan.
    pub plan: Plan,
    /// Whether there is such a company.
    pub founded: bool,
    /// Whether all work in it is stopped for now.
    pub suspended: bool,
    /// Whether all work in it is stopped for good.
    pub closed: bool,
}

/// Why nothing may be done in a company, or in a module of it, whatever is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halt {
    /// The company is closed.
    Closed,
    /// The company is suspended.
    Suspended,
    /// Its plan does not have the module.
    ModuleOff,
}

impl Halt {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Closed, Self::Suspended, Self::ModuleOff];

    /// The code of a rejection for it.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Closed => "company_closed",
            Self::Suspended => "company_suspended",
            Self::ModuleOff => "module_off",
        }
    }

    /// Why not, as an answer says it.
    pub const fn why(self) -> &'static str {
        match self {
            Self::Closed => "the company is closed",
            Self::Suspended => "the company is suspended",
            Self::ModuleOff => "the company's plan does not include the module",
        }
    }

    /// What its code means, as the code's page says it.
    pub const fn about(self) -> &'static str {
        match self {
            Self::Closed => "The company is closed.",
            Self::Suspended => "The company is suspended.",
            Self::ModuleOff => "The company's plan does not include the module.",
        }
    }
}

impl Standing {
    /// Whether a module is on. The module that switches the others is always on.
    pub fn has(&self, module: &str) -> bool {
        module == super::MODULE.name || self.plan.modules.is_empty() || self.plan.modules.contains(module)
    }

    /// Why all work in the company is stopped, where it is.
    pub fn halt(&self) -> Option<Halt> {
        if self.closed { Some(Halt::Closed) } else { self.suspended.then_some(Halt::Suspended) }
    }

    /// Why the aggregates of a module decide nothing now. What the company is itself stays open, so that it can be made to
    /// act again.
    pub fn refuses(&self, module: &str) -> Option<Rejection> {
        if module == super::MODULE.name {
            return None;
        }
        let off = || (!self.has(module)).then_some(Halt::ModuleOff);
        self.halt().or_else(off).map(|halt| match halt {
            Halt::ModuleOff => Rejection::new(halt.code(), format!("the company's plan does not include {module}")),
            Halt::Closed | Halt::Suspended => Rejection::new(halt.code(), halt.why()),
        })
    }
}

/// How a company stands, from the state of its `company` stream.
pub fn standing(company_state: &State) -> Standing {
    company_state.get::<Company>().map(Company::standing).unwrap_or_default()
}

/// Whether a company has adopted a shape, or a newer one of the same event, from the state of its `company` stream.
pub fn has_adopted(company_state: &State, adoption: &Adoption) -> bool {
    company_state.get::<Company>().is_some_and(|company| company.has_adopted(adoption))
}

type Outcome = Result<Decision<Event>, Refusal>;

impl Aggregate for Company {
    const STREAM: &'static str = "company";
    const INTERNAL: &'static [&'static str] = &["adopt_schema", "found"];
    type Command = Command;
    type Event = Event;
    type Refusal = Refusal;

    fn decide(&self, command: Command, context: &Context) -> Outcome {
        match command {
            Command::Found(founding) => self.found(founding, context),
            Command::ChangeSettings { settings } => self.change_settings(settings),
            Command::RestoreSettings { version } => self.restore_settings(version),
            Command::ChangePlan { modules } => self.change_plan(modules),
            Command::SetAuditMode { enabled } => self.set_audit_mode(enabled),
            Command::AdoptSchema(adoption) => self.adopt_schema(adoption),
            Command::Suspend { reason } => self.suspend(reason),
            Command::Reinstate => self.reinstate(),
            Command::Close { reason } => self.close(reason),
        }
    }

    fn evolve(&mut self, event: Event) {
        match event {
            Event::Founded(founding) => self.founding = Some(founding),
            Event::SettingsChanged { settings, version } | Event::SettingsRestored { settings, version, .. } => {
                self.take_settings(settings, version);
            }
            Event::PlanChanged { modules } => self.take_plan(modules),
            Event::AuditModeSet { enabled } => self.audit_enabled = enabled,
            Event::SchemaAdopted(adoption) => self.take_schema(adoption),
            Event::Suspended { reason } => self.suspended = Some(reason),
            Event::Reinstated => self.suspended = None,
            Event::Closed { .. } => self.closed = true,
        }
    }
}

impl Company {
    fn standing(&self) -> Standing {
        let founding = self.founding.as_ref();
        Standing {
            settings: Arc::new(self.current()),
            plan: founding.map(|founding| founding.plan.clone()).unwrap_or_default(),
            founded: founding.is_some(),
            suspended: self.suspended.is_some(),
            closed: self.closed,
        }
    }

    fn found(&self, founding: Founding, context: &Context) -> Outcome {
        if context.stream_id != context.company.uuid() {
            return Err(Refusal::OtherCompany);
        }
        self.life().begin(founding, Refusal::AlreadyFounded, |founding| {
            known_modules(&founding.plan.modules)?;
            Ok(Event::Founded(founding))
        })
    }

    fn life(&self) -> Lifespan<'_, Founding> {
        Lifespan::of(self.founding.as_ref(), self.closed)
    }

    fn exists(&self) -> Result<&Founding, Refusal> {
        self.life().lasts(Refusal::NotFounded, Refusal::Closed)
    }

    fn at_work(&self) -> Result<&Founding, Refusal> {
        let founding = self.exists()?;
        match &self.suspended {
            Some(reason) => Err(Refusal::Suspended { reason: reason.clone() }),
            None => Ok(founding),
        }
    }

    fn current(&self) -> Settings {
        self.settings.last().cloned().unwrap_or_default()
    }

    fn change_settings(&self, settings: Settings) -> Outcome {
        self.at_work()?;
        if settings == self.current() {
            return Ok(Decision::nothing());
        }
        Ok(Event::SettingsChanged { settings, version: self.version.saturating_add(1) }.into())
    }

    fn restore_settings(&self, restored: u32) -> Outcome {
        self.at_work()?;
        let kept = u32::try_from(self.settings.len()).unwrap_or(u32::MAX);
        // Version 0 are the defaults, which are always there.
        let settings = match restored {
            0 => Some(Settings::default()),
            _ => restored
                .checked_sub(self.version.saturating_sub(kept) + 1)
                .and_then(|place| self.settings.get(place as usize).cloned()),
        };
        match settings {
            None => Err(Refusal::UnknownSettingsVersion {
                version: restored,
                oldest: if self.version > kept { self.version - kept + 1 } else { 0 },
                newest: self.version,
            }),
            Some(settings) if settings == self.current() => Ok(Decision::nothing()),
            Some(settings) => {
                Ok(Event::SettingsRestored { settings, restored, version: self.version.saturating_add(1) }.into())
            }
        }
    }

    fn take_settings(&mut self, settings: Settings, version: u32) {
        self.version = version;
        self.settings.push(settings);
        if self.settings.len() > VERSIONS_KEPT {
            self.settings.remove(0);
        }
    }

    fn change_plan(&self, modules: BTreeSet<String>) -> Outcome {
        let known = self.at_work()?.plan.modules == modules;
        known_modules(&modules)?;
        Ok(Decision::unless(known, Event::PlanChanged { modules }))
    }

    fn take_plan(&mut self, modules: BTreeSet<String>) {
        if let Some(founding) = &mut self.founding {
            founding.plan.modules = modules;
        }
    }

    fn set_audit_mode(&self, enabled: bool) -> Outcome {
        self.at_work()?;
        Ok(Decision::unless(self.audit_enabled == enabled, Event::AuditModeSet { enabled }))
    }

    /// An older program that still runs beside a newer one changes nothing.
    fn adopt_schema(&self, adoption: Adoption) -> Outcome {
        if self.founding.is_none() {
            return Err(Refusal::NotFounded);
        }
        Ok(Decision::unless(self.has_adopted(&adoption), Event::SchemaAdopted(adoption)))
    }

    fn has_adopted(&self, adoption: &Adoption) -> bool {
        self.schemas.get(&format!("{}.{}", adoption.stream, adoption.event)).is_some_and(|known| {
            known.version > adoption.version || known.version == adoption.version && known.sha256 == adoption.sha256
        })
    }

    fn take_schema(&mut self, Adoption { stream, event, version, sha256 }: Adoption) {
        self.schemas.insert(format!("{stream}.{event}"), Adopted { version, sha256 });
    }

    fn suspend(&self, reason: String) -> Outcome {
        self.exists()?;
        Ok(Decision::unless(self.suspended.is_some(), Event::Suspended { reason }))
    }

    fn reinstate(&self) -> Outcome {
        self.exists()?;
        Ok(Decision::unless(self.suspended.is_none(), Event::Reinstated))
    }

    fn close(&self, reason: String) -> Outcome {
        self.life().end(Refusal::NotFounded, Event::Closed { reason })
    }
}

fn known_modules(modules: &BTreeSet<String>) -> Result<(), Refusal> {
    match modules.iter().find(|name| crate::MODULES.iter().all(|module| module.name != name.as_str())) {
        Some(module) => Err(Refusal::UnknownModule { module: module.clone() }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
