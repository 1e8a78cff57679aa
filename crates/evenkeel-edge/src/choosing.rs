//! What choosing an instance needs beside the candidates of the moment: tables of algorithms that hash, and what of a
//! service asks for more than its algorithm.
//!
//! Made by the control thread with the view of a service and never changed, so that no request ever waits for a table.
//! Who chooses is [`crate::pick`].

use evenkeel_core::{
    balance::{Maglev, Ring, hash_bytes},
    snapshot::{Balance, HashBy, Service, Sticky},
    status::InstanceId,
};

use crate::view::InstanceView;

/// How instances of one service are chosen.
#[derive(Debug, Default)]
pub struct Choosing {
    /// The table of an algorithm that needs one.
    pub(crate) table: Table,
    /// Sticky sessions or slow start: more than the algorithm has a say.
    pub(crate) special: bool,
    /// Something in the head of a request says where it belongs.
    pub(crate) by_head: bool,
}

/// The table of an algorithm, for the instances of one view in their order.
#[derive(Debug, Default)]
pub(crate) enum Table {
    #[default]
    None,
    Maglev(Maglev),
    Ring(Ring),
}

impl Choosing {
    /// For this service with these instances.
    pub fn new(service: &Service, instances: &[InstanceView]) -> Self {
        let those = || -> Vec<(u64, u32)> {
            instances.iter().map(|one| (key(&one.shared.id), u32::from(one.weight))).collect()
        };
        let table = match service.balance {
            Balance::Maglev => Table::Maglev(Maglev::new(&those())),
            Balance::ConsistentHash => Table::Ring(Ring::new(&those())),
            _ => Table::None,
        };
        let choice = &service.choice;
        let hashes_head = !matches!(table, Table::None) && choice.hash_by != HashBy::Address;
        let sticks_by_head = matches!(choice.sticky, Some(Sticky::Cookie { .. } | Sticky::Header(_)));
        Self {
            table,
            special: choice.sticky.is_some() || choice.slow_start_ms > 0,
            by_head: hashes_head || sticks_by_head,
        }
    }
}

/// What an instance is known by to whoever hashes: the same for every start of it, on every thread and in every edge.
pub(crate) fn key(id: &InstanceId) -> u64 {
    hash_bytes(id.name.as_bytes())
}
