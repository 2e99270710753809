//! Giving a command as the operator's tool does.

use cnc_commands::{Host, HostError, Request};
use cnc_domain::{
    kernel::{Actor, CompanyId, Message},
    ledger::Answer,
};
use serde_json::{Value, value::RawValue};
use uuid::Uuid;

use super::output::Failure;

/// The aggregate that a command is for.
pub struct Target<'a> {
    pub company: CompanyId,
    pub stream: &'a str,
    pub id: Uuid,
}

/// Gives a command; what the rules refuse is wrong with the command line.
pub async fn give(
    host: &Host,
    Target { company, stream, id }: Target<'_>,
    name: &str,
    fields: &Value,
    actor: Actor,
) -> Result<Answer, Failure> {
    let fields = RawValue::from_string(fields.to_string()).map_err(Failure::fault)?;
    let command = Message { name: name.into(), fields };
    match host.execute(Request::internal(company, stream, id, command, actor)).await {
        Ok(Answer { rejection: Some(rejection), .. }) => Err(Failure::Usage(rejection.to_string())),
        Ok(answer) => Ok(answer),
        Err(HostError::Form(errors)) => {
            let wrong: Vec<String> = errors.iter().map(ToString::to_string).collect();
            Err(Failure::Usage(wrong.join("; ")))
        }
        Err(HostError::NoCompany) => Err(Failure::no_company(company)),
        Err(error) => Err(Failure::fault(error)),
    }
}
