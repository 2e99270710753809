//! How processes that share a database tell each other what they recorded: after the commit, never in it.
//!
//! A transaction that notifies holds a lock of the whole cluster until it is on the disk, so that all commits would wait
//! in one line. So each process has one sender, which gathers what was committed meanwhile and tells it in a transaction
//! of its own that waits for no disk. What it cannot tell, others see when they compare heads.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use cnc_domain::{
    kernel::CompanyId,
    ledger::{Grown, Head, NotificationLog, announced, announcements},
};
use cnc_postgres::{Listener, Pool};
use sqlx::{PgExecutor, postgres::PgConnectOptions};
use tokio::sync::{Notify, watch};

use super::super::notify::notice;

const CHANNEL: &str = "cnc_ledger";
/// The server takes no more in one notification.
const BYTES_MAX: usize = 7_999;
/// How long what is committed meanwhile is gathered after something was told.
const GATHER: Duration = Duration::from_millis(4);
/// How long to wait before it is listened again where that failed.
const RETRY: Duration = Duration::from_millis(250);

/// What this process has recorded and not told yet.
#[derive(Clone, Default)]
pub(super) struct Announcer(Arc<Outgoing>);

#[derive(Default)]
struct Outgoing {
    heads: Mutex<BTreeMap<CompanyId, Head>>,
    more: Notify,
}

impl Announcer {
    /// Has this told, soon.
    pub fn tell(&self, heads: &BTreeMap<CompanyId, Head>) {
        if !heads.is_empty() {
            self.heads().extend(heads);
            self.0.more.notify_one();
        }
    }

    /// Tells what it is given, for ever.
    pub async fn run(self, pool: Pool) {
        loop {
            self.0.more.notified().await;
            let heads = std::mem::take(&mut *self.heads());
            if let Err(error) = announce_heads(&pool, &heads).await {
                tracing::debug!(%error, "what was recorded is not told; others see it when they compare heads");
            }
            tokio::time::sleep(GATHER).await;
        }
    }

    fn heads(&self) -> std::sync::MutexGuard<'_, BTreeMap<CompanyId, Head>> {
        self.0.heads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells all processes of this database where these ledgers stand. That it was told need not survive a crash.
pub(crate) async fn announce_heads(
    database: impl PgExecutor<'_>,
    heads: &BTreeMap<CompanyId, Head>,
) -> sqlx::Result<()> {
    let sql = "SELECT set_config('synchronous_commit', 'off', true),
                      (SELECT count(pg_notify($1, message)) FROM unnest($2::text[]) AS m (message))";
    sqlx::query(sql).bind(CHANNEL).bind(announcements(heads, BYTES_MAX)).execute(database).await.map(|_| ())
}

/// Takes note of what is told. What is missed while there is no connection may be anything.
pub(super) async fn listen(options: PgConnectOptions, notifications: watch::Sender<NotificationLog>) {
    loop {
        if let Ok(mut listener) = Listener::connect(&options, CHANNEL).await {
            notice(&notifications, Grown::Any);
            while let Ok(told) = listener.next().await {
                let heads = announced(told.payload());
                notice(&notifications, heads.map_or(Grown::Any, Grown::These));
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}
