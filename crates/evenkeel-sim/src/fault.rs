//! Faults: what is done to the world, and how it is drawn.
//!
//! A fault that concerns one instance names it by a number that is taken modulo those that are there when it
//! strikes, so that every drawn fault hits somebody.

use std::time::Duration;

use crate::rng::Rng;

/// How instances of a specification, or of a number for a while, come up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boot {
    /// Within a fraction of a second.
    Normal,
    /// Within seconds, perhaps not within the start timeout.
    Slowly,
    /// They exit before they serve.
    Exits,
    /// They stay, but their check never passes.
    NeverReady,
    /// The process cannot even be started.
    NotStartable,
}

/// What went wrong with the answers of an instance that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errors {
    /// Connections are cut in the middle.
    Cut,
    /// Answers have status 503.
    Status,
}

/// What is done to the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A process dies.
    Crash(u64),
    /// All processes die within a few milliseconds, as when memory runs out.
    CrashAll,
    /// A process stops and goes on later.
    Hang(u64, Duration),
    /// Requests take long; probes do not.
    Slow(u64, Duration),
    /// Requests fail; probes do not.
    Fails(u64, Errors, Duration),
    /// A process dies, and for a while its successors boot like this.
    Boots(u64, Boot, Duration),
    /// A process will not end when it is asked to.
    IgnoresTerm(u64),
    /// The edge is not scheduled for so long.
    EdgeStall(Duration),
    /// The edge dies and is back after so long.
    EdgeRestart(Duration),
    /// The node process dies and is back after so long.
    NodeRestart(Duration),
    /// Messages between edge and node process take longer.
    MessageDelay(Duration, Duration),
    /// The stack changes.
    Change(Change),
}

/// A change of the stack, or an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// So many instances are wanted.
    Scale(u32),
    /// As many instances as the load asks for.
    Auto,
    /// Every instance is replaced by one of the same specification.
    Restart,
    /// For a time nothing is done without an order.
    Pause(Duration),
    /// The command changes; its instances boot like this.
    Apply(Boot),
    /// Try those again that gave up.
    TryAgain,
}

impl Fault {
    /// Any fault.
    pub fn draw(rng: &mut Rng) -> Self {
        let who = rng.between(0, 11);
        match rng.between(0, 99) {
            0..=11 => Self::Crash(who),
            12..=25 => Self::Hang(who, rng.millis(100, 9_000)),
            26..=31 => Self::Slow(who, rng.millis(500, 6_000)),
            32..=42 => Self::Fails(who, rng.pick(&[Errors::Cut, Errors::Cut, Errors::Status]), rng.millis(300, 8_000)),
            43..=55 => {
                let boot = rng.pick(&[Boot::Slowly, Boot::Exits, Boot::Exits, Boot::NeverReady, Boot::NotStartable]);
                Self::Boots(who, boot, rng.millis(500, 9_000))
            }
            56..=58 => Self::IgnoresTerm(who),
            59..=62 => Self::EdgeStall(rng.millis(100, 2_500)),
            63..=66 => Self::EdgeRestart(rng.millis(30, 200)),
            67..=72 => Self::NodeRestart(rng.millis(50, 2_000)),
            73..=77 => Self::MessageDelay(rng.millis(20, 1_500), rng.millis(500, 6_000)),
            78..=80 => Self::CrashAll,
            81..=90 => Self::Change(Change::Scale(u32::try_from(rng.between(1, 4)).expect("at most 4"))),
            _ => {
                let broken = rng.pick(&[Boot::Exits, Boot::NeverReady, Boot::NotStartable]);
                Self::Change(Change::Apply(rng.pick(&[Boot::Normal, broken])))
            }
        }
    }

    /// How long it lasts.
    pub fn lasts(&self) -> Duration {
        match *self {
            Self::Hang(_, lasts)
            | Self::Slow(_, lasts)
            | Self::Fails(_, _, lasts)
            | Self::Boots(_, _, lasts)
            | Self::EdgeStall(lasts)
            | Self::EdgeRestart(lasts)
            | Self::NodeRestart(lasts)
            | Self::MessageDelay(_, lasts)
            | Self::Change(Change::Pause(lasts)) => lasts,
            Self::Crash(_) | Self::CrashAll | Self::IgnoresTerm(_) | Self::Change(_) => Duration::ZERO,
        }
    }

    /// Its name in the coverage table.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Crash(_) => "fault: crash",
            Self::CrashAll => "fault: crash-all",
            Self::Hang(..) => "fault: hang",
            Self::Slow(..) => "fault: slow",
            Self::Fails(..) => "fault: errors",
            Self::Boots(_, Boot::Slowly | Boot::Normal, _) => "fault: boot-slowly",
            Self::Boots(_, Boot::Exits, _) => "fault: crash-loop",
            Self::Boots(_, Boot::NeverReady, _) => "fault: never-ready",
            Self::Boots(_, Boot::NotStartable, _) => "fault: not-startable",
            Self::IgnoresTerm(_) => "fault: ignore-term",
            Self::EdgeStall(_) => "fault: edge-stall",
            Self::EdgeRestart(_) => "fault: edge-restart",
            Self::NodeRestart(_) => "fault: node-restart",
            Self::MessageDelay(..) => "fault: message-delay",
            Self::Change(Change::Scale(_)) => "fault: scale",
            Self::Change(Change::Auto) => "order: scale auto",
            Self::Change(Change::Restart) => "order: restart",
            Self::Change(Change::Pause(_)) => "fault: pause",
            Self::Change(Change::Apply(Boot::Normal | Boot::Slowly)) => "fault: rollout",
            Self::Change(Change::Apply(_)) => "fault: rollout of a broken specification",
            Self::Change(Change::TryAgain) => "order: try again",
        }
    }
}
