//! A bounded table of clients. Where it is full, those go first that are not confirmed, and of those the one that was
//! quiet for longest; only where all are confirmed, the one of them that was quiet for longest.
//!
//! So whoever sends datagrams in many names that are not its own fills the table with what is forgotten first, and takes
//! the place of one confirmed client at most. Who is confirmed is for the owner to say.
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
    /// Clients by whether they are confirmed, and then by their last use.
    order: BTreeMap<(bool, u64), SocketAddr>,
    uses: u64,
}

#[derive(Debug)]
struct Entry<V> {
    confirmed: bool,
    used: u64,
    value: V,
}

impl<V> Entry<V> {
    fn place(&self) -> (bool, u64) {
        (self.confirmed, self.used)
    }
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
            self.order.remove(&entry.place());
            self.uses += 1;
            entry.used = self.uses;
            self.order.insert(entry.place(), client);
        }
        Some(&entry.value)
    }

    /// Keeps something for a client, which is not confirmed, and returns what has to go for it: what was kept before, or,
    /// beyond `most`, what goes first.
    pub fn insert(&mut self, client: SocketAddr, value: V, most: usize) -> Option<V> {
        let mut gone = self.take(client);
        if self.entries.len() >= most.max(1)
            && let Some((_, first)) = self.order.first_key_value()
        {
            gone = self.take(*first);
        }
        self.uses += 1;
        let entry = Entry { confirmed: false, used: self.uses, value };
        self.order.insert(entry.place(), client);
        self.entries.insert(client, entry);
        gone
    }

    /// A client has shown that it gets what is sent to it, if what is kept for it `is` so.
    pub fn confirm(&mut self, client: SocketAddr, is: impl Fn(&V) -> bool) {
        let Some(entry) = self.entries.get_mut(&client).filter(|entry| is(&entry.value)) else { return };
        self.order.remove(&entry.place());
        entry.confirmed = true;
        self.order.insert(entry.place(), client);
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
        self.order.remove(&entry.place());
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
    fn a_flood_of_strangers_takes_the_place_of_strangers() {
        let mut table = Table::default();
        for port in 1..=4 {
            table.insert(client(port), port, 4);
        }
        table.confirm(client(1), |_| true);
        table.confirm(client(2), |value| *value == 9);
        assert_eq!(table.insert(client(5), 5, 4), Some(2), "it was not meant");
        for port in 6..1000 {
            assert_ne!(table.insert(client(port), port, 4), Some(1), "it was quiet all the time");
        }
        assert_eq!(table.get(client(1)), Some(&1));
        for port in 997..1000 {
            table.confirm(client(port), |_| true);
        }
        assert_eq!(table.get(client(1)), Some(&1));
        assert_eq!(table.insert(client(2000), 2000, 4), Some(997), "where all are confirmed, the quietest of them");
        assert_eq!(table.insert(client(2001), 2001, 4), Some(2000), "and no second one");
        assert_eq!(table.order.len(), table.entries.len());
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
