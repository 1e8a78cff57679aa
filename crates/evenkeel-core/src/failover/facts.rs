//! Facts: everything that one decision of one member rests on, looked at freshly.
//!
//! A member is one instance with its agent, which sees its own instance ([`Own`]), what the store holds, and what the
//! other members report. Nothing here is remembered from an earlier decision but what the lease's clock needs.

use std::collections::{BTreeMap, BTreeSet};

use crate::{engine::Position, pause::Stance, time::Moment};

use super::{
    Member, Policy, Rules, Token, lease::Standing, quorum::Acks, record::Cause, record::Record, record::Revision,
};

/// What one decision rests on.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// Who decides.
    pub me: &'a Member,
    /// The rules in force.
    pub rules: Rules,
    /// What the owner decided.
    pub policy: &'a Policy,
    /// The present moment.
    pub now: Moment,
    /// What may be done without an order.
    pub stance: Stance,
    /// What the store holds, as last seen.
    pub record: &'a Record,
    /// Which revision of it.
    pub revision: Revision,
    /// Whether the store answered the last question.
    pub store_answers: bool,
    /// Whose the lease is.
    pub standing: Standing,
    /// My own instance.
    pub own: &'a Own,
    /// Who belongs to this database, myself included.
    pub members: &'a BTreeSet<Member>,
    /// What the others reported last, never about myself.
    pub reports: &'a BTreeMap<Member, Report>,
    /// Whether my own primary is taken for hung, and why.
    pub hung: Option<&'a str>,
    /// The while is over in which nobody is suspected, see [`Record::calm`].
    pub calm_is_over: bool,
    /// Until when others promised not to elect anybody but me, by my clock and counted from before I asked.
    pub promises: &'a BTreeMap<Member, Moment>,
    /// Until when I promised the same.
    pub promised: Option<Moment>,
}

/// My own instance.
#[derive(Clone, Debug)]
pub struct Own {
    /// What runs of it.
    pub process: Process,
    /// What its data directory holds.
    pub disk: Disk,
    /// It receives from nobody whose token is at most this; kept on its disk before it is told to anybody.
    pub floor: Token,
    /// Until when its guard lets a primary live, if that was agreed.
    pub armed: Option<Moment>,
    /// Why it cannot be primary at present, as "its disk is full".
    pub unfit: Option<String>,
    /// Why nothing of it runs any more, once something did.
    pub ended: Cause,
    /// Since when nothing of it runs, or since its agent began.
    pub ended_at: Moment,
    /// A long step is under way, as "copying from main/1": nothing else is begun.
    pub busy: Option<String>,
    /// Preferred among equals; higher is better.
    pub priority: i32,
}

/// What runs of an instance.
#[derive(Clone, Debug)]
pub enum Process {
    /// Nothing: confirmed for each process that it ever started.
    Gone,
    /// Its main process ended, and others of it are still there.
    Remains,
    /// It starts and cannot be asked yet.
    Starting,
    /// It runs.
    Up(Up),
}

/// An instance that runs.
#[derive(Clone, Debug)]
pub struct Up {
    /// Whether it accepts writes.
    pub role: Role,
    /// How far its log reaches on its own disk.
    pub position: Position,
    /// As primary: the token it was opened or promoted with. As standby: that of the primary from which it receives;
    /// `None`: it receives from nobody.
    pub token: Option<Token>,
    /// As primary: clients are let in.
    pub open: bool,
    /// As primary: where its history left the one before, if it did.
    pub began_at: u64,
    /// As primary: what it waits for before it acknowledges.
    pub acks: Acks,
    /// As primary: that is in effect in all of its processes, and enough members have what was written before.
    pub settled: bool,
    /// As primary: who receives from it and has caught up.
    pub streaming: BTreeSet<Member>,
    /// As primary in a switchover: how far that is.
    pub handover: Option<Handover>,
}

/// What an instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It accepts writes.
    Primary,
    /// It follows, or waits to.
    Standby,
}

/// How far a switchover is, for the order with this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handover {
    /// [`super::record::Order::id`].
    pub order: u64,
    /// A checkpoint was made, so that the stop is short.
    pub checkpointed: bool,
    /// Since when every edge holds new work.
    pub held: Option<Moment>,
    /// Transactions that have not ended.
    pub transactions: u64,
}

/// What a data directory holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// What kind of content.
    pub content: Content,
    /// How far its log reaches, as far as that is known while nothing runs.
    pub position: Option<Position>,
    /// The token of the last primary that it was or followed.
    pub token: Token,
    /// It was primary when it last ran, and may have what nobody else has.
    pub was_primary: bool,
}

/// What kind of content a data directory has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Nothing.
    Empty,
    /// This database.
    Whole {
        /// The engine's name for it.
        system: String,
    },
    /// Another database, which is never touched.
    Foreign {
        /// Its name.
        system: String,
    },
    /// It cannot be started: a copy that was not finished, or a rewind that failed.
    Broken {
        /// Why.
        why: String,
    },
}

/// What another member says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// When it was heard, by my clock.
    pub heard: Moment,
    /// What it is; `None`: it does not run.
    pub role: Option<Role>,
    /// As primary: with which token; as standby: from whom it receives.
    pub token: Option<Token>,
    /// How far its log reaches on its own disk, if it runs.
    pub position: Option<Position>,
    /// It receives from nobody whose token is at most this.
    pub floor: Token,
    /// Why it cannot be primary at present.
    pub unfit: Option<String>,
    /// Preferred among equals.
    pub priority: i32,
}

impl Facts<'_> {
    /// Until when I may have a primary: by the lease, or, while the store is lost, by what enough members promised.
    pub fn stays_until(&self) -> Option<Moment> {
        let lease = match self.standing {
            Standing::Mine { until } => Some(until),
            _ => None,
        };
        lease.max(self.by_promises())
    }

    /// By promises: until so few are left that they could not elect anybody. Only for whom the record names, and only
    /// while the store does not answer; otherwise the store decides.
    fn by_promises(&self) -> Option<Moment> {
        if self.store_answers || self.record.holder() != Some(self.me) {
            return None;
        }
        // With `may-lose` any other member could be elected, so all of them must promise.
        let electorate = &self.record.electorate;
        let others = || self.members.iter().filter(|member| *member != self.me);
        let (electors, needed): (BTreeSet<&Member>, usize) = if self.policy.may_lose() {
            (others().collect(), others().count())
        } else {
            (electorate.members.iter().collect(), (electorate.members.len() + 1).saturating_sub(electorate.confirm))
        };
        if needed == 0 {
            return Some(self.now + self.policy.lease);
        }
        let mut ends: Vec<Moment> =
            self.promises.iter().filter(|(who, _)| electors.contains(who)).map(|(_, end)| *end).collect();
        ends.sort_unstable_by(|a, b| b.cmp(a));
        ends.get(needed - 1).copied().filter(|end| self.now < *end)
    }

    /// Whether this report is so recent that its member is taken for alive.
    pub fn is_fresh(&self, report: &Report) -> bool {
        self.now.since(report.heard) <= self.policy.lease
    }
}
