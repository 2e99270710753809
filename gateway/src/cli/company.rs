//! `cnc company`: tenants.

use cnc_domain::{
    kernel::{Actor, CompanyId, Id},
    ledger::Answer,
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    giving::{Target, give},
    in_existing, in_rooms, move_company,
    output::{Failure, Out},
    read_only,
};
use crate::run::{BackEnd, Config, Rooms};

/// Found a company, list them, reopen or move one
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
    /// Reopen a company that was closed by mistake
    Reopen {
        /// The company: see `cnc company list`
        #[arg(value_name = "ID")]
        company: CompanyId,
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
            in_rooms(&config, async |rooms| of_company(rooms, company, "found", &fields).await).await?;
            out.say(company, &json!({ "company": company, "name": name }))
        }
        Company::Reopen { company } => {
            let reopen = async |rooms: &Rooms| of_company(rooms, *company, "reopen", &json!({})).await;
            let answer = in_existing(&config, reopen).await?;
            let done = if answer.recorded == 0 { "was not closed" } else { "is open again" };
            out.say(format_args!("{company} {done}"), &json!({ "company": company, "recorded": answer.recorded }))
        }
        Company::List => list(&read_only(&config).await?, out).await,
        Company::Move(command) => move_company::run(command, config, out).await,
    }
}

/// Gives a command to a company itself.
async fn of_company(rooms: &Rooms, company: CompanyId, name: &str, fields: &Value) -> Result<Answer, Failure> {
    let target = Target { company, stream: "company", id: company.uuid() };
    give(&rooms.host, target, name, fields, Actor::tool("cnc")).await
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
