//! The walk itself.

use std::{collections::HashSet, fmt::Write as _};

use cnc_domain::kernel::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::{
    form::{Array, Format, Kinds, Node, Object, Text},
    scan::{Broken, DEPTH, Scan, Word},
    walked::{Personal, Piece, Walked},
};

/// How many errors are told at once.
const ERRORS: usize = 20;
/// How much of an unknown member's name is told.
const NAME: usize = 64;

/// One field that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{path} {wrong}")]
pub struct FormError {
    /// Where: a JSON pointer, such as `/stops/0/window/start`; empty for the whole.
    pub path: String,
    /// What is wrong with it. Never quotes the value.
    pub wrong: String,
}

enum Step<'f> {
    Member(&'f str),
    Other(String),
    Item(usize),
}

struct Walk<'a, 'f> {
    scan: Scan<'a>,
    kinds: &'f Kinds,
    path: Vec<Step<'f>>,
    errors: Vec<FormError>,
    out: Walked,
}

/// Walks `text`, which should have the form of `node`.
pub(super) fn walk(node: &Node, text: &str, kinds: &Kinds) -> Result<Walked, Vec<FormError>> {
    let scan = Scan::new(text);
    let mut walk = Walk { scan, kinds, path: Vec::new(), errors: Vec::new(), out: Walked::default() };
    let end = walk.value(node).and_then(|()| match walk.scan.peek() {
        None => Ok(()),
        Some(_) => Err(Broken("is not JSON: something follows the value")),
    });
    if let Err(Broken(wrong)) = end {
        walk.wrong(wrong);
    }
    if walk.errors.is_empty() { Ok(walk.out) } else { Err(walk.errors) }
}

