//! Verifying folds: each is built beside the one that stands, from the first entry on, and every document compared.

use std::{cmp::Ordering, collections::BTreeMap, sync::Arc};

use cnc_domain::{
    kernel::{CompanyId, LocationId},
    ledger::{Fault, Position},
};
use serde_json::Value;

use super::{Difference, Engine, Inner, Verified, beside::Beside};
use crate::store::{FoldId, Plan, Wanted};

/// How many documents are compared at once.
const PAGE: usize = 500;
/// How many differences are looked at again and reported.
const DIFFERENCES_MAX: usize = 100;
/// How often differences are looked at again where the fold moved on meanwhile.
const LOOKS: usize = 20;

type Page = Vec<(String, Option<LocationId>, String)>;

/// What a comparison found.
#[derive(Default)]
struct Compared {
    documents: u64,
    /// By shelf and key.
    differences: BTreeMap<(usize, String), &'static str>,
}

impl Engine {
    /// Builds every fold beside the one that stands and compares each document, for one company or all.
    pub async fn verify(&self, company: Option<CompanyId>) -> Result<Vec<Verified>, Fault> {
        let plans = self.inner.prepare().await?;
        let mut verified = Vec::new();
        for company in self.inner.companies(company).await? {
            for plan in &plans {
                verified.extend(self.inner.verify(plan, company).await?);
            }
        }
        Ok(verified)
    }
}

impl Inner {
    async fn verify(&self, plan: &Arc<Plan>, company: CompanyId) -> Result<Option<Verified>, Fault> {
        let Some(live) = self.live(plan, company).await? else { return Ok(None) };
        let mut verified = Verified {
            company,
            fold: plan.fold.into(),
            position: live.position,
            documents: 0,
            differences: Vec::new(),
            stopped: None,
        };
        if live.id.version != plan.version {
            verified.stopped = Some(format!("version {} stands, this program folds {}", live.id.version, plan.version));
            return Ok(Some(verified));
        }
        if !self.feed.contains(company, live.head()).await? {
            let (position, hash) = (live.position, live.hash);
            verified.stopped =
                Some(format!("it stands at position {position} with {hash}, which the ledger does not have"));
            return Ok(Some(verified));
        }
        let mut beside = Beside::start(self, plan, company).await?;
        let result = self.verify_against(plan, &live.id, &mut beside, &mut verified).await;
        beside.drop_it(self).await?;
        result.map(|()| Some(verified))
    }

    async fn verify_against(
        &self,
        plan: &Arc<Plan>,
        live: &FoldId,
        beside: &mut Beside,
        verified: &mut Verified,
    ) -> Result<(), Fault> {
        verified.stopped = beside.fold_to(self, verified.position).await?;
        if verified.stopped.is_some() {
            return Ok(());
        }
        let mut compared = self.compare(plan, live, beside.id()).await?;
        verified.documents = compared.documents;
        // While the fold moves on, documents differ that will not at its next position; those that do not heal are wrong.
        for _ in 0..LOOKS {
            let now_at = self.position_of(plan, live).await?;
            if compared.differences.is_empty() || now_at == Some(verified.position) {
                break;
            }
            let Some(now_at) = now_at else {
                verified.stopped = Some("the fold was replaced meanwhile".into());
                return Ok(());
            };
            verified.position = now_at;
            verified.stopped = beside.fold_to(self, now_at).await?;
            if verified.stopped.is_some() {
                return Ok(());
            }
            self.look_again(plan, live, beside.id(), &mut compared).await?;
        }
        let difference = |((shelf, key), wrong): ((usize, String), &'static str)| Difference {
            document: plan.tables[shelf].document.into(),
            key,
            wrong,
        };
        verified.differences = compared.differences.into_iter().map(difference).collect();
        Ok(())
    }

    async fn position_of(&self, plan: &Plan, live: &FoldId) -> Result<Option<Position>, Fault> {
        Ok(self.live(plan, live.company).await?.filter(|row| row.id == *live).map(|row| row.position))
    }

    async fn compare(&self, plan: &Arc<Plan>, live: &FoldId, fresh: &FoldId) -> Result<Compared, Fault> {
        let mut compared = Compared::default();
        for shelf in 0..plan.tables.len() {
            let mut after = String::new();
            loop {
                let storage = self.storage();
                let expected = storage.page(plan, fresh, shelf, &after, PAGE).await?;
                let found = storage.page(plan, live, shelf, &after, PAGE).await?;
                // Only as far as both pages go.
                let full = [&expected, &found].into_iter().filter(|page| page.len() == PAGE);
                let end = full.filter_map(|page| page.last()).map(|(key, ..)| key.clone()).min();
                compared.pages(shelf, &expected, &found, end.as_deref());
                match end {
                    Some(end) if compared.differences.len() < DIFFERENCES_MAX => after = end,
                    _ => break,
                }
            }
        }
        Ok(compared)
    }

    async fn look_again(
        &self,
        plan: &Arc<Plan>,
        live: &FoldId,
        fresh: &FoldId,
        compared: &mut Compared,
    ) -> Result<(), Fault> {
        let wanted = || {
            let mut keys: BTreeMap<usize, Vec<String>> = BTreeMap::new();
            for (shelf, key) in compared.differences.keys() {
                keys.entry(*shelf).or_default().push(key.clone());
            }
            keys.into_iter().map(|(shelf, keys)| Wanted { shelf, keys }).collect::<Vec<_>>()
        };
        let expected = by_key(self.storage().load(plan, fresh, None, wanted()).await?.unwrap_or_default());
        let found = by_key(self.storage().load(plan, live, None, wanted()).await?.unwrap_or_default());
        compared.differences.retain(|place, _| expected.get(place) != found.get(place));
        Ok(())
    }
}

fn by_key(loaded: Vec<(usize, String, String)>) -> BTreeMap<(usize, String), Option<Value>> {
    loaded.into_iter().map(|(shelf, key, text)| ((shelf, key), serde_json::from_str(&text).ok())).collect()
}

impl Compared {
    /// Compares two pages in the order of keys, up to `end` where one is given.
    fn pages(&mut self, shelf: usize, expected: &Page, found: &Page, end: Option<&str>) {
        let within = |(key, ..): &&(String, Option<LocationId>, String)| end.is_none_or(|end| key.as_str() <= end);
        let mut expected = expected.iter().take_while(within).peekable();
        let mut found = found.iter().take_while(within).peekable();
        loop {
            let order = match (expected.peek(), found.peek()) {
                (None, None) => return,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((expected, ..)), Some((found, ..))) => expected.cmp(found),
            };
            self.documents += 1;
            let wrong = match order {
                Ordering::Less => expected.next().map(|(key, ..)| (key, "missing")),
                Ordering::Greater => found.next().map(|(key, ..)| (key, "unexpected")),
                Ordering::Equal => {
                    let same = expected.peek().zip(found.peek()).is_some_and(|(one, other)| same(one, other));
                    let key = expected.next().zip(found.next()).map(|((key, ..), _)| key);
                    key.filter(|_| !same).map(|key| (key, "different"))
                }
            };
            if let Some((key, wrong)) = wrong.filter(|_| self.differences.len() < DIFFERENCES_MAX) {
                self.differences.insert((shelf, key.clone()), wrong);
            }
        }
    }
}

fn same(one: &(String, Option<LocationId>, String), other: &(String, Option<LocationId>, String)) -> bool {
    let value = |text: &str| serde_json::from_str::<Value>(text).ok();
    one.1 == other.1 && (one.2 == other.2 || value(&one.2) == value(&other.2))
}
