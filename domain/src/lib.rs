//! The pure rules of a moving company. No clock, no randomness, no I/O: the same entries always give the same states,
//! documents and commands.

pub mod kernel;
pub mod ledger;
