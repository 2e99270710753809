//! A bounded map that keeps what was used lately: two generations, of which the older is dropped when the younger is
//! full. Each look and each insertion costs one or two look-ups, without a list to maintain.

use std::{collections::HashMap, hash::Hash};

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
    pub fn get(&mut self, key: &K) -> Option<V> {
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
