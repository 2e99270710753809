//! Cloud & Control: the company itself, its branches, who signs in, and who may do what.

pub mod company;
pub mod location;
pub mod roles;
mod standing;
pub mod user;

pub use company::Company;
pub use location::Location;
pub use standing::{Halt, Standing, standing};
pub use user::User;

use crate::kernel::{Module, aggregate};

/// The module.
pub static MODULE: Module = Module {
    name: "cloud_control",
    about: "The company itself, its branches, who signs in, and who may do what.",
    aggregates: &[aggregate::<Company>(), aggregate::<Location>(), aggregate::<User>()],
    triggers: &[],
};
