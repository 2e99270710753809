//! Browsers' sockets, and when each saw which position.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use cnc_domain::ledger::Position;
use futures::{SinkExt as _, StreamExt as _};
use serde::Deserialize;
use tokio::task::AbortHandle;
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Message, client::IntoClientRequest as _, http::HeaderValue},
};

use super::{super::Outcome, world::World};

/// A socket that watches the dispatch board.
pub struct Browser {
    seen: Arc<Mutex<Vec<(Instant, Position)>>>,
    reading: AbortHandle,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Told {
    Snapshot(Place),
    Change(Place),
    #[serde(other)]
    Else,
}

#[derive(Deserialize)]
struct Place {
    position: Position,
}

impl Browser {
    /// Connects, and waits for the snapshot.
    pub async fn open(world: &World) -> Outcome<Self> {
        let mut request = world.gateway.url("/v1/live").replace("http://", "ws://").into_client_request()?;
        let protocols = HeaderValue::from_str(&format!("cnc.bearer, {}", world.token))?;
        request.headers_mut().insert("sec-websocket-protocol", protocols);
        let (mut socket, _) = connect_async(request).await?;
        let ask = r#"{"subscribe":{"id":"a","view":"dispatch_board"}}"#;
        socket.send(Message::text(ask)).await?;
        let first = socket.next().await.ok_or("the socket ends")??;
        if !matches!(serde_json::from_str(first.to_text()?)?, Told::Snapshot(_)) {
            return Err(format!("no snapshot but {first}").into());
        }
        let seen = Arc::<Mutex<Vec<_>>>::default();
        let noted = seen.clone();
        let reading = tokio::spawn(async move {
            while let Some(Ok(message)) = socket.next().await {
                let now = Instant::now();
                let told = message.to_text().ok().and_then(|text| serde_json::from_str(text).ok());
                if let Some(Told::Change(Place { position }) | Told::Snapshot(Place { position })) = told {
                    noted.lock().unwrap_or_else(PoisonError::into_inner).push((now, position));
                }
            }
        });
        Ok(Self { seen, reading: reading.abort_handle() })
    }

    /// When it first saw a position or a later one, if it has.
    pub fn saw(&self, position: Position) -> Option<Instant> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let place = seen.partition_point(|(_, seen)| *seen < position);
        seen.get(place).map(|(at, _)| *at)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.reading.abort();
    }
}
