//! The generated contracts.
