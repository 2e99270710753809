//! Reads through the gateway: of one document beside pgbench with the same select, and from memory beside a bare handler.

use std::sync::Arc;

use sqlx::{Connection as _, PgConnection};
use tokio::sync::Mutex;

use super::{
    super::{
        Options, Outcome, load,
        report::{Report, Target},
    },
    bare::Bare,
    lean::Lean,
    world::World,
};

/// How many clients read at once.
const CLIENTS: usize = 16;

/// Measures each beside its limit.
pub async fn measure(world: &World, options: &Options, report: &mut Report) -> Outcome {
    let journey = world.journeys[0];
    let (document, state) = (format!("/v1/views/dispatch_board/{journey}"), format!("/v1/truck_journey/{journey}"));
    let gateway = world.gateway.url("");
    let body = Lean::connect(&gateway).await?.get(&document, &world.token, false).await?;
    let handler = Bare::start(&body)?;
    let (mut stored, mut selects) = (Vec::new(), Vec::new());
    let (mut documents, mut states, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.turns {
        stored.push(reads_per_second(&gateway, &document, &world.token, true, options).await?);
        selects.push(selects_per_second(world, options).await?);
        documents.push(reads_per_second(&gateway, &document, &world.token, false, options).await?);
        bare.push(reads_per_second(&handler.url, "/", &world.token, false, options).await?);
        states.push(reads_per_second(&gateway, &state, &world.token, false, options).await?);
    }
    let (pgbench, handler) =
        ("pgbench with the same select, prepared", "a bare axum handler with the document's bytes, a process too");
    let (selects, bare) = (load::median(selects), load::median(bare));
    let (quarter, most) = (Some(Target::AtLeast(0.25)), Some(Target::AtLeast(0.4)));
    report.add("reads/s of one document from the store", load::median(stored), pgbench, selects, quarter);
    report.add("reads/s of one document from memory", load::median(documents), handler, bare, most);
    report.add("reads/s of one journey's state, folded from its stream", load::median(states), handler, bare, None);
    Ok(())
}

async fn reads_per_second(url: &str, path: &str, token: &str, from_store: bool, options: &Options) -> Outcome<f64> {
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(Arc::new(Mutex::new(Lean::connect(url).await?)));
    }
    let (path, token) = (path.to_owned(), token.to_owned());
    load::per_second(CLIENTS, options.cell(), move |client, _| {
        let (client, path, token) = (clients[client].clone(), path.clone(), token.clone());
        async move {
            let read = client.lock().await.get(&path, &token, from_store).await;
            read.map(|_| ()).map_err(|error| error.to_string())
        }
    })
    .await
}

/// What pgbench makes of the select that the gateway's read comes to.
async fn selects_per_second(world: &World, options: &Options) -> Outcome<f64> {
    let mut connection = PgConnection::connect(&world.database).await?;
    let find = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'cnc_views' AND tablename LIKE 'dispatch_board%' LIMIT 1";
    let table: String = sqlx::query_scalar(find).fetch_one(&mut connection).await?;
    let key = world.journeys[0];
    let script = format!(
        "SELECT key, location::text, position, doc::text, restricted::text FROM cnc_views.{table} \
         WHERE company = '{}' AND build = 1 AND key = '{key}';",
        world.company
    );
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), script)?;
    let clients = CLIENTS.to_string();
    let time = options.cell().as_secs().max(1).to_string();
    let mut pgbench = tokio::process::Command::new(cnc_tests::postgres::program("pgbench"));
    pgbench.args(["-n", "-M", "prepared", "-c", &clients, "-j", "2", "-T", &time, "-f"]).arg(file.path());
    let output = pgbench.arg(&world.database).output().await?;
    let text = String::from_utf8_lossy(&output.stdout);
    let tps = text.lines().find_map(|line| line.strip_prefix("tps = ")).and_then(|rest| rest.split(' ').next());
    Ok(tps.ok_or_else(|| format!("pgbench says {text} {}", String::from_utf8_lossy(&output.stderr)))?.parse()?)
}
