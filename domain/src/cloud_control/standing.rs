//! What others must know of their company before anything of theirs is decided: whether it may act at all, and how.

use std::sync::Arc;

use super::{Company, company::Plan};
use crate::kernel::{Rejection, Settings, State};

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
