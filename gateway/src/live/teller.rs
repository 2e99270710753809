//! What a client is told: a view as it is, what changed since, and whether it may still know.

use std::sync::Arc;

use cnc_domain::ledger::Position;
use cnc_projections::{Change, Query, views};

use super::{
    message::{self, End},
    outlet::Outlet,
    subscription::{Subscription, Told},
};
use crate::{
    authorize::Grant,
    http::{app::App, shape::Shape, views::unwell},
    problem::Problem,
    tokens::Claims,
};

/// Rows of one part of a snapshot.
const PART: usize = 250;

/// Tells one client, whose rights it knows.
pub(super) struct Teller {
    pub app: Arc<App>,
    pub claims: Arc<Claims>,
    pub outlet: Outlet,
}

/// Why a subscription, or the whole socket, does not go on.
pub(super) enum Stop {
    /// It is not known what changed: the client must ask anew.
    Requery,
    /// It cannot be done.
    Problem(Problem),
    /// The socket ends.
    End(End),
}

impl Teller {
    /// Tells the view as it is, in parts. What changes meanwhile is told after it.
    pub async fn snapshot(&self, subscription: &mut Subscription) -> Result<(), Stop> {
        let (company, view) = (subscription.grant.company(), subscription.view.name());
        let query = Query { filters: subscription.filters.clone(), limit: PART, ..Query::default() };
        let mut query = subscription.grant.bound(subscription.view, query);
        let (mut first, mut count) = (None, 0);
        loop {
            let page = self.app.store.query(company, view, &query).await.map_err(Problem::from)?;
            let position = *first.get_or_insert(page.position);
            count += page.rows.len();
            if count > self.app.limits.snapshot_rows {
                return Err(Problem::bad_request("too_many_rows", "ask for fewer rows by a filter").into());
            }
            let unwell = unwell(page.health, page.position)?.map(|(_, said)| said);
            subscription.gives(&page.rows);
            let shape = Shape::of(&self.app, &subscription.grant, subscription.view, self.app.now()).await?;
            let rows = shape.rows(&self.app, page.rows).await?;
            let more = page.next.is_some();
            self.outlet.part(message::snapshot(&subscription.id, view, position, (rows, more), unwell)).await?;
            if !more {
                (subscription.position, subscription.told) = (position, position);
                return Ok(());
            }
            query.cursor = page.next;
        }
    }

    /// Goes on where the client stood.
    pub async fn resume(&self, subscription: &mut Subscription, after: Position) -> Result<(), Stop> {
        let head = self.app.host.ledger().head(subscription.grant.company()).await.map_err(Problem::from)?;
        if head.is_none_or(|head| after > head.position) || subscription.grant.sees_own_only() {
            return Err(Stop::Requery);
        }
        subscription.resume(after);
        self.catch_up(subscription).await
    }

    /// Tells from the store what changed since the subscription's position.
    pub async fn catch_up(&self, subscription: &mut Subscription) -> Result<(), Stop> {
        let (company, view) = (subscription.grant.company(), subscription.view.name());
        // Read before the changes: they may reach further, never less far.
        let reached = self.app.store.position(company, view).await.map_err(Problem::from)?;
        let bounds = subscription.grant.bound(subscription.view, Query::default());
        let (after, scope) = (subscription.position, bounds.scope.as_ref());
        let changes = self.app.store.changes_since(company, view, after, scope).await.map_err(Problem::from)?;
        let changes = changes.filter(|changes| !changes.iter().any(Change::is_unknown)).ok_or(Stop::Requery)?;
        let last = changes.iter().map(|change| change.position).max().unwrap_or(0);
        subscription.position = subscription.position.max(reached).max(last);
        let told = subscription.tell(&changes);
        self.say(subscription, told).await
    }

    /// Tells what changed, where that is anything.
    pub async fn tell(&self, subscription: &mut Subscription, told: Option<Told>) -> Result<(), Stop> {
        match told {
            Some(told) if !told.is_empty() => self.say(subscription, told).await,
            _ => Ok(()),
        }
    }

    /// Tells what changed, and how far the client is with it.
    pub async fn say(&self, subscription: &mut Subscription, told: Told) -> Result<(), Stop> {
        let Subscription { id, view, grant, position, told: before, .. } = subscription;
        let shape = Shape::of(&self.app, grant, view, self.app.now()).await?;
        let rows = shape.rows(&self.app, told.rows).await?;
        self.outlet.text(message::change(id, view.name(), (*before, *position), rows, told.removed))?;
        *before = *position;
        Ok(())
    }

    /// Whether a change may mean that the client is let in no more, or as somebody else.
    pub fn concerns(&self, change: &Change) -> bool {
        let claims = &self.claims;
        let is_theirs = || change.is_unknown() || change.key == claims.sub.id().to_string();
        change.company == claims.company && change.view == views::users::VIEW.kind.name() && is_theirs()
    }

    /// Looks whether the client is still let in at all.
    pub async fn admit(&self) -> Result<(), End> {
        self.may("live").await.map(drop)
    }

    /// What the client may do now; nothing is said where whether it may is not known.
    async fn may(&self, action: &str) -> Result<Option<Grant>, End> {
        match self.app.grant_now(&self.claims, action).await {
            Ok(grant) => Ok(Some(grant)),
            Err(problem) if problem.code() == "unauthenticated" => Err(End::EXPIRED),
            Err(problem) if problem.status().is_client_error() => Err(End::FORBIDDEN),
            // Whatever failed may pass; the next look will tell.
            Err(_) => Ok(None),
        }
    }

    /// Looks whether the client still may know what it is told. A client whose branches have changed asks anew.
    pub async fn renew(&self, subscription: &mut Subscription) -> Result<(), Stop> {
        let Some(grant) = self.may(subscription.view.reading()).await? else { return Ok(()) };
        if grant.scope() != subscription.grant.scope() {
            return Err(Stop::Requery);
        }
        subscription.grant = grant;
        if subscription.position > subscription.told {
            // So that who resumes does not start from long ago.
            self.say(subscription, Told::default()).await?;
        }
        Ok(())
    }

    /// Tells why a subscription is over.
    pub fn stopped(&self, id: &str, stop: Stop) -> Result<(), End> {
        match stop {
            Stop::Requery => self.outlet.text(message::requery(id)),
            Stop::Problem(problem) => self.outlet.text(message::error(id, &problem)),
            Stop::End(end) => Err(end),
        }
    }
}

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<End> for Stop {
    fn from(end: End) -> Self {
        Self::End(end)
    }
}
