//! What a caller sees of a row: restricted members where the role may see them, personal data opened where it may, and
//! what is computed at the time of reading.

use std::sync::Arc;

use cnc_commands::Standing;
use cnc_domain::kernel::{Reading, Timestamp};
use cnc_projections::Row;
use serde_json::{Value, json};

use super::app::App;
use crate::{authorize::Grant, catalog::Served, problem::Problem};

/// How one caller sees one view at one time.
pub(crate) struct Shape<'a> {
    grant: &'a Grant,
    view: &'a Served,
    standing: Arc<Standing>,
    now: Timestamp,
}

impl<'a> Shape<'a> {
    /// The shape of `view` under this grant; ages and minutes are counted to `now`.
    pub async fn of(app: &App, grant: &'a Grant, view: &'a Served, now: Timestamp) -> Result<Self, Problem> {
        let standing = app.host.standing(grant.company()).await?.ok_or_else(Problem::not_found)?;
        Ok(Self { grant, view, standing, now })
    }

    /// Rows as the caller sees them.
    pub async fn rows(&self, app: &App, rows: Vec<Row>) -> Result<Vec<Value>, Problem> {
        Ok(self.opened(app, rows).await?.0)
    }

    /// The same, and how many personal values were opened in them.
    async fn opened(&self, app: &App, rows: Vec<Row>) -> Result<(Vec<Value>, usize), Problem> {
        let restricted = self.grant.sees_restricted();
        let (mut heads, mut docs) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
        for Row { key, location, position, doc, restricted: closed } in rows {
            heads.push((key, location, position));
            docs.push(if restricted { whole(doc, closed) } else { doc });
        }
        // All at once, so that the keys of all rows are fetched together.
        let mut docs = Value::Array(docs);
        let opened = app.open(self.grant, &mut docs).await?;
        let Value::Array(docs) = docs else { return Err(Problem::broken("opening rows", "no list came back")) };
        let shown = heads.into_iter().zip(docs).map(|((key, location, position), doc)| {
            json!({ "key": key, "location": location, "position": position, "doc": self.present(doc) })
        });
        Ok((shown.collect(), opened))
    }

    /// One row as the caller sees it, as text that lacks its end: `,"view_position":…}`. Where the row was not read for this
    /// request alone, what the role was [shown](super::shown) of it a moment ago is shown again.
    pub async fn row(&self, app: &App, row: Arc<Row>, lately: bool) -> Result<Arc<str>, Problem> {
        let (company, role) = (self.grant.company(), self.grant.role().to_owned());
        let place = (company, self.view.name(), row.key.clone(), role);
        if lately && let Some(text) = app.shown.get(&place, &row, &self.standing) {
            return Ok(text);
        }
        let (mut rows, opened) = self.opened(app, vec![Row::clone(&row)]).await?;
        let mut body = rows.pop().unwrap_or_default();
        body["view"] = self.view.name().into();
        let mut text = body.to_string();
        text.pop();
        let text: Arc<str> = text.into();
        if lately && opened == 0 {
            app.shown.keep(place, row, self.standing.clone(), text.clone());
        }
        Ok(text)
    }

    fn present(&self, doc: Value) -> Value {
        match self.view.view.present {
            Some(present) => present(doc, &Reading { now: self.now, settings: &self.standing.settings }),
            None => doc,
        }
    }
}

/// A document and its restricted members as one.
fn whole(mut doc: Value, restricted: Option<Value>) -> Value {
    if let (Some(doc), Some(Value::Object(restricted))) = (doc.as_object_mut(), restricted) {
        doc.extend(restricted);
    }
    doc
}
