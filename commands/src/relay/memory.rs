//! A broker and the relays' book in memory. Each step is one that a simulation may hold up, refuse, answer in vain, or be
//! the last of a process.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use cnc_domain::{
    kernel::CompanyId,
    ledger::{Fault, Feed, Hash, Head, Position, Weather},
};
use futures::{FutureExt as _, future::BoxFuture};
use tokio::time::Instant;

use super::{
    Relay, RelayOptions,
    message::Message,
    ports::{Acknowledged, Acknowledgement, Behind, Book, Broker, DurableConsumer, Held, Unpublished},
    shortfall::{Found, Known, Places, Shortfall, Tip},
};

/// What was published so long before the last acknowledgement is on the broker's disk.
const SAFE_AFTER: Duration = Duration::from_mins(10);

/// For so long the broker drops what it was sent twice.
const DUPLICATES: Duration = Duration::from_mins(2);

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
    /// Where it tells consumers to forget what they had after a position: that.
    pub fork_after: Option<Position>,
    /// The entry's line.
    pub line: String,
    id: String,
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
    /// The stream's durable consumers by name.
    consumers: BTreeMap<String, DurableConsumer>,
    /// Those that have seen what the stream lost.
    astray: BTreeSet<String>,
    /// Those that are made anew.
    remembered: BTreeMap<String, DurableConsumer>,
}

#[derive(Clone, Copy)]
struct Row {
    holder: Option<u64>,
    published: Option<Head>,
    published_at: Instant,
    safe: Option<Head>,
    mark: Option<Head>,
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
            consumers: BTreeMap::new(),
            astray: BTreeSet::new(),
            remembered: BTreeMap::new(),
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

    /// The stream has a durable consumer of this name, which has seen what the stream lost.
    pub fn lead_astray(&self, name: &str) {
        let (mut state, name) = (self.state(), name.to_owned());
        let consumer = DurableConsumer { name: name.clone(), stream: state.created.to_string(), config: String::new() };
        state.consumers.insert(name.clone(), consumer);
        state.astray.insert(name);
    }

