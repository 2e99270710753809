//! Opening an installation's keys. They are made where there is nothing yet that other keys have sealed, and nowhere else:
//! a key that is made in the place of one that was lost hides the loss until nobody can repair it.

use std::path::{Path, PathBuf};

use cnc_domain::{kernel::CompanyId, ledger::Fault};
use uuid::Uuid;

use super::{
    Keyring, MasterKey,
    postgres::PostgresKeys,
    sqlite::{KEYS_FILE, SqliteKeys},
    store::{KeyCheck, KeyStore},
};

const OPENING: &str = "open the keys";
/// What a key check value is, once it is opened.
const CHECKED: &[u8] = b"cnc key check";

/// Where the wrapped keys of an installation lie.
#[derive(Clone, Copy)]
pub enum KeyPlace<'a> {
    /// `keys.db` in this data folder.
    Sqlite(&'a Path),
    /// The schema `cnc_keys` of this Postgres database.
    Postgres(&'a str),
}

impl KeyPlace<'_> {
    /// What a message calls it.
    fn name(self) -> String {
        match self {
            Self::Sqlite(folder) => folder.join(KEYS_FILE).display().to_string(),
            Self::Postgres(_) => "the schema cnc_keys of the database".into(),
        }
    }

    /// The store that is there; `None` where there is none, or one without its tables.
    async fn existing(self) -> Result<Option<Box<dyn KeyStore>>, Fault> {
        Ok(match self {
            Self::Sqlite(folder) => SqliteKeys::existing(folder).await?.map(|store| Box::new(store) as _),
            Self::Postgres(url) => PostgresKeys::existing(url).await?.map(|store| Box::new(store) as _),
        })
    }

    /// The store, made where there is none.
    pub(super) async fn create(self) -> Result<Box<dyn KeyStore>, Fault> {
        Ok(match self {
            Self::Sqlite(folder) => Box::new(SqliteKeys::create(folder).await?),
            Self::Postgres(url) => Box::new(PostgresKeys::create(url).await?),
        })
    }
}

impl Keyring {
    /// Opens the keys of an installation whose ledger holds these companies. Refused, with what to do, where a file is
    /// missing beside what it opens, or is another installation's.
    pub async fn open(place: KeyPlace<'_>, master_key: &Path, companies: &[CompanyId]) -> Result<Self, Fault> {
        let existing = place.existing().await?;
        if existing.is_none() && !companies.is_empty() {
            return Err(refused(format!(
                "{} is missing or empty, and the ledger holds {} whose personal data its keys open. Put it back, with \
                 cnc restore or from a copy that is not older than the ledger; nothing was made in its place",
                place.name(),
                count(companies.len()),
            )));
        }
        let used = match &existing {
            Some(store) => store.check().await?.is_some() || !store.companies().await?.is_empty(),
            None => false,
        };
        let master = match MasterKey::load(master_key)? {
            Some(master) => master,
            None if used || !companies.is_empty() => return Err(no_master_key(place, master_key, companies.len())),
            None => MasterKey::create(master_key)?,
        };
        // Tables that a former version did not have are made here, too.
        let store = place.create().await?;
        let ring = Self::checked(store, master, Some(master_key)).await?;
        ring.covers(place, companies).await?;
        Ok(ring)
    }

    /// Makes the tables of a key store where there are none, and the master key where nothing is wrapped by another one yet.
    pub async fn begin(place: KeyPlace<'_>, master_key: &Path, founded: bool) -> Result<(), Fault> {
        let store = place.create().await?;
        let used = founded || store.check().await?.is_some() || !store.companies().await?.is_empty();
        if !used {
            Self::open(place, master_key, &[]).await?;
        }
        Ok(())
    }

    /// Over a store whose keys this master key wraps, or will.
    pub(super) async fn checked(
        store: Box<dyn KeyStore>,
        master: MasterKey,
        file: Option<&Path>,
    ) -> Result<Self, Fault> {
        let check = if let Some(check) = store.check().await? {
            check
        } else {
            fits_companies(&*store, &master, file).await?;
            let id = Uuid::now_v7();
            let value = master.key().seal(CHECKED, about(id).as_bytes())?;
            // Several processes may start at once; whichever was first is right.
            store.settle_check(KeyCheck { store: id, value }).await?
        };
        if !fits(&master, &check) {
            return Err(foreign(file));
        }
        Ok(Self::over(store, master))
    }

    /// Whether the store holds the key of each of these companies.
    async fn covers(&self, place: KeyPlace<'_>, companies: &[CompanyId]) -> Result<(), Fault> {
        let known: std::collections::HashSet<CompanyId> = self.0.store.companies().await?.into_iter().collect();
        let missing: Vec<_> = companies.iter().filter(|company| !known.contains(company)).collect();
        let Some(first) = missing.first() else { return Ok(()) };
        Err(refused(format!(
            "{} has no key of {}, the first is {first}: it is older than the ledger, or another installation's. Put back \
             the one that belongs to this ledger; nothing was made in its place",
            place.name(),
            count(missing.len()),
        )))
    }
}

/// Whether a store of a former version, which has no check, holds keys of this master key.
async fn fits_companies(store: &dyn KeyStore, master: &MasterKey, file: Option<&Path>) -> Result<(), Fault> {
    let Some(company) = store.companies().await?.first().copied() else { return Ok(()) };
    match store.company(company).await? {
        Some(wrapped) if master.key().open(&wrapped, super::about_company(company).as_bytes()).is_err() => {
            Err(foreign(file))
        }
        _ => Ok(()),
    }
}

/// Whether a check was made under this master key.
fn fits(master: &MasterKey, check: &KeyCheck) -> bool {
    master.key().open(&check.value, about(check.store).as_bytes()).is_ok_and(|opened| opened == CHECKED)
}

fn about(store: Uuid) -> String {
    format!("check|{store}")
}

fn refused(cause: String) -> Fault {
    Fault::broken(OPENING, cause)
}

fn count(companies: usize) -> String {
    if companies == 1 { "one company".into() } else { format!("{companies} companies") }
}

fn no_master_key(place: KeyPlace<'_>, file: &Path, companies: usize) -> Fault {
    let needs = if companies > 0 {
        format!("the ledger holds {} whose personal data only it opens", count(companies))
    } else {
        format!("the keys in {} are wrapped by it", place.name())
    };
    refused(format!(
        "{} is missing, and {needs}. Put it back from where you keep it, or name it by --master-key-file; nothing was made \
         in its place",
        file.display()
    ))
}

fn foreign(file: Option<&Path>) -> Fault {
    let file = file.map_or(PathBuf::from("the master key"), Path::to_owned);
    refused(format!(
        "{} is not the master key that wraps the keys of this installation: it does not fit their check value. Put back \
         the one that belongs to them, or name it by --master-key-file",
        file.display()
    ))
}
