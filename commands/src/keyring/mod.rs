//! Keys: one of each data subject, wrapped by its company's, wrapped by the master key. All of them lie outside the ledger,
//! so that destroying a subject's key erases the person everywhere and leaves every hash valid.

mod crypto;
pub mod key_file;
mod master;
#[cfg(feature = "simulation")]
mod memory;
mod none;
mod open;
mod opening;
mod postgres;
mod sqlite;
pub(crate) mod store;

use std::{
    fmt,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use cnc_domain::{
    kernel::{CompanyId, Kind, Sealed},
    ledger::Fault,
};
use uuid::Uuid;

use self::{
    crypto::{Key, random},
    store::{KeyStore, Wrapped},
};
use crate::cache::Recent;

pub use master::MasterKey;
#[cfg(feature = "simulation")]
pub use memory::MemoryKeys;
pub use opening::KeyPlace;
pub(crate) use sqlite::KEYS_FILE;
pub use store::Destruction;

/// How long a key that another process has destroyed may still be in use here.
const KEPT: Duration = Duration::from_mins(1);
/// How many keys of subjects are kept in memory.
const SUBJECTS: usize = 50_000;
/// How many keys of companies are.
const COMPANIES: usize = 10_000;
/// Of how many missing keys it is remembered that the log has named them.
const MISSED: usize = 10_000;

/// Seals personal values and opens them again. Cheap to clone.
#[derive(Clone)]
pub struct Keyring(Arc<Inner>);

struct Inner {
    store: Box<dyn KeyStore>,
    master: MasterKey,
    companies: Mutex<Recent<CompanyId, Arc<CompanyKeys>>>,
    subjects: Mutex<Recent<(CompanyId, Uuid), SubjectKey>>,
    keys: Mutex<Recent<(CompanyId, Uuid), SubjectKey>>,
    /// Keys that are neither there nor destroyed on the record, which the log has named.
    missed: Mutex<Recent<(CompanyId, Uuid), ()>>,
}

/// What follows from a company's key.
struct CompanyKeys {
    wrapping: Key,
    /// Under which equal values of a kind are found again.
    prints: hmac::Key,
    /// Under which the bodies of commands are remembered.
    fingerprints: hmac::Key,
}

#[derive(Clone)]
struct SubjectKey {
    id: Uuid,
    key: Arc<Key>,
    since: Instant,
}

/// Sealing for one subject, with its key at hand.
pub struct Sealing {
    keyring: Keyring,
    company: CompanyId,
    subject: Uuid,
    key: SubjectKey,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyring")
    }
}
impl fmt::Debug for Sealing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealing for {}", self.subject)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a box is bound to: it opens for no other company, person, kind or key.
fn bound(company: CompanyId, subject: Uuid, kind: &str, key: Uuid) -> String {
    format!("{company}|{subject}|{kind}|{key}")
}

impl Keyring {
    /// Keys in `keys.db` in the data folder, made where there are none.
    pub async fn sqlite(data_dir: &Path, master: MasterKey) -> Result<Self, Fault> {
        Self::checked(KeyPlace::Sqlite(data_dir).create().await?, master, None).await
    }

    /// Keys in the schema `cnc_keys` of a Postgres database, made where there are none.
    pub async fn postgres(url: &str, master: MasterKey) -> Result<Self, Fault> {
        Self::checked(KeyPlace::Postgres(url).create().await?, master, None).await
    }

    /// Makes the tables of a key store where there are none, and no key.
    pub async fn furnish(place: KeyPlace<'_>) -> Result<(), Fault> {
        place.create().await.map(drop)
    }

    /// No keys, for a process that neither seals nor opens: whatever needs one is a fault.
    pub fn none() -> Result<Self, Fault> {
        Ok(Self::over(Box::new(none::NoKeys), MasterKey::of_nobody()?))
    }

    fn over(store: Box<dyn KeyStore>, master: MasterKey) -> Self {
        Self(Arc::new(Inner {
            store,
            master,
            companies: Mutex::new(Recent::new(COMPANIES)),
            subjects: Mutex::new(Recent::new(SUBJECTS)),
            keys: Mutex::new(Recent::new(SUBJECTS)),
            missed: Mutex::new(Recent::new(MISSED)),
        }))
    }

    /// Makes the key of a company that is being founded. Nobody else makes one: beside a ledger, a key that is not there was
    /// lost.
    pub async fn found(&self, company: CompanyId) -> Result<(), Fault> {
        if self.0.store.company(company).await?.is_none() {
            let new = self.0.master.key().seal(&random::<32>()?, about_company(company).as_bytes())?;
            // Several processes may make one at once; whichever was first is everybody's.
            self.0.store.settle_company(company, new).await?;
        }
        Ok(())
    }

    /// Destroys the key of a person, on the record: from then on what was sealed under it is erased. False where there is
    /// none. Processes that hold it use it for up to a minute more.
    pub async fn destroy(&self, company: CompanyId, subject: Uuid, record: Destruction) -> Result<bool, Fault> {
        let Some(id) = self.0.store.destroy(company, subject, record).await? else { return Ok(false) };
        locked(&self.0.subjects).remove(&(company, subject));
        locked(&self.0.keys).remove(&(company, id));
        Ok(true)
    }

    /// Leaves nothing beside the store's file that the next start would have to bring in.
    pub async fn close(&self) -> Result<(), Fault> {
        self.0.store.close().await
    }

