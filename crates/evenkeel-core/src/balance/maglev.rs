//! Maglev: by a hash, in a table in which every instance has its share.
//!
//! The table of the paper (Eisenbud et al.: "Maglev: a fast and reliable software network load balancer", NSDI 2016,
//! section 3.4), with weights: each instance prefers the entries in an order of its own, and in turns they take the first
//! entry of their order that is still free. Shares are nearly exact, and when an instance comes or goes, little
//! else moves. It is made when the set of instances changes, never for a request.
//!
//! For an instance that is in the table and may not be chosen now, the hash is hashed again and looked up again, so its
//! requests spread over all others, and those of the others stay where they are.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::{
    Candidate,
    hash::{mix, rendezvous},
};

/// Sizes of tables: primes, as the orders of preference need.
const SIZES: [usize; 6] = [1_021, 4_093, 16_381, 65_537, 262_139, 1_048_573];

/// Entries that the smallest share should have.
const EACH: usize = 100;

/// The largest table for the sake of weights alone.
const FOR_WEIGHTS: usize = 65_537;

/// How often a hash is looked up before the table is left aside. With half of the instances away, one request in 256
/// gets so far.
const LOOKS: u64 = 8;

/// The table of one set of instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maglev {
    /// Places of instances.
    entries: Box<[u32]>,
}

impl Maglev {
    /// The table for instances of these keys and weights, in the order of their places. The same set has the same table,
    /// whatever its order.
    pub fn new(instances: &[(u64, u32)]) -> Self {
        let mut filling: Vec<Filling> = Vec::with_capacity(instances.len());
        let size = size(instances);
        for (place, &(key, weight)) in (0..).zip(instances) {
            filling.push(Filling::new(place, key, weight.max(1), size));
        }
        filling.sort_unstable_by_key(|one| (Reverse(one.weight), one.key));
        let heaviest = filling.first().map_or(1, |one| u64::from(one.weight));
        let mut entries = vec![u32::MAX; if filling.is_empty() { 0 } else { size }];
        let mut free = entries.len();
        // The heaviest have a turn in every round, and nobody is looked at in a round in which it has none.
        let mut alike: Vec<&mut [Filling]> = filling.chunk_by_mut(|one, other| one.weight == other.weight).collect();
        let round = |turn: u64, those: &[Filling]| (turn * heaviest).div_ceil(u64::from(those[0].weight));
        let mut turns: BinaryHeap<_> =
            alike.iter().enumerate().map(|(at, those)| Reverse((round(1, those), at, 1))).collect();
        while free > 0
            && let Some(Reverse((_, at, turn))) = turns.pop()
        {
            let takes = free.min(alike[at].len());
            alike[at][..takes].iter_mut().for_each(|one| one.take(&mut entries));
            free -= takes;
            turns.push(Reverse((round(turn + 1, alike[at]), at, turn + 1)));
        }
        Self { entries: entries.into() }
    }

    /// The place of the open candidate for this hash, `None` if none is open.
    pub fn choose(&self, candidates: &[Candidate], hash: u64) -> Option<usize> {
        let size = u64::try_from(self.entries.len()).ok().filter(|size| *size > 0)?;
        let look = |n: u64| {
            let entry = usize::try_from(mix(hash.wrapping_add(mix(n))) % size).ok()?;
            usize::try_from(self.entries[entry]).ok().filter(|&place| candidates.get(place).is_some_and(|one| one.open))
        };
        (0..LOOKS).find_map(look).or_else(|| rendezvous(candidates, hash))
    }
}

fn size(instances: &[(u64, u32)]) -> usize {
    let weights = || instances.iter().map(|(_, weight)| u64::from((*weight).max(1)));
    let shares = weights().sum::<u64>() / weights().min().unwrap_or(1);
    let for_weights = usize::try_from(shares).unwrap_or(usize::MAX).saturating_mul(EACH).min(FOR_WEIGHTS);
    let wanted = for_weights.max(instances.len().saturating_mul(EACH));
    let largest = SIZES[SIZES.len() - 1];
    SIZES.into_iter().find(|&size| size >= wanted).unwrap_or(largest)
}

/// One instance while the table is filled.
struct Filling {
    place: u32,
    key: u64,
    weight: u32,
    /// The entry that it prefers next, and the step to the one after it.
    next: usize,
    skip: usize,
}

impl Filling {
    fn new(place: u32, key: u64, weight: u32, size: usize) -> Self {
        let below = |hash: u64, bound: usize| usize::try_from(hash % bound as u64).unwrap_or(0);
        let next = below(mix(key), size);
        Self { place, key, weight, next, skip: below(mix(!key), size - 1) + 1 }
    }

