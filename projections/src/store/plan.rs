//! A fold as its storage sees it: which tables it has, and how their documents may be asked for.

use cnc_domain::kernel::{
    FoldKind,
    schema::{DocumentContract, Schemas},
};
use serde_json::Value;

/// One fold of this program.
pub(crate) struct Plan {
    /// The fold.
    pub kind: &'static dyn FoldKind,
    /// Its name.
    pub fold: &'static str,
    /// The version of its documents.
    pub version: u32,
    /// Whether it sends commands: its documents then stand beside the ledger.
    pub trigger: bool,
    /// Its tables, in the order of its shelves.
    pub tables: Vec<Table>,
}

/// The table of one kind of document.
pub(crate) struct Table {
    /// The document's name.
    pub document: &'static str,
    /// The members that may be filtered by.
    pub filters: Vec<Path>,
    /// The members that may be sorted by, beside the key.
    pub sorts: Vec<Path>,
}

/// A member of a document.
#[derive(Clone, Debug)]
pub(crate) struct Path {
    /// Its names with dots between.
    pub name: &'static str,
    /// What stands there.
    pub form: Form,
}

/// What stands at a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A text, a time or an id.
    Text,
    /// A whole number.
    Integer,
    /// True or false.
    Boolean,
    /// Several texts.
    List,
}

impl Plan {
    /// The plan of a kind of fold.
    pub fn of(kind: &'static dyn FoldKind) -> Self {
        let tables = kind.documents(&mut Schemas::default()).iter().map(Table::of).collect();
        Self { kind, fold: kind.name(), version: kind.version(), trigger: kind.is_trigger(), tables }
    }

    /// The name of a table of any version.
    pub fn table(&self, shelf: usize, version: u32) -> String {
        format!("{}_v{version}", self.tables[shelf].document)
    }
}

impl Table {
    fn of(contract: &DocumentContract) -> Self {
        let path = |name: &&'static str| Path { name, form: form(&contract.schema, name) };
        Self {
            document: contract.name,
            filters: contract.filters.iter().map(path).collect(),
            sorts: contract.sorts.iter().map(path).collect(),
        }
    }
}

/// What the schema says of the member at a path with dots; a text where it says nothing.
fn form(schema: &Value, path: &str) -> Form {
    path.split('.').try_fold(schema, |schema, name| member(schema, name)).map_or(Form::Text, typed)
}

fn member<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    schema.pointer(&format!("/properties/{name}")).or_else(|| alternatives(schema).find_map(|one| member(one, name)))
}

fn alternatives(schema: &Value) -> impl Iterator<Item = &Value> {
    ["anyOf", "oneOf", "allOf"]
        .into_iter()
        .filter_map(|several| schema.get(several).and_then(Value::as_array))
        .flatten()
}

fn typed(schema: &Value) -> Form {
    let is = |name: &str| match schema.get("type") {
        Some(Value::String(kind)) => kind == name,
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == name),
        _ => false,
    };
    if is("integer") {
        Form::Integer
    } else if is("boolean") {
        Form::Boolean
    } else if is("array") {
        Form::List
    } else {
        alternatives(schema).map(typed).find(|form| *form != Form::Text).unwrap_or(Form::Text)
    }
}
