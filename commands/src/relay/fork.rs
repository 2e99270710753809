//! Where a relay begins with a company, and whether its ledger and what was published of it have parted: a database that
//! was restored, or taken over by a standby without the tail, goes on from an earlier entry. Then consumers hold what is no
//! more, and nothing that comes by position alone would tell them.

use std::collections::BTreeMap;

use cnc_domain::{
    kernel::CompanyId,
    ledger::{Entry, Fault, Feed, Hash, Head, Position},
};

use super::ports::{Broker, Published};

/// Where a relay begins with a company.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start {
    /// Up to here all is published, and what is published is the ledger's.
    pub(super) after: Head,
    /// Up to here entries may be in the stream already: that the broker has them is no news.
    pub(super) published_to: Position,
    /// The first message that is sent says that consumers hold what is no more.
    pub(super) fork: Option<Fork>,
    /// Entries are sent under other ids than before: consumers were told to forget what was sent under the usual ones.
    pub(super) reissue: Option<Reissue>,
}

/// Under which other ids entries are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reissue {
    /// The last entry that is.
    pub(super) to: Position,
    /// The place in the stream that the ids name.
    pub(super) sequence: u64,
}

/// Where ledger and stream have parted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fork {
    /// The last position at which they agree.
    pub(super) after: Position,
    /// The place of the stream's last message of the company before this was found: all relays that find it name the same.
    pub(super) sequence: u64,
}

/// A company as a relay takes it on.
pub(super) struct Taken {
    pub(super) company: CompanyId,
    /// The last entry that is recorded to be published.
    pub(super) recorded: Option<Head>,
    /// After which position to begin where it is not known what was published.
    pub(super) oldest: Position,
    /// The broker took this entry, which is new, for one that it has.
    pub(super) doubted: Option<Position>,
}

/// What consumers hold that have taken all messages of the stream: by position, the entry's hash.
type Copy = BTreeMap<Position, Hash>;

impl Taken {
    /// Where to begin.
    pub(super) async fn start(&self, ledger: &dyn Feed, broker: &dyn Broker) -> Result<Start, Fault> {
        let last = broker.last(self.company).await?;
        let recorded = match self.recorded {
            Some(head) if self.stands(ledger, head).await? => Some(head),
            _ => None,
        };
        let is_of_ledger = match last {
            Some(last) => self.stands(ledger, last.head).await?,
            None => true,
        };
        let has_parted = self.recorded.is_some() != recorded.is_some() || !is_of_ledger;
        let after = match recorded {
            Some(head) => head,
            None => self.head_at(ledger, self.oldest).await?.unwrap_or_default(),
        };
        let published_to = last.map_or(after.position, |last| last.head.position.max(after.position));
        let plain = Start { after, published_to, fork: None, reissue: None };
        // What was published last is mostly what goes furthest. Where it does not, consumers may have been told to forget the
        // rest, before the database came to stand where it had stood.
        let is_doubtful = self.doubted.is_some() || last.is_some_and(|last| last.head.position < after.position);
        if !has_parted && !is_doubtful {
            return Ok(plain);
        }
        let published = broker.published(self.company).await?;
        if has_parted {
            self.parted(ledger, &published, (plain, recorded)).await
        } else {
            self.missing(ledger, &published, plain).await
        }
    }

    /// Whether consumers hold an entry that the broker says it has.
    pub(super) async fn has_arrived(&self, broker: &dyn Broker) -> Result<bool, Fault> {
        let published = broker.published(self.company).await?;
        Ok(self.doubted.is_none_or(|doubted| copy(&published).contains_key(&doubted)))
    }

    /// Begins where ledger and stream agree for the last time.
    async fn parted(
        &self,
        ledger: &dyn Feed,
        published: &[Published],
        (plain, recorded): (Start, Option<Head>),
    ) -> Result<Start, Fault> {
        let copy = copy(published);
        let agreed = self.agreed(ledger, &copy).await?.or(recorded).unwrap_or_default().position;
        let sure = whole(&copy).map_or(agreed, |whole| whole.min(agreed));
        if copy.last_key_value().is_some_and(|(top, _)| *top == agreed) {
            // Consumers were told already.
            let after = self.head_at(ledger, sure).await?.unwrap_or_default();
            return Ok(Start { after, published_to: agreed, ..plain });
        }
        // The last entry that both have goes with the word, which is no news to who has it: so that there is something to send
        // where the ledger is merely shorter.
        let after = self.head_at(ledger, sure.saturating_sub(1)).await?.unwrap_or_default();
        let fork = Some(Fork { after: sure, sequence: last_of(published) });
        Ok(Start { after, published_to: sure, fork, reissue: None })
    }

    /// Begins before the first entry that consumers do not hold, of those that the stream keeps or should.
    async fn missing(&self, ledger: &dyn Feed, published: &[Published], plain: Start) -> Result<Start, Fault> {
        let copy = copy(published);
        let Some(whole) = whole(&copy) else { return Ok(plain) };
        if whole >= self.doubted.unwrap_or_default().max(plain.after.position) {
            return Ok(Start { published_to: plain.published_to.max(whole), ..plain });
        }
        let after = self.head_at(ledger, whole).await?.unwrap_or_default();
        let to = published.iter().map(|message| message.head.position).max().unwrap_or_default();
        let reissue = Some(Reissue { to, sequence: last_of(published) });
        Ok(Start { after, published_to: whole, fork: None, reissue })
    }

    /// The last entry of the ledger that is also the stream's. Where one is, all before it are.
    async fn agreed(&self, ledger: &dyn Feed, copy: &Copy) -> Result<Option<Head>, Fault> {
        let held: Vec<Head> = copy.iter().map(|(position, hash)| Head { position: *position, hash: *hash }).collect();
        let (mut low, mut high) = (0, held.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.stands(ledger, held[middle]).await? { low = middle + 1 } else { high = middle }
        }
        Ok(low.checked_sub(1).map(|last| held[last]))
    }

    async fn stands(&self, ledger: &dyn Feed, head: Head) -> Result<bool, Fault> {
        Ok(self.head_at(ledger, head.position).await? == Some(head))
    }

    /// The entry of the ledger at a position.
    async fn head_at(&self, ledger: &dyn Feed, position: Position) -> Result<Option<Head>, Fault> {
        let Some(before) = position.checked_sub(1) else { return Ok(Some(Head::default())) };
        let lines = ledger.read(self.company, before, 1).await?;
        let is_there = |line: &String| Entry::read(line).is_ok_and(|entry| entry.position == position);
        Ok(lines.first().filter(|line| is_there(line)).map(|line| Head { position, hash: Hash::of(line) }))
    }
}

/// What consumers hold after these messages.
fn copy(published: &[Published]) -> Copy {
    let mut copy = Copy::new();
    for message in published {
        if let Some(after) = message.fork_after {
            let forgotten = copy.split_off(&(after + 1));
            drop(forgotten);
        }
        copy.entry(message.head.position).or_insert(message.head.hash);
    }
    copy
}

/// Up to where a copy has every entry, from its first on.
fn whole(copy: &Copy) -> Option<Position> {
    let mut positions = copy.keys().copied();
    let first = positions.next()?;
    Some(positions.zip(first + 1..).take_while(|(held, wanted)| held == wanted).last().map_or(first, |(last, _)| last))
}

/// The place of the last of these messages.
fn last_of(published: &[Published]) -> u64 {
    published.last().map_or(0, |last| last.sequence)
}
