//! A wire between processes and a server, which can be cut, slowed, and made to repeat and reorder what `JetStream`
//! delivers.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::AbortHandle,
};

/// How a wire behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Bytes pass.
    Open,
    /// What is connected is cut off, and nobody gets through.
    Cut,
    /// Connections stay, and no byte passes.
    Stalled,
    /// Connections that are there never carry a byte again, whatever comes, and new ones do: as where a router between has
    /// forgotten them.
    Forgotten,
    /// Every piece takes so long.
    Slow(Duration),
    /// NATS only: of what `JetStream` delivers, each third message is held back behind the next, and each fourth comes
    /// twice.
    Jumbled,
}

/// A wire to one server.
pub struct Wire {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    listening: AbortHandle,
}

impl Wire {
    /// Listens on a free port of its own.
    pub async fn to(server: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let mode = watch::Sender::new(Mode::Open);
        let modes = mode.clone();
        let listening = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *modes.borrow() != Mode::Cut {
                    tokio::spawn(connect(client, server, modes.subscribe()));
                }
            }
        });
        Ok(Self { address, mode, listening: listening.abort_handle() })
    }

    /// Where to connect instead of to the server.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Behaves so from now on.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.listening.abort();
        self.mode.send_replace(Mode::Cut);
    }
}

async fn connect(client: TcpStream, server: SocketAddr, mut modes: watch::Receiver<Mode>) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    // Small pieces are what is measured.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let is_new = *modes.borrow() == Mode::Forgotten;
    let (up, down) = (modes.clone(), modes.clone());
    // Whatever ends first ends all three: the sockets close with the tasks.
    tokio::select! {
        _ = modes.wait_for(|mode| *mode == Mode::Cut) => {}
        _ = pass(from_client, to_server, up, is_new) => {}
        _ = deliver(from_server, to_client, down, is_new) => {}
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut modes: watch::Receiver<Mode>,
    is_new: bool,
) -> std::io::Result<()> {
    let mut bytes = vec![0; 64 << 10];
    loop {
        let count = from.read(&mut bytes).await?;
        if count == 0 {
            return Ok(());
        }
        hold(&mut modes, is_new).await;
        to.write_all(&bytes[..count]).await?;
    }
}

/// Waits as long as the mode says that a piece takes; `is_new` are connections that were made when others were forgotten.
async fn hold(modes: &mut watch::Receiver<Mode>, is_new: bool) {
    let mode = *modes.borrow_and_update();
    match mode {
        Mode::Slow(delay) => tokio::time::sleep(delay).await,
        Mode::Forgotten if !is_new => std::future::pending().await,
        // A sender that is gone cuts the wire by itself.
        Mode::Stalled => drop(modes.wait_for(|mode| *mode != Mode::Stalled).await),
        _ => {}
    }
}

/// From the server: bytes as they come, until the wire is jumbled; then frame by frame.
async fn deliver(
    from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut modes: watch::Receiver<Mode>,
    is_new: bool,
) -> std::io::Result<()> {
    let mut frames = Frames { from: BufReader::new(from), is_nats: None, held: None, count: 0 };
    loop {
        let Some(frame) = frames.next().await? else { return Ok(()) };
        hold(&mut modes, is_new).await;
        let jumbled = *modes.borrow() == Mode::Jumbled;
        for frame in frames.jumble(frame, jumbled) {
            to.write_all(&frame).await?;
        }
    }
}

/// What a server sends, taken apart where it is NATS.
struct Frames {
    from: BufReader<OwnedReadHalf>,
    is_nats: Option<bool>,
    held: Option<Arc<Vec<u8>>>,
    count: u64,
}

impl Frames {
    /// The next frame of NATS, which greets with its `INFO`; of anything else, what there is.
    async fn next(&mut self) -> std::io::Result<Option<Arc<Vec<u8>>>> {
        let start = self.from.fill_buf().await?;
        if start.is_empty() {
            return Ok(None);
        }
        if !*self.is_nats.get_or_insert(start.starts_with(b"INFO ")) {
            let piece = Arc::new(start.to_vec());
            self.from.consume(piece.len());
            return Ok(Some(piece));
        }
        let mut frame = Vec::new();
        self.from.read_until(b'\n', &mut frame).await?;
        if frame.starts_with(b"MSG ") || frame.starts_with(b"HMSG ") {
            let line = String::from_utf8_lossy(&frame);
            let size: usize = line.split_whitespace().last().and_then(|size| size.parse().ok()).unwrap_or(0);
            let head = frame.len();
            frame.resize(head + size + 2, 0);
            self.from.read_exact(&mut frame[head..]).await?;
        }
        Ok(Some(Arc::new(frame)))
    }

    /// What goes out in the place of a frame.
    fn jumble(&mut self, frame: Arc<Vec<u8>>, jumbled: bool) -> Vec<Arc<Vec<u8>>> {
        let line = frame.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let delivered = jumbled && line.windows(8).any(|part| part == b"$JS.ACK.");
        if !delivered {
            return self.held.take().into_iter().chain([frame]).collect();
        }
        self.count += 1;
        if self.count.is_multiple_of(3) && self.held.is_none() {
            self.held = Some(frame);
            return Vec::new();
        }
        let twice = self.count.is_multiple_of(4).then(|| frame.clone());
        [frame].into_iter().chain(twice).chain(self.held.take()).collect()
    }
}
