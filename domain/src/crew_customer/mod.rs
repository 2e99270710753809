//! Crew & Customer: who works for the company, and when they are free.

pub mod crew_member;

pub use crew_member::CrewMember;

use crate::kernel::{Module, aggregate};

/// The module.
pub static MODULE: Module = Module {
    name: "crew_customer",
    about: "Who works for the company, and when they are free.",
    aggregates: &[aggregate::<CrewMember>()],
    triggers: &[],
};
