//! Plans: what one member does next, why, and what was ruled out.
//!
//! A plan is made anew in each cycle from fresh facts, and each step is safe to repeat. Whoever executes it does so in
//! order, gives up at the first failure, and does nothing any more once [`Plan::valid_until`] has passed: then whatever
//! it rested on must be looked at again.

use crate::{journal::Reason, time::Moment};

use super::{
    Member, Token,
    quorum::Acks,
    record::{Cause, Record, Revision},
};

/// What one member does next.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// In order.
    pub steps: Vec<Planned>,
    /// What it waits for, where there is nothing to do and not everything is as it should be.
    pub waiting: Option<String>,
    /// Why others, or this member itself, were not chosen.
    pub ruled_out: Vec<Reason>,
    /// After this nothing of it may be done any more; `None`: it rests on nothing that ends.
    pub valid_until: Option<Moment>,
    /// When to look again, if nothing happens before.
    pub look_again: Option<Moment>,
}

/// A step and its reasons.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// What.
    pub step: Step,
    /// Why, most important first.
    pub reasons: Vec<Reason>,
}

/// One step of one member, on its own instance or in the store.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Change the record, if it still has this revision. Whoever is its holder thereby renews the lease.
    Write {
        /// What it becomes.
        record: Box<Record>,
        /// What it must be now.
        expects: Revision,
    },
    /// Ask the members of the electorate to promise that they elect nobody else for the length of a lease.
    AskPromises,
    /// Let the guard kill every process of the instance at this moment.
    Arm {
        /// When.
        until: Moment,
    },
    /// Kill every process of the instance and confirm that none is left.
    Fence {
        /// Why, to be remembered as [`super::Own::ended`].
        cause: Cause,
    },
    /// Stop it in order, so that its standbys receive everything.
    Stop,
    /// Make the first instance of this database.
    Initialise {
        /// For whom this is primary.
        token: Token,
    },
    /// Start it as primary, closed to clients.
    StartPrimary {
        /// Kept on its disk first.
        token: Token,
    },
    /// Start it as a standby that receives from nobody.
    StartStandby,
    /// Receive from nobody any more whose token is at most this; kept on its disk first.
    StopReceiving {
        /// The newest token that it refuses.
        floor: Token,
    },
    /// Receive from this primary.
    Follow {
        /// Whom.
        primary: Member,
        /// Its token.
        token: Token,
    },
    /// Make it primary, closed to clients.
    Promote {
        /// Its token.
        token: Token,
    },
    /// Let clients in, at every edge.
    Open {
        /// Kept on its disk first; nobody with a smaller one is let through any more.
        token: Token,
    },
    /// Change what the primary waits for.
    SetAcks(Acks),
    /// Make its data directory a beginning of what this primary has, by taking back what went on elsewhere.
    Rewind {
        /// Whom.
        primary: Member,
        /// Its token.
        token: Token,
    },
    /// Copy this primary's data directory; what is there is set aside first.
    Copy {
        /// Whom.
        primary: Member,
        /// Its token.
        token: Token,
    },
    /// Write what is in memory to disk, so that the stop in this switchover is short.
    Checkpoint {
        /// The order.
        order: u64,
    },
    /// Hold new work at every edge, let transactions end.
    Hold {
        /// The order.
        order: u64,
        /// When they are cut.
        until: Moment,
    },
}

impl Step {
    /// Whether this is done although decisions are paused: it only keeps what is, or keeps it safe.
    pub const fn keeps(&self) -> bool {
        matches!(self, Self::Write { .. } | Self::Arm { .. } | Self::AskPromises)
    }
}

impl Plan {
    /// Nothing to do, and this is awaited.
    pub(super) fn wait(what: impl Into<String>) -> Self {
        Self { waiting: Some(what.into()), ..Self::default() }
    }

    /// One step.
    pub(super) fn step(step: Step, reasons: Vec<Reason>) -> Self {
        let mut plan = Self::default();
        plan.then(step, reasons);
        plan
    }

    /// And this afterwards.
    pub(super) fn then(&mut self, step: Step, reasons: Vec<Reason>) {
        self.steps.push(Planned { step, reasons });
    }

    /// Look again by then at the latest.
    #[must_use]
    pub(super) fn look_at(mut self, at: Moment) -> Self {
        self.look_again = Some(self.look_again.map_or(at, |other| other.min(at)));
        self
    }
}
