//! A text that has passed the walk: what stays in clear, and what is still to be sealed.

use cnc_domain::{
    kernel::{CompanyId, Kind},
    ledger::Fault,
};
use futures::future::BoxFuture;
use uuid::Uuid;

use crate::keyring::{Keyring, Sealing};

/// Text that is ready and personal values that are not, in order. Never shown or logged: it holds them in clear.
#[derive(Default)]
pub struct Walked {
    pub(super) pieces: Vec<Piece>,
    /// How long the text in clear is.
    pub(super) length: usize,
}

pub(super) enum Piece {
    Text(String),
    Personal(Box<Personal>),
}

/// A personal value in clear.
pub(super) struct Personal {
    pub kind: Kind,
    pub clear: String,
    pub canonical: String,
    pub part: Option<Walked>,
}

impl Walked {
    pub(super) fn push(&mut self, text: &str) {
        self.length += text.len();
        match self.pieces.last_mut() {
            Some(Piece::Text(last)) => last.push_str(text),
            _ => self.pieces.push(Piece::Text(text.to_owned())),
        }
    }

    /// The text, where nothing in it is personal.
    pub(super) fn clear(&self) -> Option<&str> {
        match &self.pieces[..] {
            [] => Some(""),
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The text in the recorded form: each personal value sealed under the key of `subject`.
    pub async fn seal(self, keyring: &Keyring, company: CompanyId, subject: Uuid) -> Result<String, Fault> {
        if let [Piece::Text(_)] = &self.pieces[..] {
            let Some(Piece::Text(text)) = self.pieces.into_iter().next() else { return Ok(String::new()) };
            return Ok(text);
        }
        let sealing = keyring.sealing(company, subject).await?;
        let mut text = String::with_capacity(self.length + 256 * self.pieces.len());
        write(self, &sealing, &mut text).await?;
        Ok(text)
    }
}

fn write<'a>(walked: Walked, sealing: &'a Sealing, text: &'a mut String) -> BoxFuture<'a, Result<(), Fault>> {
    Box::pin(async move {
        for piece in walked.pieces {
            let personal = match piece {
                Piece::Text(clear) => {
                    text.push_str(&clear);
                    continue;
                }
                Piece::Personal(personal) => personal,
            };
            let sealed = sealing.seal(&personal.kind, &personal.clear, &personal.canonical).await?;
            text.push_str("{\"sealed\":");
            text.push_str(&serde_json::to_string(&sealed).map_err(|cause| Fault::broken("seal", cause))?);
            if let Some(part) = personal.part {
                text.push_str(",\"part\":");
                write(part, sealing, text).await?;
            }
            text.push('}');
        }
        Ok(())
    })
}
