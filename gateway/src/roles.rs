//! What a process does of all that an installation does.

use std::{collections::BTreeSet, fmt};

use cnc_projections::EngineFolds;

use crate::catalog::triggers;

/// One part of the work. Any number of processes may have the same role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Role {
    /// Answers people and programs: HTTP and WebSocket
    Gateway,
    /// Publishes the ledger to NATS
    Relay,
    /// Folds views
    Folds,
    /// Folds triggers, rings deadlines, and carries out what both send
    Workers,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Relay => "relay",
            Self::Folds => "folds",
            Self::Workers => "workers",
        }
    }
}

/// The roles of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roles(BTreeSet<Role>);

/// What one process needs to be an installation.
const WHOLE: [Role; 3] = [Role::Gateway, Role::Folds, Role::Workers];

impl Default for Roles {
    fn default() -> Self {
        Self(WHOLE.into())
    }
}

impl Roles {
    /// Those that are named, or the usual ones: all, the relay only where there is a NATS to publish to. `Err` says what does
    /// not go together, and what to do.
    pub fn of(named: Option<&[Role]>, postgres: bool, nats: bool) -> Result<Self, &'static str> {
        if nats && !postgres {
            return Err("--nats connects processes that share a ledger in Postgres: add --ledger postgres://…");
        }
        let roles: BTreeSet<Role> = match named {
            Some(roles) => roles.iter().copied().collect(),
            None => WHOLE.into_iter().chain(nats.then_some(Role::Relay)).collect(),
        };
        if roles.is_empty() {
            return Err("a process has at least one role: gateway, relay, folds or workers");
        }
        if roles.contains(&Role::Relay) && !nats {
            return Err("the role relay publishes to NATS: add --nats nats://…");
        }
        if !postgres && !WHOLE.iter().all(|role| roles.contains(role)) {
            return Err(
                "processes that split the roles share a ledger in Postgres: add --ledger postgres://…, or leave \
                        --roles away",
            );
        }
        Ok(Self(roles))
    }

    /// Whether this is one of them.
    pub fn has(&self, role: Role) -> bool {
        self.0.contains(&role)
    }

    /// Whether something is sealed or opened in these roles. Folds and the relay pass on what is sealed.
    pub(crate) fn need_keys(&self) -> bool {
        self.has(Role::Gateway) || self.has(Role::Workers)
    }

    /// Their names.
    pub(crate) fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(|role| role.name()).collect()
    }

    /// The durable consumers of these roles: all processes of a role share one.
    pub(crate) fn durables(&self) -> Vec<&'static str> {
        [Role::Folds, Role::Workers].into_iter().filter(|role| self.has(*role)).map(Role::name).collect()
    }

    /// What is folded in these roles.
    pub(crate) fn folds(&self) -> EngineFolds {
        let views = if self.has(Role::Folds) { EngineFolds::views().views } else { Vec::new() };
        let triggers = if self.has(Role::Workers) { triggers() } else { Vec::new() };
        EngineFolds { views, triggers, unwatched: !self.has(Role::Gateway), warns: true }
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(postgres: bool, nats: bool, named: Option<&[Role]>) -> Result<Roles, &'static str> {
        Roles::of(named, postgres, nats)
    }

    #[test]
    fn a_process_alone_does_everything_and_publishes_where_there_is_a_nats() {
        let text = |roles: Result<Roles, _>| roles.expect("goes together").to_string();
        assert_eq!(text(of(false, false, None)), "gateway,folds,workers");
        assert_eq!(text(of(true, false, None)), "gateway,folds,workers");
        assert_eq!(text(of(true, true, None)), "gateway,relay,folds,workers");
        assert_eq!(text(of(true, true, Some(&[Role::Workers, Role::Gateway]))), "gateway,workers");
        assert_eq!(text(of(true, false, Some(&[Role::Folds]))), "folds");
    }

    #[test]
    fn what_does_not_go_together_says_what_to_do() {
        for (roles, says) in [
            (of(false, true, None), "--ledger"),
            (of(false, false, Some(&[Role::Gateway])), "--ledger"),
            (of(true, false, Some(&[Role::Relay])), "--nats"),
            (of(true, true, Some(&[])), "gateway, relay, folds or workers"),
        ] {
            let misfit = roles.expect_err("does not go together");
            assert!(misfit.contains(says), "{misfit}");
        }
    }

    #[test]
    fn who_serves_nobody_follows_no_views_and_who_folds_nothing_has_no_durable() {
        let roles = of(true, true, Some(&[Role::Workers])).expect("goes together");
        let folds = roles.folds();
        assert!(folds.unwatched && folds.views.is_empty() && !folds.triggers.is_empty());
        assert_eq!(roles.durables(), ["workers"]);
        let roles = of(true, true, Some(&[Role::Gateway])).expect("goes together");
        assert!(!roles.folds().unwatched && roles.durables().is_empty());
    }
}
