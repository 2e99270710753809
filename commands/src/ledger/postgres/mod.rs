//! Ledgers in Postgres 15 or newer, in the schema `cnc`. Any number of processes may write: the head row decides.

mod announce;
mod append;
mod fault;
mod migrate;
mod read;
mod room;

use std::sync::Arc;

use async_trait::async_trait;
use cnc_domain::{
    kernel::{CompanyId, Timestamp},
    ledger::{
        Answered, Append, AppendError, Appended, Fault, Feed, Grown, Hash, Head, Ledger, LedgerTime, Notification,
        NotificationLog, Position, Sequence, Writable,
    },
};
use cnc_postgres::Pool;
use tokio::{sync::watch, task::AbortHandle};
use uuid::Uuid;

use self::{announce::Announcer, append::Writers, room::Room};
pub(crate) use self::{
    announce::announce_heads,
    fault::fault,
    read::{stored, stored_head, stored_heads},
};
use super::{
    Audit, FORGET_AT_ONCE, Stored, StoredHead,
    notify::{changed, grown, notice},
    recording,
};

/// Several batches may be on their way at once, of different companies; one connection is left for a company whose head
/// somebody else holds.
const WRITERS: usize = 4;
const READERS: usize = 4;

/// All companies' ledgers in one database.
#[derive(Clone)]
pub struct PostgresLedger {
    writers: Writers,
    readers: Pool,
    notifications: watch::Sender<NotificationLog>,
    announcer: Announcer,
    room: Room,
    _tasks: Arc<Tasks>,
}

/// What listens and tells; it stops when the last of a ledger's clones is gone.
struct Tasks([AbortHandle; 2]);

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

impl PostgresLedger {
    /// Connects to a database, given as `postgres://user:password@host/database`.
    pub async fn connect(url: &str) -> Result<Self, Fault> {
        let doing = "connect to the ledger";
        // Statements are planned once in a connection's life, perhaps while the tables are still empty: the plan must
        // also serve when they are large. Where there is no index to use, such a plan looks so dear that the server would
        // compile it, 50 ms each time.
        let options = cnc_postgres::options(url).map_err(fault(doing))?;
        let options = options.options([("enable_seqscan", "off"), ("plan_cache_mode", "force_generic_plan")]);
        let readers = Pool::new(options.clone(), READERS);
        let risks = async { cnc_postgres::risks(&mut *readers.acquire().await?).await };
        let risks: Vec<&'static str> = risks.await.map_err(fault(doing))?;
        for risk in &risks {
            tracing::error!("the database is not safe: {risk}");
        }
        let writing = options.clone().options(append::SESSION);
        let pool = Pool::with(writing, WRITERS, append::ANSWER_WITHIN, None);
        let writers = Writers { pool, known: Arc::default() };
        let (notifications, announcer) = (watch::Sender::default(), Announcer::default());
        let listening = tokio::spawn(announce::listen(options, notifications.clone())).abort_handle();
        let telling = tokio::spawn(announcer.clone().run(readers.clone())).abort_handle();
        Ok(Self {
            writers,
            readers,
            notifications,
            announcer,
            room: Room::new(risks),
            _tasks: Arc::new(Tasks([listening, telling])),
        })
    }

    /// Connections for what is kept beside the ledgers.
    pub(crate) fn pool(&self) -> &Pool {
        &self.readers
    }

    /// Whether there is a ledger in the database, of whatever version: nothing is made.
    pub async fn exists(&self) -> Result<bool, Fault> {
        let sql = "SELECT EXISTS (SELECT FROM pg_tables WHERE schemaname = 'cnc' AND tablename = 'heads')";
        sqlx::query_scalar(sql).fetch_one(&self.readers).await.map_err(fault("look for the ledger"))
    }

    /// The pools of connections: of each its name, how many are open, and how many of those nobody uses.
    pub fn pools(&self) -> [(&'static str, usize, usize); 2] {
        let pools = [("ledger_write", &self.writers.pool), ("ledger_read", &self.readers)];
        pools.map(|(name, pool)| {
            let (open, idle) = pool.open_and_idle();
            (name, open, idle)
        })
    }

    /// Brings the schema up to date. Several processes may do it at once.
    pub async fn migrate(&self) -> Result<(), Fault> {
        migrate::migrate(&self.readers).await
    }

    /// Makes the roles and what they may do in the ledger, where any of it is missing: in a database that was restored into
    /// another cluster, for instance. Only its owner may.
    pub async fn repair_roles(&self) -> Result<(), Fault> {
        migrate::repair_roles(&self.readers).await
    }

    /// Runs statements that only the owner of the schemas may, all or none: what several rooms share, and none of them can
    /// do for itself.
    pub async fn run_as_owner(&self, statements: &str) -> Result<(), Fault> {
        migrate::run(&self.readers, statements).await.map_err(fault("run statements as the owner"))
    }
}

#[async_trait]
impl Feed for PostgresLedger {
    async fn heads(&self) -> Result<Vec<(CompanyId, Head)>, Fault> {
        read::heads(&self.readers).await.map_err(fault("read the heads"))
    }

