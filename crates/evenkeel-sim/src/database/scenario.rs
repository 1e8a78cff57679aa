//! Scenarios: what a seed asks for: a policy, a number of members, faults and orders.

use std::time::Duration;

use evenkeel_core::{
    failover::{Durability, Policy},
    time::Moment,
};

use crate::rng::Rng;

/// Whom a fault is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// This member.
    Member(usize),
    /// Whoever has the lease by then.
    Primary,
    /// One that has not.
    Standby(usize),
    /// Whoever does what is waited for, see [`Fault::When`].
    Doer,
    /// Whom that concerns.
    Other,
}

/// What a member does, in the middle of which something goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    /// It is given the lease.
    Claims,
    /// It is about to be promoted, and has only let its guard know.
    Promotes,
    /// It begins to wait for another member's acknowledgement.
    Trusts,
}

/// Something that goes wrong, or that an operator orders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The instance's main process is killed; others of it go on for a while.
    Kill(Who),
    /// Nothing of the instance runs for this long, and it is not dead.
    Hang(Who, Duration),
    /// Its disk takes nothing for this long.
    Stall(Who, Duration),
    /// Everything on the node ends, and is back after this long.
    Crash(Who, Duration),
    /// Everything on the node stands still for this long, its guard too.
    Freeze(Who, Duration),
    /// Its agent stands still for this long.
    FreezeAgent(Who, Duration),
    /// Its agent is started again.
    Restart(Who),
    /// What goes between it and others is lost, for this long.
    Cut(Who, Cut, Duration),
    /// Messages take up to this much longer, for this long.
    Slow(Duration, Duration),
    /// The store answers nobody for this long.
    Lose(Duration),
    /// A switchover is ordered, to this member or to anybody.
    Switchover(Option<usize>),
    /// A failover is ordered to this member.
    Failover(usize),
    /// Its disk is full for this long: it cannot be primary.
    Fill(Who, Duration),
    /// Once somebody does that, these go wrong, each so many milliseconds later.
    When(Doing, Vec<(u64, Fault)>),
}

/// In which direction messages are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// What it sends and what it is sent.
    Both,
    /// What it sends.
    Out,
    /// What it is sent.
    In,
}

/// What is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// In which direction.
    pub(super) way: Way,
    /// The other members.
    pub(super) members: bool,
    /// The store.
    pub(super) store: bool,
    /// The first edge.
    pub(super) edge: bool,
}

/// What a seed asks for.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    /// The seed.
    pub(super) seed: u64,
    /// How many members.
    pub(super) members: usize,
    /// What the owner decided.
    pub(super) policy: Policy,
    /// Faults, by moment.
    pub(super) faults: Vec<(Moment, Fault)>,
    /// All of them are such as a machine shows every day: nobody may be replaced for them.
    pub(super) ordinary: bool,
    /// The end.
    pub(super) ends_at: Moment,
}

const BEGIN_MS: u64 = 8_000;
const FAULTS_FOR_MS: u64 = 60_000;
const CALM_FOR_MS: u64 = 60_000;

impl Scenario {
    /// The scenario of this seed.
    pub(super) fn draw(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let members = rng.pick(&[1, 2, 2, 3, 3, 3, 3, 4]);
        let ordinary = rng.chance(8);
        let policy = policy(&mut rng, members, ordinary);
        let count = rng.between(5, 11);
        let mut faults: Vec<(Moment, Fault)> = (0..count)
            .map(|_| {
                let at = Moment::from_millis(BEGIN_MS + rng.between(0, FAULTS_FOR_MS));
                let fault = if ordinary { everyday(&mut rng, members) } else { fault(&mut rng, members, &policy) };
                (at, fault)
            })
            .collect();
        if !ordinary {
            for _ in 0..rng.between(0, 2) {
                let at = BEGIN_MS + rng.between(5_000, FAULTS_FOR_MS);
                faults.extend(
                    story(&mut rng, &policy).into_iter().map(|(ms, fault)| (Moment::from_millis(at + ms), fault)),
                );
            }
        }
        faults.sort_by_key(|(at, _)| *at);
        let calm_at = Moment::from_millis(BEGIN_MS + FAULTS_FOR_MS + 16_000);
        let ends_at = calm_at + Duration::from_millis(CALM_FOR_MS);
        Self { seed, members, policy, faults, ordinary, ends_at }
    }
}

fn policy(rng: &mut Rng, members: usize, ordinary: bool) -> Policy {
    let base = if ordinary || rng.chance(50) { Policy::default() } else { Policy::lan() };
    let durability = match rng.between(0, 9) {
        0..7 => Durability::NoLoss,
        7 => Durability::MayLose { max_lag: None },
        _ => Durability::MayLose { max_lag: Some(rng.between(5, 60)) },
    };
    let most = u64::try_from(members).unwrap_or(1).min(3);
    Policy { durability, min_copies: usize::try_from(rng.between(1, most)).unwrap_or(1), ..base }
}

/// What machines do every day.
fn everyday(rng: &mut Rng, members: usize) -> Fault {
    let who = who(rng, members);
    match rng.between(0, 3) {
        0 => Fault::Stall(who, rng.millis(100, 5000)),
        1 => Fault::Freeze(who, rng.millis(100, 3000)),
        2 => Fault::Restart(who),
        _ => Fault::Slow(rng.millis(1, 50), rng.millis(100, 3000)),
    }
}

