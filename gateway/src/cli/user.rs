//! `cnc user` and `cnc service-account`: whom a company lets in. Its first admin can only be invited from here.

use cnc_domain::{
    cloud_control::roles::ROLES,
    kernel::{Actor, CompanyId, LocationId, ServiceAccountId, UserId},
};
use serde_json::json;
use uuid::Uuid;

use super::{
    giving::{Target, give},
    in_existing,
    output::{Failure, Out},
};
use crate::run::Config;

/// Invite the people of a company
#[derive(Debug, clap::Subcommand)]
pub enum User {
    /// Invite somebody. Prints their id, which `cnc token issue` asks for
    Invite {
        #[command(flatten)]
        rights: Rights,
        /// Their name
        #[arg(long)]
        name: String,
        /// Their e-mail address
        #[arg(long)]
        email: String,
        /// Who they are in the field, for a driver or a mover
        #[arg(long, value_name = "ID")]
        crew_member: Option<Uuid>,
        /// Take the invitation up for them, so that they can come in at once
        #[arg(long)]
        accept: bool,
    },
}

/// Let programs sign in under names of their own
#[derive(Debug, clap::Subcommand)]
pub enum ServiceAccount {
    /// Register a service account. Prints its id, which `cnc token issue` asks for
    Register {
        #[command(flatten)]
        rights: Rights,
        /// What the program is called
        #[arg(long)]
        name: String,
    },
}

/// Of which company, as what, and where.
#[derive(Debug, clap::Args)]
pub struct Rights {
    /// The company: see `cnc company list`
    #[arg(long, value_name = "ID")]
    company: CompanyId,
    /// The role, which says what they may do
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(ROLES.iter().copied()))]
    role: String,
    /// Only this location (may be given more than once); all of them where none is named
    #[arg(long, value_name = "ID")]
    location: Vec<LocationId>,
}

impl Rights {
    fn locations(&self) -> Option<&[LocationId]> {
        (!self.location.is_empty()).then_some(&self.location)
    }
}

pub async fn run(command: &User, config: Config, out: Out) -> Result<(), Failure> {
    let User::Invite { rights, name, email, crew_member, accept } = command;
    let user = UserId::new(Uuid::now_v7());
    let invitation = json!({ "name": name, "email": email, "role": rights.role, "locations": rights.locations(),
        "crew_member": crew_member });
    let target = || Target { company: rights.company, stream: "user", id: user.uuid() };
    let actor = || Actor::tool("cnc");
    in_existing(&config, async |rooms| {
        give(&rooms.host, target(), "invite", &invitation, actor()).await?;
        if *accept {
            give(&rooms.host, target(), "accept", &json!({}), actor()).await?;
        }
        Ok(())
    })
    .await?;
    out.say(user, &json!({ "user": user, "role": rights.role, "accepted": accept }))
}

pub async fn run_service_account(command: &ServiceAccount, config: Config, out: Out) -> Result<(), Failure> {
    let ServiceAccount::Register { rights, name } = command;
    let account = ServiceAccountId::new(Uuid::now_v7());
    let registration = json!({ "name": name, "role": rights.role, "locations": rights.locations() });
    let target = Target { company: rights.company, stream: "service_account", id: account.uuid() };
    let give = async |rooms: &crate::run::Rooms| {
        give(&rooms.host, target, "register", &registration, Actor::tool("cnc")).await
    };
    in_existing(&config, give).await?;
    out.say(account, &json!({ "service_account": account, "role": rights.role }))
}
