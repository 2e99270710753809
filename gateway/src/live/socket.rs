//! One socket: what its client asks, what ends it, and the loop between the two.

use std::{error::Error as _, sync::Arc, time::Duration};

use axum::extract::ws::{Message, WebSocket};
use cnc_projections::Change;
use futures::{StreamExt, stream::SplitStream};
use tokio::sync::broadcast::error::RecvError;

use super::{
    MESSAGE_MAX,
    message::{self, Ask, End, Subscribe},
    outlet::Outlet,
    subscription::{Gap, Subscription},
    teller::{Stop, Teller},
};
use crate::{
    catalog::catalog,
    http::{app::App, shares::Asker},
    problem::Problem,
    tokens::Claims,
};

/// The longest name of a subscription.
const NAME_MAX: usize = 64;

/// Serves a socket until either side ends it.
pub(super) async fn serve(app: Arc<App>, claims: Arc<Claims>, asker: Asker, socket: WebSocket) {
    let (sink, mut incoming) = socket.split();
    let outlet = Outlet::open(sink, asker, app.waiting.clone(), &app.limits);
    app.metrics.sockets.inc();
    let teller = Teller { app: app.clone(), claims, outlet };
    let mut session = Session { teller, subscriptions: Vec::new(), heard: true };
    let end = session.run(&mut incoming).await;
    if let Some(end) = end {
        app.metrics.socket_closed(end.reason);
    }
    // Whoever closes must go on reading for the close to go through.
    let drain = async { while let Some(Ok(_)) = incoming.next().await {} };
    tokio::join!(session.teller.outlet.close(end), async {
        drop(tokio::time::timeout(Duration::from_secs(1), drain).await);
    });
    app.metrics.sockets.dec();
}

/// Whether a message was too big to be read.
fn is_too_big(error: &axum::Error) -> bool {
    matches!(error.source().and_then(|cause| cause.downcast_ref()), Some(tungstenite::Error::Capacity(_)))
}

struct Session {
    teller: Teller,
    subscriptions: Vec<Subscription>,
    heard: bool,
}

impl Session {
    /// Runs until the server has a reason to end it, or the client left (`None`).
    async fn run(&mut self, incoming: &mut SplitStream<WebSocket>) -> Option<End> {
        let app = self.teller.app.clone();
        let mut closing = app.closing();
        // Before any snapshot, so that no change falls between the two.
        let mut changes = app.engine.changes();
        // What changed before that is in the ledger by now, and may be newer than what the socket was opened on.
        if let Err(end) = self.renew().await {
            return Some(end);
        }
        let mut heartbeat = tokio::time::interval(app.limits.heartbeat);
        heartbeat.tick().await;
        let left = self.teller.claims.expires().since(app.now());
        let expiry = tokio::time::sleep(Duration::from_secs(left.0.into()));
        tokio::pin!(expiry);
        loop {
            let done = tokio::select! {
                () = async { drop(closing.wait_for(|closing| *closing).await) } => Err(End::GOING),
                () = &mut expiry => Err(End::EXPIRED),
                frame = incoming.next() => match frame {
                    Some(Ok(frame)) => self.frame(frame).await,
                    Some(Err(error)) if is_too_big(&error) => Err(End::TOO_BIG),
                    Some(Err(_)) | None => return None,
                },
                batch = changes.recv() => match batch {
                    Ok(batch) => self.batch(&batch).await,
                    Err(RecvError::Lagged(_)) => self.catch_up().await,
                    Err(RecvError::Closed) => Err(End::GOING),
                },
                _ = heartbeat.tick() => self.heartbeat().await,
            };
            if let Err(end) = done {
                return Some(end);
            }
        }
    }

