//! Facts: what really happened, as invariants are told.
//!
//! Facts come from where a thing is done, not from where it was decided, and carry what held at that moment. They
//! are judged right after the event that made them.

use std::time::Duration;

use evenkeel_core::{snapshot::Duty, status::Health};

use crate::fleet::Key;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// The edge sent a try of a request.
    Sent {
        /// Which request.
        request: u64,
        /// To whom.
        key: Key,
        /// The verdict at that moment, formed anew from everything known.
        verdict: Health,
        /// What the snapshot in force asks for.
        duty: Duty,
    },
    /// A process began to act on a request.
    Executed {
        /// Which request.
        request: u64,
        /// Whether twice means the same as once.
        idempotent: bool,
        /// Who.
        key: Key,
    },
    /// A request is over.
    Ended {
        /// Which.
        request: u64,
        /// Why its client got no answer of an instance; `None`: it got one.
        failed: Option<Failure>,
    },
    /// A process was started.
    Spawned {
        /// Its key.
        key: Key,
    },
    /// The node process learnt of a process's end, or that it could not be started.
    EndSeen {
        /// The instance.
        number: u32,
    },
    /// The node process learnt of a verdict about the present generation.
    VerdictSeen {
        /// The instance.
        number: u32,
        /// The verdict.
        healthy: bool,
    },
    /// A supervisor gave up.
    GaveUp {
        /// The instance.
        number: u32,
    },
    /// An operator asked to try again.
    TriedAgain {
        /// The instance.
        number: u32,
    },
    /// An instance is over; its number is free.
    Gone {
        /// The instance.
        number: u32,
    },
    /// The edge ejected an instance.
    Ejected {
        /// Whom.
        key: Key,
    },
    /// An ejected instance came back.
    Returned {
        /// Who.
        key: Key,
    },
    /// The edge declared an instance silent.
    Silent {
        /// Whom.
        key: Key,
    },
    /// A probe that the silence rule asked for was passed.
    TightPassed {
        /// By whom.
        key: Key,
    },
    /// A process stopped running without ending, or goes on.
    Frozen {
        /// Which.
        key: Key,
        /// Whether it stopped.
        frozen: bool,
    },
    /// The node process began to drain an instance.
    DrainBegan {
        /// The instance.
        number: u32,
        /// How long its requests may take.
        drain: Duration,
    },
    /// The guard was told to stop a process.
    StopSent {
        /// Which.
        key: Key,
    },
    /// A specification was applied.
    Applied {
        /// Whether its instances can ever be healthy.
        broken: bool,
    },
    /// The number of instances was changed by a decision.
    Scaled {
        /// Wanted until now.
        from: u32,
        /// Wanted from now on.
        to: u32,
    },
    /// An operator fixed the number of instances, or left it to the load again.
    Ordered {
        /// Wanted from now on.
        replicas: u32,
        /// Whether it is fixed.
        pinned: bool,
    },
    /// An operator paused the service.
    Paused,
    /// A pause is over.
    Resumed,
    /// Something other than an apply was done to the world.
    Disturbed,
    /// The edge or the node process was stopped, started again or cut off: what they measured, they measure anew.
    Interrupted,
    /// The edge looked at all instances.
    Ticked,
}

/// Why a client got no answer of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The try failed and may not be repeated.
    NotRepeatable,
    /// All tries failed.
    TriesUsedUp,
    /// The retry budget was used up.
    BudgetUsedUp,
    /// It was held for too long.
    HeldTooLong,
    /// Too many were held.
    HoldFull,
    /// No answer in time.
    TimedOut,
    /// The edge itself ended.
    EdgeEnded,
}
