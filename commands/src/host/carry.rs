//! Running a command and what it carries, depth first.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use cnc_domain::{
    kernel::{Also, CommandId, Context, Message, Rejection, Scope, Settings, Timestamp},
    ledger::Fault,
};
use futures::future::BoxFuture;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::reach;
use crate::{
    hosted::{self, Ask},
    request::Request,
    unit::{Stop, Unit},
};

/// How many commands one request may lead to.
const COMMANDS: u32 = 256;
/// How deep they may carry one another.
const DEPTH: u32 = 24;

/// One command to decide.
pub struct Task {
    pub stream: String,
    pub id: Uuid,
    pub command: Arc<Message>,
    pub command_id: CommandId,
    pub causation: Option<Uuid>,
}

/// A request's commands, being decided.
pub struct Carrying<'u, 'h> {
    unit: &'u Unit<'h>,
    root: CommandId,
    scope: Arc<Scope>,
    settings: Arc<Settings>,
    now: Timestamp,
    count: AtomicU32,
}

impl<'u, 'h> Carrying<'u, 'h> {
    pub fn new(unit: &'u Unit<'h>, request: &Request, settings: Arc<Settings>, now: Timestamp) -> Self {
        let (root, scope) = (request.command_id, Arc::clone(&request.scope));
        Self { unit, root, scope, settings, now, count: AtomicU32::new(0) }
    }

    /// Decides `task` and all that it carries; each before the next, so that later decisions see what earlier ones
    /// staged.
    pub fn run(&self, task: Task, depth: u32) -> BoxFuture<'_, Result<(), Stop>> {
        Box::pin(async move {
            self.decide(&task, depth).await?;
            for also in self.unit.carried() {
                self.carry(&task, also, depth).await?;
            }
            Ok(())
        })
    }

    async fn decide(&self, task: &Task, depth: u32) -> Result<(), Stop> {
        if self.count.fetch_add(1, Ordering::Relaxed) >= COMMANDS || depth > DEPTH {
            let wrong = format!("{} of {} leads to too many others", task.command.name, task.stream);
            return Err(Fault::broken("carry a command", wrong).into());
        }
        if depth > 0 {
            reach::carried(self.unit, task, &self.scope).await?;
        }
        let origin = self.unit.origin();
        let context = Context {
            company: origin.company,
            stream_id: task.id,
            command: task.command_id,
            actor: origin.actor.clone(),
            scope: Arc::clone(&self.scope),
            location: origin.location,
            now: self.now,
            settings: Arc::clone(&self.settings),
        };
        let ask = Ask { command: Arc::clone(&task.command), context, causation: task.causation };
        hosted::decide(self.unit, &self.unit.aggregate_id(&task.stream, task.id), ask).await
    }

    /// A refusal refuses the asker too, unless it has said what it is to be asked instead: then all that the refused
    /// command staged is taken back, and the rest stands.
    async fn carry(&self, asker: &Task, also: Also, depth: u32) -> Result<(), Stop> {
        let Also { stream, id, command, instead } = also;
        let mark = instead.map(|instead| (instead, self.unit.mark()));
        let by = format!("{stream}/{id}");
        let task = self.follow(asker, stream, id, command);
        let mut rejection = match self.run(task, depth + 1).await {
            Err(Stop::Rejected(rejection)) => rejection,
            other => return other,
        };
        rejection.by.get_or_insert(by);
        let Some((instead, mark)) = mark else { return Err(Stop::Rejected(rejection)) };
        self.unit.back_to(mark);
        let command = told(instead, &rejection)?;
        let task = self.follow(asker, asker.stream.clone(), asker.id, command);
        self.run(task, depth + 1).await
    }

    /// A command that `asker` gives. Its id follows from the request's, so that a retry gives the same.
    fn follow(&self, asker: &Task, stream: String, id: Uuid, command: Message) -> Task {
        let nth = self.count.load(Ordering::Relaxed).to_be_bytes();
        let command_id = CommandId::derived(&[b"carried", self.root.uuid().as_bytes(), &nth]);
        Task { stream, id, command: Arc::new(command), command_id, causation: Some(asker.command_id.uuid()) }
    }
}

/// The command that tells the asker of a refusal: its fields are the rejection.
fn told(name: String, rejection: &Rejection) -> Result<Message, Fault> {
    let fields = serde_json::to_string(rejection).and_then(RawValue::from_string);
    Ok(Message { name, fields: fields.map_err(|cause| Fault::broken("tell of a refusal", cause))? })
}
