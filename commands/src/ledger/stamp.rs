//! What every back end does alike while it holds the heads' locks: decides which appends stand, gives entries their
//! place, time and link, and fills in answers. Pure: what is stored comes in as [`Found`], what is to be stored goes
//! out as [`Stamped`].

use std::collections::{HashMap, HashSet};

use cnc_domain::{
    kernel::{CompanyId, Timestamp},
    ledger::{
        Answer, Answered, Append, AppendError, Appended, Draft, Entry, Fault, Hash, Head, Idempotency, Position,
        StreamHead, is_company_fact,
    },
};
use uuid::Uuid;

/// The greatest number that an entry holds: beyond it, readers in other languages lose digits.
const GREATEST: u64 = 1 << 53;

/// The end of a ledger, as its head row holds it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tip {
    pub head: Head,
    pub at: Timestamp,
    /// The hash of the last entry that is a fact of the company.
    pub facts: Hash,
}

/// Whose stream.
pub(super) type Stream<'a> = (CompanyId, &'a str, Uuid);
/// Whose idempotency key.
pub(super) type Key<'a> = (CompanyId, &'a str, &'a str);

/// A batch, and what a back end must look up to decide it.
pub(super) struct Batch<'a> {
    /// The appends, each with what makes it impossible.
    appends: Vec<(&'a Append, Option<&'static str>)>,
    /// The companies, in the order in which their heads are locked.
    pub companies: Vec<CompanyId>,
    /// The streams whose last entries matter, each once.
    pub streams: Vec<Stream<'a>>,
    /// The idempotency keys, each once.
    pub keys: Vec<Key<'a>>,
}

/// What stands in the database, under lock.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The ends of the ledgers that exist.
    pub tips: HashMap<CompanyId, Tip>,
    /// Those of them that go on in another database, and take nothing here.
    pub departed: HashSet<CompanyId>,
    /// The last entries, in the order of [`Batch::streams`].
    pub streams: Vec<StreamHead>,
    /// The answers given under [`Batch::keys`], in their order.
    pub answers: Vec<Option<Answered>>,
}

/// An entry to insert.
pub(super) struct Row<'a> {
    pub company: CompanyId,
    pub position: Position,
    pub at: Timestamp,
    pub hash: Hash,
    pub draft: &'a Draft,
    pub header: String,
}

/// A head to set.
pub(super) struct Moved {
    pub company: CompanyId,
    pub tip: Tip,
    /// Where it stood before; nothing where the row is new.
    pub before: Option<Tip>,
}

/// An answer to remember.
pub(super) struct Remembered<'a> {
    pub company: CompanyId,
    pub key: &'a Idempotency,
    /// Under what it is kept.
    pub id: [u8; 16],
    pub at: Timestamp,
    /// The answer as JSON.
    pub answer: String,
}

/// What to write, and what to answer once it is durable.
pub(super) struct Stamped<'a> {
    pub rows: Vec<Row<'a>>,
    pub moved: Vec<Moved>,
    pub remembered: Vec<Remembered<'a>>,
    pub outcomes: Vec<Result<Appended, AppendError>>,
    /// The ends of all ledgers that there are, before and after.
    pub tips: HashMap<CompanyId, (Tip, Tip)>,
    /// The last entries after it, of all streams that were looked at.
    pub streams: HashMap<Stream<'a>, StreamHead>,
}

impl Stamped<'_> {
    /// Whether there is nothing to write: every append was refused, or neither records nor remembers.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.remembered.is_empty()
    }

    /// Whether any append, or what it was to decide, is refused. Where keys were not looked up, one may have been repeated
    /// instead.
    pub fn refuses(&self) -> bool {
        self.outcomes.iter().any(|outcome| outcome.as_ref().map_or(true, |done| done.answer.rejection.is_some()))
    }
}

impl<'a> Batch<'a> {
    /// Looks through the appends.
    pub fn new(appends: &'a [Append]) -> Self {
        let appends: Vec<_> = appends.iter().map(|append| (append, malformed(append))).collect();
        let sound = || appends.iter().filter(|(_, wrong)| wrong.is_none()).map(|(append, _)| *append);
        let mut companies: Vec<_> = sound().map(|append| append.company).collect();
        let mut keys: Vec<_> = sound().filter_map(key_of).collect();
        let mut streams: Vec<Stream<'a>> = sound()
            .flat_map(|append| {
                let checked = append.checks.iter().map(|check| (append.company, check.stream.as_str(), check.id));
                checked.chain(append.drafts.iter().map(|draft| (append.company, draft.stream.as_str(), draft.id)))
            })
            .collect();
        companies.sort_unstable();
        companies.dedup();
        streams.sort_unstable();
        streams.dedup();
        keys.sort_unstable();
        keys.dedup();
        Self { appends, companies, streams, keys }
    }

