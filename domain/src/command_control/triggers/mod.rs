//! The rules of live dispatch that act by themselves.

mod understaffed;

pub use understaffed::Understaffed;
