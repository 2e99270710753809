//! The write side at run time: ledger back ends, host, appender, keyring, the relay to NATS, and the workers that
//! act on outboxes.

pub mod appender;
pub mod backup;
pub mod cache;
mod catalog;
pub mod clock;
pub mod door;
pub mod forgetting;
pub mod host;
mod hosted;
pub mod keyring;
pub mod ledger;
pub mod relay;
mod request;
mod shelf;
pub mod transfer;
mod unit;
pub mod workers;

pub use catalog::Catalog;
pub use clock::{Clock, ClockLimits, ClockSkew};
pub use cnc_domain::cloud_control::Standing;
pub use door::{Form, FormError};
pub use host::{Host, HostOptions};
pub use keyring::{Destruction, KeyPlace, Keyring, MasterKey};
pub use request::{AsOf, HostError, Request, Shown};
