//! Cloud & Control: the company itself, its branches, who signs in, and who may do what.

pub mod company;
pub mod location;
mod reach;
pub mod roles;
pub mod service_account;
mod standing;
pub mod tokens;
pub mod user;

pub use company::Company;
pub use location::Location;
pub use service_account::ServiceAccount;
pub use standing::{Halt, Standing, standing};
pub use user::User;

use crate::kernel::{Module, aggregate};

/// The module.
pub static MODULE: Module = Module {
    name: "cloud_control",
    about: "The company itself, its branches, who signs in, and who may do what.",
    aggregates: &[aggregate::<Company>(), aggregate::<Location>(), aggregate::<ServiceAccount>(), aggregate::<User>()],
    triggers: &[],
};