fn fault(rng: &mut Rng, members: usize, policy: &Policy) -> Fault {
    let (who, one) = (who(rng, members), member(rng, members));
    let lease_ms = u64::try_from(policy.lease.as_millis()).unwrap_or(u64::MAX);
    let long = rng.millis(100, lease_ms * 3 / 2 + 1000);
    match rng.between(0, 15) {
        0..3 => Fault::Kill(who),
        3 | 4 => Fault::Hang(who, long),
        5 => Fault::Stall(who, long),
        6 => Fault::Crash(who, rng.millis(200, 15_000)),
        7 => Fault::Freeze(who, long),
        8 => Fault::FreezeAgent(who, long),
        9 => Fault::Restart(who),
        10 | 11 => Fault::Cut(who, cut(rng), long),
        12 => Fault::Slow(rng.millis(10, 800), long),
        13 => Fault::Lose(long),
        14 if rng.chance(20) => Fault::Failover(one),
        14 => Fault::Fill(who, long),
        _ => Fault::Switchover(rng.chance(60).then_some(one)),
    }
}

/// Several things that go wrong one after the other: what a rule is for shows when something else happens in the middle.
fn story(rng: &mut Rng, policy: &Policy) -> Vec<(u64, Fault)> {
    let lease_ms = u64::try_from(policy.lease.as_millis()).unwrap_or(u64::MAX);
    let beyond = Duration::from_millis(lease_ms + 1000) + rng.millis(0, lease_ms);
    let soon = rng.between(0, 400);
    let alone = |members, store| Cut { way: Way::Both, members, store, edge: false };
    match rng.between(0, 11) {
        // A standby is waited for from now on, stalls, and the primary goes for good.
        10 => {
            let then = vec![
                (0, Fault::Stall(Who::Other, beyond)),
                (rng.between(100, 600), Fault::Crash(Who::Doer, beyond * 2)),
            ];
            vec![(0, Fault::Crash(Who::Standby(0), rng.millis(200, 1000))), (0, Fault::When(Doing::Trusts, then))]
        }
        // It stands still beyond its lease, while a standby receives and its agent does not look.
        11 => vec![(0, Fault::FreezeAgent(Who::Standby(1), beyond * 2)), (20, Fault::Freeze(Who::Primary, beyond))],
        // It stands still beyond its lease, and a standby hears nobody meanwhile.
        0 => vec![
            (0, Fault::Cut(Who::Standby(1), alone(false, true), beyond * 2)),
            (50, Fault::Freeze(Who::Primary, beyond)),
        ],
        // Whoever is given the lease stands still at once, or its agent does in the middle of its plan.
        1 => {
            let doing = rng.pick(&[Doing::Claims, Doing::Promotes, Doing::Promotes]);
            vec![
                (0, Fault::When(doing, vec![(0, Fault::FreezeAgent(Who::Doer, beyond))])),
                (soon, Fault::Kill(Who::Primary)),
            ]
        }
        2 => {
            let then = vec![(0, Fault::Freeze(Who::Doer, beyond))];
            vec![(0, Fault::When(Doing::Claims, then)), (soon, Fault::Kill(Who::Primary))]
        }
        // It starts in place since nobody else may, and fails again once others may.
        3 => vec![
            (0, Fault::Fill(Who::Standby(0), Duration::from_secs(3))),
            (0, Fault::Fill(Who::Standby(1), Duration::from_secs(3))),
            (1, Fault::Fill(Who::Standby(2), Duration::from_secs(3))),
            (500, Fault::Stall(Who::Standby(0), Duration::from_secs(4))),
            (500, Fault::Stall(Who::Standby(1), Duration::from_secs(4))),
            (700, Fault::Kill(Who::Primary)),
            (2500 + rng.between(0, 3000), Fault::Kill(Who::Primary)),
        ],
        // A standby is behind when the primary goes.
        4 => vec![
            (0, Fault::Stall(Who::Standby(0), Duration::from_millis(600))),
            (rng.between(100, 500), Fault::Crash(Who::Primary, beyond)),
        ],
        // One standby after the other is gone, and comes back while the next one goes.
        5 => vec![
            (0, Fault::Crash(Who::Standby(0), rng.millis(500, 4000))),
            (rng.between(500, 4000), Fault::Crash(Who::Standby(1), rng.millis(500, 4000))),
            (rng.between(1000, 6000), Fault::Kill(Who::Primary)),
        ],
        // The store is gone for longer than a lease.
        6 => vec![(0, Fault::Lose(beyond)), (rng.between(0, 2 * lease_ms), Fault::Kill(Who::Primary))],
        7 => vec![(0, Fault::Cut(Who::Primary, alone(false, true), beyond))],
        // An agent was asleep when it last looked.
        8 => vec![(0, Fault::FreezeAgent(Who::Primary, beyond))],
        // A switchover in the middle of which somebody is late or goes.
        _ => vec![
            (0, Fault::Switchover(None)),
            (rng.between(0, 200), Fault::Stall(Who::Standby(0), rng.millis(100, 3000))),
            (rng.between(0, 300), Fault::Kill(if rng.chance(50) { Who::Primary } else { Who::Standby(0) })),
        ],
    }
}

fn member(rng: &mut Rng, members: usize) -> usize {
    usize::try_from(rng.between(0, members as u64 - 1)).unwrap_or(0)
}

/// The primary half of the time, since most of what matters happens to it.
fn who(rng: &mut Rng, members: usize) -> Who {
    if rng.chance(40) { Who::Primary } else { Who::Member(member(rng, members)) }
}

/// One node is cut off: from everybody, from the other members, from the store, or one way only.
fn cut(rng: &mut Rng) -> Cut {
    let (members, store, edge) =
        rng.pick(&[(true, true, false), (true, false, false), (false, true, false), (true, true, true)]);
    let way = rng.pick(&[Way::Both, Way::Both, Way::Out, Way::In]);
    Cut { way, members, store, edge }
}
