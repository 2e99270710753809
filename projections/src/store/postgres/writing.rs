//! Writing a batch in Postgres: one statement a table for documents, one for all positions.

use std::collections::HashMap;

use cnc_domain::{
    kernel::{self, Deadline, LocationId, Timestamp},
    ledger::Parcel,
};
use sqlx::{Result, Row as _};

use super::{
    super::{Commit, Standing, Write, Written},
    Tx,
    builds::int,
};

/// What identifies builds, as arrays.
struct Ids {
    companies: Vec<String>,
    folds: Vec<String>,
    versions: Vec<i64>,
    builds: Vec<i64>,
}

impl Ids {
    fn of<'a>(writes: impl IntoIterator<Item = &'a Write>) -> Self {
        let mut ids = Self { companies: Vec::new(), folds: Vec::new(), versions: Vec::new(), builds: Vec::new() };
        for Write { id, .. } in writes {
            ids.companies.push(id.company.to_string());
            ids.folds.push(id.fold.clone());
            ids.versions.push(id.version.into());
            ids.builds.push(id.build);
        }
        ids
    }
}

const UNNESTED: &str = "unnest($1::text[]::uuid[], $2::text[], $3::bigint[], $4::bigint[]";

pub(super) async fn commit(tx: &mut Tx, schema: &str, now: Timestamp, writes: &[Write]) -> Result<Commit> {
    let held = hold(tx, schema, writes).await?;
    let mut commit = Vec::with_capacity(writes.len());
    for write in writes {
        let held = held.get(&(write.id.fold.as_str().to_owned(), write.id.build));
        let Some((standing, _)) = held.filter(|(_, position)| *position == int(write.expected)) else {
            commit.push(None);
            continue;
        };
        commit.push(Some(one(tx, schema, now, write, *standing).await?));
    }
    let won: Vec<&Write> = writes.iter().zip(&commit).filter_map(|(write, won)| won.as_ref().map(|_| write)).collect();
    if !won.is_empty() {
        advance(tx, schema, now, &won).await?;
    }
    Ok(commit)
}

/// Locks the rows that nobody else holds, and says where they stand. All are of one company.
async fn hold(tx: &mut Tx, schema: &str, writes: &[Write]) -> Result<HashMap<(String, i64), (Standing, i64)>> {
    let text = format!(
        "SELECT f.fold, f.build, f.standing, f.position FROM {schema}.folds f
            JOIN {UNNESTED}) AS w (c, f, v, b)
                ON (f.company, f.fold, f.version, f.build) = (w.c, w.f, w.v, w.b)
         WHERE f.standing <> 'retired' ORDER BY f.fold FOR UPDATE OF f SKIP LOCKED"
    );
    let Ids { companies, folds, versions, builds } = Ids::of(writes);
    let rows = sqlx::query(&text).bind(companies).bind(folds).bind(versions).bind(builds).fetch_all(&mut **tx).await?;
    let held = rows.iter().map(|row| {
        let standing = Standing::named(&row.try_get::<String, _>(2)?);
        Ok(((row.try_get(0)?, row.try_get(1)?), (standing, row.try_get(3)?)))
    });
    held.collect()
}

/// Moves builds to where they are. What stopped one before is behind it then.
async fn advance(tx: &mut Tx, schema: &str, now: Timestamp, writes: &[&Write]) -> Result<()> {
    let text = format!(
        "UPDATE {schema}.folds f SET position = w.t, touched_at = $6, starts = 0,
            poison_reason = CASE WHEN f.poison_position <= w.t THEN NULL ELSE f.poison_reason END,
            poison_attempts = CASE WHEN f.poison_position <= w.t THEN 0 ELSE f.poison_attempts END,
            poison_position = CASE WHEN f.poison_position <= w.t THEN NULL ELSE f.poison_position END
         FROM {UNNESTED}, $5::bigint[]) AS w (c, f, v, b, t)
         WHERE (f.company, f.fold, f.version, f.build) = (w.c, w.f, w.v, w.b)"
    );
    let Ids { companies, folds, versions, builds } = Ids::of(writes.iter().copied());
    sqlx::query(&text)
        .bind(companies)
        .bind(folds)
        .bind(versions)
        .bind(builds)
        .bind(writes.iter().map(|write| int(write.to)).collect::<Vec<_>>())
        .bind(now.micros())
        .execute(&mut **tx)
        .await
        .map(drop)
}

async fn one(tx: &mut Tx, schema: &str, now: Timestamp, write: &Write, standing: Standing) -> Result<Written> {
    let mut were = Vec::new();
    for (shelf, changes) in &write.changes {
        let table = format!("{schema}.\"{}\"", write.plan.table(*shelf, write.plan.version));
        if *shelf == 0 && standing == Standing::Live && !write.plan.trigger {
            were = former(tx, &table, write, changes).await?;
            remember(tx, now, write, changes, &were).await?;
        }
        put(tx, &table, write, changes).await?;
        remove(tx, &table, write, changes).await?;
    }
    parcels(tx, &write.parcels).await?;
    deadlines(tx, write).await?;
    Ok(Written { were })
}