    /// Takes the free entry that it prefers most; there is one.
    fn take(&mut self, entries: &mut [u32]) {
        loop {
            let entry = self.next;
            self.next = (self.next + self.skip) % entries.len();
            if entries[entry] == u32::MAX {
                entries[entry] = self.place;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::balance::{candidates, named_by_hash as instances, opened as open};

    #[test]
    fn sizes_are_prime() {
        for size in SIZES {
            assert!((2..size).take_while(|n| n * n <= size).all(|n| size % n != 0), "{size}");
        }
    }

    #[test]
    fn nobody() {
        assert_eq!(Maglev::new(&[]).choose(&[], 5), None);
        let one = instances(&[1]);
        let mut all = open(&one);
        assert_eq!(Maglev::new(&one).choose(&all, 5), Some(0));
        all[0].open = false;
        assert_eq!(Maglev::new(&one).choose(&all, 5), None);
    }

    #[test]
    fn a_lost_instance_moves_little_else() {
        let all = instances(&[1; 10]);
        let less: Vec<_> = all.iter().copied().enumerate().filter(|(n, _)| *n != 4).map(|(_, one)| one).collect();
        let (before, after) = (Maglev::new(&all), Maglev::new(&less));
        let (all_open, less_open) = (open(&all), open(&less));
        let of = |table: &Maglev, open: &[Candidate], hash| open[table.choose(open, hash).unwrap()].key;
        let moved = (0..10_000).filter(|&hash| {
            let was = of(&before, &all_open, hash);
            was != all[4].0 && was != of(&after, &less_open, hash)
        });
        let moved = moved.count();
        assert!(moved < 700, "{moved} of 10000 moved that need not have");
    }

    #[test]
    fn many_instances_have_a_share() {
        let all = instances(&[1; 3000]);
        let table = Maglev::new(&all);
        let mut got = vec![0; all.len()];
        table.entries.iter().for_each(|&place| got[place as usize] += 1);
        assert!(got.iter().all(|count| (349..=350).contains(count)));
    }

    #[test]
    fn one_heavy_instance_among_many_costs_no_round_for_each_of_its_entries() {
        // Looking at everybody in every round would be three thousand million looks.
        let weights: Vec<u16> = std::iter::once(u16::MAX).chain(std::iter::repeat_n(1, 3000)).collect();
        let table = Maglev::new(&instances(&weights));
        let heavy = table.entries.iter().filter(|&&place| place == 0).count();
        let others = table.entries.len() - heavy;
        assert!((45_000..=46_500).contains(&others), "{others}: 3000 of 68535 shares");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Every share is right, however small, and the order of the instances does not matter.
        #[test]
        fn shares_follow_weights(weights in proptest::collection::vec(1u16..40, 1..12)) {
            let all = instances(&weights);
            let table = Maglev::new(&all);
            let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
            for (place, weight) in weights.iter().enumerate() {
                let counted = |count: usize| f64::from(u32::try_from(count).unwrap());
                let got = table.entries.iter().filter(|&&entry| entry as usize == place).count();
                let share = counted(got) / counted(table.entries.len());
                let wanted = f64::from(*weight) / total;
                prop_assert!((share - wanted).abs() < 0.01 && got > 0, "{} of {}", share, wanted);
            }
            let mut turned = all.clone();
            turned.reverse();
            let other = Maglev::new(&turned);
            let last = all.len() - 1;
            prop_assert!(table.entries.iter().zip(&other.entries).all(|(a, b)| *a as usize + *b as usize == last));
        }

        /// Only the requests of one that is closed move, and they spread.
        #[test]
        fn only_what_must_moves(count in 3usize..9, closed in 0usize..9) {
            let (all, closed) = (instances(&vec![1; count]), closed % count);
            let (table, full) = (Maglev::new(&all), open(&all));
            let mut less = full.clone();
            less[closed].open = false;
            let mut got = vec![0; count];
            for hash in 0..4000 {
                let (before, after) = (table.choose(&full, hash).unwrap(), table.choose(&less, hash).unwrap());
                prop_assert!(before == after || before == closed);
                prop_assert_ne!(after, closed);
                got[after] += usize::from(before == closed);
            }
            let moved: usize = got.iter().sum();
            for (place, got) in got.iter().enumerate().filter(|(place, _)| *place != closed) {
                prop_assert!(got * (count - 1) * 2 > moved, "{} of {} came to {}", got, moved, place);
            }
        }
    }

    #[test]
    fn the_last_one_open_is_found() {
        let all = instances(&[1; 40]);
        let table = Maglev::new(&all);
        let mut open = candidates(&[1; 40]);
        for one in &mut open {
            one.open = false;
        }
        open[17].open = true;
        assert!((0..500).all(|hash| table.choose(&open, hash) == Some(17)));
    }
}
