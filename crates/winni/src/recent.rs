//! A bounded memory of what was used lately.

use std::collections::HashMap;
use std::hash::Hash;

/// Two generations: when the young one is full it becomes the old one, and what the old one held unused is forgotten.
pub(crate) struct Recent<K, V> {
    young: HashMap<K, Weighed<V>>,
    old: HashMap<K, Weighed<V>>,
    /// Of the young ones together.
    weight: usize,
    limit: usize,
}

struct Weighed<V> {
    value: V,
    weight: usize,
}

impl<K: Hash + Eq + Copy, V: Clone> Recent<K, V> {
    /// Holds at most about twice `limit`, in whatever unit the weights have.
    pub(crate) fn new(limit: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), weight: 0, limit }
    }

    pub(crate) fn get(&mut self, key: &K) -> Option<V> {
        if let Some(young) = self.young.get(key) {
            return Some(young.value.clone());
        }
        let Weighed { value, weight } = self.old.remove(key)?;
        self.put(*key, value.clone(), weight);
        Some(value)
    }

    pub(crate) fn put(&mut self, key: K, value: V, weight: usize) {
        self.remove(&key);
        if self.weight + weight > self.limit {
            self.old = std::mem::take(&mut self.young);
            self.weight = 0;
        }
        self.weight += weight;
        self.young.insert(key, Weighed { value, weight });
    }

    pub(crate) fn remove(&mut self, key: &K) {
        if let Some(removed) = self.young.remove(key) {
            self.weight -= removed.weight;
        }
        self.old.remove(key);
    }

    pub(crate) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
        self.weight = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_goes() {
        let mut recent = Recent::new(10);
        recent.put(0, 0, 1);
        for n in 1..100 {
            recent.put(n, n, 1);
            assert_eq!(recent.get(&0), Some(0), "used all the time");
        }
        assert_eq!(recent.get(&1), None);
        assert!(recent.young.len() + recent.old.len() <= 21);
    }

    #[test]
    fn a_value_that_is_replaced_no_longer_weighs() {
        let mut recent = Recent::new(10);
        recent.put("other", 0, 4);
        (1..=6).for_each(|weight| recent.put("grows", weight, weight));
        assert_eq!(recent.weight, 10);
        assert_eq!((recent.get(&"other"), recent.get(&"grows")), (Some(0), Some(6)));
        recent.remove(&"grows");
        assert_eq!(recent.weight, 4);
    }
}
