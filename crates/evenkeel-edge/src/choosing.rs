//! What choosing an instance needs beside the candidates of the moment: tables of algorithms that hash, and what of a
//! service asks for more than its algorithm.
//!
//! Made by the control thread with the view of a service and never changed, so that no request ever waits for a table. A
//! table depends on who the instances are and on their weights alone; whether one is healthy, drains or is on trial is
//! asked when it is looked up, so such changes keep it. Who chooses is [`crate::pick`].

use std::sync::Arc;

use evenkeel_core::{
    balance::{Maglev, Ring, hash_bytes},
    snapshot::{Balance, HashBy, Service, Sticky},
    status::InstanceId,
};

use crate::view::{InstanceView, ServiceView};

/// How instances of one service are chosen.
#[derive(Debug, Default)]
pub struct Choosing {
    /// The table of an algorithm that needs one.
    pub(crate) table: Arc<Table>,
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
    /// For this service with these instances. The table of the former view is taken over where it would be the same.
    pub fn new(service: &Service, instances: &[InstanceView], former: Option<&ServiceView>) -> Self {
        let former = former.map(|former| (former.config.balance, &former.instances[..], &former.choosing.table));
        let table = Table::of(service.balance, instances, former);
        let choice = &service.choice;
        let hashes_head = !matches!(*table, Table::None) && choice.hash_by != HashBy::Address;
        let sticks_by_head = matches!(choice.sticky, Some(Sticky::Cookie { .. } | Sticky::Header(_)));
        Self {
            table,
            special: choice.sticky.is_some() || choice.slow_start_ms > 0,
            by_head: hashes_head || sticks_by_head,
        }
    }
}

impl Table {
    /// The table of this algorithm, or the one that it had already for the same instances with the same weights.
    fn of(
        balance: Balance,
        instances: &[InstanceView],
        former: Option<(Balance, &[InstanceView], &Arc<Self>)>,
    ) -> Arc<Self> {
        let same = |(one, other): (&InstanceView, &InstanceView)| {
            one.shared.id.name == other.shared.id.name && one.weight == other.weight
        };
        match former {
            Some((of, before, table))
                if of == balance && before.len() == instances.len() && before.iter().zip(instances).all(same) =>
            {
                Arc::clone(table)
            }
            _ => Arc::new(Self::new(balance, instances)),
        }
    }

    fn new(balance: Balance, instances: &[InstanceView]) -> Self {
        let those = || -> Vec<(u64, u32)> {
            instances.iter().map(|one| (key(&one.shared.id), u32::from(one.weight))).collect()
        };
        match balance {
            Balance::Maglev => Self::Maglev(Maglev::new(&those())),
            Balance::ConsistentHash => Self::Ring(Ring::new(&those())),
            _ => Self::None,
        }
    }
}

/// What an instance is known by to whoever hashes: the same for every start of it, on every thread and in every edge.
pub(crate) fn key(id: &InstanceId) -> u64 {
    hash_bytes(id.name.as_bytes())
}

#[cfg(test)]
mod tests {
    use evenkeel_core::snapshot::Duty;

    use super::*;
    use crate::shared::InstanceShared;

    fn instances(weights: [u16; 3], generation: u64, duty: Duty) -> Vec<InstanceView> {
        let one = |(weight, name): (u16, &str)| InstanceView {
            shared: Arc::new(InstanceShared::new(
                InstanceId { name: name.into(), generation },
                "127.0.0.1:1".into(),
                1,
            )),
            weight,
            duty,
            trial: duty == Duty::Drain,
            sheltered: false,
            preferred: true,
            zone: None,
            folder: None,
            pid: None,
        };
        weights.into_iter().zip(["a/1", "a/2", "a/3"]).map(one).collect()
    }

    #[test]
    fn a_table_is_kept_as_long_as_names_and_weights_stay() {
        let before = instances([1, 1, 2], 1, Duty::Serve);
        for balance in [Balance::Maglev, Balance::ConsistentHash] {
            let table = Table::of(balance, &before, None);
            let kept =
                |now: &[InstanceView]| Arc::ptr_eq(&table, &Table::of(balance, now, Some((balance, &before, &table))));
            assert!(kept(&instances([1, 1, 2], 2, Duty::Drain)), "whoever drains, or was started anew");
            assert!(!kept(&instances([1, 2, 1], 1, Duty::Serve)), "other weights");
            assert!(!kept(&before[..2]), "one has gone");
            let other = Table::of(Balance::RoundRobin, &before, Some((balance, &before, &table)));
            assert!(matches!(*other, Table::None), "another algorithm");
        }
    }
}