    /// The names of the stream's durable consumers that have seen nothing but what it has.
    pub fn sound_consumers(&self) -> Vec<String> {
        let state = self.state();
        state.consumers.keys().filter(|name| !state.astray.contains(*name)).cloned().collect()
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

    /// Whether the ledger has this entry.
    async fn stands(&self, company: CompanyId, head: Head) -> Result<bool, Fault> {
        let Some(before) = head.position.checked_sub(1) else { return Ok(true) };
        Ok(self.ledger.read(company, before, 1).await?.first().is_some_and(|line| Hash::of(line) == head.hash))
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

    /// Records what `standing` says that ledgers have, with what they have of what was recorded before.
    fn record(&mut self, standing: &[(CompanyId, Head, bool)], tip: Tip) {
        let now = Instant::now();
        if tip.sequence > self.known.tip.sequence {
            self.known.tip = tip;
        }
        self.acknowledged_at = now;
        for (company, head, before_stands) in standing {
            let Some(row) = self.rows.get_mut(company) else { continue };
            if *before_stands && row.published.is_some_and(|published| published.position > head.position) {
                continue;
            }
            if row.marked_at.elapsed() > SAFE_AFTER {
                (row.safe, row.mark, row.marked_at) = (row.mark, row.published, now);
            }
            (row.published, row.published_at) = (Some(*head), now);
        }
    }

    /// A message as a relay looks at it.
    fn published(&self, company: CompanyId) -> Vec<super::ports::Published> {
        let own = (1..).zip(&self.messages).filter(|(_, message)| message.company == company);
        let read = |(sequence, message): (u64, &Published)| {
            let (head, fork_after) = (message.head, message.fork_after);
            super::ports::Published { sequence, head, fork_after }
        };
        own.map(read).collect()
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

    async fn record(&self, generation: i64, moved: &[(CompanyId, Head)], tip: Tip) -> Result<Vec<CompanyId>, Fault> {
        let (mut standing, mut astray) = (Vec::new(), Vec::new());
        for (company, head) in moved {
            if self.stands(*company, *head).await? {
                let before = self.exchange.state().rows.get(company).and_then(|row| row.published);
                let before_stands = match before {
                    Some(before) => self.stands(*company, before).await?,
                    None => false,
                };
                standing.push((*company, *head, before_stands));
            } else {
                astray.push(*company);
            }
        }
        let work = |state: &mut State| {
            let is_current = state.known.generation == generation;
            if is_current {
                state.record(&standing, tip);
            }
            is_current
        };
        let is_current = self.step("record what was published", work).await?;
        Ok(if is_current { astray } else { Vec::new() })
    }

    async fn astray(&self, published: &[(CompanyId, Head)]) -> Result<Vec<CompanyId>, Fault> {
        let mut astray = Vec::new();
        for (company, head) in published {
            if !self.stands(*company, *head).await? {
                astray.push(*company);
            }
        }
        Ok(astray)
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

    async fn remember_consumers(&self, consumers: &[DurableConsumer]) -> Result<(), Fault> {
        let named = consumers.iter().map(|consumer| (consumer.name.clone(), consumer.clone()));
        self.step("remember consumers that are made anew", |state| state.remembered.extend(named)).await
    }

    async fn remembered_consumers(&self) -> Result<Vec<DurableConsumer>, Fault> {
        let all = |state: &mut State| state.remembered.values().cloned().collect();
        self.step("read which consumers are made anew", all).await
    }

    async fn forget_consumer(&self, consumer: &DurableConsumer) -> Result<(), Fault> {
        let work = |state: &mut State| state.remembered.remove(&consumer.name);
        self.step("forget a consumer that is made anew", work).await.map(|_| ())
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
            let Message { company, head, fork_after, id, .. } = message;
            let is_there = |there: &Published| there.id == id && there.at.elapsed() < DUPLICATES;
            if let Some(place) = state.messages.iter().rposition(is_there) {
                return Ok(Acknowledgement { sequence: place as u64 + 1, is_duplicate: true });
            }
            state.messages.push(Published { company, head, fork_after, line, id, at: Instant::now() });
            Ok(Acknowledgement { sequence: state.last(), is_duplicate: false })
        });
        let weather = self.weather.clone();
        let landing = async move {
            let acknowledgement = arrived?;
            weather.after("acknowledge a message").await.map_err(unpublished)?;
            Ok(acknowledgement)
        };
        Ok(landing.boxed())
    }

    async fn stream(&self, tip: u64) -> Result<Found, Fault> {
        let show = |state: &mut State| {
            let place = usize::try_from(tip).ok().and_then(|tip| tip.checked_sub(1));
            let message = place.and_then(|place| state.messages.get(place));
            let at_tip = message.map(|message| message.id.clone());
            Found { created: state.created.to_string(), last: state.last(), at_tip }
        };
        self.step("look after the stream", show).await
    }

    fn message_bytes_max(&self) -> usize {
        0
    }

    async fn last(&self, company: CompanyId) -> Result<Option<super::ports::Published>, Fault> {
        self.step("ask for a company's last message", |state| state.published(company).pop()).await
    }

    async fn published(&self, company: CompanyId) -> Result<Vec<super::ports::Published>, Fault> {
        self.step("look through a company's messages", |state| state.published(company)).await
    }

    async fn astray_consumers(&self, _: Places) -> Result<Vec<DurableConsumer>, Fault> {
        let astray = |state: &mut State| {
            let there = state.astray.iter().filter_map(|name| state.consumers.get(name));
            there.cloned().collect()
        };
        self.step("look after the stream's consumers", astray).await
    }

    async fn make_consumer(&self, consumer: &DurableConsumer) -> Result<(), Fault> {
        self.step("delete a consumer", |state| state.consumers.remove(&consumer.name)).await?;
        let make = |state: &mut State| {
            state.astray.remove(&consumer.name);
            state.consumers.insert(consumer.name.clone(), consumer.clone());
        };
        self.step("make a consumer", make).await
    }
}
