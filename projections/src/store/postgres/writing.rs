//! Writing a batch in Postgres: one statement for all documents and positions, so that it takes one round trip.

use std::{collections::BTreeMap, fmt::Write as _};

use cnc_domain::{
    kernel::{self, Deadline, Timestamp},
    ledger::Parcel,
};
use cnc_postgres::Session;
use sqlx::{Postgres as Db, Result, Row as _, postgres::PgArguments, query::Query};

use super::{
    super::{Commit, Write, Written},
    Tx,
    builds::int,
    schema,
};

/// Makes a statement's transaction as lasting as views need: a lost tail of them is folded again. What triggers keep is as
/// durable as the ledger.
const RELAXED: &str = "set_config('synchronous_commit', 'off', true) AS relaxed CROSS JOIN";

/// The parameters before those of documents: what identifies builds, where they must stand and where they go, and the time.
const SHARED: usize = 9;
/// The parameters of the documents of one shelf.
const PER_SHELF: usize = 5;

/// Writes documents and positions. What is sent is [another matter](send).
///
/// Its text depends only on which tables are written, so that each connection plans it once.
///
/// All parts of the statement see the database as it was when it began, also those that read or delete documents, though
/// the rows of folds are locked only after that. It is right nevertheless. Whoever changes documents of a build moves its
/// row on, or retires it, in the same transaction. So where a row, which is locked and read as it is now, stands at
/// `expected`, nobody has changed a document since it came there; and that was before this statement began, since who
/// asks for it has read or written it.
pub(super) async fn commit(
    connection: &mut Session,
    trigger: bool,
    now: Timestamp,
    writes: &[Write],
) -> Result<Commit> {
    let text = text(trigger, writes);
    let mut query = shared(sqlx::query(&text), now, writes);
    for (_, shelf) in shelves(writes) {
        query = documents(query, shelf.changes);
    }
    let mut commit: Commit = writes.iter().map(|_| None).collect();
    for row in query.fetch_all(connection).await? {
        let nth = usize::try_from(row.try_get::<i64, _>(0)? - 1).map_err(|wrong| sqlx::Error::Decode(wrong.into()))?;
        let written = commit[nth].get_or_insert_with(|| Written { were: Vec::new() });
        if let Some(key) = row.try_get(1)? {
            let location: Option<&str> = row.try_get(2)?;
            written.were.push((key, location.and_then(|location| location.parse().ok())));
        }
    }
    Ok(commit)
}

/// Changed documents of one table.
struct Shelf<'a> {
    table: String,
    /// Whether these are what a view serves.
    served: bool,
    changes: &'a [kernel::Change],
}

/// All changed documents, each shelf with the number of its write, from 1 on.
fn shelves(writes: &[Write]) -> impl Iterator<Item = (usize, Shelf<'_>)> {
    (1..).zip(writes).flat_map(|(nth, write)| {
        write.changes.iter().map(move |(shelf, changes)| {
            let name = write.plan.table(*shelf, write.plan.version);
            let table = format!("{}.\"{name}\"", schema(write.plan.trigger));
            (nth, Shelf { table, served: *shelf == 0 && !write.plan.trigger, changes })
        })
    })
}

fn text(trigger: bool, writes: &[Write]) -> String {
    let (schema, relaxed) = (schema(trigger), if trigger { "" } else { RELAXED });
    let (mut parts, mut formers) = (String::new(), Vec::new());
    for (place, (nth, shelf)) in shelves(writes).enumerate() {
        let first = SHARED + place * PER_SHELF + 1;
        put_and_remove(&mut parts, nth, &shelf, first);
        if shelf.served {
            formers.push(former(nth, &shelf.table, first));
        }
    }
    let were = if formers.is_empty() {
        "SELECT n, NULL::text, NULL::text FROM held".to_owned()
    } else {
        let _ = write!(parts, ", former AS ({}), {REMEMBERED}", formers.join(" UNION ALL "));
        "SELECT h.n, w.key, w.location::text FROM held h LEFT JOIN former w ON w.n = h.n".to_owned()
    };
    // Locked is what nobody else holds.
    format!(
        "WITH held AS (
            SELECT w.n, f.*, w.t, w.th
            FROM {relaxed} unnest($1::text[]::uuid[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[],
                $8::bytea[], $9::bytea[]) WITH ORDINALITY AS w (c, f, v, b, e, t, eh, th, n)
            CROSS JOIN LATERAL (
                SELECT company, fold, version, build, standing FROM {schema}.folds
                WHERE (company, fold, version, build) = (w.c, w.f, w.v, w.b) AND position = w.e AND hash = w.eh
                    AND standing NOT IN ('retired', 'forked')
                FOR UPDATE SKIP LOCKED
            ) AS f
         ), advanced AS (
            UPDATE {schema}.folds f SET position = h.t, hash = h.th, touched_at = $7, begun = '{{}}',
                poison_reason = CASE WHEN f.poison_position <= h.t THEN NULL ELSE f.poison_reason END,
                poison_attempts = CASE WHEN f.poison_position <= h.t THEN 0 ELSE f.poison_attempts END,
                poison_position = CASE WHEN f.poison_position <= h.t THEN NULL ELSE f.poison_position END
            FROM held h WHERE (f.company, f.fold, f.version, f.build) = (h.company, h.fold, h.version, h.build)
         ){parts}
         {were}"
    )
}

