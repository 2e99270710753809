//! The built-in roles.

/// All built-in roles, alphabetical.
pub static ROLES: &[&str] =
    &["accountant", "admin", "auditor", "coo", "dispatcher", "driver", "manager", "mover", "ops_hq", "sales"];

/// Whether who has this role may do this.
pub fn may(role: &str, _action: &str) -> bool {
    role == "admin"
}

/// Whether personal data of this kind is opened for who has this role.
pub fn may_open(role: &str, _kind: &str) -> bool {
    role == "admin"
}

/// Whether who has this role sees the restricted members of documents.
pub fn may_see_restricted(role: &str) -> bool {
    role == "admin"
}
