//! A partner's own consumer on the broker, and the rights that reach it and nothing else.

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use cnc_domain::{kernel::CompanyId, ledger::subject};

/// How long a partner may take over a message before it is delivered again, in seconds.
const ACK_WAIT: std::time::Duration = std::time::Duration::from_secs(30);
/// How many messages may be delivered and not yet acknowledged.
const UNANSWERED_MAX: i64 = 1_000;

/// One partner's way to one company's entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Integration {
    company: CompanyId,
    name: String,
}

impl Integration {
    /// The integration of this name; `None` where the name is no lower-case word of up to 40 letters, digits, `-` and `_`.
    pub fn new(company: CompanyId, name: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
        let is_plain = (1..=40).contains(&name.len()) && name.bytes().all(plain);
        is_plain.then(|| Self { company, name: name.to_owned() })
    }

    /// The integration whose consumer has this name; `None` where it is none of an integration.
    pub fn of_durable(durable: &str) -> Option<Self> {
        let (company, name) = durable.strip_prefix("integration_")?.split_once('_')?;
        Self::new(company.parse().ok()?, name)
    }

    /// Whose entries.
    pub fn company(&self) -> CompanyId {
        self.company
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of its consumer.
    pub fn durable(&self) -> String {
        format!("integration_{}_{}", self.company, self.name)
    }

    /// What its inboxes begin with.
    pub fn inbox(&self) -> String {
        format!("_INBOX_{}", self.durable())
    }

    /// Where it asks for its next messages.
    pub fn next(&self) -> String {
        format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", subject::STREAM, self.durable())
    }

    /// Where its answers to messages go.
    fn answers(&self) -> String {
        format!("$JS.ACK.{}.{}.>", subject::STREAM, self.durable())
    }

    /// Its consumer: all that the stream keeps of the company, and then what comes.
    pub fn consumer(&self) -> pull::Config {
        pull::Config {
            durable_name: Some(self.durable()),
            deliver_policy: DeliverPolicy::All,
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACK_WAIT,
            max_deliver: -1,
            max_ack_pending: UNANSWERED_MAX,
            filter_subject: subject::entries_of(self.company),
            ..pull::Config::default()
        }
    }

    /// The account, as it stands in the broker's settings: who has the secret to this public key may fetch from the consumer,
    /// acknowledge, and listen to inboxes of its own.
    ///
    /// A broker answers to whatever subject it is asked to, with rights of its own: were the partner a user of our account,
    /// an answer could be stored as an entry of another company. In an account of its own it reaches nobody else.
    pub fn account(&self, public_key: &str) -> String {
        let (durable, inbox, next, answers) = (self.durable(), self.inbox(), self.next(), self.answers());
        format!(
            "{durable} {{
  users: [{{ nkey: {public_key}, permissions: {{
    publish: {{ allow: [\"{next}\", \"{answers}\"] }}
    subscribe: {{ allow: [\"{inbox}.>\"] }} }} }}]
  imports: [{{ service: {{ account: CNC, subject: \"{next}\" }} }}, {{ service: {{ account: CNC, subject: \"{answers}\" }} }}]
}}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consumers_name_says_whose_it_is() {
        let integration = Integration::new(CompanyId::number(1), "erp_north-2").expect("is a name");
        assert_eq!(Integration::of_durable(&integration.durable()), Some(integration));
        assert_eq!(Integration::of_durable("folds"), None);
    }

    #[test]
    fn a_name_cannot_reach_beyond_itself() {
        for name in ["", "a.b", "*", ">", "a b", "\"", "UP", &"x".repeat(41)] {
            assert_eq!(Integration::new(CompanyId::number(1), name), None, "{name}");
        }
    }
}
