//! How many connections each client has at a listener, where that is bounded (`limits.connections_per_client`).
//!
//! Shared over the threads of the edge, so that the bound means what it says. The table has an entry for each client
//! that is connected now and for nobody else, so the listener's bound on connections bounds it too. A lock is held for
//! one lookup when a connection begins and when it ends, never by a request. Peers whose word is believed (`trusted`)
//! stand for many clients and are not counted as one.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError, Weak},
};

/// What counts as one client: an IPv4 address, or the first 64 bits of an IPv6 address, which is the least that a
/// client gets for itself (RFC 6177 section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientKey {
    /// All 32 bits.
    V4(u32),
    /// The first 64 bits.
    V6(u64),
}

impl ClientKey {
    /// The client of this address; an IPv4 address written as IPv6 is the same client.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::V4(v4.to_bits()),
            IpAddr::V6(v6) => Self::V6(u64::try_from(v6.to_bits() >> 64).expect("64 bits are left of 128")),
        }
    }
}

/// How many parts the table has, each with a lock of its own.
const PARTS: usize = 16;

/// The connections of one listener's clients.
#[derive(Debug)]
pub struct Connections {
    hasher: RandomState,
    parts: [Mutex<HashMap<ClientKey, u32>>; PARTS],
}

impl Default for Connections {
    fn default() -> Self {
        Self { hasher: RandomState::new(), parts: std::array::from_fn(|_| Mutex::default()) }
    }
}

impl Connections {
    /// Enters a connection of a client that may have `most` of them; `None`: it has that many.
    pub fn enter(self: &Arc<Self>, address: IpAddr, most: u32) -> Option<Box<Entered>> {
        let client = ClientKey::of(address);
        let mut part = self.part(client).lock().unwrap_or_else(PoisonError::into_inner);
        let count = part.entry(client).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Box::new(Entered { all: Arc::clone(self), client }))
    }

    /// How many clients have a connection now.
    pub fn clients(&self) -> usize {
        self.parts.iter().map(|part| part.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }

    fn part(&self, client: ClientKey) -> &Mutex<HashMap<ClientKey, u32>> {
        let hash = self.hasher.hash_one(client);
        &self.parts[usize::try_from(hash % PARTS as u64).expect("it is below the number of parts")]
    }
}

/// A connection that counts until this is dropped.
#[derive(Debug)]
pub struct Entered {
    all: Arc<Connections>,
    client: ClientKey,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut part = self.all.part(self.client).lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut entry) = part.entry(self.client) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
                // What an attack made large need not stay so.
                if part.capacity() > 4 * part.len().max(256) {
                    part.shrink_to_fit();
                }
            }
        }
    }
}

/// Finds the counts of listeners that stay when a new snapshot comes. Owned by whoever compiles views; what no view
/// and no connection uses any more is forgotten.
#[derive(Debug, Default)]
pub struct KnownConnections(HashMap<String, Weak<Connections>>);

impl KnownConnections {
    /// The counts of the listener of this name, with what is open there now.
    pub fn of(&mut self, listener: &str) -> Arc<Connections> {
        self.0.retain(|_, known| known.strong_count() > 0);
        if let Some(known) = self.0.get(listener).and_then(Weak::upgrade) {
            return known;
        }
        let fresh = Arc::new(Connections::default());
        self.0.insert(listener.to_owned(), Arc::downgrade(&fresh));
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_an_address_or_a_network_of_64_bits() {
        let key = |text: &str| ClientKey::of(text.parse().unwrap());
        assert_eq!(key("192.0.2.1"), key("::ffff:192.0.2.1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_eq!(key("2001:db8:0:1::1"), key("2001:db8:0:1:ffff::2"));
        assert_ne!(key("2001:db8:0:1::1"), key("2001:db8:0:2::1"));
    }

    #[test]
    fn who_is_gone_leaves_nothing_behind() {
        let all = Arc::new(Connections::default());
        let [one, other]: [IpAddr; 2] = ["192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()];
        let first = all.enter(one, 2);
        let second = all.enter(one, 2);
        assert!(first.is_some() && second.is_some() && all.enter(one, 2).is_none());
        assert!(all.enter(other, 2).is_some(), "others are not concerned");
        drop(first);
        assert!(all.enter(one, 2).is_some());
        drop(second);
        assert_eq!(all.clients(), 0);
    }

    #[test]
    fn counts_stay_with_their_listener_while_anything_needs_them() {
        let mut known = KnownConnections::default();
        let web = known.of("web");
        let entered = web.enter("192.0.2.1".parse().unwrap(), 1);
        drop(web);
        assert!(known.of("web").enter("192.0.2.1".parse().unwrap(), 1).is_none(), "the connection is still open");
        drop(entered);
        assert!(known.of("web").enter("192.0.2.1".parse().unwrap(), 1).is_some());
        known.of("other");
        assert_eq!(known.0.len(), 1, "what nobody uses is forgotten");
    }
}
