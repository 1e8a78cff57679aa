//! Positions: how far an instance's log reaches, in terms that hold for every engine.
//!
//! An engine numbers what it writes; a promotion begins a new history, which shares everything with its parent up to
//! one offset. A [`Position`] is an offset within one history, and a [`Path`] is the line of histories that led to the
//! one in force: together they say whether what an instance has is a beginning of what the primary has
//! ([`Reach::On`]), or whether it holds something that no primary acknowledges any more ([`Reach::Diverged`]). How an
//! engine writes its positions is in its own file here; nothing outside of it knows that notation.

pub mod postgres;

use std::fmt;

use serde::{Deserialize, Serialize};

/// How far a log reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Which history, as PostgreSQL's timeline: grows with each promotion.
    pub history: u64,
    /// How far, in the engine's own unit, mostly bytes. The same offset means the same content only below the place where
    /// two histories part.
    pub offset: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of history {}", self.offset, self.history)
    }
}

/// Where a history left the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Branch {
    /// The history that ended here.
    pub parent: u64,
    /// The offset up to which the next one shares it.
    pub at: u64,
}

/// The line of histories that led to the one in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Path {
    /// The history in force; `None` before anybody was primary.
    current: Option<u64>,
    /// Where the ones before it ended, oldest first; at most [`Path::KEPT`].
    branches: Vec<Branch>,
}

/// Where a position lies relative to a [`Path`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It is a beginning of what the path holds, up to this offset.
    On(u64),
    /// It went on after the path left that history at this offset.
    Diverged {
        /// Where they parted.
        at: u64,
    },
    /// It is of a history that the path does not know: a newer one, one too old, or another database's.
    Unknown,
}

impl Path {
    /// How many former histories are remembered: whoever was away for longer is copied anew.
    pub const KEPT: usize = 32;

    /// The path of a database whose first history this is.
    pub const fn beginning(history: u64) -> Self {
        Self { current: Some(history), branches: Vec::new() }
    }

    /// Nobody was primary yet.
    pub const fn unknown() -> Self {
        Self { current: None, branches: Vec::new() }
    }

    /// The history in force.
    pub const fn current(&self) -> Option<u64> {
        self.current
    }

    /// Notes that `history` begins and shares the former one up to `at`. Saying the one in force again changes nothing.
    pub fn branch(&mut self, history: u64, at: u64) {
        if self.current == Some(history) {
            return;
        }
        if let Some(parent) = self.current.replace(history) {
            self.branches.push(Branch { parent, at });
        }
        let surplus = self.branches.len().saturating_sub(Self::KEPT);
        self.branches.drain(..surplus);
    }

    /// Where `position` lies.
    pub fn reach(&self, position: Position) -> Reach {
        if self.current == Some(position.history) {
            return Reach::On(position.offset);
        }
        // A later history may have left its parent before the place where that one left the one asked about.
        let mut later = self.branches.iter().skip_while(|branch| branch.parent != position.history).map(|b| b.at);
        let Some(first) = later.next() else {
            return Reach::Unknown;
        };
        let at = later.fold(first, u64::min);
        if position.offset <= at { Reach::On(position.offset) } else { Reach::Diverged { at } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn position(history: u64, offset: u64) -> Position {
        Position { history, offset }
    }

    #[test]
    fn a_position_is_on_the_path_diverged_or_unknown() {
        let mut path = Path::beginning(1);
        path.branch(2, 100);
        path.branch(4, 300);
        assert_eq!(path.reach(position(4, 500)), Reach::On(500));
        assert_eq!(path.reach(position(2, 300)), Reach::On(300));
        assert_eq!(path.reach(position(2, 301)), Reach::Diverged { at: 300 });
        assert_eq!(path.reach(position(1, 100)), Reach::On(100));
        assert_eq!(path.reach(position(1, 200)), Reach::Diverged { at: 100 });
        assert_eq!(path.reach(position(3, 1)), Reach::Unknown, "a history that was never in force");
    }

    #[test]
    fn what_parted_early_counts_for_all_histories_before() {
        let mut path = Path::beginning(1);
        path.branch(2, 100);
        path.branch(3, 50);
        assert_eq!(path.reach(position(1, 70)), Reach::Diverged { at: 50 });
    }

    #[test]
    fn only_so_many_histories_are_remembered() {
        let mut path = Path::beginning(1);
        for history in 2..100 {
            path.branch(history, history * 10);
        }
        assert_eq!(path.branches.len(), Path::KEPT);
        assert_eq!(path.reach(position(1, 5)), Reach::Unknown);
        assert_eq!(path.reach(position(98, 990)), Reach::On(990));
    }
}
