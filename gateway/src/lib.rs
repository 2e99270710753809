//! The gateway: HTTP and WebSocket, tokens, authorization, and the description of both. It knows both sides of the house
//! and no business rule: every stream, command and view comes from the `MODULES` and `VIEWS` lists.

pub mod asyncapi;
pub mod authorize;
pub mod catalog;
pub mod cli;
pub mod clock;
pub mod config;
pub mod contracts;
pub mod demo;
mod files;
pub mod http;
pub mod import;
pub mod integration;
pub mod issuing;
pub mod limits;
pub mod live;
mod matching;
pub mod metrics;
pub mod nats;
pub mod openapi;
pub mod parts;
pub mod principal;
pub mod problem;
pub mod problems;
mod restricted;
pub mod roles;
mod rooms;
pub mod run;
pub mod tokens;
