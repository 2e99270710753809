//! What a query of a large view reads of it, as the role that sees one company and some of its branches.

use std::sync::Arc;

use cnc_domain::kernel::{CompanyId, fold};
use cnc_projections::{Engine, Query, Store};
use cnc_tests::postgres::clusters;
use sqlx::{Connection as _, Executor as _, PgConnection};

use super::{
    ACME, PATIENCE, Place, Running, put_in, till, views,
    world::{Ledgers, Sums},
};

/// Rows of the view: sorted by ten of the same each time, and by a thousand that have none.
const ROWS: i64 = 20_000;
const LIMIT: usize = 50;
/// How many rows may be read for a page: its own, and those of the lists that name them.
const READ_MAX: i64 = 200;

/// A view that is filled, and nobody connected to its database but whoever looks at it.
struct Large {
    place: Place,
    feed: Arc<Ledgers>,
    watcher: PgConnection,
}

impl Large {
    async fn new(place: Place) -> Self {
        let feed = Arc::new(Ledgers::default());
        let running = Running::start(&feed, &place, views(&[fold::<Sums<1>>()])).await;
        feed.tell(ACME, till(0), put_in(1));
        running.reached(ACME, "sums", 1).await;
        running.stop().await;
        let Place::Postgres(url) = &place else { panic!("it is on Postgres") };
        let mut watcher = PgConnection::connect(url).await.expect("connects");
        let fill = format!(
            "INSERT INTO cnc_views.sums_v1 (company, build, key, position, doc)
             SELECT company, build, 'row' || lpad(i::text, 8, '0'), 1,
                    CASE WHEN i % 20 = 0 THEN json_build_object('tags', json_build_array('all', 'tag' || i % 400))
                    ELSE json_build_object('total', i / 10, 'tags', json_build_array('all', 'tag' || i % 400)) END
             FROM cnc_views.folds, generate_series(1, {ROWS}) AS i WHERE fold = 'sums' AND standing = 'live'"
        );
        watcher.execute(&*fill).await.expect("fills");
        for table in ["sums_v1", "sums_v1_has_tags"] {
            watcher.execute(&*format!("VACUUM ANALYZE cnc_views.{table}")).await.expect("analyzes");
        }
        Self { place, feed, watcher }
    }

    /// Does what `ask` does on a store of its own, and gives how many rows of all tables of the view were read for it: what
    /// a connection has read is counted when it is gone.
    async fn read_by(&mut self, ask: impl AsyncFnOnce(&Store)) -> i64 {
        self.nobody_is_connected().await;
        let before = self.rows_read().await;
        let store = self.place.store().await;
        let engine = Engine::new(self.feed.clone(), store.clone(), views(&[fold::<Sums<1>>()]));
        engine.verify(Some(CompanyId::nil())).await.expect("makes what is missing");
        ask(&store).await;
        drop((engine, store));
        self.nobody_is_connected().await;
        self.rows_read().await - before
    }

    async fn nobody_is_connected(&mut self) {
        let others = "SELECT count(*) FROM pg_stat_activity
                      WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()";
        let waiting = async {
            while sqlx::query_scalar::<_, i64>(others).fetch_one(&mut self.watcher).await.expect("counts") > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("connections close");
    }

    async fn rows_read(&mut self) -> i64 {
        let read = "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::bigint FROM pg_stat_user_tables
                    WHERE schemaname = 'cnc_views' AND relname LIKE 'sums%'";
        sqlx::query_scalar(read).fetch_one(&mut self.watcher).await.expect("counts")
    }
}

fn query(filters: &[(&str, &str)], sort: Option<(&str, bool)>) -> Query {
    let filters = filters.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    Query { filters, sort: sort.map(|(name, down)| (name.into(), down)), limit: LIMIT, ..Query::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_reads_what_it_finds() {
    for cluster in clusters() {
        eprintln!("on {}", cluster.version());
        let mut large = Large::new(Place::on(cluster).await).await;
        for (filters, found) in [
            (vec![("total", "77")], 10),
            (vec![("tags", "tag7")], LIMIT),
            (vec![("tags", "all")], LIMIT),
            (vec![("tags", "none")], 0),
            (vec![("tags", "all"), ("total", "77")], 10),
        ] {
            let read = large
                .read_by(async |store| {
                    let page = store.query(ACME, "sums", &query(&filters, None)).await.expect("answers");
                    assert_eq!(page.rows.len(), found, "{filters:?}");
                })
                .await;
            assert!(read <= READ_MAX, "{filters:?}: {read} rows were read for {found}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_reads_itself_however_deep_it_lies() {
    for cluster in clusters() {
        eprintln!("on {}", cluster.version());
        let mut large = Large::new(Place::on(cluster).await).await;
        for sort in [None, Some(("total", false)), Some(("total", true)), Some(("key", true))] {
            let mut seen = 0;
            let read = large
                .read_by(async |store| {
                    let mut query = Query { limit: 500, ..query(&[], sort) };
                    loop {
                        let page = store.query(ACME, "sums", &query).await.expect("answers");
                        seen += i64::try_from(page.rows.len()).expect("few");
                        query.cursor = page.next;
                        if query.cursor.is_none() {
                            break;
                        }
                    }
                })
                .await;
            assert_eq!(seen, ROWS + 1);
            assert!(read <= 3 * ROWS, "{sort:?}: {read} rows were read for {ROWS}");
        }
    }
}
