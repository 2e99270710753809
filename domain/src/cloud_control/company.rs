//! The company itself: its name and plan, its settings with all their versions, and whether it may be worked in.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Standing;
use crate::{
    kernel::{Aggregate, Context, Decision, Lifespan, LocationId, OutOfScope, Settings, State},
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
    /// Let work go on in it after it was closed: for the operator, where it was closed by mistake.
    Reopen,
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
    /// Work goes on in it after it was closed.
    Reopened,
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
    /// The command concerns the whole company, and its sender is bound to branches of it.
    #[error("this concerns the whole company, and you are bound to branches of it")]
    OutsideYourBranches {
        /// The branches that the sender is bound to.
        yours: BTreeSet<LocationId>,
    },
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

/// Whether a company has adopted a shape, or a newer one of the same event, from the state of its `company` stream.
pub fn has_adopted(company_state: &State, adoption: &Adoption) -> bool {
    company_state.get::<Company>().is_some_and(|company| company.has_adopted(adoption))
}

type Outcome = Result<Decision<Event>, Refusal>;

impl Aggregate for Company {
    const STREAM: &'static str = "company";
    const INTERNAL: &'static [&'static str] = &["adopt_schema", "found", "reopen"];
    const BEGINNING: &'static [&'static str] = &["found"];
    type Command = Command;
    type Event = Event;
    type Refusal = Refusal;

    fn decide(&self, command: Command, context: &Context) -> Outcome {
        context.scope.spans_company()?;
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
            Command::Reopen => self.reopen(),
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
            Event::Reopened => self.closed = false,
        }
    }
}

impl Company {
    /// What others must know of it.
    pub(super) fn standing(&self) -> Standing {
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

    fn reopen(&self) -> Outcome {
        if self.founding.is_none() {
            return Err(Refusal::NotFounded);
        }
        Ok(Decision::unless(!self.closed, Event::Reopened))
    }
}

impl From<OutOfScope> for Refusal {
    fn from(OutOfScope { yours }: OutOfScope) -> Self {
        Self::OutsideYourBranches { yours }
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
