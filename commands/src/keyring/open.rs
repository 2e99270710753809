//! Opening sealed values within JSON, for those who may see them.

use std::collections::{HashMap, HashSet};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use cnc_domain::{
    kernel::{CompanyId, Sealed},
    ledger::Fault,
};
use serde_json::Value;
use uuid::Uuid;

use super::{KEPT, Keyring, SubjectKey, bound, locked, unwrap};

/// What stands where one may not see.
const SEALED: &str = "[sealed]";
/// What stands where nobody can see any more: the key was destroyed, on the record.
const ERASED: &str = "[erased]";
/// What stands where the key is missing and no destruction is recorded: a fault of ours, which the log names.
const UNAVAILABLE: &str = "[unavailable]";

/// The keys of what is to be opened, as far as they are there, and those that were destroyed.
#[derive(Default)]
struct Keys {
    found: HashMap<Uuid, SubjectKey>,
    destroyed: HashSet<Uuid>,
}

impl Keyring {
    /// Puts the clear value in place of every sealed one whose kind `may` be seen, `"[sealed]"` where it may not, and
    /// `"[erased]"` where the key was destroyed, `"[unavailable]"` where it is missing. Returns how many were opened.
    pub async fn open_all(
        &self,
        company: CompanyId,
        value: &mut Value,
        may: &(dyn Fn(&str) -> bool + Sync),
    ) -> Result<usize, Fault> {
        let mut wanted = HashSet::new();
        collect(value, may, &mut wanted);
        let keys = if wanted.is_empty() { Keys::default() } else { self.keys(company, wanted).await? };
        let mut opened = 0;
        replace(company, value, may, &keys, &mut opened)?;
        Ok(opened)
    }

    async fn keys(&self, company: CompanyId, wanted: HashSet<Uuid>) -> Result<Keys, Fault> {
        let (mut keys, mut absent) = (Keys::default(), HashSet::new());
        {
            let mut kept = locked(&self.0.keys);
            for id in wanted {
                match kept.get(&(company, id)).filter(|key| key.since.elapsed() < KEPT) {
                    Some(key) => drop(keys.found.insert(id, key)),
                    None => drop(absent.insert(id)),
                }
            }
        }
        if absent.is_empty() {
            return Ok(keys);
        }
        let company_keys = self.company(company).await?;
        for wrapped in self.0.store.keys(company, absent.iter().copied().collect()).await? {
            let key = unwrap(&company_keys, company, &wrapped)?;
            locked(&self.0.keys).put((company, key.id), key.clone());
            absent.remove(&key.id);
            keys.found.insert(key.id, key);
        }
        if !absent.is_empty() {
            let destroyed = self.0.store.destroyed(company, absent.iter().copied().collect()).await?;
            keys.destroyed.extend(destroyed);
            absent.difference(&keys.destroyed).for_each(|id| self.miss(company, *id));
        }
        Ok(keys)
    }

    /// Names a missing key in the log, once.
    fn miss(&self, company: CompanyId, key: Uuid) {
        let mut missed = locked(&self.0.missed);
        if missed.get(&(company, key)).is_none() {
            missed.put((company, key), ());
            tracing::error!(%company, %key, "a key is missing, and no destruction of it is recorded: what it sealed is shown \
                as {UNAVAILABLE}. The key store was damaged, or is older than the ledger: put back the one that belongs to it");
        }
    }
}

/// The box in a value of the form `{"sealed":{…}}` or `{"sealed":{…},"part":…}`.
fn sealed(value: &Value) -> Option<Sealed> {
    let members = value.as_object()?;
    let inside = members.get("sealed")?;
    let alone = members.keys().all(|name| name == "sealed" || name == "part");
    if alone { serde::Deserialize::deserialize(inside).ok() } else { None }
}

fn collect(value: &Value, may: &dyn Fn(&str) -> bool, wanted: &mut HashSet<Uuid>) {
    match value {
        Value::Object(members) => match sealed(value) {
            Some(sealed) => {
                if may(&sealed.kind) {
                    wanted.insert(sealed.key);
                }
            }
            None => members.values().for_each(|value| collect(value, may, wanted)),
        },
        Value::Array(items) => items.iter().for_each(|value| collect(value, may, wanted)),
        _ => {}
    }
}

fn replace(
    company: CompanyId,
    value: &mut Value,
    may: &dyn Fn(&str) -> bool,
    keys: &Keys,
    opened: &mut usize,
) -> Result<(), Fault> {
    if let Some(sealed) = sealed(value) {
        *value = match keys.found.get(&sealed.key) {
            _ if !may(&sealed.kind) => SEALED.into(),
            None if keys.destroyed.contains(&sealed.key) => ERASED.into(),
            None => UNAVAILABLE.into(),
            Some(key) => {
                *opened += 1;
                open(company, &sealed, key)?
            }
        };
        return Ok(());
    }
    match value {
        Value::Object(members) => members.values_mut().try_for_each(|value| replace(company, value, may, keys, opened)),
        Value::Array(items) => items.iter_mut().try_for_each(|value| replace(company, value, may, keys, opened)),
        _ => Ok(()),
    }
}

fn open(company: CompanyId, sealed: &Sealed, key: &SubjectKey) -> Result<Value, Fault> {
    let broken =
        |what: &str| Fault::broken("open a sealed value", format!("{} of {}: {what}", sealed.kind, sealed.subject));
    let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| broken("not base64"));
    let mut text = bytes(&sealed.nonce)?;
    text.extend(bytes(&sealed.ciphertext)?);
    let bound = bound(company, sealed.subject, &sealed.kind, sealed.key);
    let clear = key.key.open(&text, bound.as_bytes()).map_err(|_| broken("it does not open under its key"))?;
    serde_json::from_slice(&clear).map_err(|_| broken("it is not JSON inside"))
}