    async fn frame(&mut self, frame: Message) -> Result<(), End> {
        self.heard = true;
        match frame {
            Message::Text(text) if text.len() > MESSAGE_MAX => Err(End::TOO_BIG),
            Message::Text(text) => match serde_json::from_str(&text) {
                Ok(Ask::Subscribe(ask)) => self.subscribe(ask).await,
                Ok(Ask::Unsubscribe(ask)) => {
                    self.subscriptions.retain(|subscription| subscription.id != ask.id);
                    Ok(())
                }
                Ok(Ask::Ping(ping)) => self.teller.outlet.text(message::pong(&ping)),
                Err(_) => Err(End::MALFORMED),
            },
            Message::Binary(_) => Err(End::MALFORMED),
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) => Ok(()),
        }
    }

    async fn subscribe(&mut self, ask: Subscribe) -> Result<(), End> {
        let (id, after) = (ask.id.clone(), ask.after);
        let mut subscription = match self.admit(ask).await {
            Ok(subscription) => subscription,
            Err(problem) => return self.teller.stopped(&id, problem.into()),
        };
        let started = match after {
            Some(after) => self.teller.resume(&mut subscription, after).await,
            None => self.teller.snapshot(&mut subscription).await,
        };
        self.keep(subscription, started)
    }

    /// Whether this may be subscribed to at all.
    async fn admit(&self, ask: Subscribe) -> Result<Subscription, Problem> {
        let wrong = |why: String| Problem::bad_request("bad_subscription", why);
        let Subscribe { id, view, filters, .. } = ask;
        let limits = &self.teller.app.limits;
        if id.is_empty() || id.len() > NAME_MAX || self.subscriptions.iter().any(|other| other.id == id) {
            return Err(wrong(format!("an id has 1 to {NAME_MAX} bytes and is used once at a time")));
        }
        if self.subscriptions.len() >= limits.subscriptions {
            return Err(wrong(format!("a socket has at most {} subscriptions", limits.subscriptions)));
        }
        let view = catalog().view(&view).ok_or_else(Problem::not_found)?;
        let grant = self.teller.app.grant(&self.teller.claims, view.reading(), None).await?;
        if let Some(unknown) = filters.keys().find(|filter| !view.document.filters.contains(&filter.as_str())) {
            return Err(wrong(format!("{unknown} is not a filter of this view")));
        }
        if filters.values().any(|value| value.contains('\0')) {
            return Err(wrong("a filter holds U+0000".into()));
        }
        Ok(Subscription::new(id, view, filters, grant, limits.snapshot_rows))
    }

    async fn batch(&mut self, batch: &[Change]) -> Result<(), End> {
        if batch.iter().any(|change| self.teller.concerns(change)) {
            self.renew().await?;
        }
        for mut subscription in std::mem::take(&mut self.subscriptions) {
            let done = match subscription.take(batch) {
                Ok(told) => self.teller.tell(&mut subscription, told).await,
                Err(Gap::Missed) => self.teller.catch_up(&mut subscription).await,
                Err(Gap::Rebuilt) => Err(Stop::Requery),
            };
            self.keep(subscription, done)?;
        }
        Ok(())
    }

    async fn catch_up(&mut self) -> Result<(), End> {
        self.renew().await?;
        for mut subscription in std::mem::take(&mut self.subscriptions) {
            let done = self.teller.catch_up(&mut subscription).await;
            self.keep(subscription, done)?;
        }
        Ok(())
    }

    /// Looks whether the client is there, and still allowed to be.
    async fn heartbeat(&mut self) -> Result<(), End> {
        if !std::mem::take(&mut self.heard) {
            return Err(End::SILENT);
        }
        self.teller.outlet.ping()?;
        self.renew().await
    }

    /// Looks whether the client is still let in, and may know what it is told.
    async fn renew(&mut self) -> Result<(), End> {
        self.teller.admit().await?;
        for mut subscription in std::mem::take(&mut self.subscriptions) {
            let done = self.teller.renew(&mut subscription).await;
            self.keep(subscription, done)?;
        }
        Ok(())
    }

    fn keep(&mut self, subscription: Subscription, done: Result<(), Stop>) -> Result<(), End> {
        match done {
            Ok(()) => {
                self.subscriptions.push(subscription);
                Ok(())
            }
            Err(stop) => self.teller.stopped(&subscription.id, stop),
        }
    }
}