impl<'f> Walk<'_, 'f> {
    fn wrong(&mut self, wrong: impl Into<String>) {
        if self.errors.len() >= ERRORS {
            return;
        }
        let mut path = String::new();
        for step in &self.path {
            let _ = match step {
                Step::Member(name) => write!(path, "/{}", escape(name)),
                Step::Other(name) => write!(path, "/{}", escape(name)),
                Step::Item(place) => write!(path, "/{place}"),
            };
        }
        self.errors.push(FormError { path, wrong: wrong.into() });
    }

    /// Says what is wrong with the next value and passes over it.
    fn refuse(&mut self, wrong: impl Into<String>) -> Result<(), Broken> {
        self.wrong(wrong);
        self.scan.skip(self.path.len())
    }

    fn value(&mut self, node: &'f Node) -> Result<(), Broken> {
        if self.path.len() > DEPTH {
            return Err(Broken("is nested too deep"));
        }
        let next = self.scan.peek().ok_or(Broken("is not JSON: a value is missing"))?;
        match node {
            Node::Any => self.any(next),
            Node::Either(nodes) => self.either(nodes, next),
            Node::Personal { kind, clear } => self.personal(kind, clear),
            _ if !takes(node, next) => self.refuse(format!("must be {}", name(node))),
            Node::Null | Node::Boolean => self.literal(node),
            Node::Integer { min, max } => self.integer(*min, *max),
            Node::Text(text) => self.text(text),
            Node::Array(array) => self.array(array),
            Node::Object(object) => self.object(object),
        }
    }

    fn literal(&mut self, node: &Node) -> Result<(), Broken> {
        let found = self.scan.literal()?;
        if (found == "null") == matches!(node, Node::Null) {
            self.out.push(found);
        } else {
            self.wrong(format!("must be {}", name(node)));
        }
        Ok(())
    }

    fn integer(&mut self, min: i64, max: i64) -> Result<(), Broken> {
        let number = self.scan.number()?;
        if number.contains(['.', 'e', 'E']) || number == "-0" {
            self.wrong("must be an integer, without a point or an exponent");
            return Ok(());
        }
        match number.parse::<i64>() {
            Ok(value) if (min..=max).contains(&value) => self.out.push(number),
            _ => self.wrong(format!("must be from {min} to {max}")),
        }
        Ok(())
    }

    fn text(&mut self, form: &Text) -> Result<(), Broken> {
        let word = self.scan.word()?;
        match unfit(form, &word) {
            Some(wrong) => self.wrong(wrong),
            None => self.out.push(word.raw),
        }
        Ok(())
    }

    fn array(&mut self, array: &'f Array) -> Result<(), Broken> {
        self.scan.expect(b'[', "is not JSON: an array is missing")?;
        self.out.push("[");
        let (mut count, mut seen) = (0, HashSet::new());
        if !self.scan.eat(b']') {
            loop {
                if count > 0 {
                    self.out.push(",");
                }
                self.path.push(Step::Item(count));
                self.scan.peek();
                let start = self.scan.at();
                if array.max.is_some_and(|max| count >= max) {
                    self.scan.skip(self.path.len())?;
                } else {
                    self.value(array.first.get(count).unwrap_or(&array.rest))?;
                }
                if array.unique && !seen.insert(self.scan.since(start)) {
                    self.wrong("stands there twice");
                }
                self.path.pop();
                count += 1;
                if self.scan.eat(b']') {
                    break;
                }
                self.scan.expect(b',', "is not JSON: a comma is missing")?;
            }
        }
        self.out.push("]");
        match (array.min, array.max) {
            (min, _) if count < min => self.wrong(format!("must have at least {min} items")),
            (_, Some(max)) if count > max => self.wrong(format!("must have at most {max} items, not {count}")),
            _ => {}
        }
        Ok(())
    }

    fn object(&mut self, object: &'f Object) -> Result<(), Broken> {
        self.scan.expect(b'{', "is not JSON: an object is missing")?;
        self.out.push("{");
        let mut seen = vec![false; object.members.len()];
        let (mut others, mut written) = (HashSet::new(), false);
        if !self.scan.eat(b'}') {
            loop {
                self.member(object, &mut seen, &mut others, &mut written)?;
                if self.scan.eat(b'}') {
                    break;
                }
                self.scan.expect(b',', "is not JSON: a comma is missing")?;
            }
        }
        self.out.push("}");
        for (member, _) in object.members.iter().zip(seen).filter(|(member, seen)| member.required && !seen) {
            self.path.push(Step::Member(&member.name));
            self.wrong("is required");
            self.path.pop();
        }
        Ok(())
    }

    fn member(
        &mut self,
        object: &'f Object,
        seen: &mut [bool],
        others: &mut HashSet<String>,
        written: &mut bool,
    ) -> Result<(), Broken> {
        let word = self.scan.word()?;
        self.scan.expect(b':', "is not JSON: a colon is missing")?;
        let key = word.text();
        let (step, node, repeated) = match (object.place(&key), &object.others) {
            (Some(place), _) => {
                let member = &object.members[place];
                (Step::Member(&member.name), Some(&member.node), std::mem::replace(&mut seen[place], true))
            }
            (None, node) => {
                let repeated = !others.insert(key.to_string());
                (Step::Other(key.chars().take(NAME).collect()), node.as_deref(), repeated)
            }
        };
        self.path.push(step);
        match node {
            _ if word.wrong.is_some() => self.refuse(word.wrong.unwrap_or_default())?,
            _ if repeated => self.refuse("stands there twice")?,
            None => self.refuse("is not a field of this")?,
            Some(node) => {
                self.out.push(if *written { "," } else { "" });
                self.out.push(word.raw);
                self.out.push(":");
                *written = true;
                self.value(node)?;
            }
        }
        self.path.pop();
        Ok(())
    }

    /// Any value that can be recorded.
    fn any(&mut self, next: u8) -> Result<(), Broken> {
        match next {
            b'"' => self.text(&Text::default()),
            b'-' | b'0'..=b'9' => self.integer(-((1 << 53) - 1), (1 << 53) - 1),
            b'[' => self.any_array(),
            b'{' => self.any_object(),
            _ => {
                let found = self.scan.literal()?;
                self.out.push(found);
                Ok(())
            }
        }
    }

    fn any_array(&mut self) -> Result<(), Broken> {
        static ITEMS: std::sync::LazyLock<Node> = std::sync::LazyLock::new(|| Node::Any);
        self.scan.expect(b'[', "is not JSON: an array is missing")?;
        self.out.push("[");
        let mut count = 0;
        if !self.scan.eat(b']') {
            loop {
                self.out.push(if count > 0 { "," } else { "" });
                self.path.push(Step::Item(count));
                self.value(&ITEMS)?;
                self.path.pop();
                count += 1;
                if self.scan.eat(b']') {
                    break;
                }
                self.scan.expect(b',', "is not JSON: a comma is missing")?;
            }
        }
        self.out.push("]");
        Ok(())
    }

    fn any_object(&mut self) -> Result<(), Broken> {
        static MEMBERS: std::sync::LazyLock<Object> = std::sync::LazyLock::new(Object::open);
        self.object(&MEMBERS)
    }

    fn either(&mut self, nodes: &'f [Node], next: u8) -> Result<(), Broken> {
        let mut fitting = nodes.iter().filter(|node| takes(node, next));
        match (fitting.next(), fitting.next()) {
            (None, _) => {
                let names: Vec<String> = nodes.iter().map(name).collect();
                self.refuse(format!("must be {}", names.join(" or ")))
            }
            (Some(only), None) => self.value(only),
            (Some(first), Some(_)) if next != b'{' => {
                // Several integers, say: the one that takes it, or else what the first says of it.
                let start = self.scan.at();
                self.scan.skip(self.path.len())?;
                let text = self.scan.since(start);
                self.scan.back_to(start);
                let fits = |node: &&Node| takes(node, next) && walk(node, text, self.kinds).is_ok();
                self.value(nodes.iter().find(fits).unwrap_or(first))
            }
            (Some(first), Some(_)) => {
                let members = self.members()?;
                let objects = nodes.iter().filter(|node| takes(node, next));
                let best = objects.max_by_key(|node| likeness(node, &members));
                self.value(best.filter(|node| likeness(node, &members) > 0).unwrap_or(first))
            }
        }
    }

    /// The names in the object that comes next, with their values where these are strings. Goes nowhere.
    fn members(&mut self) -> Result<Vec<(String, Option<String>)>, Broken> {
        let start = self.scan.at();
        let mut found = Vec::new();
        self.scan.expect(b'{', "is not JSON: an object is missing")?;
        while found.len() < 64 && self.scan.peek() == Some(b'"') {
            let key = self.scan.word()?.text().into_owned();
            self.scan.expect(b':', "is not JSON: a colon is missing")?;
            if self.scan.peek() == Some(b'"') {
                found.push((key, Some(self.scan.word()?.text().into_owned())));
            } else {
                self.scan.skip(self.path.len() + 1)?;
                found.push((key, None));
            }
            self.scan.eat(b',');
        }
        self.scan.back_to(start);
        Ok(found)
    }

    fn personal(&mut self, kind: &str, clear: &'f Node) -> Result<(), Broken> {
        let (errors, outside) = (self.errors.len(), std::mem::take(&mut self.out));
        self.value(clear)?;
        let inside = std::mem::replace(&mut self.out, outside);
        let (Some(form), Some(text)) = (self.kinds.get(kind), inside.clear()) else {
            self.wrong("cannot be sealed");
            return Ok(());
        };
        if self.errors.len() > errors || self.errors.len() >= ERRORS {
            return Ok(());
        }
        let opened = match (form.kind.open)(text) {
            Ok(opened) => opened,
            Err(wrong) => {
                // A parser's words may quote the value; a check's own words do not.
                let told = if wrong.contains(" at line ") { format!("is not a proper {kind}") } else { wrong };
                self.wrong(told);
                return Ok(());
            }
        };
        let part = form.part.as_ref().map(|node| walk(node, &opened.part.to_string(), self.kinds)).transpose();
        let Ok(part) = part else {
            self.wrong(format!("is not a proper {kind}"));
            return Ok(());
        };
        let personal = Personal { kind: form.kind, clear: text.to_owned(), canonical: opened.canonical, part };
        self.out.pieces.push(Piece::Personal(Box::new(personal)));
        Ok(())
    }
}

