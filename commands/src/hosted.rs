//! The one place that knows cqrs-es: an adapter through which its framework runs the rules of any aggregate.
//!
//! `handle` decides and writes the events to the sink; `apply` does nothing, since a decision brings its next state.

use std::{error::Error, fmt, sync::Arc};

use async_trait::async_trait;
use cnc_domain::{
    kernel::{Also, CommandId, Context, Message, Rejection, Rules, State},
    ledger::Fault,
};
use cqrs_es::{
    Aggregate, AggregateContext, AggregateError, CqrsFramework, DomainEvent, EventStore, event_sink::EventSink,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// Some aggregate, as cqrs-es sees it.
#[derive(Default, Serialize, Deserialize)]
pub struct Hosted {
    #[serde(skip)]
    pub seat: Option<Seat>,
}

/// What is inside once the repository has opened it.
pub struct Seat {
    pub rules: &'static dyn Rules,
    pub state: State,
    /// Which of the repository's streams it is.
    pub place: usize,
    pub decided: Option<Settled>,
}

/// What a decision leaves beside its events.
pub struct Settled {
    pub also: Vec<Also>,
    pub command: CommandId,
    pub causation: Option<Uuid>,
}

/// Where aggregates come from, and what becomes of their decisions.
#[async_trait]
pub trait Repository: Send + Sync {
    /// Why it cannot go on.
    type Stop: Error + From<Rejection> + From<Fault> + Send + Sync + 'static;

    /// Loads an aggregate.
    async fn open(&self, aggregate_id: &str) -> Result<Seat, Self::Stop>;

    /// Takes what one aggregate has decided.
    fn stage(&self, events: Vec<Happened>, seat: Seat);
}

/// A command, and what its decision may know.
pub struct Ask {
    pub command: Arc<Message>,
    pub context: Context,
    pub causation: Option<Uuid>,
}

/// An event, shared because the framework's sink copies it.
#[derive(Clone, Debug, PartialEq)]
pub struct Happened(pub Arc<(Message, u32)>);

impl Serialize for Happened {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.as_ref().serialize(serializer)
    }
}
impl<'de> Deserialize<'de> for Happened {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Deserialize::deserialize(deserializer).map(|event| Self(Arc::new(event)))
    }
}
impl DomainEvent for Happened {
    fn event_type(&self) -> String {
        self.0.0.name.clone()
    }
    fn event_version(&self) -> String {
        self.0.1.to_string()
    }
}

impl Aggregate for Hosted {
    const TYPE: &'static str = "cnc";
    type Command = Ask;
    type Event = Happened;
    type Error = Rejection;
    type Services = ();

    async fn handle(&mut self, ask: Ask, (): &(), sink: &EventSink<Self>) -> Result<(), Rejection> {
        let Some(seat) = &mut self.seat else {
            return Err(Rejection::new("malformed", "there is no aggregate to decide this"));
        };
        let decided = seat.rules.decide(&seat.state, &ask.command, &ask.context)?;
        seat.state = decided.next;
        seat.decided = Some(Settled { also: decided.also, command: ask.context.command, causation: ask.causation });
        for event in decided.events {
            sink.write(Happened(Arc::new(event)), self).await;
        }
        Ok(())
    }

    fn apply(&mut self, _: Happened) {}
}

/// A loaded aggregate is its own context.
impl AggregateContext<Hosted> for Hosted {
    fn aggregate(&mut self) -> &mut Hosted {
        self
    }
}

/// Lets the framework decide one command.
pub async fn decide<R: Repository>(repository: &R, aggregate_id: &str, ask: Ask) -> Result<(), R::Stop> {
    let framework = CqrsFramework::<Hosted, Store<'_, R>>::new(Store(repository), Vec::new(), ());
    framework.execute(aggregate_id, ask).await.map_err(|error| match error {
        AggregateError::UserError(rejection) => rejection.into(),
        AggregateError::UnexpectedError(cause) => match cause.downcast::<R::Stop>() {
            Ok(stop) => *stop,
            Err(cause) => Fault::broken("decide", cause).into(),
        },
        other => Fault::broken("decide", other).into(),
    })
}

impl fmt::Debug for Hosted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hosted")
    }
}

/// A repository, as cqrs-es sees it.
struct Store<'r, R>(&'r R);

impl<R: Repository> EventStore<Hosted> for Store<'_, R> {
    type AC = Hosted;

    /// The framework never asks for these when it executes, and a repository has no events of its own to give.
    async fn load_events(&self, _: &str) -> Result<Vec<cqrs_es::EventEnvelope<Hosted>>, AggregateError<Rejection>> {
        Ok(Vec::new())
    }

    async fn load_aggregate(&self, aggregate_id: &str) -> Result<Hosted, AggregateError<Rejection>> {
        let seat = self.0.open(aggregate_id).await.map_err(|stop| AggregateError::UnexpectedError(Box::new(stop)))?;
        Ok(Hosted { seat: Some(seat) })
    }

    /// Stages. Nothing is recorded before the whole unit is decided.
    async fn commit(
        &self,
        events: Vec<Happened>,
        hosted: Hosted,
        _: std::collections::HashMap<String, String>,
    ) -> Result<Vec<cqrs_es::EventEnvelope<Hosted>>, AggregateError<Rejection>> {
        if let Some(seat) = hosted.seat {
            self.0.stage(events, seat);
        }
        Ok(Vec::new())
    }
}
