//! What goes over NATS, through real brokers.

mod broker;