/// How well an object of these members fits the node: 0 where not at all.
fn likeness(node: &Node, members: &[(String, Option<String>)]) -> usize {
    let node = if let Node::Personal { clear, .. } = node { clear } else { node };
    let Node::Object(object) = node else { return 0 };
    let mut known = 0;
    for (name, value) in members {
        let Some(place) = object.place(name) else { continue };
        known += 2;
        if let (Node::Text(Text { choices: Some(choices), .. }), Some(value)) = (&object.members[place].node, value) {
            if !choices.contains(value) {
                return 0;
            }
            known += 2;
        }
    }
    let complete =
        object.members.iter().all(|member| !member.required || members.iter().any(|(name, _)| *name == member.name));
    // Of those that know as many members, the one that misses none.
    if known == 0 { usize::from(complete) } else { known * 2 + usize::from(complete) }
}

fn takes(node: &Node, next: u8) -> bool {
    match node {
        Node::Any => true,
        Node::Null => next == b'n',
        Node::Boolean => matches!(next, b't' | b'f'),
        Node::Integer { .. } => matches!(next, b'-' | b'0'..=b'9'),
        Node::Text(_) => next == b'"',
        Node::Array(_) => next == b'[',
        Node::Object(_) => next == b'{',
        Node::Either(nodes) => nodes.iter().any(|node| takes(node, next)),
        Node::Personal { clear, .. } => takes(clear, next),
    }
}

