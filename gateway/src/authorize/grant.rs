//! What was allowed, and how far it reaches. Which rows, streams and members somebody sees is decided here, once for every
//! route and subscription.

use std::{collections::BTreeSet, sync::Arc};

use cnc_commands::Shown;
use cnc_domain::{
    cloud_control::roles,
    kernel::{Actor, CompanyId, LocationId, Scope},
};
use cnc_projections::{Query, Row};

use crate::{
    catalog::{Served, Stream},
    matching,
    principal::Principal,
};

/// What was allowed. Whatever reads on somebody's behalf asks for one, and there is no other way to get one.
#[derive(Clone, Debug)]
pub struct Grant {
    pub(super) bearer: Principal,
    pub(super) company: CompanyId,
    pub(super) role: String,
    pub(super) scope: Arc<Scope>,
}

impl Grant {
    /// A grant for tests of what is told under one.
    #[cfg(test)]
    pub(crate) fn sample(company: CompanyId, role: &str, scope: Scope) -> Self {
        Self {
            bearer: Principal::User(cnc_domain::kernel::UserId::number(0)),
            company,
            role: role.into(),
            scope: Arc::new(scope),
        }
    }

    /// Whose data.
    pub fn company(&self) -> CompanyId {
        self.company
    }

    /// How far it reaches.
    pub fn scope(&self) -> Arc<Scope> {
        Arc::clone(&self.scope)
    }

    /// Whether an aggregate may be seen.
    pub fn reaches(&self, shown: &Shown) -> bool {
        shown.is_within(&self.scope)
    }

    /// Whether a row of a view may be seen.
    pub fn sees(&self, view: &Served, row: &Row) -> bool {
        match self.own(view) {
            Some(own) => matching::matches(&row.doc, &[own]),
            None => self.scope.covers(row.location),
        }
    }

    /// Whether rows are told apart by who takes part in them, and no longer by their branch.
    pub fn sees_own_only(&self) -> bool {
        self.scope.participant.is_some()
    }

    /// The same query for what may be seen of the view.
    #[must_use]
    pub fn bound(&self, view: &Served, mut query: Query) -> Query {
        match self.own(view) {
            Some(own) => query.filters.push(own),
            None => query.scope.clone_from(&self.scope.locations),
        }
        query
    }

    /// The filter for what somebody takes part in, where that is all that they see.
    fn own(&self, view: &Served) -> Option<(String, String)> {
        let (person, filter) = (self.scope.participant?, view.document.participants.unwrap_or_default());
        Some((filter.to_owned(), person.to_string()))
    }

    /// The only branch of the scope, where it is one.
    pub fn only_location(&self) -> Option<LocationId> {
        let locations = self.scope.locations.as_ref()?;
        locations.first().copied().filter(|_| locations.len() == 1)
    }

    /// The role, which alone decides what is [opened](Self::may_open) and [seen](Self::sees_restricted) of a document.
    pub fn role(&self) -> &str {
        &self.role
    }

    /// Whether personal data of this kind may be opened.
    pub fn may_open(&self, kind: &str) -> bool {
        roles::may_open(&self.role, kind)
    }

    /// Whether restricted members of documents may be seen.
    pub fn sees_restricted(&self) -> bool {
        roles::may_see_restricted(&self.role)
    }

    /// The members of a stream's states and entries that may not be seen.
    pub fn withheld<'a>(&self, stream: &'a Stream) -> Option<&'a BTreeSet<String>> {
        let restricted = &stream.contract.restricted;
        (!self.sees_restricted() && !restricted.is_empty()).then_some(restricted)
    }

    /// The actor of commands given under this grant.
    pub fn actor(&self) -> Actor {
        self.bearer.actor(&self.role)
    }
}
