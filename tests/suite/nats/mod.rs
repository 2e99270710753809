//! What goes over NATS, through real brokers.

mod broker;
mod faults;
mod feed;
mod forks;
mod integrations;
mod logins;
mod relay;
mod relay_faults;
mod roles;
mod silence;
mod simulated;
