//! A bounded table of clients, of which the one that was quiet for longest is forgotten first.
//!
//! Owned by one listener on one thread. What is forgotten is handed back: what becomes of it is for the owner to say.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
};

/// The table.
#[derive(Debug)]
pub struct Table<V> {
    entries: HashMap<SocketAddr, Entry<V>>,
    /// Clients by their last use.
    order: BTreeMap<u64, SocketAddr>,
    uses: u64,
}

#[derive(Debug)]
struct Entry<V> {
    used: u64,
    value: V,
}

impl<V> Default for Table<V> {
    fn default() -> Self {
        Self { entries: HashMap::new(), order: BTreeMap::new(), uses: 0 }
    }
}

impl<V> Table<V> {
    /// What is kept for a client, which counts as a use.
    pub fn get(&mut self, client: SocketAddr) -> Option<&V> {
        let entry = self.entries.get_mut(&client)?;
        // Who was the last one to be used is so still.
        if entry.used != self.uses {
            self.order.remove(&entry.used);
            self.uses += 1;
            entry.used = self.uses;
            self.order.insert(entry.used, client);
        }
        Some(&entry.value)
    }

    /// Keeps something for a client and returns what has to go for it: what was kept before, or, beyond `most`, what
    /// was not used for longest.
    pub fn insert(&mut self, client: SocketAddr, value: V, most: usize) -> Option<V> {
        let mut gone = self.take(client);
        if self.entries.len() >= most.max(1)
            && let Some((_, oldest)) = self.order.first_key_value()
        {
            gone = self.take(*oldest);
        }
        self.uses += 1;
        self.order.insert(self.uses, client);
        self.entries.insert(client, Entry { used: self.uses, value });
        gone
    }

    /// Forgets a client if what is kept for it `is` so.
    pub fn remove(&mut self, client: SocketAddr, is: impl Fn(&V) -> bool) {
        if self.entries.get(&client).is_some_and(|entry| is(&entry.value)) {
            self.take(client);
        }
    }

    /// Everything that is kept, in no order.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.entries.values().map(|entry| &entry.value)
    }

    fn take(&mut self, client: SocketAddr) -> Option<V> {
        let entry = self.entries.remove(&client)?;
        self.order.remove(&entry.used);
        Some(entry.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn the_one_that_was_quiet_for_longest_goes_first() {
        let mut table = Table::default();
        for port in 1..=3 {
            assert_eq!(table.insert(client(port), port, 3), None);
        }
        assert_eq!(table.get(client(1)), Some(&1));
        assert_eq!(table.get(client(1)), Some(&1), "once more");
        assert_eq!(table.insert(client(4), 4, 3), Some(2));
        assert_eq!(table.insert(client(5), 5, 3), Some(3));
        assert_eq!(table.insert(client(1), 10, 3), Some(1), "in place of the former one");
        let mut all: Vec<u16> = table.values().copied().collect();
        all.sort_unstable();
        assert_eq!(all, [4, 5, 10]);
    }

    #[test]
    fn only_what_is_meant_is_removed() {
        let mut table = Table::default();
        table.insert(client(1), 1, 8);
        table.remove(client(1), |value| *value == 2);
        assert_eq!(table.get(client(1)), Some(&1));
        table.remove(client(1), |value| *value == 1);
        table.remove(client(1), |_| true);
        assert_eq!(table.get(client(1)), None);
        assert!(table.order.is_empty());
    }
}
