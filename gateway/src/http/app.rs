//! What every route works with.

use std::sync::Arc;

use cnc_commands::{Host, HostError};
use cnc_domain::kernel::{LocationId, State, Timestamp};
use cnc_projections::{Engine, Store};
use serde_json::Value;
use tokio::sync::watch;

use super::{shares::Shares, shown::Shown, waiting::Waiting};
use crate::{
    authorize::{Account, Grant, Who, authorize},
    limits::Limits,
    metrics::Metrics,
    parts::Parts,
    problem::Problem,
    tokens::{Claims, Tokens},
};

/// The rooms behind the routes, and what bounds and measures them.
pub struct App {
    /// The write side.
    pub host: Host,
    /// The documents of views.
    pub store: Store,
    /// What folds them.
    pub engine: Engine,
    /// The tokens' key.
    pub tokens: Tokens,
    /// What a caller may ask for at most.
    pub limits: Limits,
    /// What is measured.
    pub metrics: Metrics,
    /// What else the process does.
    pub parts: Parts,
    /// What was shown a moment ago.
    pub(crate) shown: Shown,
    /// Places for requests under a token.
    pub(crate) requests: Shares,
    /// Places for sockets.
    pub(crate) sockets: Shares,
    /// What waits to be read.
    pub(crate) waiting: Arc<Waiting>,
    closing: watch::Sender<bool>,
}

impl App {
    /// An application with the usual limits.
    pub fn new(host: Host, store: Store, engine: Engine, tokens: Tokens) -> Self {
        Self::with_limits(host, store, engine, tokens, Limits::default())
    }

    /// An application with these limits.
    pub fn with_limits(host: Host, store: Store, engine: Engine, tokens: Tokens, limits: Limits) -> Self {
        let Limits { requests_per_company, requests_per_address, requests_per_user, .. } = limits;
        let Limits { sockets_each, sockets_per_address, sockets_per_user, .. } = limits;
        let requests = Shares::new(limits.requests, requests_per_company, requests_per_address, requests_per_user);
        let sockets = Shares::new(limits.sockets, sockets_each, sockets_per_address, sockets_per_user);
        let waiting = Arc::new(Waiting::new(limits.waiting_bytes, limits.waiting_bytes_per_user));
        let metrics = Metrics::default();
        let (parts, shown, closing) = (Parts::default(), Shown::default(), watch::Sender::new(false));
        Self { host, store, engine, tokens, limits, metrics, parts, shown, requests, sockets, waiting, closing }
    }

    /// The same in a process of these parts.
    #[must_use]
    pub fn with_parts(self, parts: Parts) -> Self {
        Self { parts, ..self }
    }

    /// Closes all sockets, and lets none open any more: the server is about to stop.
    pub fn close_sockets(&self) {
        self.closing.send_replace(true);
    }

    /// Tells when sockets are to be closed.
    pub(crate) fn closing(&self) -> watch::Receiver<bool> {
        self.closing.subscribe()
    }

    /// The server's time.
    pub fn now(&self) -> Timestamp {
        self.host.now()
    }

    /// Asks whether the bearer of `claims` may do `action`, in the branch where one is known. What the company's ledger says
    /// of them is known at once where it was recorded here, and after at most a second where it was elsewhere.
    pub async fn grant(&self, claims: &Claims, action: &str, location: Option<LocationId>) -> Result<Grant, Problem> {
        let state = self.host.state_lately(claims.company, claims.sub.stream(), claims.sub.id()).await;
        self.decide(claims, action, location, state).await
    }

    /// Asks the same of the ledger as it stands now.
    pub async fn grant_now(&self, claims: &Claims, action: &str) -> Result<Grant, Problem> {
        let state = self.host.state_now(claims.company, claims.sub.stream(), claims.sub.id()).await;
        self.decide(claims, action, None, state).await
    }

    async fn decide(
        &self,
        claims: &Claims,
        action: &str,
        location: Option<LocationId>,
        bearer: Result<Option<State>, HostError>,
    ) -> Result<Grant, Problem> {
        let bearer = match bearer {
            Err(HostError::NotFound | HostError::NoCompany) => None,
            state => state?,
        };
        let standing = self.host.standing(claims.company).await?;
        let who = Who { claims, account: Account::of(claims, bearer.as_ref()) };
        Ok(authorize(&who, action, standing.as_deref(), location, self.now())?)
    }

    /// Opens what this grant may open of a value's personal data, and marks the rest. Returns how many were opened.
    pub async fn open(&self, grant: &Grant, value: &mut Value) -> Result<usize, Problem> {
        Ok(self.host.keyring().open_all(grant.company(), value, &|kind| grant.may_open(kind)).await?)
    }
}
