//! An entry as a message: its line as it is, and headers that tell what it is without reading it.

use async_nats::{HeaderMap, HeaderValue, header::NATS_MESSAGE_ID};
use cnc_domain::{
    kernel::CompanyId,
    ledger::{Entry, Hash, Head, Malformed, Position, subject},
};

/// How an entry is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Issue {
    /// Consumers are told to forget what they had after this position.
    pub(super) fork_after: Option<Position>,
    /// It was sent before under its usual id, which the broker knows: the place in the stream that its other id names.
    pub(super) again: Option<u64>,
}

/// What is published with a line.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) company: CompanyId,
    pub(super) head: Head,
    /// The hash of the entry before.
    pub(super) previous: Hash,
    /// The id under which the broker drops repeats.
    pub(super) id: String,
    pub(super) fork_after: Option<Position>,
    pub(super) subject: String,
    pub(super) headers: HeaderMap,
}

impl Message {
    /// The message of a line.
    ///
    /// The headers are `CloudEvents` 1.0 in binary mode. Its binding for NATS names the type of the data
    /// `ce-datacontenttype`, the kits that read it `content-type`: both are there. No value has a character that the
    /// binding would have us escape.
    pub(super) fn of(line: &str, issue: impl FnOnce(Position) -> Issue) -> Result<Self, Malformed> {
        let entry = Entry::read(line)?;
        let Entry { company, position, stream, id, event, version, at, .. } = &entry;
        let head = Head { position: *position, hash: Hash::of(line) };
        let Issue { fork_after, again } = issue(*position);
        let message_id = subject::message_id(*company, head);
        let message_id = again.map_or(message_id.clone(), |sequence| format!("{message_id}:{sequence}"));
        let mut headers = HeaderMap::new();
        let mut say = |name: &'static str, value: String| headers.insert(name, HeaderValue::from(value));
        say("ce-specversion", "1.0".into());
        say("ce-source", format!("/companies/{company}"));
        say("ce-type", format!("cnc.{stream}.{event}.v{version}"));
        say("ce-time", at.to_string());
        say("ce-subject", format!("{stream}/{id}"));
        say("ce-datacontenttype", "application/json".into());
        say("content-type", "application/json".into());
        say("ce-id", message_id.clone());
        say(subject::HASH_HEADER, head.hash.to_string());
        if let Some(after) = fork_after {
            say(subject::FORK_AFTER_HEADER, after.to_string());
        }
        headers.insert(NATS_MESSAGE_ID, message_id.clone());
        let (subject, previous) = (subject::of_entry(&entry), entry.previous);
        Ok(Self { company: *company, head, previous, id: message_id, fork_after, subject, headers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_say_what_an_entry_is() {
        let company = CompanyId::number(1);
        let line = format!(
            r#"{{"company":"{company}","position":42,"previous":"{}","stream":"truck","id":"{company}","sequence":7,"event":"fuelled","version":2,"at":"2026-11-21T01:40:05.123456Z","location":null,"actor":{{"tool":"test"}},"command":"{company}","correlation":"{company}","causation":null,"payload":{{}}}}"#,
            Hash::default()
        );
        let message = Message::of(&line, |_| Issue::default()).expect("is an entry");
        assert_eq!(message.subject, format!("cnc.events.{company}.truck.fuelled"));
        let says = |name: &str| message.headers.get(name).map(ToString::to_string).unwrap_or_default();
        let id = format!("{company}:42:{}", Hash::of(&line));
        assert_eq!((says("Nats-Msg-Id"), says("ce-id")), (id.clone(), id));
        assert_eq!(says("ce-type"), "cnc.truck.fuelled.v2");
        assert_eq!(says("ce-time"), "2026-11-21T01:40:05.123456Z");
        assert_eq!(says("ce-subject"), format!("truck/{company}"));
        assert_eq!(says("Cnc-Hash"), Hash::of(&line).to_string());
        assert_eq!(says("Cnc-Fork-After"), "");
        let again = Issue { fork_after: Some(41), again: Some(9) };
        let fork =
            Message::of(&line, |position| if position == 42 { again } else { Issue::default() }).expect("is an entry");
        assert_eq!(fork.id, format!("{company}:42:{}:9", Hash::of(&line)));
        assert_eq!(fork.headers.get("Cnc-Fork-After").map(ToString::to_string), Some("41".into()));
        // The binding escapes whatever is not printable, and spaces, quotes and per cent signs.
        let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'%');
        assert!(message.headers.iter().flat_map(|(_, values)| values).all(|value| plain(value.as_str())));
    }

    #[test]
    fn what_is_no_entry_has_no_message() {
        assert!(Message::of("{}", |_| Issue::default()).is_err());
    }
}
