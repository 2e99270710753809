//! An entry as a message: its line as it is, and headers that tell what it is without reading it.

use async_nats::{HeaderMap, HeaderValue, header::NATS_MESSAGE_ID};
use cnc_domain::{
    kernel::CompanyId,
    ledger::{Entry, Hash, Head, Malformed, subject},
};

/// What is published with a line.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) company: CompanyId,
    pub(super) head: Head,
    pub(super) subject: String,
    pub(super) headers: HeaderMap,
}

impl Message {
    /// The message of a line.
    ///
    /// The headers are `CloudEvents` 1.0 in binary mode. Its binding for NATS names the type of the data
    /// `ce-datacontenttype`, the kits that read it `content-type`: both are there. No value has a character that the
    /// binding would have us escape.
    pub(super) fn of(line: &str) -> Result<Self, Malformed> {
        let entry = Entry::read(line)?;
        let Entry { company, position, stream, id, event, version, at, .. } = &entry;
        let head = Head { position: *position, hash: Hash::of(line) };
        let message_id = subject::message_id(*company, head);
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
        headers.insert(NATS_MESSAGE_ID, message_id);
        Ok(Self { company: *company, head, subject: subject::of_entry(&entry), headers })
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
        let message = Message::of(&line).expect("is an entry");
        assert_eq!(message.subject, format!("cnc.events.{company}.truck.fuelled"));
        let says = |name: &str| message.headers.get(name).map(ToString::to_string).unwrap_or_default();
        let id = format!("{company}:42:{}", Hash::of(&line));
        assert_eq!((says("Nats-Msg-Id"), says("ce-id")), (id.clone(), id));
        assert_eq!(says("ce-type"), "cnc.truck.fuelled.v2");
        assert_eq!(says("ce-time"), "2026-11-21T01:40:05.123456Z");
        assert_eq!(says("ce-subject"), format!("truck/{company}"));
        assert_eq!(says("Cnc-Hash"), Hash::of(&line).to_string());
        // The binding escapes whatever is not printable, and spaces, quotes and per cent signs.
        let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'%');
        assert!(message.headers.iter().flat_map(|(_, values)| values).all(|value| plain(value.as_str())));
    }

    #[test]
    fn what_is_no_entry_has_no_message() {
        assert!(Message::of("{}").is_err());
    }
}
