//! `cnc integration`: partners that read a company's entries from NATS.

use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _, path::PathBuf};

use async_nats::{
    ConnectOptions, ServerAddr,
    jetstream::{self, Context},
};
use cnc_domain::{kernel::CompanyId, ledger::subject};
use futures::TryStreamExt as _;
use nkeys::KeyPair;
use serde_json::json;

use super::{
    output::{Failure, Out, note},
    read_only,
};
use crate::{integration::Integration as Partner, nats, run::Config};

/// Let partners read a company's entries from NATS, each with rights of its own
#[derive(Debug, clap::Subcommand)]
pub enum Integration {
    /// Make a durable consumer of a company's entries, and print the account to put into the broker's settings
    ///
    /// Its user is known to the broker by a public key. The partner should make the key pair and give you the public half
    /// (--key). Otherwise it is made here, and the secret half is written to a file that only you can read.
    Add {
        #[command(flatten)]
        which: Which,
        /// The partner's public key, as `nk -gen user -pubout` prints it: U…
        #[arg(long, value_name = "KEY")]
        key: Option<String>,
        /// Where to write the secret half of a new key pair; the file must not exist [default: NAME.nk]
        #[arg(long, value_name = "FILE", conflicts_with = "key")]
        seed_file: Option<PathBuf>,
    },
    /// List integrations: how much waits for each
    List {
        #[command(flatten)]
        broker: Broker,
        /// Only of this company
        #[arg(long, value_name = "ID")]
        company: Option<CompanyId>,
    },
    /// Remove an integration's consumer. Then remove its account from the broker's settings
    Remove {
        #[command(flatten)]
        which: Which,
    },
}

/// Which integration.
#[derive(Debug, clap::Args)]
pub struct Which {
    /// Whose entries
    #[arg(long, value_name = "ID")]
    company: CompanyId,
    /// What to call it: lower-case letters, digits, - and _
    #[arg(long)]
    name: String,
    #[command(flatten)]
    broker: Broker,
}

/// Where the stream is.
#[derive(Debug, clap::Args)]
pub struct Broker {
    /// The broker, with a user that may manage consumers: nats://USER:PASSWORD@HOST
    #[arg(long, env = "CNC_NATS", value_name = "URL", hide_env_values = true)]
    nats: String,
}

impl Broker {
    /// The address may hold a password: no message shows it.
    async fn connect(&self) -> Result<Context, Failure> {
        let wrong = |_| Failure::Usage("--nats takes nats://USER:PASSWORD@HOST:PORT".into());
        let address: ServerAddr = self.nats.parse().map_err(wrong)?;
        let options = nats::sign_in(ConnectOptions::new(), std::slice::from_ref(&address));
        let client = options.connect(address).await;
        client.map(jetstream::new).map_err(|error| Failure::fault(format!("the broker does not let us in: {error}")))
    }
}

impl Which {
    fn partner(&self) -> Result<Partner, Failure> {
        let wrong = "a name has up to 40 lower-case letters, digits, - and _";
        Partner::new(self.company, &self.name).ok_or_else(|| Failure::Usage(wrong.into()))
    }
}

pub async fn run(command: &Integration, config: Config, out: Out) -> Result<(), Failure> {
    match command {
        Integration::Add { which, key, seed_file } => {
            let partner = which.partner()?;
            exists(&config, which.company).await?;
            let jetstream = which.broker.connect().await?;
            let key = match key {
                Some(key) => user_key(key)?,
                None => new_key(&seed_file.clone().unwrap_or_else(|| format!("{}.nk", which.name).into()))?,
            };
            add(&jetstream, &partner, &key, out).await
        }
        Integration::List { broker, company } => list(&broker.connect().await?, *company, out).await,
        Integration::Remove { which } => remove(&which.broker.connect().await?, &which.partner()?, out).await,
    }
}

async fn exists(config: &Config, company: CompanyId) -> Result<(), Failure> {
    let head = read_only(config).await?.feed().head(company).await?;
    head.map(|_| ()).ok_or_else(|| Failure::no_company(company))
}

fn user_key(key: &str) -> Result<String, Failure> {
    let is_user = key.starts_with('U') && KeyPair::from_public_key(key).is_ok();
    is_user.then(|| key.to_owned()).ok_or_else(|| Failure::Usage("--key is no user's public key: U…".into()))
}

/// Makes a key pair, writes its secret half to a new file, and returns the public one.
fn new_key(file: &PathBuf) -> Result<String, Failure> {
    let pair = KeyPair::new_user();
    let seed = pair.seed().map_err(Failure::fault)?;
    let mut options = std::fs::OpenOptions::new();
    let written = options.write(true).create_new(true).mode(0o600).open(file).and_then(|mut file| {
        writeln!(file, "{seed}")?;
        file.sync_all()
    });
    written.map_err(|error| Failure::file(file, &error))?;
    note(format_args!("the partner's secret is in {}: hand it over, and remove it here", file.display()));
    Ok(pair.public_key())
}

async fn add(jetstream: &Context, partner: &Partner, key: &str, out: Out) -> Result<(), Failure> {
    let stream = jetstream.get_stream(subject::STREAM).await.map_err(Failure::fault)?;
    // One that is there stays: it may stand anywhere, and its partner may only want another key.
    let made = stream.get_or_create_consumer(&partner.durable(), partner.consumer()).await;
    made.map_err(|error| Failure::fault(format!("the consumer cannot be made: {error}")))?;
    note("put this account into the broker's settings, under accounts, and restart it:");
    let account = partner.account(key);
    out.say(
        &account,
        &json!({ "company": partner.company(), "name": partner.name(), "durable": partner.durable(),
            "inbox": partner.inbox(), "key": key, "account": account }),
    )
}

async fn list(jetstream: &Context, company: Option<CompanyId>, out: Out) -> Result<(), Failure> {
    let stream = jetstream.get_stream(subject::STREAM).await.map_err(Failure::fault)?;
    let mut consumers = stream.consumers();
    while let Some(info) = consumers.try_next().await.map_err(Failure::fault)? {
        let Some(partner) = Partner::of_durable(&info.name) else { continue };
        if company.is_some_and(|company| company != partner.company()) {
            continue;
        }
        let (waiting, unanswered) = (info.num_pending, info.num_ack_pending);
        out.say(
            format_args!(
                "{}  {waiting:>10} waiting  {unanswered:>6} unanswered  {}",
                partner.company(),
                partner.name()
            ),
            &json!({ "company": partner.company(), "name": partner.name(), "durable": info.name, "waiting": waiting,
                "unanswered": unanswered }),
        )?;
    }
    Ok(())
}

async fn remove(jetstream: &Context, partner: &Partner, out: Out) -> Result<(), Failure> {
    let stream = jetstream.get_stream(subject::STREAM).await.map_err(Failure::fault)?;
    let missing = || Failure::Missing(format!("there is no integration {} of {}", partner.name(), partner.company()));
    stream.get_consumer::<jetstream::consumer::pull::Config>(&partner.durable()).await.map_err(|_| missing())?;
    stream.delete_consumer(&partner.durable()).await.map_err(Failure::fault)?;
    note("its account is still in the broker's settings: remove it there");
    out.say(format_args!("removed {}", partner.durable()), &json!({ "removed": partner.durable() }))
}
