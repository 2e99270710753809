//! Bounded places, of which one company may take only some: what one asks for leaves room for the others.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use cnc_domain::kernel::CompanyId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Places for something that costs.
pub struct Places {
    all: Arc<Semaphore>,
    each: usize,
    companies: Mutex<BTreeMap<CompanyId, Arc<Semaphore>>>,
}

/// A place, held until it is dropped.
pub struct Place {
    _own: OwnedSemaphorePermit,
    _one: OwnedSemaphorePermit,
}

impl Places {
    /// So many places, of which a company may have `each` at once.
    pub fn new(all: usize, each: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), each, companies: Mutex::default() }
    }

    /// Takes a place when there is one. Who waits for its own company's takes none from others.
    pub async fn take(&self, company: CompanyId) -> Option<Place> {
        let own = self.of(company).acquire_owned().await.ok()?;
        let one = self.all.clone().acquire_owned().await.ok()?;
        Some(Place { _own: own, _one: one })
    }

    /// Takes a place if there is one now.
    pub fn try_take(&self, company: CompanyId) -> Option<Place> {
        let own = self.of(company).try_acquire_owned().ok()?;
        let one = self.all.clone().try_acquire_owned().ok()?;
        Some(Place { _own: own, _one: one })
    }

    /// The places of a company. Those of companies that have none taken are forgotten.
    fn of(&self, company: CompanyId) -> Arc<Semaphore> {
        let mut companies = self.companies.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever holds or waits for a place holds its semaphore.
        companies.retain(|_, own| Arc::strong_count(own) > 1);
        companies.entry(company).or_insert_with(|| Arc::new(Semaphore::new(self.each))).clone()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn company(number: u128) -> CompanyId {
        CompanyId::number(number)
    }

    #[test]
    fn a_company_has_its_share_and_all_have_no_more_than_there_are() {
        let places = Places::new(3, 2);
        let held = [places.try_take(company(1)), places.try_take(company(1))];
        assert!(held.iter().all(Option::is_some) && places.try_take(company(1)).is_none());
        let other = places.try_take(company(2));
        assert!(other.is_some() && places.try_take(company(3)).is_none());
        drop(held);
        assert!(places.try_take(company(3)).is_some() && places.try_take(company(1)).is_some());
    }

    #[test]
    fn who_waits_for_its_own_place_is_in_nobodys_way() {
        let places = Places::new(2, 1);
        let held = places.try_take(company(1));
        let mut waiting = Box::pin(places.take(company(1)));
        assert!(waiting.as_mut().now_or_never().is_none());
        assert!(places.try_take(company(2)).is_some());
        drop(held);
        assert!(waiting.now_or_never().flatten().is_some());
    }

    #[test]
    fn companies_that_hold_nothing_are_forgotten() {
        let places = Places::new(9, 1);
        for number in 1..=9 {
            drop(places.try_take(company(number)));
        }
        assert_eq!(places.companies.lock().expect("is sound").len(), 1);
    }
}
