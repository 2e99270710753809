//! The way out of a socket: a bounded queue and one task that writes. Whoever cannot keep up is dropped, so that no
//! client holds memory or delays another.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message};
use futures::{Sink, SinkExt};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use super::message::End;

/// How long a client may take to receive the rest and the reason when the server closes.
const FAREWELL: Duration = Duration::from_secs(5);

/// The queue of one socket.
pub(super) struct Outlet {
    queue: mpsc::Sender<Message>,
    end: oneshot::Sender<Option<End>>,
    writer: JoinHandle<()>,
}

impl Outlet {
    /// Starts the writer, with a queue of this length.
    pub fn open<S: Sink<Message> + Unpin + Send + 'static>(sink: S, length: usize) -> Self {
        let (queue, waiting) = mpsc::channel(length);
        let (end, ended) = oneshot::channel();
        let writer = tokio::spawn(write(sink, waiting, ended));
        Self { queue, end, writer }
    }

    /// Queues a text. Never waits: a full queue means a slow client.
    pub fn text(&self, text: String) -> Result<(), End> {
        self.push(Message::Text(text.into()))
    }

    /// Queues a ping.
    pub fn ping(&self) -> Result<(), End> {
        self.push(Message::Ping(Vec::new().into()))
    }

    fn push(&self, message: Message) -> Result<(), End> {
        self.queue.try_send(message).map_err(|_| End::SLOW)
    }

    /// Sends the rest, where the client takes it in time, and the reason.
    pub async fn close(self, end: Option<End>) {
        let Self { queue, end: ending, writer } = self;
        // A writer that is gone has nobody to tell.
        let _ = ending.send(end);
        drop(queue);
        let abort = writer.abort_handle();
        if tokio::time::timeout(FAREWELL, writer).await.is_err() {
            abort.abort();
        }
    }
}

async fn write<S: Sink<Message> + Unpin>(
    mut sink: S,
    mut waiting: mpsc::Receiver<Message>,
    mut ended: oneshot::Receiver<Option<End>>,
) {
    let end = loop {
        let message = tokio::select! {
            biased;
            end = &mut ended => break end.unwrap_or_default(),
            message = waiting.recv() => message,
        };
        let Some(message) = message else { break None };
        let sent = tokio::select! {
            sent = sink.send(message) => sent,
            end = &mut ended => break end.unwrap_or_default(),
        };
        if sent.is_err() {
            return;
        }
    };
    // A slow client gets no more than the reason.
    while let Ok(message) = waiting.try_recv() {
        if end == Some(End::SLOW) || sink.send(message).await.is_err() {
            break;
        }
    }
    let frame = end.map(|end| CloseFrame { code: end.code, reason: end.reason.into() });
    // The client may be gone already, which is what was wanted.
    let _ = sink.send(Message::Close(frame)).await;
    let _ = sink.close().await;
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt, channel::mpsc::channel};

    use super::*;

    #[tokio::test]
    async fn a_client_that_does_not_read_fills_the_queue_and_no_more() {
        let (sink, _reader) = channel::<Message>(0);
        let outlet = Outlet::open(sink, 2);
        let full = (0..10).find_map(|_| outlet.text("x".into()).err());
        assert_eq!(full, Some(End::SLOW));
    }

    #[tokio::test]
    async fn a_client_that_reads_gets_everything_and_then_the_reason() {
        let (sink, reader) = channel::<Message>(8);
        let outlet = Outlet::open(sink, 8);
        outlet.text("one".into()).expect("there is room");
        outlet.text("two".into()).expect("there is room");
        outlet.close(Some(End::EXPIRED)).await;
        let got: Vec<Message> = reader.collect().await;
        assert_eq!(got[..2], [Message::Text("one".into()), Message::Text("two".into())]);
        assert!(matches!(&got[2], Message::Close(Some(frame)) if frame.code == 4401));
    }
}
