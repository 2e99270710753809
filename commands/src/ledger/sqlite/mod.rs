//! Ledgers in one `SQLite` file. Any process may write it beside any other: whoever holds the write lock reads the heads
//! anew.

mod append;
mod connection;
pub(crate) mod read;
mod restore;

use std::{
    path::Path,
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use cnc_domain::{
    kernel::{CompanyId, Timestamp},
    ledger::{
        Answered, Append, AppendError, Appended, Fault, Feed, Grown, Hash, Head, Ledger, LedgerTime, Notification,
        NotificationLog, Position, Sequence,
    },
};
use rusqlite::Connection;
use tokio::{runtime::Handle, sync::watch};
use uuid::Uuid;

use self::{
    append::Writer,
    connection::{Readers, open_writer},
};
pub(crate) use self::{
    connection::open_existing,
    restore::{insert_head, insert_stored},
};
use super::{
    Audit, FORGET_AT_ONCE, Stored, StoredHead,
    notify::{changed, grown, notice},
    recording,
};

/// The file in the data folder.
pub(crate) const LEDGER_FILE: &str = "ledger.db";
/// How often other processes' appends are looked for. Those of this process are noticed at once.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// All companies' ledgers in one file.
#[derive(Clone)]
pub struct SqliteLedger {
    inner: Arc<Inner>,
}

struct Inner {
    /// None where the file was opened for reading only.
    writer: Option<Writer>,
    readers: Readers,
    notifications: watch::Sender<NotificationLog>,
}

impl Inner {
    fn writer(&self) -> Result<&Writer, Fault> {
        self.writer.as_ref().ok_or_else(|| Fault::broken("write to the ledger", "it was opened for reading only"))
    }
}

impl SqliteLedger {
    /// Opens `ledger.db` in a folder, and makes both where they are missing.
    pub fn open(data_dir: &Path) -> Result<Self, Fault> {
        std::fs::create_dir_all(data_dir).map_err(|cause| Fault::passing("make the data folder", cause))?;
        let path = data_dir.join(LEDGER_FILE);
        let (writer, readers) = (Some(Writer::new(open_writer(&path)?)), Readers::new(path));
        let inner = Arc::new(Inner { writer, readers, notifications: watch::Sender::default() });
        watch_others(Arc::downgrade(&inner))?;
        Ok(Self { inner })
    }

    /// Opens `ledger.db` in a folder for reading only, and makes nothing: the folder may be on a medium that nobody can
    /// write. `None` where there is no ledger. To append is a fault.
    pub fn open_read_only(data_dir: &Path) -> Result<Option<Self>, Fault> {
        let readers = Readers::of_existing(&data_dir.join(LEDGER_FILE), "heads")?;
        let of = |readers| Inner { writer: None, readers, notifications: watch::Sender::default() };
        Ok(readers.map(|readers| Self { inner: Arc::new(of(readers)) }))
    }

    /// Leaves nothing in the log beside the file, where no other process is at work on them.
    pub async fn close(&self) -> Result<(), Fault> {
        self.blocking("close the ledger", |inner| inner.writer()?.truncate_log()).await
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Fault> {
        let _turn = self.inner.readers.turn().await?;
        self.blocking("read the ledger", move |inner| inner.readers.with(work)).await
    }

    /// Runs `work` where it may block.
    async fn blocking<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Inner) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let inner = Arc::clone(&self.inner);
        let done = tokio::task::spawn_blocking(move || work(&inner)).await;
        done.unwrap_or_else(|stopped| Err(Fault::broken(doing, stopped)))
    }
}

