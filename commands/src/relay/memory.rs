//! A broker and the relays' book in memory. Each step is one that a simulation may hold up, refuse, answer in vain, or be
//! the last of a process.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use cnc_domain::{
    kernel::CompanyId,
    ledger::{Fault, Feed, Head, Position, Weather, subject},
};
use futures::{FutureExt as _, future::BoxFuture};
use tokio::time::Instant;

use super::{
    Relay, RelayOptions,
    consumers::Places,
    message::Message,
    ports::{Acknowledged, Behind, Book, Broker, Held, Unpublished},
    shortfall::{Found, Known, Shortfall, Tip},
};

/// What was published so long before the last acknowledgement is on the broker's disk.
const SAFE_AFTER: Duration = Duration::from_mins(10);

/// One broker, with one stream, and one book: they outlive the relays.
#[derive(Clone)]
pub struct Exchange(Arc<Mutex<State>>);

/// A message in the stream.
#[derive(Clone, Debug)]
pub struct Published {
    /// Whose entry it is.
    pub company: CompanyId,
    /// The entry's place and hash.
    pub head: Head,
    /// The entry's line.
    pub line: String,
    at: Instant,
}

struct State {
    /// Which of the broker's streams this is.
    created: u64,
    messages: Vec<Published>,
    connection: u64,
    relays: u64,
    alive: BTreeMap<u64, Instant>,
    known: Known,
    acknowledged_at: Instant,
    rows: BTreeMap<CompanyId, Row>,
}

#[derive(Clone, Copy)]
struct Row {
    holder: Option<u64>,
    published: Option<Position>,
    published_at: Instant,
    safe: Option<Position>,
    mark: Option<Position>,
    marked_at: Instant,
}

impl Default for Exchange {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State {
            created: 1,
            messages: Vec::new(),
            connection: 1,
            relays: 0,
            alive: BTreeMap::new(),
            known: Known::default(),
            acknowledged_at: Instant::now(),
            rows: BTreeMap::new(),
        })))
    }
}

impl Exchange {
    /// A relay of one process.
    pub fn relay(&self, ledger: Arc<dyn Feed>, weather: Arc<dyn Weather>, options: RelayOptions) -> Relay {
        let mut state = self.state();
        state.relays += 1;
        let (exchange, relay) = (self.clone(), state.relays);
        let seat = Arc::new(Seat { exchange, relay, ledger: ledger.clone(), weather });
        Relay::over(ledger, seat.clone(), seat, options)
    }

    /// All messages that the stream holds.
    pub fn messages(&self) -> Vec<Published> {
        self.state().messages.clone()
    }

    /// Every connection breaks and is made anew.
    pub fn reconnect(&self) {
        self.state().connection += 1;
    }

    /// The broker comes back without its last `count` messages, as far as they were not on its disk.
    pub fn lose_tail(&self, count: usize) {
        let mut state = self.state();
        let on_disk = state.messages.iter().filter(|message| message.at.elapsed() > SAFE_AFTER / 2).count();
        let left = state.messages.len().saturating_sub(count).max(on_disk);
        state.messages.truncate(left);
        state.connection += 1;
    }