async fn put(tx: &mut Tx, table: &str, write: &Write, changes: &[kernel::Change]) -> Result<()> {
    let (mut keys, mut locations, mut docs, mut restricted) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for change in changes {
        if let Some(doc) = &change.doc {
            keys.push(change.key.as_str());
            locations.push(change.location.map(|location| location.to_string()));
            docs.push(doc.as_str());
            restricted.push(change.restricted.as_deref());
        }
    }
    if keys.is_empty() {
        return Ok(());
    }
    let text = format!(
        "INSERT INTO {table} (company, build, key, location, position, doc, restricted)
         SELECT $1::uuid, $2, u.k, u.l::uuid, $3, u.d::json, u.r::json
            FROM unnest($4::text[], $5::text[], $6::text[], $7::text[]) AS u (k, l, d, r)
         ON CONFLICT (company, build, key) DO UPDATE SET location = excluded.location, position = excluded.position,
            doc = excluded.doc, restricted = excluded.restricted"
    );
    sqlx::query(&text)
        .bind(write.id.company.to_string())
        .bind(write.id.build)
        .bind(int(write.to))
        .bind(keys)
        .bind(locations)
        .bind(docs)
        .bind(restricted)
        .execute(&mut **tx)
        .await
        .map(drop)
}

async fn remove(tx: &mut Tx, table: &str, write: &Write, changes: &[kernel::Change]) -> Result<()> {
    let gone: Vec<&str> =
        changes.iter().filter(|change| change.doc.is_none()).map(|change| change.key.as_str()).collect();
    if gone.is_empty() {
        return Ok(());
    }
    let text = format!("DELETE FROM {table} WHERE company = $1::uuid AND build = $2 AND key = ANY ($3)");
    let query = sqlx::query(&text).bind(write.id.company.to_string()).bind(write.id.build).bind(gone);
    query.execute(&mut **tx).await.map(drop)
}

/// The branches that changed documents had, where the documents were there; in the order of keys.
async fn former(
    tx: &mut Tx,
    table: &str,
    write: &Write,
    changes: &[kernel::Change],
) -> Result<Vec<(String, Option<LocationId>)>> {
    let keys: Vec<&str> = changes.iter().map(|change| change.key.as_str()).collect();
    let text = format!(
        "SELECT key, location::text FROM {table} WHERE company = $1::uuid AND build = $2 AND key = ANY ($3) ORDER BY key"
    );
    let query = sqlx::query(&text).bind(write.id.company.to_string()).bind(write.id.build).bind(keys);
    let rows = query.fetch_all(&mut **tx).await?;
    let were = rows.iter().map(|row| {
        let location: Option<String> = row.try_get(1)?;
        Ok((row.try_get(0)?, location.and_then(|location| location.parse().ok())))
    });
    were.collect()
}

/// Remembers for whom a document is gone: for all, or for those who see only the branch that it left.
async fn remember(
    tx: &mut Tx,
    now: Timestamp,
    write: &Write,
    changes: &[kernel::Change],
    were: &[(String, Option<LocationId>)],
) -> Result<()> {
    let were: HashMap<&str, Option<LocationId>> = were.iter().map(|(key, was)| (key.as_str(), *was)).collect();
    let (mut keys, mut locations) = (Vec::new(), Vec::new());
    for change in changes {
        let Some(was) = were.get(change.key.as_str()) else { continue };
        if change.doc.is_none() || (change.location != *was && change.location.is_some()) {
            keys.push(change.key.as_str());
            locations.push(was.map(|location| location.to_string()));
        }
    }
    if keys.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO cnc_views.removals (company, fold, position, key, location, removed_at)
         SELECT $1::uuid, $2, $3, u.k, u.l::uuid, $4 FROM unnest($5::text[], $6::text[]) AS u (k, l)
         ON CONFLICT (company, fold, position, key) DO NOTHING",
    )
    .bind(write.id.company.to_string())
    .bind(&write.id.fold)
    .bind(int(write.to))
    .bind(now.micros())
    .bind(keys)
    .bind(locations)
    .execute(&mut **tx)
    .await
    .map(drop)
}

/// Puts parcels in the outbox, due at once by every clock.
pub(super) async fn parcels(tx: &mut Tx, parcels: &[Parcel]) -> Result<()> {
    if parcels.is_empty() {
        return Ok(());
    }
    let companies: Vec<String> = parcels.iter().map(|parcel| parcel.company.to_string()).collect();
    let commands: Vec<String> = parcels.iter().map(|parcel| parcel.command.to_string()).collect();
    let texts = parcels.iter().map(text).collect::<Result<Vec<_>>>()?;
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

/// The last word on each deadline, in two statements.
async fn deadlines(tx: &mut Tx, write: &Write) -> Result<()> {
    let mut last = HashMap::new();
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
    sqlx::query("DELETE FROM cnc.deadlines WHERE company = $1::uuid AND fold = $2 AND key = ANY ($3)")
        .bind(&company)
        .bind(&write.id.fold)
        .bind(keys)
        .execute(&mut **tx)
        .await?;
    let set: Vec<_> = last.values().copied().flatten().collect();
    let texts = set.iter().map(|due| text(&due.parcel)).collect::<Result<Vec<_>>>()?;
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

fn text(parcel: &Parcel) -> Result<String> {
    serde_json::to_string(parcel).map_err(|wrong| sqlx::Error::Encode(Box::new(wrong)))
}
