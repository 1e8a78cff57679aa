//! Quorums: who must have a write before it is acknowledged, and who must agree before somebody is promoted.
//!
//! Two configurations are in force at any time: the database acknowledges a write once `count` of `members` have it
//! ([`Acks`]), and the store says that a promotion needs `confirm` of `members` that stopped receiving and told their
//! position ([`Electorate`]). As long as every set of the first kind meets every set of the second, whoever is promoted
//! has every acknowledged write, whatever clocks, pauses and partitions do. The two live in different places and cannot
//! change at once: [`next`] finds the order of one-sided changes that never opens a gap.
//!
//! It decides nothing about who is well enough to be a member; that is [`wanted`]'s caller, from what it sees.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Member, Policy};

/// What the primary waits for before it acknowledges a write, itself not counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acks {
    /// Any of these.
    pub members: BTreeSet<Member>,
    /// How many of them.
    pub count: usize,
}

/// Who may decide about the next primary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Electorate {
    /// Only these can be promoted without an order.
    pub members: BTreeSet<Member>,
    /// How many of them must have stopped receiving and told their position first.
    pub confirm: usize,
}

impl Acks {
    /// Acknowledged as soon as the primary itself has it.
    pub fn alone() -> Self {
        Self::default()
    }

    /// The smallest electorate that always finds somebody who has everything acknowledged in this way.
    pub fn electorate(&self) -> Electorate {
        Electorate { members: self.members.clone(), confirm: (self.members.len() + 1).saturating_sub(self.count) }
    }
}

impl Electorate {
    /// Nobody can be promoted without an order.
    pub const fn nobody() -> Self {
        Self { members: BTreeSet::new(), confirm: 1 }
    }

    /// Whether enough of `present` could decide.
    pub fn decides<'a>(&self, present: impl Iterator<Item = &'a Member>) -> bool {
        present.filter(|member| self.members.contains(*member)).count() >= self.confirm
    }

    fn is_possible(&self) -> bool {
        self.confirm <= self.members.len()
    }
}

/// Whether every promotion that `electorate` permits finds every write acknowledged by `acks`.
pub fn meet(acks: &Acks, electorate: &Electorate) -> bool {
    let union = acks.members.union(&electorate.members).count();
    !electorate.is_possible() || acks.count + electorate.confirm > union
}

/// One one-sided change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// In the database; to be confirmed in effect before the next.
    Acks(Acks),
    /// In the store, by compare-and-swap.
    Electorate(Electorate),
}

/// The next change on the way to `wanted`; `None` when there, or while something must be waited for.
///
/// `settled`: whether the database's configuration is in effect in all of its processes, and enough of its members have
/// everything that was written before that. Until then former acknowledgements rest on a former configuration, and no
/// electorate may be published that trusts the new one.
pub fn next(acks: &Acks, settled: bool, published: &Electorate, wanted: &Acks) -> Option<Change> {
    let electorate = wanted.electorate();
    if acks == wanted {
        return (*published != electorate && settled).then_some(Change::Electorate(electorate));
    }
    if meet(wanted, published) {
        return Some(Change::Acks(wanted.clone()));
    }
    if meet(acks, &electorate) && (settled || !electorate.is_possible()) {
        return Some(Change::Electorate(electorate));
    }
    let bridge = bridge(acks, wanted);
    (settled || !bridge.is_possible()).then_some(Change::Electorate(bridge))
}

/// An electorate that meets both configurations: nobody can be promoted by less than what either of them needs.
fn bridge(from: &Acks, to: &Acks) -> Electorate {
    let members: BTreeSet<Member> = from.members.union(&to.members).cloned().collect();
    let confirm = members.len() + 1 - from.count.min(to.count).min(members.len());
    if confirm > members.len() { Electorate::nobody() } else { Electorate { members, confirm } }
}

