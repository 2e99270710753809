//! Keys, as they are: wrapped by the master key, which both installations have.

use cnc_domain::{kernel::CompanyId, ledger::Fault};
use futures::TryStreamExt as _;
use sqlx::{PgConnection, Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{
    TransferError, lost, pages,
    rows::{Bytes, KeyRow, KeyTable},
};

pub(crate) const AT_ONCE: usize = 2_000;

fn bytes(company: CompanyId) -> Vec<u8> {
    company.uuid().as_bytes().to_vec()
}

/// Copies the company's own key: before anything else, so that nobody makes another one in the target.
pub(super) async fn company(
    source: &mut PgConnection,
    target: &mut PgConnection,
    company: CompanyId,
) -> Result<(), TransferError> {
    let copied = some(source, company, KeyTable::Companies, &[bytes(company)]).await?;
    if copied.is_empty() {
        return Ok(());
    }
    write(target, &copied).await?;
    if some(target, company, KeyTable::Companies, &[bytes(company)]).await? == copied {
        return Ok(());
    }
    Err(TransferError::Differs("the target holds another key of this company"))
}

/// Copies the keys, prints and records of destroyed keys that the target has not.
pub(super) async fn rest(
    source: &mut PgConnection,
    target: &mut PgConnection,
    company: CompanyId,
) -> Result<(), Fault> {
    for table in [KeyTable::Subjects, KeyTable::Prints, KeyTable::DestroyedKeys] {
        for keys in only_in(source, target, company, table).await?.chunks(AT_ONCE) {
            write(target, &some(source, company, table, keys).await?).await?;
        }
    }
    Ok(())
}

/// Drops keys that the source has no more: what was erased there meanwhile stays erased.
pub(super) async fn gone(
    source: &mut PgConnection,
    target: &mut PgConnection,
    company: CompanyId,
) -> Result<(), Fault> {
    for table in [KeyTable::Subjects, KeyTable::Prints] {
        let erased = only_in(target, source, company, table).await?;
        let sql = format!("DELETE FROM cnc_keys.{} WHERE company = $1 AND {} = ANY ($2)", table.name(), table.key());
        sqlx::query(&sql).bind(bytes(company)).bind(erased).execute(&mut *target).await.map_err(lost)?;
    }
    Ok(())
}

/// The keys that `here` has and `there` has not.
async fn only_in(
    here: &mut PgConnection,
    there: &mut PgConnection,
    company: CompanyId,
    table: KeyTable,
) -> Result<Vec<Vec<u8>>, Fault> {
    let (name, key) = (table.name(), table.key());
    let all = format!("SELECT {key} FROM cnc_keys.{name} WHERE company = $1");
    let missing = format!(
        "SELECT k FROM unnest($2::bytea[]) AS u (k)
         WHERE NOT EXISTS (SELECT FROM cnc_keys.{name} WHERE company = $1 AND {key} = u.k)"
    );
    let rows = sqlx::query_scalar::<_, Vec<u8>>(&all).bind(bytes(company)).fetch(here);
    let mut pages = std::pin::pin!(pages(rows, AT_ONCE));
    let mut only = Vec::new();
    while let Some(page) = pages.try_next().await? {
        let asked = sqlx::query_scalar::<_, Vec<u8>>(&missing).bind(bytes(company)).bind(page);
        only.extend(asked.fetch_all(&mut *there).await.map_err(lost)?);
    }
    Ok(only)
}

/// A company's rows under these keys.
async fn some(
    source: &mut PgConnection,
    company: CompanyId,
    table: KeyTable,
    keys: &[Vec<u8>],
) -> Result<Vec<KeyRow>, Fault> {
    let (columns, name, key) = (table.columns(), table.name(), table.key());
    let sql = format!("SELECT {columns} FROM cnc_keys.{name} WHERE company = $1 AND {key} = ANY ($2)");
    let rows = sqlx::query(&sql).bind(bytes(company)).bind(keys).fetch_all(source).await.map_err(lost)?;
    rows.iter().map(|row| read(table, row)).collect::<sqlx::Result<_>>().map_err(lost)
}

/// Rows of all companies after a place, in order.
pub(crate) async fn page(
    source: &mut PgConnection,
    table: KeyTable,
    (company, key): &(Vec<u8>, Vec<u8>),
) -> sqlx::Result<Vec<KeyRow>> {
    let (columns, name, by) = (table.columns(), table.name(), table.key());
    let sql = format!(
        "SELECT {columns} FROM cnc_keys.{name} WHERE (company, {by}) > ($1, $2) ORDER BY company, {by} LIMIT {AT_ONCE}"
    );
    let rows = sqlx::query(&sql).bind(company).bind(key).fetch_all(source).await?;
    rows.iter().map(|row| read(table, row)).collect()
}

/// What says under which master key the store is.
pub(crate) async fn check(source: &mut PgConnection) -> sqlx::Result<Option<KeyRow>> {
    let row = sqlx::query("SELECT store, value FROM cnc_keys.key_check").fetch_optional(source).await?;
    row.map(|row| Ok(KeyRow::KeyCheck { store: id(&row, 0)?, value: Bytes(row.try_get(1)?) })).transpose()
}

fn id(row: &PgRow, column: usize) -> sqlx::Result<Uuid> {
    Uuid::from_slice(row.try_get(column)?).map_err(|wrong| sqlx::Error::Decode(wrong.into()))
}

fn read(table: KeyTable, row: &PgRow) -> sqlx::Result<KeyRow> {
    let company = CompanyId::new(id(row, 0)?);
    Ok(match table {
        KeyTable::Companies => KeyRow::Companies { company, secret: Bytes(row.try_get(1)?) },
        KeyTable::Subjects => {
            KeyRow::Subjects { company, id: id(row, 1)?, subject: id(row, 2)?, secret: Bytes(row.try_get(3)?) }
        }
        KeyTable::Prints => KeyRow::Prints { company, tag: Bytes(row.try_get(1)?), token: row.try_get(2)? },
        KeyTable::DestroyedKeys => KeyRow::DestroyedKeys {
            company,
            id: id(row, 1)?,
            subject: id(row, 2)?,
            destroyed_at: row.try_get(3)?,
            destroyed_by: row.try_get(4)?,
        },
    })
}

/// Writes rows, of whatever tables, a statement a table. Keys and prints that are there already give way: a subject whose key
/// was destroyed and made anew has another one. A company's key stays as it is.
pub(crate) async fn write(target: &mut PgConnection, rows: &[KeyRow]) -> Result<(), Fault> {
    let (mut subjects, mut prints, mut destroyed) = (Columns::default(), Columns::default(), Columns::default());
    let (mut times, mut by) = (Vec::new(), Vec::new());
    for row in rows {
        match row {
            KeyRow::KeyCheck { store, value } => {
                let sql = "INSERT INTO cnc_keys.key_check (store, value) VALUES ($1, $2)
                           ON CONFLICT (one) DO UPDATE SET store = excluded.store, value = excluded.value";
                let query = sqlx::query(sql).bind(store.as_bytes().as_slice()).bind(&value.0);
                query.execute(&mut *target).await.map_err(lost)?;
            }
            KeyRow::Companies { company, secret } => {
                let sql = "INSERT INTO cnc_keys.companies (company, secret) VALUES ($1, $2) ON CONFLICT DO NOTHING";
                let query = sqlx::query(sql).bind(bytes(*company)).bind(&secret.0);
                query.execute(&mut *target).await.map_err(lost)?;
            }
            KeyRow::Subjects { company, id, subject, secret } => {
                subjects.push(*company, [id.as_bytes(), subject.as_bytes(), &secret.0]);
            }
            KeyRow::Prints { company, tag, token } => {
                prints.push(*company, [&tag.0, &[], token.as_bytes()]);
            }
            KeyRow::DestroyedKeys { company, id, subject, destroyed_at, destroyed_by } => {
                destroyed.push(*company, [id.as_bytes(), subject.as_bytes(), &[]]);
                times.push(*destroyed_at);
                by.push(destroyed_by.as_str());
            }
        }
    }
    let sql = "INSERT INTO cnc_keys.subjects (company, id, subject, secret)
               SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::bytea[], $4::bytea[])
               ON CONFLICT (company, subject) DO UPDATE SET id = excluded.id, secret = excluded.secret";
    subjects.bind(sql).execute(&mut *target).await.map_err(lost)?;
    let sql = "INSERT INTO cnc_keys.prints (company, tag, token)
               SELECT c, t, convert_from(v, 'UTF8')
               FROM unnest($1::bytea[], $2::bytea[], $3::bytea[], $4::bytea[]) AS p (c, t, s, v)
               ON CONFLICT (company, tag) DO UPDATE SET token = excluded.token";
    prints.bind(sql).execute(&mut *target).await.map_err(lost)?;
    let sql = "INSERT INTO cnc_keys.destroyed_keys (company, id, subject, destroyed_at, destroyed_by)
               SELECT c, i, s, at, by FROM unnest($1::bytea[], $2::bytea[], $3::bytea[], $4::bytea[], $5::bigint[], $6::text[])
                   AS d (c, i, s, v, at, by)
               ON CONFLICT DO NOTHING";
    destroyed.bind(sql).bind(times).bind(by).execute(target).await.map_err(lost).map(drop)
}

/// Rows of one table, by column: company, key, subject, what it holds.
#[derive(Default)]
struct Columns<'a> {
    companies: Vec<Vec<u8>>,
    others: [Vec<&'a [u8]>; 3],
}

impl<'a> Columns<'a> {
    fn push(&mut self, company: CompanyId, row: [&'a [u8]; 3]) {
        self.companies.push(bytes(company));
        self.others.iter_mut().zip(row).for_each(|(column, value)| column.push(value));
    }

    fn bind(self, sql: &'a str) -> sqlx::query::Query<'a, sqlx::Postgres, sqlx::postgres::PgArguments> {
        let query = sqlx::query(sql).bind(self.companies);
        self.others.into_iter().fold(query, sqlx::query::Query::bind)
    }
}