/// The parts that write one shelf, whose parameters begin with number `first`. JSON goes as text and is cast, since a
/// driver's JSON binding reorders members.
fn put_and_remove(text: &mut String, nth: usize, Shelf { table, .. }: &Shelf<'_>, first: usize) {
    let [keys, locations, docs, restricted, gone] = std::array::from_fn(|place| first + place);
    let _ = write!(
        text,
        ", put_{first} AS (
            INSERT INTO {table} (company, build, key, location, position, doc, restricted)
            SELECT h.company, h.build, u.k, u.l::uuid, h.t, u.d::json, u.r::json
            FROM held h, unnest(${keys}::text[], ${locations}::text[], ${docs}::text[], ${restricted}::text[])
                AS u (k, l, d, r)
            WHERE h.n = {nth}
            ON CONFLICT (company, build, key) DO UPDATE SET location = excluded.location, position = excluded.position,
                doc = excluded.doc, restricted = excluded.restricted
         ), removed_{first} AS (
            DELETE FROM {table} WHERE ctid = ANY (ARRAY(
                SELECT d.ctid FROM held h CROSS JOIN unnest(${gone}::text[]) AS u (k) CROSS JOIN {document}
                WHERE h.n = {nth}))
         )",
        document = document(table, "ctid")
    );
}

/// The branches that changed documents of a live view had, where the documents were there; and whether they are gone from
/// there: for all, or for those who see only the branch that they left.
fn former(nth: usize, table: &str, first: usize) -> String {
    let (keys, locations, gone) = (first, first + 1, first + PER_SHELF - 1);
    format!(
        "SELECT h.n, h.company, h.fold, h.t AS position, d.key, d.location,
                u.k = ANY (${gone}::text[]) OR (u.l IS NOT NULL AND u.l IS DISTINCT FROM d.location) AS leaves
         FROM held h
         CROSS JOIN unnest(${keys}::text[] || ${gone}::text[], ${locations}::text[]::uuid[]) AS u (k, l)
         CROSS JOIN {document}
         WHERE h.n = {nth} AND h.standing = 'live'",
        document = document(table, "key, location")
    )
}

/// One document by its key. All indexes look alike to who plans for a table that is still empty, and most would have all
/// documents of the build read; but only the primary key gives them in this order.
fn document(table: &str, columns: &str) -> String {
    format!(
        "LATERAL (SELECT {columns} FROM {table} WHERE company = h.company AND build = h.build
                    AND key BETWEEN u.k AND u.k ORDER BY key LIMIT 1) AS d"
    )
}

const REMEMBERED: &str = "remembered AS (
            INSERT INTO cnc_views.removals (company, fold, position, key, location, removed_at)
            SELECT company, fold, position, key, location, $7 FROM former WHERE leaves
            ON CONFLICT (company, fold, position, key) DO NOTHING
         )";

type Bound<'q> = Query<'q, Db, PgArguments>;

fn shared<'q>(query: Bound<'q>, now: Timestamp, writes: &[Write]) -> Bound<'q> {
    query
        .bind(writes.iter().map(|write| write.id.company.to_string()).collect::<Vec<_>>())
        .bind(writes.iter().map(|write| write.id.fold.clone()).collect::<Vec<_>>())
        .bind(writes.iter().map(|write| i64::from(write.id.version)).collect::<Vec<_>>())
        .bind(writes.iter().map(|write| write.id.build).collect::<Vec<_>>())
        .bind(writes.iter().map(|write| int(write.expected.position)).collect::<Vec<_>>())
        .bind(writes.iter().map(|write| int(write.to.position)).collect::<Vec<_>>())
        .bind(now.micros())
        .bind(writes.iter().map(|write| write.expected.hash.0.to_vec()).collect::<Vec<_>>())
        .bind(writes.iter().map(|write| write.to.hash.0.to_vec()).collect::<Vec<_>>())
}

