//! Rules of safety, each of which can be missing in a simulated world and in no other.
//!
//! Production builds [`Rules::ALL`], whole. The simulator takes one out and must see its invariant broken: so each rule
//! is known to matter, and each invariant to notice.

/// One rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Changes of who acknowledges and who decides are made one by one, in an order that leaves no gap.
    OneSided,
    /// No electorate is published before its members have what was written before.
    Settled,
    /// A promotion needs enough members that stopped receiving.
    StoppedReceiving,
    /// The furthest wins.
    Furthest,
    /// Nobody is promoted, and nothing starts as primary, without the lease.
    LeaseFirst,
    /// The lease is given back only once every process of the instance is confirmed gone.
    FencedFirst,
    /// Whoever loses the lease stops before its end.
    StopInTime,
    /// A lease is changed on exactly the revision last seen.
    CompareAndSwap,
    /// A plan that waited too long is made anew.
    Revalidate,
    /// Work goes only to the instance with the newest token.
    NewestToken,
    /// Outside of the electorate nobody is promoted without an order.
    ElectorateOnly,
    /// A former primary that starts in place opens once its members have what it recovered.
    OpenConfirmed,
    /// Whoever has writes of an abandoned history is rewound or copied before it follows.
    Rejoin,
    /// While the store is lost, a primary stays only while enough members promise not to elect another.
    Promises,
    /// An observer counts a lease from the change that it saw itself.
    OwnSight,
    /// Silence is no proof while others still see the primary, its log arrives, or the observer itself paused.
    SuspicionIsNoProof,
    /// After a failover on suspicion nobody is suspected for a time.
    Calm,
    /// A switchover hands over only to somebody who has everything.
    CandidateComplete,
    /// With `may-lose` nobody is promoted that lags more than permitted.
    MaxLag,
}

impl Rule {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::OneSided,
        Self::Settled,
        Self::StoppedReceiving,
        Self::Furthest,
        Self::LeaseFirst,
        Self::FencedFirst,
        Self::StopInTime,
        Self::CompareAndSwap,
        Self::Revalidate,
        Self::NewestToken,
        Self::ElectorateOnly,
        Self::OpenConfirmed,
        Self::Rejoin,
        Self::Promises,
        Self::OwnSight,
        Self::SuspicionIsNoProof,
        Self::Calm,
        Self::CandidateComplete,
        Self::MaxLag,
    ];
}

/// The rules in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    missing: Option<Rule>,
}

impl Rules {
    /// Every rule.
    pub const ALL: Self = Self { missing: None };

    /// Every rule but one: for the simulator.
    #[doc(hidden)]
    pub const fn without(rule: Rule) -> Self {
        Self { missing: Some(rule) }
    }

    /// Whether `rule` is in force.
    pub fn has(self, rule: Rule) -> bool {
        self.missing != Some(rule)
    }
}
