//! The write side at run time: ledger back ends, host, appender, keyring, and the workers that act on outboxes.

pub mod ledger;
