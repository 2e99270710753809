//! The connections: how many at once, and of one address, how long one may take to say what it wants and to take what it is told,
//! and how they end.
//!
//! A client has [`Limits::head`] for each request's head, the first one counted from its connecting, so that nobody holds a
//! place by saying nothing or by saying it slowly; and [`Limits::stall`] for each piece of an answer, so that nobody does by not
//! listening. HTTP/2 clients are pinged, and dropped where they do not answer.

use std::{future::Future, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::{Router, extract::Request, response::Response};
use cnc_projections::{Place, Places};
use hyper::{body::Incoming, service::Service as _};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto::Builder,
        graceful::{GracefulShutdown, Watcher},
    },
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::MissedTickBehavior,
};

use super::{
    app::App,
    progress::{Cut, Progress, Socket},
    routes::{metrics_router, router},
    shares::Address,
    waiting::Waits,
};
use crate::{limits::Limits, metrics::Connections};

/// How long to wait where no connection can be taken, such as for want of file descriptors.
const TRY_AGAIN: Duration = Duration::from_millis(100);
/// Clients that connected and were not taken yet.
const BACKLOG: u32 = 1_024;
/// What the kernel keeps of an answer for a client. It is seen that a client reads when a third of that is free again: with what a
/// kernel gives by itself, a slow one would look like one that does not read.
const SEND_BUFFER: u32 = 128 << 10;
/// What is kept of a head or an answer on its way through an HTTP/1 connection.
const HTTP1_BUFFER: usize = 64 << 10;
/// More headers than are counted by us are not even read.
const HTTP1_HEADERS: usize = 256;
/// The same for HTTP/2, in bytes.
const HTTP2_HEADERS: u32 = 64 << 10;
/// What a client may send of a body, and of all bodies of a connection, before we have taken it.
const HTTP2_WINDOWS: (u32, u32) = (64 << 10, 256 << 10);
/// What is kept of an answer for an HTTP/2 client that does not take it.
const HTTP2_SEND_BUFFER: usize = 16 << 10;

/// Listens there.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    // Connections have it from the socket that they come by.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves the API until `stop`, then finishes the requests that are under way.
pub async fn serve(listener: TcpListener, app: Arc<App>, stop: impl Future<Output = ()>) {
    let (limits, connections) = (app.limits.clone(), app.metrics.connections.clone());
    serve_router(listener, router(app), limits, connections, stop).await;
}

/// Serves what only the operator reads, until `stop`.
pub async fn serve_metrics(listener: TcpListener, app: Arc<App>, stop: impl Future<Output = ()>) {
    let limits = app.limits.clone();
    // Whoever reads it is not one of the clients that it counts.
    serve_router(listener, metrics_router(app), limits, Connections::default(), stop).await;
}

/// The same for any routes.
pub(super) async fn serve_router(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    metrics: Connections,
    stop: impl Future<Output = ()>,
) {
    let graceful = GracefulShutdown::new();
    let mut door = Door::new(listener, &limits);
    let terms = Arc::new(Terms { builder: builder(&limits), router, limits, metrics });
    // Dropped with this future, so that what does not end in time is cut.
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            Some(_) = connections.join_next() => {}
            (stream, peer, place) = door.accept() => {
                let Some(place) = place else {
                    terms.metrics.cut("too many of one address");
                    continue;
                };
                let (terms, watcher) = (terms.clone(), graceful.watcher());
                connections.spawn(async move {
                    terms.metrics.open.inc();
                    if let Some(cut) = terms.serve(stream, peer.ip().into(), watcher).await {
                        terms.metrics.cut(cut);
                    }
                    terms.metrics.open.dec();
                    drop(place);
                });
            }
        }
    }
    // Who connects from here on is told at once that nobody is there.
    drop(door);
    graceful.shutdown().await;
    while connections.join_next().await.is_some() {}
}

fn builder(limits: &Limits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    let mut http1 = builder.http1();
    http1.timer(TokioTimer::new()).header_read_timeout(limits.head);
    http1.max_buf_size(HTTP1_BUFFER).max_headers(HTTP1_HEADERS);
    let mut http2 = builder.http2();
    http2.timer(TokioTimer::new()).keep_alive_interval(limits.heartbeat).keep_alive_timeout(limits.heartbeat);
    http2.max_concurrent_streams(limits.streams).max_header_list_size(HTTP2_HEADERS);
    http2.initial_stream_window_size(HTTP2_WINDOWS.0).initial_connection_window_size(HTTP2_WINDOWS.1);
    http2.max_send_buf_size(HTTP2_SEND_BUFFER);
    builder
}

/// Where connections come in, as long as there are places for them.
struct Door {
    listener: TcpListener,
    all: Arc<Semaphore>,
    /// Shared out by address, unless all come from a proxy.
    each: Option<Places<Address>>,
}

/// A connection's place.
type Held = (Option<OwnedSemaphorePermit>, Option<Place<Address>>);

impl Door {
    fn new(listener: TcpListener, limits: &Limits) -> Self {
        let each = limits.client_address.is_none();
        let each = each.then(|| Places::new(Semaphore::MAX_PERMITS, limits.connections_per_address));
        Self { listener, all: Arc::new(Semaphore::new(limits.connections)), each }
    }

