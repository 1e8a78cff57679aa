//! Which addresses of a name are instances: what the answers of a resolver, good and bad, mean over time.
//!
//! Answers may be a part of the whole, since name servers rotate: an address stays until no good answer has named it
//! for a while. A failed or empty answer says nothing about anybody, so the last good one stays. Nothing here asks;
//! whoever does passes each answer in, and acts on what comes out.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use crate::time::Moment;

/// Most addresses of one name that become instances.
pub const MOST: usize = 256;

/// What follows from an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Another instance.
    New(SocketAddr),
    /// No good answer has named it for long enough.
    Gone(SocketAddr),
    /// From now on there is no good answer.
    Fails {
        /// Why.
        cause: String,
    },
    /// There are good answers again.
    Answers,
    /// There are more addresses than can be instances; so many are left out. Said when that begins.
    TooMany {
        /// How many.
        left_out: usize,
    },
}

/// What is known of one name.
#[derive(Clone, Debug, Default)]
pub struct Discovery {
    /// When each address was last named, or taken over.
    known: BTreeMap<SocketAddr, Moment>,
    failing: Option<String>,
    /// The addresses are those of another name: the first good answer of this one counts alone.
    renamed: bool,
    left_out: usize,
}

impl Discovery {
    /// Begins with the addresses of a former life.
    pub fn of_former(addresses: impl IntoIterator<Item = SocketAddr>, now: Moment) -> Self {
        Self { known: addresses.into_iter().take(MOST).map(|address| (address, now)).collect(), ..Self::default() }
    }

    /// Another name is asked for from now on. What is known stays until that has a good answer.
    pub fn rename(&mut self) {
        self.renamed = true;
    }

    /// Whether no good answer of the name that is asked now has come.
    pub const fn is_renamed(&self) -> bool {
        self.renamed
    }

    /// Takes an answer. `keep`: how long an address may be missing from good ones.
    pub fn answer(&mut self, answer: Result<Vec<SocketAddr>, String>, keep: Duration, now: Moment) -> Vec<Change> {
        let answer =
            answer.and_then(|found| if found.is_empty() { Err("it has no address".to_owned()) } else { Ok(found) });
        let mut found = match answer {
            Ok(found) => found,
            Err(cause) => {
                let news = self.failing.is_none();
                self.failing = Some(cause.clone());
                return if news { vec![Change::Fails { cause }] } else { Vec::new() };
            }
        };
        let mut changes = Vec::new();
        if self.failing.take().is_some() {
            changes.push(Change::Answers);
        }
        for (address, seen) in &mut self.known {
            if found.contains(address) {
                *seen = now;
            }
        }
        let keep = if std::mem::take(&mut self.renamed) { Duration::ZERO } else { keep };
        self.known.retain(|address, seen| {
            let stays = *seen == now || now.since(*seen) < keep;
            changes.extend((!stays).then_some(Change::Gone(*address)));
            stays
        });
        found.sort_unstable();
        found.dedup();
        found.retain(|address| !self.known.contains_key(address));
        let room = MOST - self.known.len();
        let left_out = found.len().saturating_sub(room);
        if left_out > 0 && self.left_out == 0 {
            changes.push(Change::TooMany { left_out });
        }
        self.left_out = left_out;
        for address in found.into_iter().take(room) {
            self.known.insert(address, now);
            changes.push(Change::New(address));
        }
        changes
    }

    /// The addresses that are instances, in order.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.known.keys().copied()
    }

    /// Why there is no good answer at present.
    pub fn failing(&self) -> Option<&str> {
        self.failing.as_deref()
    }

    /// How many addresses are left out.
    pub const fn left_out(&self) -> usize {
        self.left_out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEEP: Duration = Duration::from_secs(30);

    fn at(s: u64) -> Moment {
        Moment::from_millis(s * 1_000)
    }

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 80))
    }

    #[allow(clippy::unnecessary_wraps, reason = "as a resolver answers")]
    fn answer(of: &[u8]) -> Result<Vec<SocketAddr>, String> {
        Ok(of.iter().map(|&last| address(last)).collect())
    }

    #[test]
    fn an_address_stays_until_it_is_missing_for_long() {
        let mut name = Discovery::default();
        let new = name.answer(answer(&[2, 1, 2]), KEEP, at(0));
        assert_eq!(new, [Change::New(address(1)), Change::New(address(2))]);
        assert_eq!(name.answer(answer(&[1]), KEEP, at(10)), []);
        assert_eq!(name.answer(answer(&[2]), KEEP, at(20)), [], "a part of the whole");
        assert_eq!(name.answer(answer(&[2]), KEEP, at(39)), []);
        assert_eq!(name.answer(answer(&[2, 3]), KEEP, at(40)), [Change::Gone(address(1)), Change::New(address(3))]);
        assert_eq!(name.addresses().collect::<Vec<_>>(), [address(2), address(3)]);
    }

    #[test]
    fn no_answer_says_nothing_about_anybody_and_is_said_once() {
        let mut name = Discovery::of_former([address(1)], at(0));
        let cause = "it has no address".to_owned();
        assert_eq!(name.answer(Ok(Vec::new()), KEEP, at(1)), [Change::Fails { cause }]);
        assert_eq!(name.answer(Err("timed out".to_owned()), KEEP, at(1_000)), []);
        assert_eq!((name.failing(), name.addresses().count()), (Some("timed out"), 1));
        assert_eq!(name.answer(answer(&[1]), KEEP, at(2_000)), [Change::Answers], "however long it took");
        assert_eq!(name.failing(), None);
    }

    #[test]
    fn another_name_takes_over_with_its_first_good_answer() {
        let mut name = Discovery::of_former([address(1)], at(0));
        name.rename();
        name.answer(Err("unknown".to_owned()), KEEP, at(1));
        assert_eq!(name.addresses().count(), 1);
        let changes = name.answer(answer(&[2]), KEEP, at(2));
        assert_eq!(changes, [Change::Answers, Change::Gone(address(1)), Change::New(address(2))]);
    }

    #[test]
    fn too_many_are_left_out_and_that_is_said_once() {
        let many: Vec<SocketAddr> = (0..300).map(|port| SocketAddr::from(([10, 0, 0, 1], port + 1))).collect();
        let mut name = Discovery::default();
        let changes = name.answer(Ok(many.clone()), KEEP, at(0));
        assert_eq!(changes[0], Change::TooMany { left_out: 44 });
        assert_eq!(changes.len(), 1 + MOST);
        assert_eq!((name.answer(Ok(many), KEEP, at(1)), name.left_out()), (Vec::new(), 44));
    }

    proptest! {
        /// Whatever is answered: what was known and is missing for less than `keep` stays, and there are never more
        /// than can be.
        #[test]
        fn nobody_leaves_too_early(answers in prop::collection::vec(prop::collection::vec(0u8..6, 0..6), 1..40)) {
            let (mut name, mut seen) = (Discovery::default(), BTreeMap::new());
            for (step, of) in (0..).zip(&answers) {
                let now = at(step * 7);
                name.answer(answer(of), KEEP, now);
                if !of.is_empty() {
                    seen.extend(of.iter().map(|last| (address(*last), now)));
                    seen.retain(|_, last| now.since(*last) < KEEP);
                }
                prop_assert_eq!(name.addresses().collect::<Vec<_>>(), seen.keys().copied().collect::<Vec<_>>());
            }
        }
    }
}
