//! What goes over NATS, through real brokers.

mod broker;
mod relay;
mod relay_faults;
