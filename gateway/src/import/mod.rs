//! Bringing in records of other systems by real commands, so that what was imported is as good as what was done here.

mod before;
mod decimal;
pub mod gps;
pub mod journey;
mod outliers;
mod patience;
pub mod runs;
pub mod table;
