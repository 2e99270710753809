//! The gateway from outside, over HTTP and WebSocket, on a whole system.

mod access;
mod hostile;
mod live;
mod reading;
mod writing;
