//! Policy: what a database's owner decided, in numbers.
//!
//! Two profiles: the default never fails over for what machines do every day (a pause of 3 s, a disk that stalls for
//! 5 s); `lan` is for quiet machines on one network and trades some of that for speed. Every duration is derived from a
//! profile here and nowhere else.

use std::time::Duration;

/// What may be lost by a failover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Nothing that was acknowledged.
    NoLoss,
    /// What the standby had not received yet, if that is known to be at most this much.
    MayLose {
        /// Largest lag, in units of [`crate::engine::Position::offset`]; `None`: whatever it is.
        max_lag: Option<u64>,
    },
}

/// What the owner decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What may be lost.
    pub durability: Durability,
    /// How many copies a write must have before it is acknowledged, that of the primary counted, even where fewer
    /// instances are there: then writes wait. 1: they go on with the primary alone, and nobody is promoted then.
    pub min_copies: usize,
    /// How long the right to be primary lasts after its renewal was begun.
    pub lease: Duration,
    /// How often it is renewed.
    pub renew_every: Duration,
    /// How much earlier than the lease's end its holder has stopped, and how much later an observer believes in the end:
    /// for clocks that run at different speeds and processes that are late.
    pub margin: Duration,
    /// For how long an instance must have been silent in every respect before it is taken for hung.
    pub hang_after: Duration,
    /// How long a standby may be missing before writes are no longer held up for it.
    pub missing_after: Duration,
    /// How long an election waits for those whose position would be good to know and is not needed.
    pub gather: Duration,
    /// How long a former primary waits for others to be elected before it starts again in place.
    pub in_place_after: Duration,
    /// For how long nobody is suspected again after a failover on suspicion.
    pub calm: Duration,
    /// For how long a switchover holds new work while transactions end.
    pub hold: Duration,
}

impl Policy {
    /// For quiet machines on one network: a hang costs little more than a second, and a long pause a failover.
    pub fn lan() -> Self {
        Self {
            lease: Duration::from_secs(2),
            renew_every: Duration::from_millis(400),
            margin: Duration::from_millis(200),
            hang_after: Duration::from_secs(1),
            missing_after: Duration::from_millis(500),
            in_place_after: Duration::from_millis(1500),
            ..Self::default()
        }
    }

    /// Whether acknowledged writes may be lost.
    pub const fn may_lose(&self) -> bool {
        matches!(self.durability, Durability::MayLose { .. })
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            durability: Durability::NoLoss,
            min_copies: 1,
            lease: Duration::from_secs(10),
            renew_every: Duration::from_secs(1),
            margin: Duration::from_millis(500),
            hang_after: Duration::from_secs(8),
            missing_after: Duration::from_secs(2),
            gather: Duration::from_millis(200),
            in_place_after: Duration::from_secs(3),
            calm: Duration::from_mins(10),
            hold: Duration::from_secs(5),
        }
    }
}
