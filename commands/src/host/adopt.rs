//! Which shape each event is recorded with is itself on the record: at the first append of a new shape the company adopts
//! it. In memory this costs one look-up an event; what the company's own state knows already is not recorded again.

use std::sync::{Arc, Mutex, PoisonError};

use cnc_domain::{
    cloud_control::company::{Adoption, Command},
    kernel::{Actor, CompanyId, Message},
    ledger::Draft,
};
use futures::future::BoxFuture;

use super::{Inner, Job, standings::STREAM};
use crate::{cache::Recent, catalog::Serving, request::Request};

/// The shapes that companies are known to have adopted.
pub struct Adopted(Mutex<Recent<(CompanyId, usize), ()>>);

impl Default for Adopted {
    fn default() -> Self {
        Self(Mutex::new(Recent::new(200_000)))
    }
}

impl Adopted {
    /// Those of the drafts' shapes that the company is not known to have adopted. From now on it is.
    pub fn unknown(&self, serving: &Serving, company: CompanyId, drafts: &[Draft]) -> Vec<(usize, Adoption)> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut unknown = Vec::new();
        for draft in drafts {
            let served = serving.stream(&draft.stream);
            let Some(shape) = served.and_then(|served| served.events.get(&draft.event)) else { continue };
            if known.get(&(company, shape.number)).is_some() {
                continue;
            }
            known.put((company, shape.number), ());
            let (stream, event) = (draft.stream.clone(), draft.event.clone());
            unknown.push((shape.number, Adoption { stream, event, version: shape.version, sha256: shape.sha256 }));
        }
        unknown
    }

    fn forget(&self, company: CompanyId, shape: usize) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&(company, shape));
    }
}

impl Inner {
    /// Lets the company adopt these shapes, in commands of their own. The append that brought them stands already, so a
    /// fault here is only told; the next append of the shape tries again.
    pub(super) fn adopt<'a>(&'a self, cause: &'a Request, shapes: Vec<(usize, Adoption)>) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            for (number, adoption) in shapes {
                let Some(served) = self.serving.stream(STREAM) else { return };
                let message = Message::split(&Command::AdoptSchema(adoption));
                let (company, actor) = (cause.company, Actor::tool("schema"));
                let request = Request {
                    correlation: Some(cause.correlation.unwrap_or_else(|| cause.command_id.cast())),
                    causation: Some(cause.command_id.uuid()),
                    ..Request::internal(company, STREAM, company.uuid(), message.clone(), actor)
                };
                let job = Job { served, request: &request, command: Arc::new(message), idempotency: None };
                if let Err(error) = self.run(&job).await {
                    tracing::warn!(%error, "a company could not adopt the shape of an event");
                    self.adopted.iter().for_each(|adopted| adopted.forget(cause.company, number));
                }
            }
        })
    }
}