    /// The next connection, when there is a place for it; without one where its address has its share.
    async fn accept(&mut self) -> (TcpStream, SocketAddr, Option<Held>) {
        // Nobody closes the semaphore.
        let place = self.all.clone().acquire_owned().await.ok();
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    let own = self.each.as_ref().map(|each| each.try_take(peer.ip().into()));
                    let held = match own {
                        None => Some((place, None)),
                        Some(own) => own.map(|own| (place, Some(own))),
                    };
                    return (stream, peer, held);
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be taken");
                    tokio::time::sleep(TRY_AGAIN).await;
                }
            }
        }
    }
}

/// What all connections have in common.
struct Terms {
    router: Router,
    builder: Builder<TokioExecutor>,
    limits: Limits,
    metrics: Connections,
}

impl Terms {
    /// Serves one client until either side ends it; says why where it is cut.
    async fn serve(&self, stream: TcpStream, peer: Address, watcher: Watcher) -> Option<&'static str> {
        // An answer is not held back to be sent with more.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection is gone");
        }
        let progress = Progress::new();
        let (router, named) = (TowerToHyperService::new(self.router.clone()), self.limits.client_address.clone());
        let watched = progress.clone();
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            let working = watched.work();
            let named = named.as_ref().and_then(|name| Address::forwarded(request.headers(), name));
            request.extensions_mut().insert(named.unwrap_or(peer));
            let answer = router.call(request);
            async move {
                answer.await.map(|response: Response| {
                    let (mut head, body) = response.into_parts();
                    let waits = head.extensions.remove::<Waits>();
                    Response::from_parts(head, working.answer(body, waits))
                })
            }
        });
        let socket = TokioIo::new(Socket::new(stream, progress.clone()));
        let connection = self.builder.serve_connection_with_upgrades(socket, service);
        let mut connection = pin!(watcher.watch(connection.into_owned()));
        // Until it is known which HTTP a client speaks, no other clock runs.
        let first = tokio::time::timeout(self.limits.head, &mut connection).await;
        let done = match first {
            Ok(done) => done,
            Err(_) if progress.has_begun() => {
                let mut looks = tokio::time::interval(self.limits.stall.min(self.limits.idle) / 4);
                looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                loop {
                    tokio::select! {
                        done = &mut connection => break done,
                        _ = looks.tick() => match progress.verdict(self.limits.stall, self.limits.idle) {
                            None => {}
                            Some(Cut::Idle) => return Some("idle"),
                            Some(Cut::Stalled) => return Some("does not read"),
                        }
                    }
                }
            }
            Err(_) => return Some("no request"),
        };
        if let Err(error) = done {
            tracing::debug!(error, "a connection ended");
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        sync::{Notify, oneshot},
        task::JoinHandle,
    };

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    struct Served {
        address: SocketAddr,
        stop: oneshot::Sender<()>,
        task: JoinHandle<()>,
    }

    fn served(router: Router, connections: usize) -> Served {
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).expect("listens");
        let address = listener.local_addr().expect("has an address");
        let limits = Limits { head: Duration::from_millis(200), connections, ..Limits::default() };
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            serve_router(listener, router, limits, Connections::default(), async { drop(stopped.await) }).await;
        });
        Served { address, stop, task }
    }

    fn hello() -> Router {
        Router::new().route("/", get(|| async { "hello" }))
    }

    async fn sends(address: SocketAddr, text: &str) -> TcpStream {
        let mut client = TcpStream::connect(address).await.expect("connects");
        client.write_all(text.as_bytes()).await.expect("sends");
        client
    }

    /// All that the server says until it ends the connection.
    async fn heard(mut client: TcpStream) -> String {
        let mut text = Vec::new();
        // A connection that is cut may say so as an error.
        let read = tokio::time::timeout(PATIENCE, client.read_to_end(&mut text)).await;
        drop(read.expect("the server ends the connection"));
        String::from_utf8_lossy(&text).into_owned()
    }

    #[tokio::test]
    async fn who_says_nothing_or_half_a_head_is_dropped() {
        let served = served(hello(), 8);
        for start in ["", "P", "PRI * HTTP/2.0\r\n", "GET / HTTP/1.1\r\nhost: a\r\nx-slow: "] {
            let said = heard(sends(served.address, start).await).await;
            assert!(!said.contains("200 OK"), "{start:?}: {said}");
        }
        // Also where a first request was whole.
        let said = heard(sends(served.address, "GET / HTTP/1.1\r\nhost: a\r\n\r\nGET / HT").await).await;
        assert_eq!(said.matches("200 OK").count(), 1, "{said}");
    }

    #[tokio::test]
    async fn who_comes_when_all_places_are_taken_waits_for_one() {
        let served = served(hello(), 1);
        let silent = TcpStream::connect(served.address).await.expect("connects");
        let waits = sends(served.address, "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
        assert!(heard(waits).await.ends_with("hello"), "the silent one was dropped, and so made room");
        drop(silent);
    }

    #[tokio::test]
    async fn a_request_under_way_is_finished_when_the_server_stops_also_one_that_takes_long() {
        let (began, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (begins, waits) = (began.clone(), go_on.clone());
        let slow = move || async move {
            begins.notify_one();
            waits.notified().await;
            "done"
        };
        let Served { address, stop, task } = served(Router::new().route("/", get(slow)), 8);
        let client = sends(address, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        began.notified().await;
        // Longer than a head may take: an answer may take its time.
        tokio::time::timeout(Duration::from_millis(300), std::future::pending::<()>()).await.expect_err("waits");
        stop.send(()).expect("listens");
        go_on.notify_one();
        assert!(heard(client).await.ends_with("done"));
        task.await.expect("ends");
        assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
    }
}