    /// The broker comes back with another, empty stream.
    pub fn wipe(&self) {
        let mut state = self.state();
        (state.created, state.connection) = (state.created + 1, state.connection + 1);
        state.messages.clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where one relay meets the exchange.
struct Seat {
    exchange: Exchange,
    relay: u64,
    ledger: Arc<dyn Feed>,
    weather: Arc<dyn Weather>,
}

impl Seat {
    async fn step<T>(&self, doing: &'static str, work: impl FnOnce(&mut State) -> T + Send) -> Result<T, Fault> {
        self.weather.before(doing).await?;
        let done = work(&mut self.exchange.state());
        self.weather.after(doing).await?;
        Ok(done)
    }
}

impl State {
    /// The place of the stream's last message: from one on, as the broker's.
    fn last(&self) -> u64 {
        self.messages.len() as u64
    }

    /// Takes or gives back companies until this relay has its fair share.
    fn balance(&mut self, relay: u64) {
        let now = Instant::now();
        let alive =
            |holder: Option<u64>| holder.is_some_and(|holder| self.alive.get(&holder).is_some_and(|at| *at > now));
        let relays = self.alive.values().filter(|at| **at > now).count().max(1);
        let fair = self.rows.len().div_ceil(relays);
        let mine = self.rows.values().filter(|row| row.holder == Some(relay)).count();
        let free: Vec<_> =
            self.rows.iter().filter(|(_, row)| !alive(row.holder)).map(|(company, _)| *company).collect();
        for company in free.into_iter().take(fair.saturating_sub(mine)) {
            self.rows.entry(company).and_modify(|row| row.holder = Some(relay));
        }
        let held = self.rows.values_mut().filter(|row| row.holder == Some(relay));
        held.take(mine.saturating_sub(fair)).for_each(|row| row.holder = None);
    }

    fn record(&mut self, moved: &[(CompanyId, Position)], tip: Tip) {
        let now = Instant::now();
        if tip.sequence > self.known.tip.sequence {
            self.known.tip = tip;
        }
        self.acknowledged_at = now;
        for (company, position) in moved {
            let Some(row) = self.rows.get_mut(company) else { continue };
            if row.marked_at.elapsed() > SAFE_AFTER {
                (row.safe, row.mark, row.marked_at) = (row.mark, row.published, now);
            }
            (row.published, row.published_at) = (row.published.max(Some(*position)), now);
        }
    }

    fn begin(&mut self, known: &Known, found: &Found, shortfall: Shortfall) -> bool {
        let (now, is_doubt) = (Instant::now(), shortfall == Shortfall::Perhaps);
        if self.known.generation != known.generation || is_doubt && self.known.tip != known.tip {
            return false;
        }
        self.known.generation += 1;
        match shortfall {
            Shortfall::Perhaps => return true,
            Shortfall::Lost => {
                for row in self.rows.values_mut() {
                    (row.published, row.safe, row.mark, row.marked_at) = (None, None, None, now);
                }
            }
            Shortfall::Behind => {
                let acknowledged_at = self.acknowledged_at;
                for row in self.rows.values_mut().filter(|row| row.published_at + SAFE_AFTER > acknowledged_at) {
                    (row.published, row.mark, row.marked_at) = (row.safe, row.safe, now);
                }
            }
        }
        self.known.created.clone_from(&found.created);
        self.known.tip = Tip { sequence: found.last, message_id: String::new() };
        self.acknowledged_at = now;
        true
    }
}

#[async_trait]
impl Book for Seat {
    async fn renew(&self, lease: Duration) -> Result<Held, Fault> {
        let heads = self.ledger.heads().await?;
        let relay = self.relay;
        let work = move |state: &mut State| {
            let now = Instant::now();
            state.alive.insert(relay, now + lease);
            for (company, _) in heads {
                let (holder, published, safe, mark) = (None, None, None, None);
                let row = Row { holder, published, published_at: now, safe, mark, marked_at: now };
                state.rows.entry(company).or_insert(row);
            }
            state.balance(relay);
            let held = state.rows.iter().filter(|(_, row)| row.holder == Some(relay));
            let companies = held.map(|(company, row)| (*company, row.published)).collect();
            Held { generation: state.known.generation, companies }
        };
        self.step("renew a relay's leases", work).await
    }

    async fn leave(&self) -> Result<(), Fault> {
        self.step("give a relay's leases back", |state| state.alive.remove(&self.relay)).await.map(|_| ())
    }

    async fn record(&self, generation: i64, moved: &[(CompanyId, Position)], tip: Tip) -> Result<(), Fault> {
        let work = |state: &mut State| {
            if state.known.generation == generation {
                state.record(moved, tip);
            }
        };
        self.step("record what was published", work).await
    }

    async fn known(&self) -> Result<Known, Fault> {
        self.step("look up the stream", |state| state.known.clone()).await
    }

    async fn begin(&self, known: &Known, found: &Found, shortfall: Shortfall) -> Result<bool, Fault> {
        self.step("begin a generation of the stream", |state| state.begin(known, found, shortfall)).await
    }

    async fn behind(&self, asked: &[(CompanyId, Position, usize)], limit: usize) -> Result<Vec<Behind>, Fault> {
        let (mut free, mut behind) = (limit, Vec::new());
        for (company, after, room) in asked {
            let Some(head) = self.ledger.head(*company).await?.filter(|head| head.position > *after) else { continue };
            let lines = self.ledger.read(*company, *after, (*room).min(free)).await?;
            free -= lines.len();
            behind.push(Behind { company: *company, head: head.position, lines });
            if free == 0 {
                break;
            }
        }
        Ok(behind)
    }
}

fn unpublished(fault: Fault) -> Unpublished {
    Unpublished { cause: fault.cause, is_too_large: false }
}

#[async_trait]
impl Broker for Seat {
    fn connection(&self) -> u64 {
        self.exchange.state().connection
    }

    fn is_connected(&self) -> bool {
        true
    }

    async fn send(&self, message: Message, line: String) -> Result<BoxFuture<'static, Acknowledged>, Unpublished> {
        self.weather.before("send a message").await.map_err(unpublished)?;
        // A connection keeps the order of what is sent over it; what has not arrived when it breaks is gone.
        let connection = self.connection();
        let arrived = self.weather.before("store a message").await.map_err(unpublished).and_then(|()| {
            let mut state = self.exchange.state();
            if state.connection != connection {
                return Err(Unpublished { cause: "the connection is another".into(), is_too_large: false });
            }
            let Message { company, head, .. } = message;
            state.messages.push(Published { company, head, line, at: Instant::now() });
            Ok(state.last())
        });
        let weather = self.weather.clone();
        let landing = async move {
            let last = arrived?;
            weather.after("acknowledge a message").await.map_err(unpublished)?;
            Ok(last)
        };
        Ok(landing.boxed())
    }

    async fn stream(&self, tip: u64) -> Result<Found, Fault> {
        let show = |state: &mut State| {
            let place = usize::try_from(tip).ok().and_then(|tip| tip.checked_sub(1));
            let message = place.and_then(|place| state.messages.get(place));
            let at_tip = message.map(|message| subject::message_id(message.company, message.head));
            Found { created: state.created.to_string(), last: state.last(), at_tip }
        };
        self.step("look after the stream", show).await
    }

    /// It has none: who reads it goes by what it holds.
    async fn mend_consumers(&self, _: Places) -> Result<(), Fault> {
        Ok(())
    }
}
