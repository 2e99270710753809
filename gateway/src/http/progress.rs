//! How a connection gets on. A client that stops reading what it is sent holds memory and a place, so that each connection is
//! looked at now and then: is a piece of an answer waiting for it too long, in the socket or before it, or has it been idle?

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

/// Answers are handed over in pieces of this size, so that it is seen where a client does not take the next one, and that no more
/// of them is buffered for a client than one.
const PIECE: usize = 8 << 10;

/// Why a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// The client does not read what it is sent.
    Stalled,
    /// Nothing happens.
    Idle,
}

/// How one connection gets on. Times are milliseconds since it began; 0 is never.
pub(super) struct Progress {
    begun: Instant,
    /// When something last happened.
    last: AtomicU64,
    /// Since when the socket takes no more bytes.
    blocked: AtomicU64,
    /// Requests that are worked on.
    working: AtomicUsize,
    /// Since when each answer that is under way waits for the client.
    answers: Mutex<Vec<Weak<AtomicU64>>>,
}

impl Progress {
    /// Of a connection that begins now.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            begun: Instant::now(),
            last: AtomicU64::new(0),
            blocked: AtomicU64::new(0),
            working: AtomicUsize::new(0),
            answers: Mutex::default(),
        })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
    }

    /// Whether a request has come.
    pub fn has_begun(&self) -> bool {
        self.last.load(Relaxed) > 0
    }

    /// A request has come, and is worked on until what this gives back is dropped.
    pub fn work(self: &Arc<Self>) -> Working {
        self.last.store(self.now(), Relaxed);
        self.working.fetch_add(1, Relaxed);
        Working(self.clone())
    }

    /// Whether to cut the connection, where nothing may wait for longer than `stall` or be idle for longer than `idle`.
    pub fn verdict(&self, stall: Duration, idle: Duration) -> Option<Cut> {
        let (now, stall) = (self.now(), u64::try_from(stall.as_millis()).unwrap_or(u64::MAX));
        let stalls = |since: u64| since > 0 && now.saturating_sub(since) >= stall;
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.retain(|waits| waits.strong_count() > 0);
        let waits = answers.iter().filter_map(Weak::upgrade).any(|since| stalls(since.load(Relaxed)));
        if waits || stalls(self.blocked.load(Relaxed)) {
            return Some(Cut::Stalled);
        }
        let busy = !answers.is_empty() || self.working.load(Relaxed) > 0;
        let quiet = Duration::from_millis(now.saturating_sub(self.last.load(Relaxed)));
        (!busy && quiet >= idle).then_some(Cut::Idle)
    }
}

/// A request that is worked on.
pub(super) struct Working(Arc<Progress>);

impl Working {
    /// The answer's body, which the client is expected to take.
    pub fn answer<H>(self, body: Body, held: Option<H>) -> Answer<H> {
        let progress = &self.0;
        let is_small = body.size_hint().exact().is_some_and(|size| size <= PIECE as u64);
        let waits = (!is_small).then(|| {
            let waits = Arc::new(AtomicU64::new(progress.now()));
            progress.answers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&waits));
            waits
        });
        Answer { body, rest: Bytes::new(), waits, progress: self.0.clone(), _held: held }
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.last.store(self.0.now(), Relaxed);
        self.0.working.fetch_sub(1, Relaxed);
    }
}

/// The body of an answer, in pieces, and what is held until it has been taken.
pub(super) struct Answer<H> {
    body: Body,
    /// What is left of the last frame.
    rest: Bytes,
    waits: Option<Arc<AtomicU64>>,
    progress: Arc<Progress>,
    _held: Option<H>,
}

impl<H> Answer<H> {
    /// From now on it waits for the client, or, where it is not there yet, for us.
    fn waits(&self, for_client: bool) {
        if let Some(waits) = &self.waits {
            waits.store(if for_client { self.progress.now() } else { 0 }, Relaxed);
        }
    }
}