fn documents<'q>(query: Bound<'q>, changes: &'q [kernel::Change]) -> Bound<'q> {
    let (mut keys, mut locations, mut docs, mut restricted) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut gone = Vec::new();
    for change in changes {
        let Some(doc) = &change.doc else {
            gone.push(change.key.as_str());
            continue;
        };
        keys.push(change.key.as_str());
        locations.push(change.location.map(|location| location.to_string()));
        docs.push(doc.as_str());
        restricted.push(change.restricted.as_deref());
    }
    query.bind(keys).bind(locations).bind(docs).bind(restricted).bind(gone)
}

/// Writes what those of a commit that were written send.
pub(super) async fn send(tx: &mut Tx, writes: &[Write], commit: &Commit) -> Result<()> {
    for (write, _) in writes.iter().zip(commit).filter(|(_, written)| written.is_some()) {
        parcels(tx, &write.parcels).await?;
        deadlines(tx, write).await?;
    }
    Ok(())
}

/// Puts parcels in the outbox, due at once by every clock.
pub(super) async fn parcels(tx: &mut Tx, parcels: &[Parcel]) -> Result<()> {
    if parcels.is_empty() {
        return Ok(());
    }
    let companies: Vec<String> = parcels.iter().map(|parcel| parcel.company.to_string()).collect();
    let commands: Vec<String> = parcels.iter().map(|parcel| parcel.command.to_string()).collect();
    let texts = parcels.iter().map(parcel_text).collect::<Result<Vec<_>>>()?;
    sqlx::query(
        "INSERT INTO cnc.outbox (company, command, parcel, due_at)
         SELECT u.c::uuid, u.i::uuid, u.p::json, 0 FROM unnest($1::text[], $2::text[], $3::text[])
            WITH ORDINALITY AS u (c, i, p, nth) ORDER BY u.nth
         ON CONFLICT (company, command) DO NOTHING",
    )
    .bind(companies)
    .bind(commands)
    .bind(texts)
    .execute(&mut **tx)
    .await
    .map(drop)
}

/// The last word on each deadline, in two statements. Rows are locked in the order of keys, as all do.
async fn deadlines(tx: &mut Tx, write: &Write) -> Result<()> {
    let mut last = BTreeMap::new();
    for deadline in &write.deadlines {
        match deadline {
            Deadline::Set(due) => last.insert(due.key.as_str(), Some(due)),
            Deadline::Cleared(key) => last.insert(key.as_str(), None),
        };
    }
    if last.is_empty() {
        return Ok(());
    }
    let company = write.id.company.to_string();
    let keys: Vec<&str> = last.keys().copied().collect();
    sqlx::query(
        "WITH held AS MATERIALIZED (SELECT company, fold, key FROM cnc.deadlines
            WHERE company = $1::uuid AND fold = $2 AND key = ANY ($3) ORDER BY key FOR UPDATE)
         DELETE FROM cnc.deadlines AS d USING held AS h WHERE (d.company, d.fold, d.key) = (h.company, h.fold, h.key)",
    )
    .bind(&company)
    .bind(&write.id.fold)
    .bind(keys)
    .execute(&mut **tx)
    .await?;
    let set: Vec<_> = last.values().copied().flatten().collect();
    let texts = set.iter().map(|due| parcel_text(&due.parcel)).collect::<Result<Vec<_>>>()?;
    sqlx::query(
        "INSERT INTO cnc.deadlines (company, fold, key, due_at, parcel)
         SELECT $1::uuid, $2, u.k, u.d, u.p::json FROM unnest($3::text[], $4::bigint[], $5::text[]) AS u (k, d, p)",
    )
    .bind(&company)
    .bind(&write.id.fold)
    .bind(set.iter().map(|due| due.key.as_str()).collect::<Vec<_>>())
    .bind(set.iter().map(|due| due.at.micros()).collect::<Vec<_>>())
    .bind(texts)
    .execute(&mut **tx)
    .await
    .map(drop)
}

fn parcel_text(parcel: &Parcel) -> Result<String> {
    serde_json::to_string(parcel).map_err(|wrong| sqlx::Error::Encode(Box::new(wrong)))
}
