//! The pure rules of a moving company. No clock, no randomness, no I/O: the same entries always give the same states,
//! documents and commands.

pub mod calendar_capacity;
pub mod command_control;
pub mod crew_customer;
pub mod kernel;
pub mod ledger;
