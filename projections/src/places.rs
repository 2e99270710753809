//! Bounded places, of which one (a company, a user, an address) may take only some: what one asks for leaves room for the
//! others.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use cnc_domain::kernel::CompanyId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Places for something that costs.
pub struct Places<K: Ord = CompanyId> {
    all: Arc<Semaphore>,
    count: usize,
    each: usize,
    shares: Arc<Shares<K>>,
}

type Shares<K> = Mutex<BTreeMap<K, Arc<Semaphore>>>;

/// A place, or several, held until it is dropped.
pub struct Place<K: Ord = CompanyId> {
    // Dropped in this order: whether anybody is left is looked at last.
    _own: OwnedSemaphorePermit,
    _one: OwnedSemaphorePermit,
    _share: Share<K>,
}

impl<K: Ord + Clone> Places<K> {
    /// So many places, of which each may have `each` at once.
    pub fn new(all: usize, each: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), count: all, each, shares: Arc::default() }
    }

    /// Takes a place when there is one. Who waits for its own takes none from others.
    pub async fn take(&self, key: K) -> Option<Place<K>> {
        let (share, own) = self.share(key);
        let own = own.acquire_owned().await.ok()?;
        let one = self.all.clone().acquire_owned().await.ok()?;
        Some(Place { _own: own, _one: one, _share: share })
    }

    /// Takes a place if there is one now.
    pub fn try_take(&self, key: K) -> Option<Place<K>> {
        self.try_take_many(key, 1)
    }

    /// Takes so many places if they are there now. What is larger than a whole share takes all of one.
    pub fn try_take_many(&self, key: K, count: usize) -> Option<Place<K>> {
        let (share, own) = self.share(key);
        let count = u32::try_from(count.min(self.each)).unwrap_or(u32::MAX);
        let own = own.try_acquire_many_owned(count).ok()?;
        let one = self.all.clone().try_acquire_many_owned(count).ok()?;
        Some(Place { _own: own, _one: one, _share: share })
    }

    /// How many places are taken.
    pub fn taken(&self) -> usize {
        self.count.saturating_sub(self.all.available_permits())
    }

    /// The places of one, and what forgets them.
    fn share(&self, key: K) -> (Share<K>, Arc<Semaphore>) {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        let own = shares.entry(key.clone()).or_insert_with(|| Arc::new(Semaphore::new(self.each))).clone();
        (Share { key, shares: self.shares.clone() }, own)
    }
}

/// Who holds places or waits for some, and is forgotten with the last of them.
struct Share<K: Ord> {
    key: K,
    shares: Arc<Shares<K>>,
}

impl<K: Ord> Drop for Share<K> {
    fn drop(&mut self) {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever holds or waits for a place holds its semaphore, and gets it under this lock only.
        if shares.get(&self.key).is_some_and(|own| Arc::strong_count(own) == 1) {
            shares.remove(&self.key);
        }
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
        assert_eq!(places.taken(), 1);
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
    fn who_holds_nothing_is_forgotten_who_gave_up_waiting_too() {
        let places = Places::new(9, 1);
        for number in 1..=9 {
            drop(places.try_take(company(number)));
        }
        let held = places.try_take(company(1));
        let mut waiting = Box::pin(places.take(company(1)));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(held);
        assert_eq!(places.shares.lock().expect("is sound").len(), 1);
        drop(waiting);
        assert!(places.shares.lock().expect("is sound").is_empty());
    }

    #[test]
    fn what_is_larger_than_a_share_takes_a_whole_one_and_no_more() {
        let places = Places::new(5, 3);
        let held = places.try_take_many(company(1), 100);
        assert!(held.is_some() && places.try_take(company(1)).is_none());
        assert!(places.try_take_many(company(2), 3).is_none(), "two are left");
        assert!(places.try_take_many(company(2), 2).is_some());
    }
}