    /// The streams that begin in this batch, if their first entries are recorded.
    pub fn beginning(&self) -> HashSet<Stream<'a>> {
        let drafts =
            self.appends.iter().flat_map(|(append, _)| append.drafts.iter().map(|draft| (append.company, draft)));
        let firsts = drafts.filter(|(_, draft)| draft.sequence == 1);
        firsts.map(|(company, draft)| (company, draft.stream.as_str(), draft.id)).collect()
    }

    /// Decides each append in turn, on what was found and on what those before it have done.
    pub fn stamp(&self, found: Found) -> Stamped<'a> {
        let Found { tips, departed, streams, answers } = found;
        let answers = self.keys.iter().copied().zip(answers).filter_map(|(key, answer)| Some((key, answer?)));
        let mut ledgers = Ledgers {
            tips: tips.into_iter().map(|(company, tip)| (company, (Some(tip), tip))).collect(),
            streams: self.streams.iter().copied().zip(streams).collect(),
            answers: answers.collect(),
            departed,
            rows: Vec::new(),
            remembered: Vec::new(),
        };
        let outcomes = self
            .appends
            .iter()
            .map(|(append, wrong)| match wrong {
                Some(wrong) => Err(Fault::broken("append", wrong).into()),
                None => ledgers.append(append),
            })
            .collect();
        ledgers.stamped(outcomes)
    }
}

/// The ledgers as they stand after the appends decided so far.
struct Ledgers<'a> {
    /// Where each stood before the batch, if it was there, and where it stands now.
    tips: HashMap<CompanyId, (Option<Tip>, Tip)>,
    streams: HashMap<Stream<'a>, StreamHead>,
    answers: HashMap<Key<'a>, Answered>,
    departed: HashSet<CompanyId>,
    rows: Vec<Row<'a>>,
    remembered: Vec<Remembered<'a>>,
}

impl<'a> Ledgers<'a> {
    fn append(&mut self, append: &'a Append) -> Result<Appended, AppendError> {
        self.admit(append)?;
        self.follow(append)?;
        let (before, mut tip) = self.tips.get(&append.company).copied().unwrap_or_default();
        let at = append.now.max(tip.at);
        let mut hashes = Vec::with_capacity(append.drafts.len());
        for draft in &append.drafts {
            tip = self.link(append.company, tip, at, draft);
            hashes.push(tip.head.hash);
        }
        if !append.drafts.is_empty() {
            self.tips.insert(append.company, (before, tip));
        }
        let answer = self.answer(append, tip.head);
        self.remember(append, &answer);
        Ok(Appended { head: tip.head, at, hashes, answer })
    }

    /// Refuses what was done before or is of no company.
    fn admit(&self, append: &'a Append) -> Result<(), AppendError> {
        if let Some(answered) = key_of(append).and_then(|key| self.answers.get(&key)) {
            return Err(AppendError::Repeated(Box::new(answered.clone())));
        }
        if self.departed.contains(&append.company) {
            return Err(AppendError::Departed);
        }
        // A founding needs that there is no such company, all else that there is.
        if append.founds == self.tips.contains_key(&append.company) {
            return Err(AppendError::NoCompany);
        }
        let facts = self.tips.get(&append.company).map(|(_, tip)| tip.facts);
        if facts.is_some_and(|facts| facts != append.facts) {
            return Err(AppendError::FactsChanged);
        }
        Ok(())
    }

    /// Refuses what does not follow: a stream that was consulted must stand where it was seen, and its drafts come after.
    fn follow(&self, append: &'a Append) -> Result<(), AppendError> {
        for check in &append.checks {
            let found = self.stands_at((append.company, &check.stream, check.id));
            if found != check.seen {
                let (stream, id, expected) = (check.stream.clone(), check.id, check.seen);
                return Err(AppendError::Conflict { stream, id, expected, found });
            }
        }
        let mut last = HashMap::new();
        for draft in &append.drafts {
            let stream = (append.company, draft.stream.as_str(), draft.id);
            let found = self.stands_at(stream);
            let sequence = last.entry(stream).or_insert(found.sequence);
            if draft.sequence != *sequence + 1 {
                let expected = StreamHead { sequence: draft.sequence.saturating_sub(1), ..found };
                return Err(AppendError::Conflict { stream: draft.stream.clone(), id: draft.id, expected, found });
            }
            *sequence += 1;
        }
        Ok(())
    }

