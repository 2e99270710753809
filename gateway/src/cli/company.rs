//! `cnc company`: tenants.

use cnc_commands::{Host, HostError, Request};
use cnc_domain::kernel::{Actor, CommandId, CompanyId, Id, Message};
use serde_json::{Value, json, value::RawValue};
use uuid::Uuid;

use super::{
    in_rooms, move_company,
    output::{Failure, Out},
    read_only,
};
use crate::run::{BackEnd, Config};

/// Found a company, or list them
#[derive(Debug, clap::Subcommand)]
pub enum Company {
    /// Found a company: its ledger begins. Prints its id, which every other command asks for
    Found {
        /// Its name
        name: String,
        /// What its money is counted in
        #[arg(long, value_parser = ["CAD", "USD"], ignore_case = true, default_value = "CAD")]
        currency: String,
        /// Where its data is said to be kept: a word that is recorded with the company, and moves nothing
        #[arg(long, default_value = "ca-central")]
        region: String,
    },
    /// List all companies with the positions of their ledgers
    List,
    Move(move_company::Move),
}

pub async fn run(command: &Company, config: Config, out: Out) -> Result<(), Failure> {
    match command {
        Company::Found { name, currency, region } => {
            let company = Id::new(Uuid::now_v7());
            let fields = json!({ "name": name, "currency": currency.to_uppercase(), "region": region, "plan": { "modules": [] } });
            in_rooms(&config, async |rooms| found(&rooms.host, company, &fields, Actor::tool("cnc")).await).await?;
            out.say(company, &json!({ "company": company, "name": name }))
        }
        Company::List => list(&read_only(&config).await?, out).await,
        Company::Move(command) => move_company::run(command, config, out).await,
    }
}

/// Founds a company under this id.
pub async fn found(host: &Host, company: CompanyId, fields: &Value, actor: Actor) -> Result<(), Failure> {
    let fields = RawValue::from_string(fields.to_string()).map_err(Failure::fault)?;
    let found = Message { name: "found".into(), fields };
    let request = Request {
        command_id: CommandId::derived(&[b"found", company.uuid().as_bytes()]),
        ..Request::internal(company, "company", company.uuid(), found, actor)
    };
    match host.execute(request).await {
        Ok(answer) => match answer.rejection {
            None => Ok(()),
            Some(rejection) => Err(Failure::Usage(rejection.to_string())),
        },
        Err(HostError::Form(errors)) => {
            let wrong: Vec<String> = errors.iter().map(ToString::to_string).collect();
            Err(Failure::Usage(wrong.join("; ")))
        }
        Err(error) => Err(Failure::fault(error)),
    }
}

async fn list(back_end: &BackEnd, out: Out) -> Result<(), Failure> {
    let (heads, host) = (back_end.feed().heads().await?, back_end.reader()?);
    if heads.is_empty() && !out.json() {
        return out.say("no companies yet: `cnc company found NAME`", &Value::Null);
    }
    for (company, head) in heads {
        let shown = host.state(company, "company", company.uuid(), None).await.map_err(Failure::fault)?;
        let name = shown.map(|shown| shown.state["founding"]["name"].clone()).unwrap_or_default();
        out.say(
            format_args!("{company}  {:>10}  {}", head.position, name.as_str().unwrap_or_default()),
            &json!({ "company": company, "name": name, "position": head.position, "head": head.to_string() }),
        )?;
    }
    Ok(())
}
