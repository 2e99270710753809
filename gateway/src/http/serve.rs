//! The connections: how many at once, how long one may take to say what it wants, and how they end.
//!
//! A client has [`Limits::head`] for each request's head, the first one counted from its connecting, so that nobody holds a
//! place by saying nothing or by saying it slowly. HTTP/2 clients are pinged, and dropped where they do not answer.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Router, extract::Request};
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
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};

use crate::limits::Limits;

/// How long to wait where no connection can be taken, such as for want of file descriptors.
const TRY_AGAIN: Duration = Duration::from_millis(100);

/// Serves until `stop`, then finishes the requests that are under way.
pub async fn serve(listener: TcpListener, router: Router, limits: &Limits, stop: impl Future<Output = ()>) {
    let (places, graceful) = (Arc::new(Semaphore::new(limits.connections)), GracefulShutdown::new());
    let (builder, head) = (builder(limits), limits.head);
    // Dropped with this future, so that what does not end in time is cut.
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            Some(_) = connections.join_next() => {}
            (stream, place) = accept(&listener, &places) => {
                let connection = Connection { stream, router: router.clone(), builder: builder.clone(), head };
                let watcher = graceful.watcher();
                connections.spawn(async move {
                    connection.serve(watcher).await;
                    drop(place);
                });
            }
        }
    }
    // Who connects from here on is told at once that nobody is there.
    drop(listener);
    graceful.shutdown().await;
    while connections.join_next().await.is_some() {}
}

fn builder(limits: &Limits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.head);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(limits.heartbeat).keep_alive_timeout(limits.heartbeat);
    builder
}

/// The next connection, where there is a place for it.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> (TcpStream, Option<OwnedSemaphorePermit>) {
    // Nobody closes the semaphore.
    let place = places.clone().acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, place),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be taken");
                tokio::time::sleep(TRY_AGAIN).await;
            }
        }
    }
}

/// One client's connection.
struct Connection {
    stream: TcpStream,
    router: Router,
    builder: Builder<TokioExecutor>,
    head: Duration,
}

impl Connection {
    async fn serve(self, watcher: Watcher) {
        // An answer is not held back to be sent with more.
        if let Err(error) = self.stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection is gone");
        }
        let (begun, router) = (Arc::new(AtomicBool::new(false)), TowerToHyperService::new(self.router));
        let heard = begun.clone();
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            heard.store(true, Ordering::Relaxed);
            router.call(request)
        });
        let connection = self.builder.serve_connection_with_upgrades(TokioIo::new(self.stream), service);
        let mut connection = pin!(watcher.watch(connection.into_owned()));
        // Until it is known which HTTP a client speaks, no other clock runs.
        let first = tokio::time::timeout(self.head, &mut connection).await;
        let done = match first {
            Ok(done) => done,
            Err(_) if begun.load(Ordering::Relaxed) => connection.await,
            Err(_) => return,
        };
        if let Err(error) = done {
            tracing::debug!(error, "a connection ended");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

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

    async fn served(router: Router, connections: usize) -> Served {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
        let address = listener.local_addr().expect("has an address");
        let limits = Limits { head: Duration::from_millis(200), connections, ..Limits::default() };
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            serve(listener, router, &limits, async { drop(stopped.await) }).await;
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
        let served = served(hello(), 8).await;
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
        let served = served(hello(), 1).await;
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
        let Served { address, stop, task } = served(Router::new().route("/", get(slow)), 8).await;
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