/// Looks from a thread of its own, as long as the ledger is open, whether another connection has appended.
fn watch_others(inner: Weak<Inner>) -> Result<(), Fault> {
    let Some(connection) = inner.upgrade().map(|inner| inner.readers.open()).transpose()? else { return Ok(()) };
    let look = move || {
        let (mut version, mut row) = (0, None);
        while let Some(inner) = inner.upgrade() {
            // Whatever fails here also fails where the ledger is read, and is reported there.
            let seen = read::data_version(&connection).unwrap_or(version);
            if seen != version {
                version = seen;
                if let Ok((last, grown)) = read::grown(&connection, row) {
                    row = Some(last);
                    notice(&inner.notifications, grown);
                }
            }
            drop(inner);
            std::thread::sleep(LOOK_EVERY);
        }
    };
    let started = std::thread::Builder::new().name("ledger-watch".into()).spawn(look);
    started.map(|_| ()).map_err(|cause| Fault::passing("watch the ledger", cause))
}

#[async_trait]
impl Feed for SqliteLedger {
    async fn heads(&self) -> Result<Vec<(CompanyId, Head)>, Fault> {
        self.read(read::heads).await
    }

    async fn head(&self, company: CompanyId) -> Result<Option<Head>, Fault> {
        self.read(move |connection| Ok(append::tip(connection, company.uuid())?.map(|tip| tip.head))).await
    }

    async fn read(&self, company: CompanyId, after: Position, limit: usize) -> Result<Vec<String>, Fault> {
        self.read(move |connection| read::lines(connection, company, after, limit)).await
    }

    async fn read_stream(
        &self,
        company: CompanyId,
        stream: &str,
        id: Uuid,
        after: Sequence,
        limit: usize,
    ) -> Result<Vec<String>, Fault> {
        let stream = stream.to_owned();
        self.read(move |connection| read::stream_lines(connection, company, (&stream, id), after, limit)).await
    }

    async fn position_at(&self, company: CompanyId, at: Timestamp) -> Result<Position, Fault> {
        self.read(move |connection| read::position_at(connection, company, at)).await
    }

    async fn changed(&self, cursor: u64) -> Notification {
        changed(&self.inner.notifications, cursor).await
    }
}

#[async_trait]
impl Ledger for SqliteLedger {
    async fn append(&self, batch: Vec<Append>) -> Result<Vec<Result<Appended, AppendError>>, Fault> {
        self.blocking("append", move |inner| {
            let outcomes = Handle::current().block_on(recording::append(inner.writer()?, &batch))?;
            notice(&inner.notifications, Grown::These(grown(&batch, &outcomes).into_iter().collect()));
            Ok(outcomes)
        })
        .await
    }

    async fn facts(&self, company: CompanyId) -> Result<Option<Hash>, Fault> {
        self.read(move |connection| Ok(append::tip(connection, company.uuid())?.map(|tip| tip.facts))).await
    }

    async fn answered(&self, company: CompanyId, actor: &str, key: &str) -> Result<Option<Answered>, Fault> {
        let (actor, key) = (actor.to_owned(), key.to_owned());
        self.read(move |connection| append::answered(connection, company, &actor, &key)).await
    }

    async fn forget_answers(&self, before: Timestamp) -> Result<u64, Fault> {
        let mut forgotten = 0;
        loop {
            let portion = self.blocking("forget answers", move |inner| inner.writer()?.forget(before)).await?;
            forgotten += portion as u64;
            if i64::try_from(portion).is_ok_and(|portion| portion < FORGET_AT_ONCE) {
                return Ok(forgotten);
            }
        }
    }

    async fn time(&self) -> Result<LedgerTime, Fault> {
        Ok(LedgerTime::Last(self.read(read::last_time).await?))
    }

    async fn keep_time(&self, now: Timestamp) -> Result<(), Fault> {
        self.blocking("keep the time", move |inner| inner.writer()?.keep_time(now)).await
    }
}

#[async_trait]
impl Audit for SqliteLedger {
    async fn stored(&self, company: CompanyId, after: Position) -> Result<Vec<Stored>, Fault> {
        self.read(move |connection| read::stored(connection, company, after)).await
    }

    async fn stored_head(&self, company: CompanyId) -> Result<Option<StoredHead>, Fault> {
        let tip = self.read(move |connection| append::tip(connection, company.uuid())).await?;
        Ok(tip.map(StoredHead::from))
    }
}
