//! A bounded map that keeps what was used lately: two generations, of which the older is dropped when the younger is
//! full. Each look and each insertion costs one or two look-ups, without a list to maintain.

use std::{
    borrow::Borrow,
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// A bounded map of what was used lately.
pub struct Recent<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    /// How many a generation holds.
    limit: usize,
}

impl<K: Eq + Hash + Clone, V: Clone> Recent<K, V> {
    /// Holds up to `limit` values.
    pub fn new(limit: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), limit: (limit / 2).max(1) }
    }

    /// The value, which counts as used now.
    pub fn get<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let (key, value) = self.old.remove_entry(key)?;
        self.put(key, value.clone());
        Some(value)
    }

    /// Keeps a value; others may be forgotten for it.
    pub fn put(&mut self, key: K, value: V) {
        self.young.insert(key, value);
        if self.young.len() >= self.limit {
            self.old = std::mem::take(&mut self.young);
        }
    }

    /// Forgets a value.
    pub fn remove(&mut self, key: &K) {
        self.young.remove(key);
        self.old.remove(key);
    }
}

/// A bounded map of values that are good for a while.
pub struct Lately<K, V> {
    values: Mutex<Recent<K, (V, Instant)>>,
    good_for: Duration,
}

impl<K: Eq + Hash + Clone, V: Clone> Lately<K, V> {
    /// Holds up to `limit` values, each for so long.
    pub fn new(limit: usize, good_for: Duration) -> Self {
        Self { values: Mutex::new(Recent::new(limit)), good_for }
    }

    /// The value, while it is good.
    pub fn get(&self, key: &K) -> Option<V> {
        let (value, since) = self.values().get(key)?;
        (since.elapsed() < self.good_for).then_some(value)
    }

    /// Keeps a value that is good from this time on.
    pub fn put(&self, key: K, value: V, since: Instant) {
        self.values().put(key, (value, since));
    }

    /// Forgets a value.
    pub fn remove(&self, key: &K) {
        self.values().remove(key);
    }

    fn values(&self) -> MutexGuard<'_, Recent<K, (V, Instant)>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_what_is_not_goes() {
        let mut recent = Recent::new(8);
        recent.put(0, "kept");
        for number in 1..100 {
            recent.put(number, "passing");
            assert_eq!(recent.get(&0), Some("kept"));
            assert!(recent.young.len() + recent.old.len() <= 8);
        }
        assert_eq!(recent.get(&1), None);
    }
}
