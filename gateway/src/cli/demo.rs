//! `cnc demo`: a company to look at.

use std::net::SocketAddr;

use cnc_domain::kernel::Minutes;
use serde_json::json;

use super::{
    address::resolved,
    output::{Failure, Out},
    serve::stopped,
};
use crate::{
    clock, demo, issuing,
    principal::Principal,
    run::{Config, System},
};

/// For how long the printed token is good.
const TOKEN_LENGTH: Minutes = Minutes(12 * 60);

/// Found a small company, play its day up to now, and serve it
///
/// Everything is done by the same commands that people give, so that what you see is what you get. A second start with the
/// same data folder finds the company as you left it.
#[derive(Debug, clap::Args)]
pub struct Demo {
    /// Where to listen; port 0 takes a free one, which is printed
    #[arg(long, env = "CNC_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDRESS:PORT", value_parser = resolved)]
    listen: SocketAddr,
}

pub async fn run(command: &Demo, config: Config, out: Out) -> Result<(), Failure> {
    let stopped = stopped()?;
    let (now, data) = (clock::now(), config.data.display().to_string());
    // Triggers are silent about what was there before their first start, so that the server is there first.
    let system = System::start(Config { listen: command.listen, ..config }).await?;
    let played = demo::play(&system.rooms.host, now).await?;
    let dispatcher = Principal::User(played.dispatcher);
    let (rooms, times) = (&system.rooms, (now, now.plus(TOKEN_LENGTH)));
    let token = issuing::issue((&rooms.host, &rooms.tokens), played.company, dispatcher, None, times).await?.token;
    let at = format!("http://{}", system.address);
    let company = played.company;
    let done = if played.commands == 0 { "as you left it".into() } else { format!("{} commands", played.commands) };
    let text = format!(
        "Maple & Main Movers, {company}: {done}\n\n\
         Read the API:    {at}/docs\n\
         A dispatcher's token, good for 12 hours:\n\n  export TOKEN={token}\n\n\
         The live board:  curl -sH \"authorization: Bearer $TOKEN\" {at}/v1/views/dispatch_board | jq\n\
         Alerts:          curl -sH \"authorization: Bearer $TOKEN\" {at}/v1/views/alerts | jq\n\
         The ledger:      cnc audit verify --company {company} --data {data}\n\n\
         Ctrl-C stops it."
    );
    out.say(text, &json!({ "listening": at, "company": company, "token": token, "commands": played.commands }))?;
    stopped.await;
    system.stop().await;
    Ok(())
}
