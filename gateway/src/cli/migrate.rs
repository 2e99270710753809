//! `cnc migrate`: brings a Postgres database up to date, for logins that own nothing in it.

use cnc_domain::kernel::CompanyId;
use serde_json::json;

use super::{
    in_opened,
    output::{Failure, Out},
};
use crate::run::{BackEnd, Config, Rooms};

/// What each role may do, in the schemas of all rooms.
const GRANTS: &str = include_str!("../grants.sql");

/// Bring the Postgres database up to date, and let the roles do their part
///
/// Run it as the owner of the database, once before the first start and once with each new version, before its processes
/// start. Then no process needs to own anything: let gateways log in as a member of cnc_write and cnc_read, folds of
/// cnc_fold, workers of cnc_write and cnc_fold, relays of cnc_relay. It may be run at any time and as often as you like:
/// each time it makes what is missing of roles and their rights, also where the database was restored into a new cluster,
/// and the keys where there are none. Where all processes log in as the owner, it is not needed.
#[derive(Debug, clap::Args)]
pub struct Migrate {}

pub async fn run(config: Config, out: Out) -> Result<(), Failure> {
    if config.ledger.is_none() {
        return Err(Failure::Usage(
            "a data folder brings itself up to date; for Postgres add --ledger postgres://…".into(),
        ));
    }
    in_opened(Rooms::open_as_owner(&config).await?, migrate).await?;
    out.say("up to date: each role may do its part", &json!({ "migrated": true }))
}

/// Opening the rooms has made what they share.
async fn migrate(rooms: &Rooms) -> Result<(), Failure> {
    let BackEnd::Postgres(ledger) = &rooms.back_end else { return Ok(()) };
    // Nobody's folds are quickly verified, and the tables of all are made first.
    rooms.engine().verify(Some(CompanyId::nil())).await?;
    ledger.repair_roles().await?;
    Ok(ledger.run_as_owner(GRANTS).await?)
}
