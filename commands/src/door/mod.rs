//! The door: one walk over a sent command's text, led by its compiled schema. It checks the form of every field, refuses
//! what cannot be recorded, and seals personal fields before anything else parses, decides, logs or compares them.

mod canonical;
mod form;
mod scan;
mod walk;
mod walked;

#[cfg(test)]
mod tests;

pub use canonical::canonical;
pub use form::{Form, Kinds};
pub use walk::FormError;
pub use walked::Walked;
