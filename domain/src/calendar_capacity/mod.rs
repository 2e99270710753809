//! Calendar & Capacity: what and who is free when.

pub mod truck;

pub use truck::Truck;
