//! The record: what the store holds of one database, changed by compare-and-swap only.
//!
//! It says who may be primary (the lease), with which fencing token, who decides about the next one, and which history is
//! in force. Whoever changes it names the revision that it saw; a change that somebody else made meanwhile makes it fail,
//! and everything is looked at anew. Nothing in it is a time of any clock: a lease is a number that grows and a duration,
//! and everybody measures it by what it saw itself.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::quorum::Electorate;
use crate::engine::{Path, Position};

/// The name of one instance of a database, as `main/1`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Member(String);

impl From<String> for Member {
    fn from(name: String) -> Self {
        Self(name)
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A fencing token: grows with each acquisition, and accompanies everything that a primary or its node does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(u64);

impl Token {
    /// The token of this number; 0 is held by nobody.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The one after it.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A revision of the record as the store counts it. Only equality means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

/// What the store holds of one database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The engine's name for this database, as PostgreSQL's system identifier: a foreign directory is never taken in.
    /// `None` until the first instance was initialised.
    pub system: Option<String>,
    /// The highest token ever given.
    pub token: Token,
    /// Who may be primary.
    pub lease: Lease,
    /// The histories in force.
    pub path: Path,
    /// Who decides about the next primary.
    pub electorate: Electorate,
    /// How far the primary's log reached when the lease was last renewed or given back.
    pub position: Option<Position>,
    /// What an operator ordered and is not done.
    pub order: Option<Order>,
    /// Somebody was ended on suspicion with this token, and nobody is suspected again until the primary takes this back.
    pub calm: Option<Token>,
}

/// Who may be primary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lease {
    /// This member, with [`Record::token`].
    Held {
        /// Who.
        by: Member,
        /// Grows with each renewal, so that a renewal is a change that everybody sees.
        beat: u64,
        /// How long it lasts without a renewal.
        lasts: Duration,
    },
    /// Nobody: given back once everything of the last holder's instance was confirmed gone.
    Free {
        /// Who had it; `None`: nobody ever.
        last: Option<Member>,
        /// Why it was given back.
        cause: Cause,
    },
}

/// Why a lease was given back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// Nobody was primary before.
    Beginning,
    /// Its process ended by itself or was killed by somebody.
    Exit,
    /// It was taken for hung, and killed for that.
    Suspicion,
    /// It could not become primary, or could not go on as one.
    Unfit,
    /// A switchover.
    Switchover {
        /// To whom.
        to: Member,
    },
    /// `keel` stops on its node.
    Shutdown,
}

/// What an operator ordered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Its number; grows.
    pub id: u64,
    /// Who ordered it.
    pub by: String,
    /// What.
    pub what: Ordered,
}

/// What an operator ordered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ordered {
    /// A planned change of primary: nothing is lost.
    Switchover {
        /// To whom; `None`: the best one.
        to: Option<Member>,
    },
    /// A forced one, to a member that may lack acknowledged writes.
    Failover {
        /// To whom.
        to: Member,
    },
}

impl Record {
    /// A database that nobody initialised.
    pub const fn new() -> Self {
        Self {
            system: None,
            token: Token::new(0),
            lease: Lease::Free { last: None, cause: Cause::Beginning },
            path: Path::unknown(),
            electorate: Electorate::nobody(),
            position: None,
            order: None,
            calm: None,
        }
    }

    /// Who holds the lease.
    pub const fn holder(&self) -> Option<&Member> {
        match &self.lease {
            Lease::Held { by, .. } => Some(by),
            Lease::Free { .. } => None,
        }
    }
}

impl Default for Record {
    fn default() -> Self {
        Self::new()
    }
}
