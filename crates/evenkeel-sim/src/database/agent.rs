//! An agent: the shell around the core's decisions, as the node process has one for each of its instances.
//!
//! In each cycle it asks the store, decides, and does one step after the other. What it waits for is bounded, what it
//! remembers goes with its process, and what a pause made old is not done.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use evenkeel_core::{
    failover::{
        Facts, LeaseClock, Member, Own, Plan, Planned, Policy, Record, Report, Revision, Rule, Rules, decide,
        suspicion::Suspicion,
    },
    pause::Stance,
    time::Moment,
};

/// How often an agent looks, if nothing happens before.
pub(super) const EVERY: Duration = Duration::from_millis(100);

/// How long it waits for the store.
pub(super) const STORE_WITHIN: Duration = Duration::from_millis(300);

/// One agent.
#[derive(Debug, Default)]
pub(super) struct Agent {
    /// Counts its starts.
    pub(super) life: u64,
    /// It runs.
    pub(super) up: bool,
    /// It stands still until then.
    pub(super) frozen_until: Option<Moment>,
    /// Whose the lease is.
    pub(super) clock: LeaseClock,
    /// How quiet its primary is.
    pub(super) suspicion: Suspicion,
    /// What the store held.
    pub(super) known: Option<(Record, Revision)>,
    /// The store answered the last question.
    pub(super) store_answers: bool,
    /// What others said last.
    pub(super) reports: BTreeMap<Member, Report>,
    /// Until when others promised not to elect anybody else.
    pub(super) promises: BTreeMap<Member, Moment>,
    /// Until when it promised that.
    pub(super) promised: Option<Moment>,
    /// The question to the store that is under way, and when it was sent.
    pub(super) asked: Option<(u64, Moment)>,
    /// Numbers questions.
    pub(super) questions: u64,
    /// What is left of the plan.
    pub(super) steps: VecDeque<Planned>,
    /// Until when.
    pub(super) valid_until: Option<Moment>,
    /// A step is under way; its number.
    pub(super) doing: Option<u64>,
}

impl Agent {
    /// Starts anew and knows nothing.
    pub(super) fn restart(&mut self) {
        *self = Self { life: self.life + 1, up: true, ..Self::default() };
    }

    /// Decides.
    pub(super) fn plan(
        &mut self,
        me: &Member,
        members: &BTreeSet<Member>,
        own: &Own,
        policy: &Policy,
        rules: Rules,
        now: Moment,
    ) -> Plan {
        let Some((record, revision)) = self.known.clone() else {
            return Plan::default();
        };
        let Some(standing) = self.clock.standing(me, policy, now) else {
            return Plan::default();
        };
        let hung = self.suspicion.look(policy, rules, EVERY, now);
        let facts = Facts {
            me,
            rules,
            policy,
            now,
            stance: Stance::Act,
            record: &record,
            revision,
            store_answers: self.store_answers,
            standing,
            own,
            members,
            reports: &self.reports,
            hung: hung.as_deref(),
            calm_is_over: self.suspicion.calm_is_over(now),
            promises: &self.promises,
            promised: self.promised.filter(|_| rules.has(Rule::Promises)),
        };
        decide(&facts)
    }
}
