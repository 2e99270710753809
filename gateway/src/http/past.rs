//! A view as it was: folded again from the entries up to a position. Filtering, sorting and paging are done here, in
//! memory.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use cnc_commands::AsOf;
use cnc_domain::{
    kernel::Timestamp,
    ledger::{Entry, Position},
};
use cnc_projections::{AsOfError, Page, Query, Row};

use super::app::App;
use crate::{authorize::Grant, catalog::Served, matching, problem::Problem};

/// A moment in a company's ledger.
pub(crate) struct Past {
    /// After the entry at this position.
    pub position: Position,
    /// What the clock showed.
    pub at: Timestamp,
}

impl Past {
    /// The moment that was asked for; one that has not come is now.
    pub async fn of(app: &App, grant: &Grant, as_of: AsOf) -> Result<Self, Problem> {
        let (ledger, company) = (app.host.ledger(), grant.company());
        let head = ledger.head(company).await?.ok_or_else(Problem::not_found)?;
        match as_of {
            AsOf::Time(at) => Ok(Self { position: ledger.position_at(company, at).await?, at: at.min(app.now()) }),
            AsOf::Position(asked) => {
                let position = asked.min(head.position);
                let line = ledger.read(company, position.saturating_sub(1), 1).await?.into_iter().next();
                let entry = line.map(|line| Entry::read(&line)).transpose();
                let entry = entry.map_err(|cause| Problem::broken("reading an entry", cause))?;
                Ok(Self { position, at: entry.map_or_else(|| app.now(), |entry| entry.at) })
            }
        }
    }

    /// A row as it was.
    pub async fn row(&self, app: &App, grant: &Grant, view: &Served, key: &str) -> Result<Option<Row>, Problem> {
        let row = app.engine.document_as_of(grant.company(), view.name(), key, self.position).await?;
        match row.filter(|row| grant.sees(view, row)) {
            Some(row) if is_still_seen(app, grant, view, key).await? => Ok(Some(row)),
            _ => Ok(None),
        }
    }

    /// A page as it was.
    pub async fn page(&self, app: &App, grant: &Grant, view: &Served, query: &Query) -> Result<Page, Problem> {
        let mut rows = app.engine.view_as_of(grant.company(), view.name(), self.position).await?;
        rows.retain(|row| grant.sees(view, row) && matching::matches(&row.doc, &query.filters));
        let mut seen = Vec::with_capacity(rows.len());
        for row in rows {
            if is_still_seen(app, grant, view, &row.key).await? {
                seen.push(row);
            }
        }
        let mut rows = seen;
        rows.sort_by(|one, other| {
            let (order, turn) = match &query.sort {
                Some((member, turn)) if member == "key" => (std::cmp::Ordering::Equal, *turn),
                Some((member, turn)) => (matching::compare(&one.doc, &other.doc, member), *turn),
                None => (std::cmp::Ordering::Equal, false),
            };
            let order = order.then_with(|| one.key.cmp(&other.key));
            if turn { order.reverse() } else { order }
        });
        Ok(Page { position: self.position, ..cut(rows, query)? })
    }
}

/// Who takes part in something no more sees nothing of its past either. A branch keeps what was its own.
async fn is_still_seen(app: &App, grant: &Grant, view: &Served, key: &str) -> Result<bool, Problem> {
    if !grant.sees_own_only() {
        return Ok(true);
    }
    let now = app.store.get(grant.company(), view.name(), key, None).await?.row;
    Ok(now.is_some_and(|row| grant.sees(view, &row)))
}

/// The rows after the cursor: the past does not change, so the last row's key says where a page ended.
fn cut(mut rows: Vec<Row>, query: &Query) -> Result<Page, Problem> {
    if let Some(cursor) = &query.cursor {
        let key = URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|key| String::from_utf8(key).ok());
        let last = key.and_then(|key| rows.iter().position(|row| row.key == key));
        let last = last.ok_or_else(|| Problem::bad_request("bad_query", "the cursor is not of this query"))?;
        rows.drain(..=last);
    }
    let more = rows.len() > query.limit;
    rows.truncate(query.limit);
    let next = rows.last().filter(|_| more).map(|row| URL_SAFE_NO_PAD.encode(&row.key));
    Ok(Page { rows, next, ..Page::default() })
}

impl From<AsOfError> for Problem {
    fn from(error: AsOfError) -> Self {
        match error {
            AsOfError::UnknownView(_) => Self::not_found(),
            AsOfError::Busy(why) => Self::busy(why),
            AsOfError::Fault(fault) => Self::fault(&fault),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(key: &str) -> Row {
        Row { key: key.into(), location: None, position: 1, doc: json!({}), restricted: None }
    }

    #[test]
    fn pages_of_the_past_follow_one_another() {
        let rows = || ["a", "b", "c"].map(row).to_vec();
        let mut query = Query { limit: 2, ..Query::default() };
        let page = cut(rows(), &query).expect("is a page");
        assert_eq!(page.rows.len(), 2);
        query.cursor = page.next;
        let page = cut(rows(), &query).expect("is a page");
        assert_eq!((page.rows[0].key.as_str(), page.next), ("c", None));
        query.cursor = Some("nonsense".into());
        assert!(cut(rows(), &query).is_err());
    }
}