/// What the database should wait for, given who streams and has caught up.
///
/// Where fewer are there than [`Policy::min_copies`] asks for, those that are missing stay in it: writes wait.
pub fn wanted(policy: &Policy, streaming: &BTreeSet<Member>, acks: &Acks) -> Acks {
    if policy.may_lose() {
        return Acks::alone();
    }
    let needed = policy.min_copies.saturating_sub(1);
    if streaming.len() >= needed {
        let count = needed.max(streaming.len().min(1));
        return Acks { members: streaming.clone(), count };
    }
    let members: BTreeSet<Member> = streaming.union(&acks.members).cloned().collect();
    let count = needed.min(members.len());
    Acks { members, count }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn members(names: &str) -> BTreeSet<Member> {
        names.chars().map(|name| Member::from(name.to_string())).collect()
    }

    fn acks(names: &str, count: usize) -> Acks {
        Acks { members: members(names), count }
    }

    fn electorate(names: &str, confirm: usize) -> Electorate {
        Electorate { members: members(names), confirm }
    }

    #[test]
    fn a_standby_that_is_gone_is_taken_out_of_the_electorate_before_its_acknowledgement_is_not_waited_for() {
        let first = next(&acks("b", 1), true, &electorate("b", 1), &Acks::alone());
        assert_eq!(first, Some(Change::Electorate(electorate("", 1))));
        let second = next(&acks("b", 1), true, &electorate("", 1), &Acks::alone());
        assert_eq!(second, Some(Change::Acks(Acks::alone())));
        assert_eq!(next(&Acks::alone(), true, &electorate("", 1), &Acks::alone()), None);
    }

    #[test]
    fn a_first_standby_is_waited_for_before_it_may_be_promoted_and_a_second_one_asked_before_it_is_waited_for() {
        let first = next(&Acks::alone(), true, &Electorate::nobody(), &acks("b", 1));
        assert_eq!(first, Some(Change::Acks(acks("b", 1))));
        assert_eq!(next(&acks("b", 1), false, &Electorate::nobody(), &acks("b", 1)), None, "not caught up yet");
        let second = next(&acks("b", 1), true, &Electorate::nobody(), &acks("b", 1));
        assert_eq!(second, Some(Change::Electorate(electorate("b", 1))));
        let third = next(&acks("b", 1), true, &electorate("b", 1), &acks("bc", 1));
        assert_eq!(third, Some(Change::Electorate(electorate("bc", 2))));
        let fourth = next(&acks("b", 1), true, &electorate("bc", 2), &acks("bc", 1));
        assert_eq!(fourth, Some(Change::Acks(acks("bc", 1))));
    }

    #[test]
    fn a_member_that_dies_before_it_caught_up_does_not_block_writes_for_ever() {
        let step = next(&acks("b", 1), false, &electorate("bc", 2), &Acks::alone());
        assert_eq!(step, Some(Change::Electorate(Electorate::nobody())));
        let step = next(&acks("b", 1), false, &Electorate::nobody(), &Acks::alone());
        assert_eq!(step, Some(Change::Acks(Acks::alone())));
    }

    #[test]
    fn missing_copies_make_writes_wait() {
        let policy = Policy { min_copies: 2, ..Policy::default() };
        assert_eq!(wanted(&policy, &members("bc"), &Acks::alone()), acks("bc", 1));
        assert_eq!(wanted(&policy, &members(""), &acks("b", 1)), acks("b", 1), "b is waited for");
        assert_eq!(wanted(&Policy::default(), &members(""), &acks("b", 1)), Acks::alone());
        assert_eq!(wanted(&Policy::default(), &members("b"), &Acks::alone()), acks("b", 1));
    }

    fn any_acks() -> impl Strategy<Value = Acks> {
        proptest::collection::btree_set(0_u8..5, 0..5).prop_flat_map(|set| {
            let members: BTreeSet<Member> = set.into_iter().map(|n| Member::from(format!("{n}"))).collect();
            let (least, most) = (members.len().min(1), members.len());
            (Just(members), least..=most).prop_map(|(members, count)| Acks { members, count })
        })
    }

    proptest! {
        #[test]
        fn every_way_ends_and_never_opens_a_gap(from in any_acks(), to in any_acks(), unsettled in 0_usize..4) {
            let (mut acks, mut published) = (from.clone(), from.electorate());
            let mut steps = 0;
            loop {
                // A configuration settles some time after it was made; until then only what needs no trust may happen.
                let settled = steps >= unsettled;
                let change = next(&acks, settled, &published, &to);
                match change {
                    Some(Change::Acks(new)) => acks = new,
                    Some(Change::Electorate(new)) => published = new,
                    None if settled => break,
                    None => {}
                }
                prop_assert!(meet(&acks, &published), "{acks:?} does not meet {published:?}");
                steps += 1;
                prop_assert!(steps < 10, "no end: {acks:?} {published:?} to {to:?}");
            }
            prop_assert_eq!(&acks, &to);
            prop_assert_eq!(published, to.electorate());
        }
    }
}
