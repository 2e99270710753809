//! What the host is asked, what it shows, and why it cannot do what was asked.

use std::sync::Arc;

use cnc_domain::{
    kernel::{Actor, CommandId, CompanyId, Id, LocationId, Message, Rules, Scope, State, Timestamp, marker},
    ledger::{Fault, Position, Sequence},
};
use serde_json::Value;
use uuid::Uuid;

use crate::{FormError, clock::ClockSkew};

/// A command, whom it is for, and who gives it.
#[derive(Clone, Debug)]
pub struct Request {
    /// Whose aggregate.
    pub company: CompanyId,
    /// The kind of aggregate.
    pub stream: String,
    /// Which one.
    pub id: Uuid,
    /// The command as it was sent, personal fields in clear (or, for [`execute_sealed`](crate::Host::execute_sealed), in
    /// the recorded form).
    pub command: Message,
    /// The command's id: new ids follow from it.
    pub command_id: CommandId,
    /// Who gives it.
    pub actor: Actor,
    /// The branch that it is given in, where one is named.
    pub location: Option<LocationId>,
    /// The original request that it follows from; the command itself where nothing is said.
    pub correlation: Option<Id<marker::Correlation>>,
    /// The entry that caused it, where a person did not.
    pub causation: Option<Uuid>,
    /// Under which key the answer is remembered.
    pub idempotency_key: Option<String>,
    /// The sequence that the addressed stream must stand at.
    pub if_match: Option<Sequence>,
    /// Whether commands without a public route are taken.
    pub internal_allowed: bool,
    /// How far the sender may see and act.
    pub scope: Arc<Scope>,
}

impl Request {
    /// A command from within: commands without a public route are taken, nothing is matched, nothing remembered.
    pub fn internal(company: CompanyId, stream: &str, id: Uuid, command: Message, actor: Actor) -> Self {
        Self {
            company,
            stream: stream.into(),
            id,
            command,
            command_id: CommandId::new(Uuid::now_v7()),
            actor,
            location: None,
            correlation: None,
            causation: None,
            idempotency_key: None,
            if_match: None,
            internal_allowed: true,
            scope: Arc::default(),
        }
    }
}

/// Why a command could not be decided. A rule's refusal is not among these: it is an answer.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// There is no such company.
    #[error("no such company")]
    NoCompany,
    /// There is no such kind of aggregate.
    #[error("no such stream")]
    UnknownStream,
    /// The aggregate has no such command, or it has no public route.
    #[error("no such command")]
    UnknownCommand,
    /// There is no such aggregate within the sender's branches.
    #[error("not found")]
    NotFound,
    /// The command's fields do not have the form of its schema.
    #[error("{} fields are wrong", .0.len())]
    Form(Vec<FormError>),
    /// The idempotency key was used for another command before.
    #[error("the idempotency key was used for something else")]
    KeyReused,
    /// The addressed stream does not stand where the sender saw it.
    #[error("the stream stands at {sequence}")]
    SequenceMismatch {
        /// Where it stands.
        sequence: Sequence,
    },
    /// An entry of what was decided would be larger than a broker takes.
    #[error("an entry would have a payload of {bytes} bytes")]
    TooLarge {
        /// How large.
        bytes: usize,
    },
    /// The company has moved to another database: it is commanded there.
    #[error("the company has moved to another database")]
    Departed,
    /// The clock of this process is not believed, and nothing is recorded by it.
    #[error("nothing is recorded: {0}")]
    ClockSkew(ClockSkew),
    /// Others were faster every time that it was tried.
    #[error("too many at once want to change the same")]
    Busy,
    /// The system failed.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// A moment in a company's past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsOf {
    /// After the entry at this position.
    Position(Position),
    /// After the last entry recorded at or before this time.
    Time(Timestamp),
}

/// An aggregate's state, with its personal fields sealed.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The state as JSON.
    pub state: Value,
    /// The last sequence in it.
    pub sequence: Sequence,
    /// The position of the last entry in it.
    pub position: Position,
    /// The branch that the aggregate belongs to.
    pub location: Option<LocationId>,
    pub(crate) rules: &'static dyn Rules,
    pub(crate) kept: State,
}

impl Shown {
    /// Whether somebody who reaches so far may see the aggregate as it is here.
    pub fn is_within(&self, scope: &Scope) -> bool {
        self.rules.is_within(&self.kept, scope)
    }
}
