//! Crew & Customer: who works here, and for whom.

pub mod crew_member;

pub use crew_member::CrewMember;