fn name(node: &Node) -> String {
    match node {
        Node::Any => "a value".into(),
        Node::Null => "null".into(),
        Node::Boolean => "true or false".into(),
        Node::Integer { .. } => "an integer".into(),
        Node::Text(Text { choices: Some(choices), .. }) => format!("one of: {}", choices.join(", ")),
        Node::Text(_) => "a string".into(),
        Node::Array(_) => "an array".into(),
        Node::Object(_) => "an object".into(),
        Node::Either(nodes) => nodes.iter().map(name).collect::<Vec<_>>().join(" or "),
        Node::Personal { clear, .. } => name(clear),
    }
}

fn unfit(form: &Text, word: &Word<'_>) -> Option<String> {
    if let Some(wrong) = word.wrong {
        return Some(wrong.into());
    }
    if let Some(choices) = &form.choices {
        let text = word.text();
        let fits = choices.iter().any(|choice| *choice == text);
        return (!fits).then(|| format!("must be one of: {}", choices.join(", ")));
    }
    if word.length < form.min {
        return Some(format!("must have at least {} characters", form.min));
    }
    if let Some(max) = form.max.filter(|max| word.length > *max) {
        return Some(format!("must have at most {max} characters"));
    }
    if form.pattern.as_ref().is_some_and(|pattern| !pattern.is_match(&word.text())) {
        return Some("does not have the form that is asked for".into());
    }
    let wrong = match form.format? {
        Format::Uuid if !is_uuid(&word.text()) => "must be a UUID, such as 0192f0c1-1111-7000-8000-000000000001",
        Format::DateTime if word.text().parse::<Timestamp>().is_err() => {
            "must be an RFC 3339 time, such as 2026-11-21T01:40:05Z"
        }
        Format::Date if word.text().parse::<chrono::NaiveDate>().is_err() => "must be a date, such as 2026-11-21",
        _ => return None,
    };
    Some(wrong.into())
}

/// One id has one spelling: hyphenated.
fn is_uuid(text: &str) -> bool {
    text.len() == 36 && Uuid::try_parse(text).is_ok()
}

fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