impl<H: Unpin> HttpBody for Answer<H> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            let polled = Pin::new(&mut self.body).poll_frame(cx);
            self.waits(polled.is_ready());
            match ready!(polled) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            }
        }
        self.waits(true);
        let piece = self.rest.len().min(PIECE);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (mut hint, rest) = (self.body.size_hint(), self.rest.len() as u64);
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}

impl<H> Drop for Answer<H> {
    fn drop(&mut self) {
        self.progress.last.store(self.progress.now(), Relaxed);
    }
}

/// A socket that notes since when it takes no more bytes.
pub(super) struct Socket<S> {
    inner: S,
    progress: Arc<Progress>,
}

impl<S> Socket<S> {
    /// This one.
    pub fn new(inner: S, progress: Arc<Progress>) -> Self {
        Self { inner, progress }
    }

    fn note<T>(&self, wrote: Poll<T>) -> Poll<T> {
        match &wrote {
            Poll::Ready(_) => self.progress.blocked.store(0, Relaxed),
            // Since the first time: that it is tried again is no progress.
            Poll::Pending => {
                let _ = self.progress.blocked.compare_exchange(0, self.progress.now(), Relaxed, Relaxed);
            }
        }
        wrote
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.note(wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.note(wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    const STALL: Duration = Duration::from_secs(10);
    const IDLE: Duration = Duration::from_mins(1);

    fn piece(answer: &mut Answer<()>) -> usize {
        let mut cx = Context::from_waker(Waker::noop());
        match Pin::new(answer).poll_frame(&mut cx) {
            Poll::Ready(Some(Ok(frame))) => frame.into_data().map(|data| data.len()).unwrap_or_default(),
            _ => 0,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_whose_next_piece_is_not_taken_stalls_and_one_that_is_taken_does_not() {
        let progress = Progress::new();
        let mut answer = progress.work().answer::<()>(Body::from(vec![b'x'; 3 * PIECE]), None);
        assert_eq!(answer.size_hint().exact(), Some(3 * PIECE as u64));
        for _ in 0..3 {
            tokio::time::advance(STALL * 9 / 10).await;
            assert_eq!(progress.verdict(STALL, IDLE), None);
            assert_eq!(piece(&mut answer), PIECE);
        }
        assert!(answer.is_end_stream());
        tokio::time::advance(STALL).await;
        assert_eq!(progress.verdict(STALL, IDLE), Some(Cut::Stalled));
        drop(answer);
        assert_eq!(progress.verdict(STALL, IDLE), None);
        tokio::time::advance(IDLE).await;
        assert_eq!(progress.verdict(STALL, IDLE), Some(Cut::Idle));
    }

    #[tokio::test(start_paused = true)]
    async fn what_we_are_slow_with_is_nobodys_stall() {
        let progress = Progress::new();
        let working = progress.work();
        tokio::time::advance(2 * IDLE).await;
        assert_eq!(progress.verdict(STALL, IDLE), None, "a request is worked on");
        let never = futures::stream::pending::<Result<Bytes, io::Error>>();
        let mut answer = working.answer::<()>(Body::from_stream(never), None);
        assert_eq!(piece(&mut answer), 0);
        tokio::time::advance(2 * IDLE).await;
        assert_eq!(progress.verdict(STALL, IDLE), None, "the rest of the answer is not there yet");
    }

    #[tokio::test(start_paused = true)]
    async fn a_socket_that_takes_no_bytes_stalls_since_the_first_that_it_did_not_take() {
        let progress = Progress::new();
        let (socket, _other) = tokio::io::duplex(8);
        let mut socket = Socket::new(socket, progress.clone());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut socket).poll_write(&mut cx, b"12345678").is_ready());
        for _ in 0..2 {
            assert!(Pin::new(&mut socket).poll_write(&mut cx, b"9").is_pending());
            tokio::time::advance(STALL * 6 / 10).await;
        }
        assert_eq!(progress.verdict(STALL, IDLE), Some(Cut::Stalled));
    }
}
