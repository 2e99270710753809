//! The way out of a socket: a bounded queue and one task that writes. Whoever cannot keep up is dropped, so that no
//! client holds memory or delays another.

use std::{sync::Arc, time::Duration};

use axum::extract::ws::{CloseFrame, Message};
use futures::{Sink, SinkExt};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};

use super::message::End;
use crate::{
    http::{
        shares::Asker,
        waiting::{Waiting, Waits},
    },
    limits::Limits,
};

/// How long a client may take to receive the rest and the reason when the server closes.
const FAREWELL: Duration = Duration::from_secs(5);

/// The queue of one socket.
pub(super) struct Outlet {
    queue: mpsc::Sender<Queued>,
    /// For bytes of what is queued.
    room: Arc<Semaphore>,
    room_max: usize,
    /// Bytes that wait for all clients.
    waiting: Arc<Waiting>,
    asker: Asker,
    /// How long a client may take to make room for what may wait.
    stall: Duration,
    end: oneshot::Sender<Option<End>>,
    writer: JoinHandle<()>,
}

/// A message that waits to be sent, and the room that it takes until then.
struct Queued {
    message: Message,
    _room: Option<(OwnedSemaphorePermit, Waits)>,
}

impl Outlet {
    /// Starts the writer, with a queue that is bounded so.
    pub fn open<S: Sink<Message> + Unpin + Send + 'static>(
        sink: S,
        asker: Asker,
        waiting: Arc<Waiting>,
        limits: &Limits,
    ) -> Self {
        let (queue, queued) = mpsc::channel(limits.socket_queue);
        let (end, ended) = oneshot::channel();
        let writer = tokio::spawn(write(sink, queued, ended, limits.stall));
        let (room, stall) = (Arc::new(Semaphore::new(limits.socket_bytes)), limits.stall);
        Self { queue, room, room_max: limits.socket_bytes, waiting, asker, stall, end, writer }
    }

    /// Queues a text. Never waits: no room means a slow client.
    pub fn text(&self, text: String) -> Result<(), End> {
        let room = self.room.clone().try_acquire_many_owned(self.size(&text)).map_err(|_| End::SLOW)?;
        let queued = self.queued(text, room)?;
        self.queue.try_send(queued).map_err(|_| End::SLOW)
    }

    /// Queues a text as soon as there is room: the next part of something large, which nobody need hold at once.
    pub async fn part(&self, text: String) -> Result<(), End> {
        let room = self.room.clone().acquire_many_owned(self.size(&text));
        let room = timeout(self.stall, room).await.ok().and_then(Result::ok).ok_or(End::SLOW)?;
        let queued = self.queued(text, room)?;
        let sent = timeout(self.stall, self.queue.send(queued)).await;
        sent.ok().and_then(Result::ok).ok_or(End::SLOW)
    }

    /// Queues a ping.
    pub fn ping(&self) -> Result<(), End> {
        let queued = Queued { message: Message::Ping(Vec::new().into()), _room: None };
        self.queue.try_send(queued).map_err(|_| End::SLOW)
    }

    fn size(&self, text: &str) -> u32 {
        u32::try_from(text.len().min(self.room_max)).unwrap_or(u32::MAX)
    }

    fn queued(&self, text: String, room: OwnedSemaphorePermit) -> Result<Queued, End> {
        let waits = self.waiting.take(self.asker.person, text.len()).ok_or(End::CROWDED)?;
        Ok(Queued { message: Message::Text(text.into()), _room: Some((room, waits)) })
    }

    /// Sends the rest, where the client takes it in time, and the reason.
    pub async fn close(self, end: Option<End>) {
        let Self { queue, end: ending, writer, .. } = self;
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
    mut queued: mpsc::Receiver<Queued>,
    mut ended: oneshot::Receiver<Option<End>>,
    stall: Duration,
) {
    let end = loop {
        let next = tokio::select! {
            biased;
            end = &mut ended => break end.unwrap_or_default(),
            next = queued.recv() => next,
        };
        let Some(Queued { message, _room }) = next else { break None };
        let sent = tokio::select! {
            sent = timeout(stall, sink.send(message)) => sent,
            end = &mut ended => break end.unwrap_or_default(),
        };
        if !matches!(sent, Ok(Ok(()))) {
            return;
        }
    };
    // A slow client gets no more than the reason.
    while let Ok(Queued { message, .. }) = queued.try_recv() {
        if matches!(end, Some(End::SLOW | End::CROWDED)) || sink.send(message).await.is_err() {
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
    use cnc_domain::kernel::{CompanyId, UserId};
    use futures::{StreamExt, channel::mpsc::channel};

    use super::*;

    const TEXT: usize = 100 << 10;

    fn open<S: Sink<Message> + Unpin + Send + 'static>(sink: S, limits: &Limits) -> Outlet {
        let waiting = Arc::new(Waiting::new(limits.waiting_bytes, limits.waiting_bytes_per_user));
        let asker = Asker::sample(CompanyId::number(1), UserId::number(1));
        Outlet::open(sink, asker, waiting, limits)
    }

    fn text() -> String {
        "x".repeat(TEXT)
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_fills_the_queue_and_no_more() {
        for (limits, end) in [
            (Limits { socket_queue: 2, ..Limits::default() }, End::SLOW),
            (Limits { socket_bytes: 3 * TEXT, ..Limits::default() }, End::SLOW),
            (Limits { waiting_bytes_per_user: 3 * TEXT, ..Limits::default() }, End::CROWDED),
        ] {
            let (sink, _reader) = channel::<Message>(0);
            let outlet = open(sink, &limits);
            let full = (0..10).find_map(|_| outlet.text(text()).err());
            assert_eq!(full, Some(end));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn parts_wait_for_a_client_that_reads_and_not_for_ever_for_one_that_does_not() {
        let limits = Limits { socket_bytes: 2 * TEXT, ..Limits::default() };
        let (sink, reader) = channel::<Message>(0);
        let outlet = open(sink, &limits);
        let reads = tokio::spawn(reader.take(20).collect::<Vec<_>>());
        for _ in 0..20 {
            outlet.part(text()).await.expect("is read");
        }
        assert_eq!(reads.await.expect("ends").len(), 20);
        let (sink, _reader) = channel::<Message>(0);
        let outlet = open(sink, &limits);
        let mut last = Ok(());
        for _ in 0..5 {
            last = last.and(outlet.part(text()).await);
        }
        assert_eq!(last, Err(End::SLOW));
    }

    #[tokio::test]
    async fn a_client_that_reads_gets_everything_and_then_the_reason() {
        let (sink, reader) = channel::<Message>(8);
        let outlet = open(sink, &Limits::default());
        outlet.text("one".into()).expect("there is room");
        outlet.text("two".into()).expect("there is room");
        outlet.close(Some(End::EXPIRED)).await;
        let got: Vec<Message> = reader.collect().await;
        assert_eq!(got[..2], [Message::Text("one".into()), Message::Text("two".into())]);
        assert!(matches!(&got[2], Message::Close(Some(frame)) if frame.code == 4401));
    }
}
