//! Which shape each event is recorded with is itself on the record: at the first append of a new shape the company adopts
//! it. What it has adopted, its own state says; here is only what is under way.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cnc_domain::{
    cloud_control::company::{Adoption, Command, has_adopted},
    kernel::{Actor, CompanyId, Message, State},
    ledger::Draft,
};
use futures::future::BoxFuture;

use super::{Inner, Job, standings::STREAM};
use crate::{catalog::Serving, request::Request};

/// The shapes that companies are about to adopt.
#[derive(Default)]
pub struct Adopting(Mutex<HashSet<(CompanyId, usize)>>);

impl Adopting {
    fn under_way(&self) -> MutexGuard<'_, HashSet<(CompanyId, usize)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// That a shape is about to be adopted.
struct Claim<'a> {
    adopting: &'a Adopting,
    shape: (CompanyId, usize),
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.adopting.under_way().remove(&self.shape);
    }
}

impl Adopting {
    /// Nothing where somebody else is about to have it adopted.
    fn claim(&self, shape: (CompanyId, usize)) -> Option<Claim<'_>> {
        self.under_way().insert(shape).then(|| Claim { adopting: self, shape })
    }
}

/// Those of the drafts' shapes that a company in this state has not adopted.
pub fn unadopted(serving: &Serving, company_state: Option<&State>, drafts: &[Draft]) -> Vec<(usize, Adoption)> {
    let shapes = drafts.iter().filter_map(|draft| {
        let shape = serving.stream(&draft.stream)?.events.get(&draft.event)?;
        let (stream, event) = (draft.stream.clone(), draft.event.clone());
        let adoption = Adoption { stream, event, version: shape.version, sha256: shape.sha256 };
        Some((shape.number, adoption))
    });
    shapes.filter(|(_, adoption)| !company_state.is_some_and(|state| has_adopted(state, adoption))).collect()
}

impl Inner {
    /// Lets the company adopt these shapes, in commands of their own. The append that brought them stands already, so a
    /// fault here is only told; the next append of the shape tries again.
    pub(super) fn adopt<'a>(&'a self, cause: &'a Request, shapes: Vec<(usize, Adoption)>) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let Some(served) = self.serving.stream(STREAM) else { return };
            let company = cause.company;
            for (number, adoption) in shapes {
                let Some(_claim) = self.adopting.claim((company, number)) else { continue };
                let message = Message::split(&Command::AdoptSchema(adoption));
                let actor = Actor::tool("schema");
                let request = Request {
                    correlation: Some(cause.correlation.unwrap_or_else(|| cause.command_id.cast())),
                    causation: Some(cause.command_id.uuid()),
                    ..Request::internal(company, STREAM, company.uuid(), message.clone(), actor)
                };
                let job = Job { served, request: &request, command: Arc::new(message), idempotency: None };
                if let Err(error) = self.run(&job).await {
                    tracing::warn!(%error, "a company could not adopt the shape of an event");
                }
            }
        })
    }
}
