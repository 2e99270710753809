//! Filters and pages of a large view as the role that sees one company, beside the same without row security.

use std::time::Instant;

use cnc_domain::kernel::CompanyId;
use cnc_projections::{Page, Query, Store};
use cnc_tests::postgres::Cluster;
use sqlx::{Connection as _, Executor as _, PgConnection};

use super::super::{
    Options, Outcome, load,
    report::{Report, Target},
};

const COMPANY: CompanyId = CompanyId::number(7);
const VIEW: &str = "dispatch_board";
const ROWS: usize = 60_000;
const LIMIT: usize = 50;
/// Reads of each kind in a turn.
const READS: u32 = 200;

/// Measures each kind of read in turns, with row security and without.
pub async fn measure(postgres: &Cluster, options: &Options, report: &mut Report) -> Outcome {
    let url = postgres.database().await;
    let store = Store::postgres(&url).await?;
    let mut owner = PgConnection::connect(&url).await?;
    let table = fill(&mut owner).await?;
    let mut turns: Vec<_> =
        queries(&store).await?.into_iter().map(|(what, query)| (what, query, [vec![], vec![]])).collect();
    for _ in 0..options.turns {
        for (nth, security) in ["ENABLE", "DISABLE"].into_iter().enumerate() {
            let tables = [table.clone(), format!("{table}_has_tags")];
            for table in tables {
                owner.execute(&*format!("ALTER TABLE cnc_views.{table} {security} ROW LEVEL SECURITY")).await?;
            }
            for (_, query, times) in &mut turns {
                times[nth].push(micros(&store, query).await?);
            }
        }
    }
    for (what, _, [secured, plain]) in turns {
        let what = format!("us a read, view of {ROWS} rows: {what}");
        let most = Some(Target::AtMost(3.0));
        report.add(what, load::median(secured), "the same without row security", load::median(plain), most);
    }
    Ok(())
}

/// What is read: what few rows have, what all have, and pages far from the beginning.
async fn queries(store: &Store) -> Outcome<Vec<(&'static str, Query)>> {
    let filter = |name: &str, value: &str| Query {
        filters: vec![(name.into(), value.into())],
        limit: LIMIT,
        ..Query::default()
    };
    let sort = |sort: Option<(&str, bool)>| Query {
        sort: sort.map(|(name, descending)| (name.into(), descending)),
        limit: LIMIT,
        ..Query::default()
    };
    Ok(vec![
        ("a filter that ten rows pass", filter("truck.id", "truck 17")),
        ("a filter of a list that ten rows pass", filter("tags", "tag 17")),
        ("a filter of a list that all rows pass", filter("tags", "all")),
        ("a page in the middle by key", deep(store, sort(None)).await?),
        ("a page in the middle by time", deep(store, sort(Some(("window.start", false)))).await?),
        ("a page in the middle by what all rows have alike", deep(store, sort(Some(("stage_since", true)))).await?),
    ])
}

/// A query that goes on from the middle of the view.
async fn deep(store: &Store, query: Query) -> Outcome<Query> {
    let mut large = Query { limit: 500, ..query.clone() };
    for _ in 0..ROWS / 2 / 500 {
        large.cursor = store.query(COMPANY, VIEW, &large).await.map_err(|error| error.to_string())?.next;
    }
    Ok(Query { cursor: large.cursor, ..query })
}

async fn micros(store: &Store, query: &Query) -> Outcome<f64> {
    let started = Instant::now();
    for _ in 0..READS {
        let Page { rows, .. } = store.query(COMPANY, VIEW, query).await.map_err(|error| error.to_string())?;
        if rows.is_empty() {
            return Err("a read found nothing".into());
        }
    }
    Ok(started.elapsed().as_secs_f64() * 1e6 / f64::from(READS))
}

/// Fills the table of a live build, and gives its name.
async fn fill(owner: &mut PgConnection) -> Outcome<String> {
    let version: i64 = sqlx::query_scalar("SELECT version FROM cnc_views.fold_tables WHERE fold = $1")
        .bind(VIEW)
        .fetch_one(&mut *owner)
        .await?;
    let table = format!("{VIEW}_v{version}");
    let build = format!(
        "INSERT INTO cnc_views.folds (company, fold, version, build, standing, position)
         VALUES ('{COMPANY}', '{VIEW}', {version}, 1, 'live', 1)"
    );
    let rows = format!(
        "INSERT INTO cnc_views.{table} (company, build, key, position, doc)
         SELECT '{COMPANY}', 1, lpad(i::text, 12, '0'), 1, json_build_object(
                'stage', 'planned', 'stage_since', 'then', 'window', json_build_object('start', i % 6000),
                'truck', json_build_object('id', 'truck ' || i % 6000),
                'tags', json_build_array('all', 'tag ' || i % 6000), 'notes', repeat('x', 500))
         FROM generate_series(1, {ROWS}) AS i"
    );
    for statement in [build, rows, "VACUUM ANALYZE".into()] {
        owner.execute(&*statement).await?;
    }
    Ok(table)
}