    fn stands_at(&self, stream: Stream<'_>) -> StreamHead {
        self.streams.get(&stream).copied().unwrap_or_default()
    }

    fn link(&mut self, company: CompanyId, tip: Tip, at: Timestamp, draft: &'a Draft) -> Tip {
        let header = draft.header(company, tip.head, at);
        let hash = Hash::of(Entry::line(&header, draft.payload.get()));
        let position = tip.head.position + 1;
        self.rows.push(Row { company, position, at, hash, draft, header });
        let (stream, id) = (draft.stream.as_str(), draft.id);
        self.streams.insert((company, stream, id), StreamHead { sequence: draft.sequence, hash });
        let facts = if is_company_fact(company, (stream, id), &draft.event) { hash } else { tip.facts };
        Tip { head: Head { position, hash }, at, facts }
    }

    fn answer(&self, append: &Append, head: Head) -> Answer {
        let mut answer = append.answer.clone();
        answer.position = head.position;
        answer.recorded = append.drafts.len();
        if let Some(addressed) = append.checks.first() {
            answer.sequence = self.stands_at((append.company, &addressed.stream, addressed.id)).sequence;
        }
        answer
    }

    fn remember(&mut self, append: &'a Append, answer: &Answer) {
        let Some(key) = append.idempotency.as_ref().filter(|key| answer.rejection.is_none() || key.refusals) else {
            return;
        };
        let answered = Answered { fingerprint: key.fingerprint, answer: answer.clone() };
        self.answers.insert((append.company, &key.actor, &key.key), answered);
        let answer = serde_json::to_string(answer).expect("an answer holds nothing that JSON cannot");
        let id = key_id(append.company, &key.actor, &key.key);
        self.remembered.push(Remembered { company: append.company, key, id, at: append.now, answer });
    }

    fn stamped(self, outcomes: Vec<Result<Appended, AppendError>>) -> Stamped<'a> {
        let tips = self.tips.iter();
        let moved = tips.clone().filter(|(_, (before, tip))| *before != Some(*tip));
        let mut moved: Vec<_> =
            moved.map(|(company, (before, tip))| Moved { company: *company, tip: *tip, before: *before }).collect();
        // In one order in every process, so that two that found companies cannot wait for each other.
        moved.sort_unstable_by_key(|moved| moved.company);
        let mut rows = self.rows;
        rows.sort_by_key(|row| row.company);
        let tips = tips.map(|(company, (before, tip))| (*company, (before.unwrap_or_default(), *tip))).collect();
        let Self { remembered, streams, .. } = self;
        Stamped { rows, moved, remembered, outcomes, tips, streams }
    }
}

/// Under what an answer is kept: bytes of a SHA-256, which an index holds many of on a page, however long keys are. Where
/// the key is a UUID of version 7, its time comes first, so that answers of one moment stand on one page of the index.
pub(super) fn key_id(company: CompanyId, actor: &str, key: &str) -> [u8; 16] {
    // U+0000 is in neither: it is refused below.
    let text = [company.uuid().as_bytes(), actor.as_bytes(), b"\0", key.as_bytes()].concat();
    let mut id = [0; 16];
    id.copy_from_slice(&Hash::of(text).0[..16]);
    if let Ok(uuid) = Uuid::parse_str(key)
        && uuid.get_version_num() == 7
    {
        id[..6].copy_from_slice(&uuid.as_bytes()[..6]);
    }
    id
}

fn key_of(append: &Append) -> Option<Key<'_>> {
    append.idempotency.as_ref().map(|key| (append.company, key.actor.as_str(), key.key.as_str()))
}

/// What could not be recorded as a line that verifies, on any back end. Refused here, before it reaches a database.
fn malformed(append: &Append) -> Option<&'static str> {
    let name =
        |name: &str| !name.is_empty() && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
    let object = |text: &str| text.starts_with('{') && text.ends_with('}') && text.bytes().all(|byte| byte >= b' ');
    if append.idempotency.iter().any(|key| key.key.contains('\0') || key.actor.contains('\0')) {
        return Some("an idempotency key holds U+0000");
    }
    if append.checks.iter().any(|check| !name(&check.stream) || check.seen.sequence >= GREATEST) {
        return Some("a consulted stream has no proper name or sequence");
    }
    let fits = |draft: &Draft| name(&draft.stream) && name(&draft.event) && draft.sequence <= GREATEST;
    if !append.drafts.iter().all(fits) {
        return Some("an entry has no proper stream, event or sequence");
    }
    if !append.drafts.iter().all(|draft| object(draft.payload.get())) {
        return Some("a payload is not an object on one line");
    }
    None
}