    /// Seals one clear value of `kind`. Equal `canonical` texts get equal prints, for kinds that print.
    pub async fn seal(
        &self,
        company: CompanyId,
        subject: Uuid,
        kind: &Kind,
        clear: &str,
        canonical: &str,
    ) -> Result<Sealed, Fault> {
        self.sealing(company, subject).await?.seal(kind, clear, canonical).await
    }

    /// Makes ready to seal for `subject`, whose key is made where there is none.
    pub async fn sealing(&self, company: CompanyId, subject: Uuid) -> Result<Sealing, Fault> {
        let key = self.subject(company, subject).await?;
        Ok(Sealing { keyring: self.clone(), company, subject, key })
    }

    /// A hash of `parts` that nobody can guess at without the company's key.
    pub async fn fingerprint(&self, company: CompanyId, parts: &[&[u8]]) -> Result<[u8; 32], Fault> {
        let keys = self.company(company).await?;
        let mut context = hmac::Context::with_key(&keys.fingerprints);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(context.sign().as_ref());
        Ok(hash)
    }

    async fn company(&self, company: CompanyId) -> Result<Arc<CompanyKeys>, Fault> {
        let inner = &self.0;
        if let Some(keys) = locked(&inner.companies).get(&company) {
            return Ok(keys);
        }
        let wrapped = inner.store.company(company).await?.ok_or_else(|| {
            let lost = "is not in the key store: it was lost, or the store is older than the ledger. Put back the store \
                        that belongs to this ledger";
            Fault::broken("open a company's key", format!("the key of {company} {lost}"))
        })?;
        let secret = inner.master.key().open(&wrapped, about_company(company).as_bytes()).map_err(|_| {
            Fault::broken("open a company's key", "the master key does not fit: it is not the one that made it")
        })?;
        let root = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        let derived = |purpose: &str| hmac::sign(&root, purpose.as_bytes());
        let keys = Arc::new(CompanyKeys {
            wrapping: Key::new(derived("wrapping").as_ref())?,
            prints: hmac::Key::new(hmac::HMAC_SHA256, derived("prints").as_ref()),
            fingerprints: hmac::Key::new(hmac::HMAC_SHA256, derived("fingerprints").as_ref()),
        });
        locked(&inner.companies).put(company, Arc::clone(&keys));
        Ok(keys)
    }

    async fn subject(&self, company: CompanyId, subject: Uuid) -> Result<SubjectKey, Fault> {
        let inner = &self.0;
        let kept = locked(&inner.subjects).get(&(company, subject));
        if let Some(key) = kept.filter(|key| key.since.elapsed() < KEPT) {
            return Ok(key);
        }
        let keys = self.company(company).await?;
        let wrapped = if let Some(wrapped) = inner.store.subject(company, subject).await? {
            wrapped
        } else {
            let id = Uuid::now_v7();
            let secret = keys.wrapping.seal(&random::<32>()?, about(company, subject, id).as_bytes())?;
            inner.store.settle_subject(company, Wrapped { id, subject, secret }).await?
        };
        let key = unwrap(&keys, company, &wrapped)?;
        locked(&inner.subjects).put((company, subject), key.clone());
        locked(&inner.keys).put((company, key.id), key.clone());
        Ok(key)
    }

    /// The random token that equal values of a kind share.
    async fn print(&self, company: CompanyId, kind: &str, canonical: &str) -> Result<String, Fault> {
        let keys = self.company(company).await?;
        let tag = hmac::sign(&keys.prints, format!("{kind}|{canonical}").as_bytes());
        let token = URL_SAFE_NO_PAD.encode(random::<16>()?);
        self.0.store.settle_print(company, tag.as_ref(), token).await
    }
}

fn about_company(company: CompanyId) -> String {
    format!("company|{company}")
}

fn about(company: CompanyId, subject: Uuid, key: Uuid) -> String {
    format!("subject|{company}|{subject}|{key}")
}

fn unwrap(keys: &CompanyKeys, company: CompanyId, wrapped: &Wrapped) -> Result<SubjectKey, Fault> {
    let about = about(company, wrapped.subject, wrapped.id);
    let secret = keys.wrapping.open(&wrapped.secret, about.as_bytes()).map_err(|_| {
        Fault::broken("open a subject's key", format!("the key {} does not open under its company's", wrapped.id))
    })?;
    Ok(SubjectKey { id: wrapped.id, key: Arc::new(Key::new(&secret)?), since: Instant::now() })
}

impl Sealing {
    /// Seals one clear value of `kind`.
    pub async fn seal(&self, kind: &Kind, clear: &str, canonical: &str) -> Result<Sealed, Fault> {
        let print =
            if kind.prints { Some(self.keyring.print(self.company, kind.name, canonical).await?) } else { None };
        let bound = bound(self.company, self.subject, kind.name, self.key.id);
        let sealed = self.key.key.seal(clear.as_bytes(), bound.as_bytes())?;
        let (nonce, ciphertext) = sealed.split_at(crypto::NONCE);
        Ok(Sealed {
            kind: kind.name.into(),
            subject: self.subject,
            key: self.key.id,
            nonce: URL_SAFE_NO_PAD.encode(nonce),
            ciphertext: URL_SAFE_NO_PAD.encode(ciphertext),
            print,
        })
    }
}
