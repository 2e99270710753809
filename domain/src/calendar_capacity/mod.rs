//! Calendar & Capacity: what trucks there are, and who has them when.

pub mod reservations;
pub mod truck;

pub use reservations::{Free, Reservation, Reservations, Taken};
pub use truck::Truck;

use crate::kernel::{Module, aggregate};

/// The module.
pub static MODULE: Module = Module {
    name: "calendar_capacity",
    about: "What trucks there are, and who has them when.",
    aggregates: &[aggregate::<Truck>()],
    triggers: &[],
};
