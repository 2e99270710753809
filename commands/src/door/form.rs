//! A schema, compiled once, in the shape that the walk needs.

use std::collections::{HashMap, HashSet};

use cnc_domain::kernel::{Kind, schema::Schemas};
use regex_lite::Regex;
use serde_json::{Map, Value};

use super::{
    walk::{FormError, walk},
    walked::Walked,
};

/// The greatest integer that every JSON reader holds exactly.
const EXACT: i64 = (1 << 53) - 1;

/// The form of a command's fields.
#[derive(Debug)]
pub struct Form(pub(super) Node);

/// The kinds of personal data that a form may hold, with the forms of their parts.
#[derive(Default)]
pub struct Kinds(HashMap<&'static str, KindForm>);

pub(super) struct KindForm {
    pub kind: Kind,
    pub part: Option<Node>,
}

#[derive(Debug)]
pub(super) enum Node {
    /// Any JSON that can be recorded.
    Any,
    Null,
    Boolean,
    Integer {
        min: i64,
        max: i64,
    },
    Text(Text),
    Array(Array),
    Object(Object),
    /// One of these.
    Either(Vec<Node>),
    /// To be sealed as this kind, once it has the form of the node.
    Personal {
        kind: String,
        clear: Box<Node>,
    },
}

#[derive(Debug, Default)]
pub(super) struct Text {
    pub min: usize,
    pub max: Option<usize>,
    pub choices: Option<Vec<String>>,
    pub format: Option<Format>,
    pub pattern: Option<Regex>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Uuid,
    DateTime,
    Date,
}

#[derive(Debug)]
pub(super) struct Array {
    /// The first items, each of its own form.
    pub first: Vec<Node>,
    pub rest: Box<Node>,
    pub min: usize,
    pub max: Option<usize>,
    pub unique: bool,
}

#[derive(Debug)]
pub(super) struct Object {
    pub members: Vec<Member>,
    places: HashMap<String, usize>,
    /// The form of members with other names, where there may be any.
    pub others: Option<Box<Node>>,
}

#[derive(Debug)]
pub(super) struct Member {
    pub name: String,
    pub required: bool,
    pub node: Node,
}

impl Object {
    /// An object of any members.
    pub fn open() -> Self {
        Self { members: Vec::new(), places: HashMap::new(), others: Some(Box::new(Node::Any)) }
    }

    pub fn place(&self, name: &str) -> Option<usize> {
        self.places.get(name).copied()
    }
}

impl Kinds {
    /// Compiles the parts of these kinds.
    pub fn compile(kinds: &[Kind], schemas: &mut Schemas) -> Result<Self, String> {
        let mut forms = HashMap::new();
        for kind in kinds {
            let part = schemas.part(kind).map(|schema| node(&schema)).transpose();
            let part = part.map_err(|wrong| format!("the part of {}: {wrong}", kind.name))?;
            forms.insert(kind.name, KindForm { kind: *kind, part });
        }
        let known = Self(forms);
        for form in known.0.values() {
            form.part.iter().try_for_each(|part| known.covers(part))?;
        }
        Ok(known)
    }

    pub(super) fn get(&self, kind: &str) -> Option<&KindForm> {
        self.0.get(kind)
    }

    fn covers(&self, node: &Node) -> Result<(), String> {
        match node {
            Node::Personal { kind, clear } if self.0.contains_key(kind.as_str()) => self.covers(clear),
            Node::Personal { kind, .. } => Err(format!("{kind} is not among the kinds of personal data")),
            Node::Either(nodes) => nodes.iter().try_for_each(|node| self.covers(node)),
            Node::Array(array) => array.first.iter().chain([&*array.rest]).try_for_each(|node| self.covers(node)),
            Node::Object(object) => {
                let members = object.members.iter().map(|member| &member.node);
                members.chain(object.others.as_deref()).try_for_each(|node| self.covers(node))
            }
            _ => Ok(()),
        }
    }
}

impl Form {
    /// Compiles the schema of a command's fields as they are sent. Refuses what the walk could not check.
    pub fn compile(schema: &Value, kinds: &Kinds) -> Result<Self, String> {
        let node = node(schema)?;
        kinds.covers(&node)?;
        Ok(Self(node))
    }

    /// Walks the text of a command's fields. Tells all that is wrong at once, up to some number.
    pub fn walk(&self, text: &str, kinds: &Kinds) -> Result<Walked, Vec<FormError>> {
        walk(&self.0, text, kinds)
    }
}

fn node(schema: &Value) -> Result<Node, String> {
    let schema = match schema {
        Value::Bool(true) => return Ok(Node::Any),
        Value::Object(schema) => schema,
        _ => return Err("not a schema".into()),
    };
    if let Some(keyword) = ["$ref", "allOf", "not", "if", "patternProperties", "unevaluatedProperties", "contains"]
        .into_iter()
        .find(|keyword| schema.contains_key(*keyword))
    {
        return Err(format!("the keyword {keyword} is not one that the door knows"));
    }
    if let Some(kind) = schema.get("x-personal").and_then(Value::as_str) {
        let mut clear = schema.clone();
        clear.remove("x-personal");
        return Ok(personal(kind, node(&Value::Object(clear))?));
    }
    if let Some(several) = schema.get("oneOf").or_else(|| schema.get("anyOf")).and_then(Value::as_array) {
        return either(several.iter().map(node).collect::<Result<_, _>>()?);
    }
    if let Some(only) = schema.get("const") {
        return choices(std::slice::from_ref(only));
    }
    if let Some(several) = schema.get("enum").and_then(Value::as_array) {
        return choices(several);
    }
    match schema.get("type") {
        None if schema.contains_key("properties") => object(schema),
        None => Ok(Node::Any),
        Some(Value::String(name)) => typed(name, schema),
        Some(Value::Array(names)) => {
            either(names.iter().map(|name| typed(name.as_str().unwrap_or_default(), schema)).collect::<Result<_, _>>()?)
        }
        Some(other) => Err(format!("{other} is not a type")),
    }
}

/// A personal field that may be null is sealed only where it is not.
fn personal(kind: &str, clear: Node) -> Node {
    let sealed = |clear| Node::Personal { kind: kind.to_owned(), clear: Box::new(clear) };
    match clear {
        Node::Null => Node::Null,
        Node::Either(nodes) => Node::Either(
            nodes.into_iter().map(|node| if matches!(node, Node::Null) { node } else { sealed(node) }).collect(),
        ),
        other => sealed(other),
    }
}

/// Flattens alternatives; texts that are only choices become one.
fn either(nodes: Vec<Node>) -> Result<Node, String> {
    let (mut flat, mut words): (Vec<Node>, Vec<String>) = (Vec::new(), Vec::new());
    let mut waiting: Vec<Node> = nodes.into_iter().rev().collect();
    while let Some(node) = waiting.pop() {
        match node {
            Node::Either(inner) => waiting.extend(inner.into_iter().rev()),
            Node::Text(Text { choices: Some(several), .. }) => words.extend(several),
            other => flat.push(other),
        }
    }
    if !words.is_empty() {
        flat.push(Node::Text(Text { choices: Some(words), ..Text::default() }));
    }
    match flat.len() {
        0 => Err("there is nothing to choose from".into()),
        1 => Ok(flat.remove(0)),
        _ => Ok(Node::Either(flat)),
    }
}

fn choices(values: &[Value]) -> Result<Node, String> {
    either(
        values
            .iter()
            .map(|value| match value {
                Value::Null => Ok(Node::Null),
                Value::String(word) => Ok(Node::Text(Text { choices: Some(vec![word.clone()]), ..Text::default() })),
                Value::Number(number) => number
                    .as_i64()
                    .map(|number| Node::Integer { min: number, max: number })
                    .ok_or_else(|| format!("{number} is not an integer")),
                other => Err(format!("{other} cannot be a choice")),
            })
            .collect::<Result<_, _>>()?,
    )
}

fn typed(name: &str, schema: &Map<String, Value>) -> Result<Node, String> {
    match name {
        "null" => Ok(Node::Null),
        "boolean" => Ok(Node::Boolean),
        "integer" => Ok(integer(schema)),
        "string" => text(schema),
        "array" => array(schema),
        "object" => object(schema),
        other => Err(format!("the type {other} cannot be recorded")),
    }
}

fn integer(schema: &Map<String, Value>) -> Node {
    let (low, high) = match schema.get("format").and_then(Value::as_str) {
        Some("int8") => (i64::from(i8::MIN), i64::from(i8::MAX)),
        Some("int16") => (i64::from(i16::MIN), i64::from(i16::MAX)),
        Some("int32") => (i64::from(i32::MIN), i64::from(i32::MAX)),
        Some("uint8") => (0, i64::from(u8::MAX)),
        Some("uint16") => (0, i64::from(u16::MAX)),
        Some("uint32") => (0, i64::from(u32::MAX)),
        Some("uint64" | "uint") => (0, EXACT),
        _ => (-EXACT, EXACT),
    };
    let bound = |keyword: &str| schema.get(keyword).and_then(Value::as_i64);
    let min = bound("minimum").or_else(|| bound("exclusiveMinimum").map(|bound| bound.saturating_add(1)));
    let max = bound("maximum").or_else(|| bound("exclusiveMaximum").map(|bound| bound.saturating_sub(1)));
    Node::Integer { min: min.map_or(low, |min| min.max(low)), max: max.map_or(high, |max| max.min(high)) }
}

fn size(schema: &Map<String, Value>, keyword: &str) -> Option<usize> {
    schema.get(keyword).and_then(Value::as_u64).and_then(|size| usize::try_from(size).ok())
}

fn text(schema: &Map<String, Value>) -> Result<Node, String> {
    let format = match schema.get("format").and_then(Value::as_str) {
        None => None,
        Some("uuid") => Some(Format::Uuid),
        Some("date-time") => Some(Format::DateTime),
        Some("date") => Some(Format::Date),
        Some(other) => return Err(format!("the format {other} is not one that the door knows")),
    };
    let pattern = schema.get("pattern").and_then(Value::as_str).map(Regex::new).transpose();
    Ok(Node::Text(Text {
        min: size(schema, "minLength").unwrap_or(0),
        max: size(schema, "maxLength"),
        choices: None,
        format,
        pattern: pattern.map_err(|wrong| wrong.to_string())?,
    }))
}

fn array(schema: &Map<String, Value>) -> Result<Node, String> {
    let first: Vec<Node> = match schema.get("prefixItems").and_then(Value::as_array) {
        Some(first) => first.iter().map(node).collect::<Result<_, _>>()?,
        None => Vec::new(),
    };
    let closed = schema.get("items") == Some(&Value::Bool(false));
    let rest = match schema.get("items") {
        Some(items) if !closed => node(items)?,
        _ => Node::Any,
    };
    let max = size(schema, "maxItems").or(closed.then_some(first.len()));
    let unique = schema.get("uniqueItems") == Some(&Value::Bool(true));
    Ok(Node::Array(Array { first, rest: Box::new(rest), min: size(schema, "minItems").unwrap_or(0), max, unique }))
}

fn object(schema: &Map<String, Value>) -> Result<Node, String> {
    let required: HashSet<&str> =
        schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let mut members = Vec::new();
    for (name, schema) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let node = node(schema).map_err(|wrong| format!("{name}: {wrong}"))?;
        members.push(Member { name: name.clone(), required: required.contains(name.as_str()), node });
    }
    let others = match schema.get("additionalProperties") {
        None | Some(Value::Bool(false)) => None,
        Some(others) => Some(Box::new(node(others)?)),
    };
    let places = members.iter().enumerate().map(|(place, member)| (member.name.clone(), place)).collect();
    Ok(Node::Object(Object { members, places, others }))
}
