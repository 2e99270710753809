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
/// What stands where nobody can see any more.
const ERASED: &str = "[erased]";

type Keys = HashMap<Uuid, SubjectKey>;

impl Keyring {
    /// Puts the clear value in place of every sealed one whose kind `may` be seen, `"[sealed]"` where it may not, and
    /// `"[erased]"` where the key is gone. Returns how many were opened.
    pub async fn open_all(
        &self,
        company: CompanyId,
        value: &mut Value,
        may: &(dyn Fn(&str) -> bool + Sync),
    ) -> Result<usize, Fault> {
        let mut wanted = HashSet::new();
        collect(value, may, &mut wanted);
        let keys = if wanted.is_empty() { Keys::new() } else { self.keys(company, wanted).await? };
        let mut opened = 0;
        replace(company, value, may, &keys, &mut opened)?;
        Ok(opened)
    }

    /// Those of these keys that there still are.
    async fn keys(&self, company: CompanyId, wanted: HashSet<Uuid>) -> Result<Keys, Fault> {
        let (mut found, mut missing) = (Keys::new(), Vec::new());
        {
            let mut kept = locked(&self.0.keys);
            for id in wanted {
                match kept.get(&(company, id)).filter(|key| key.since.elapsed() < KEPT) {
                    Some(key) => drop(found.insert(id, key)),
                    None => missing.push(id),
                }
            }
        }
        if missing.is_empty() {
            return Ok(found);
        }
        let company_keys = self.company(company).await?;
        for wrapped in self.0.store.keys(company, missing).await? {
            let key = unwrap(&company_keys, company, &wrapped)?;
            locked(&self.0.keys).put((company, key.id), key.clone());
            found.insert(key.id, key);
        }
        Ok(found)
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
        *value = match keys.get(&sealed.key) {
            _ if !may(&sealed.kind) => SEALED.into(),
            None => ERASED.into(),
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