    async fn head(&self, company: CompanyId) -> Result<Option<Head>, Fault> {
        let tip = read::tip(&self.readers, company).await.map_err(fault("read a head"))?;
        Ok(tip.map(|tip| tip.head))
    }

    async fn read(&self, company: CompanyId, after: Position, limit: usize) -> Result<Vec<String>, Fault> {
        read::lines(&self.readers, company, after, limit).await.map_err(fault("read the ledger"))
    }

    async fn read_stream(
        &self,
        company: CompanyId,
        stream: &str,
        id: Uuid,
        after: Sequence,
        limit: usize,
    ) -> Result<Vec<String>, Fault> {
        let lines = read::stream_lines(&self.readers, company, (stream, id), after, limit).await;
        lines.map_err(fault("read a stream"))
    }

    async fn position_at(&self, company: CompanyId, at: Timestamp) -> Result<Position, Fault> {
        read::position_at(&self.readers, company, at).await.map_err(fault("find a position by time"))
    }

    async fn changed(&self, cursor: u64) -> Notification {
        changed(&self.notifications, cursor).await
    }
}

#[async_trait]
impl Ledger for PostgresLedger {
    async fn append(&self, batch: Vec<Append>) -> Result<Vec<Result<Appended, AppendError>>, Fault> {
        let outcomes = recording::append(&self.writers, &batch).await.inspect_err(|_| self.room.doubt())?;
        let heads = grown(&batch, &outcomes);
        self.announcer.tell(&heads);
        notice(&self.notifications, Grown::These(heads.into_iter().collect()));
        Ok(outcomes)
    }

    fn lanes(&self) -> usize {
        std::thread::available_parallelism().map_or(1, usize::from).min(WRITERS - 1)
    }

    async fn facts(&self, company: CompanyId) -> Result<Option<Hash>, Fault> {
        let tip = read::tip(&self.readers, company).await.map_err(fault("read a head"))?;
        Ok(tip.map(|tip| tip.facts))
    }

    async fn answered(&self, company: CompanyId, actor: &str, key: &str) -> Result<Option<Answered>, Fault> {
        let sql = "SELECT fingerprint, answer FROM cnc.commands WHERE id = $1";
        let query = sqlx::query(sql).bind(append::key_uuid(company, actor, key));
        let row = query.fetch_optional(&self.readers).await.map_err(fault("read an answer"))?;
        row.map(|row| append::read_answered(&row, 0)).transpose().map_err(fault("read an answer"))
    }

    async fn writable(&self) -> Result<Writable, Fault> {
        self.room.writable(&self.readers).await.map_err(fault("look whether entries can be recorded"))
    }

    async fn departed(&self, company: CompanyId) -> Result<bool, Fault> {
        read::departed(&self.readers, company).await.map_err(fault("read a head"))
    }

    async fn forget_answers(&self, before: Timestamp) -> Result<u64, Fault> {
        let sql = "DELETE FROM cnc.commands WHERE ctid = ANY (ARRAY(
                   SELECT ctid FROM cnc.commands WHERE NOT for_ever AND at < $1 LIMIT $2))";
        let mut forgotten = 0;
        loop {
            let query = sqlx::query(sql).bind(before.micros()).bind(FORGET_AT_ONCE);
            let portion = query.execute(&self.readers).await.map_err(fault("forget answers"))?.rows_affected();
            forgotten += portion;
            if i64::try_from(portion).is_ok_and(|portion| portion < FORGET_AT_ONCE) {
                return Ok(forgotten);
            }
        }
    }

    async fn time(&self) -> Result<LedgerTime, Fault> {
        let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
        let micros = sqlx::query_scalar(sql).fetch_one(&self.readers).await.map_err(fault("ask for the time"))?;
        Ok(LedgerTime::Now(Timestamp::from_micros(micros)))
    }
}

#[async_trait]
impl Audit for PostgresLedger {
    async fn stored(&self, company: CompanyId, after: Position) -> Result<Vec<Stored>, Fault> {
        read::stored(&self.readers, company, after).await.map_err(fault("read the ledger"))
    }

    async fn stored_head(&self, company: CompanyId) -> Result<Option<StoredHead>, Fault> {
        stored_head(&self.readers, company).await.map_err(fault("read a head"))
    }
}
