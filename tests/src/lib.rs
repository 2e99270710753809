//! The harness of the integration tests: it starts real servers and stops them again.

pub mod clock;
pub mod debian;
mod embedded;
pub mod faults;
pub mod fixtures;
pub mod mover;
pub mod nats;
pub mod postgres;
pub mod random;
mod shell;
pub mod simulation;
pub mod split;
pub mod staff;
pub mod system;
pub mod wire;
