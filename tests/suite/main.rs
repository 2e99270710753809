//! All integration tests, in one binary: it links once, and its tests run side by side.

mod cli;
mod faulty;
mod folds;
mod gateway;
mod host;
mod keyring;
mod ledger;
mod nats;
mod simulation;
mod tidy;
