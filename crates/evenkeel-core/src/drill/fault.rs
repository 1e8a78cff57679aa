//! Injected harm: what is done, to whom it may be done, and how it is said.
//!
//! A fault is only described here. Doing it, and taking it back, is the business of whoever runs the drill.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{climb::MOST_STEPS, in_words};

/// Requests a second of a drill's own clients at their steady pace.
pub const PACE_PER_S: u64 = 210;

/// How long a ramp waits between two steps at most, until requests on their way have come to their end.
const BETWEEN_STEPS_MS: u64 = 1000;
/// How long measuring what users ask and draining one instance may take at most within a ramp.
const DRAIN_MS: u64 = 20_000;

/// What a drill harms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// One instance of a service.
    Instance,
    /// A service as a whole: its clients, its release, what it depends on.
    Service,
    /// The guard.
    Guard,
    /// The node process.
    Node,
    /// The edge.
    Edge,
    /// Everything that `keel` runs here.
    Stack,
}

/// Injected harm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// SIGKILL to the subject's process (signal(7)).
    Kill,
    /// SIGSTOP to the instance's process and all its descendants, SIGCONT when it is over (signal(7)).
    Freeze {
        /// How long at most; it ends early when the instance is replaced.
        for_ms: u64,
    },
    /// SIGSTOP and SIGCONT by turns to the instance's process and all its descendants, so that it answers, but late.
    Stutter {
        /// How long at most; it ends early when the instance is replaced.
        for_ms: u64,
        /// How long it stands still each time.
        stopped_ms: u64,
        /// How long it runs in between.
        running_ms: u64,
    },
    /// SIGKILL again each time the instance has a new process.
    KillAgain {
        /// How often in all.
        times: u32,
    },
    /// A deploy of a release that passes its checks and fails every request.
    BadRelease,
    /// Clients send so many times as many requests as before.
    Spike {
        /// How long.
        for_ms: u64,
        /// How many times as many.
        factor: u32,
    },
    /// Clients send ever more requests until the objective is missed, first with all instances and then with one gone.
    Ramp {
        /// How long each step lasts.
        step_ms: u64,
        /// 99 of 100 requests must be answered within this time.
        p99_ms: u64,
    },
    /// The processes of keel can write to no file any more.
    DiskFull {
        /// How long.
        for_ms: u64,
    },
    /// Every instance of a service that the subject depends on stutters.
    SlowDependency {
        /// That service.
        service: String,
        /// How long.
        for_ms: u64,
        /// How long its instances stand still each time.
        stopped_ms: u64,
        /// How long they run in between.
        running_ms: u64,
    },
    /// A process is started again with clocks that show another time (`time_namespaces(7)`), and later as before.
    ClockStep {
        /// By how much it is ahead; negative: behind.
        by_ms: i64,
        /// How long.
        for_ms: u64,
    },
    /// SIGKILL to everything at once, as by a loss of power, and a start as after one.
    Reboot,
}

impl Fault {
    /// How long it lasts at most; 0 where it is done in a moment.
    pub const fn lasts_ms(&self) -> u64 {
        match *self {
            Self::Freeze { for_ms }
            | Self::Stutter { for_ms, .. }
            | Self::Spike { for_ms, .. }
            | Self::DiskFull { for_ms }
            | Self::SlowDependency { for_ms, .. }
            | Self::ClockStep { for_ms, .. } => for_ms,
            Self::Ramp { step_ms, .. } => 2 * MOST_STEPS as u64 * (step_ms + BETWEEN_STEPS_MS) + DRAIN_MS,
            Self::Kill | Self::KillAgain { .. } | Self::BadRelease | Self::Reboot => 0,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill => f.write_str("SIGKILL"),
            Self::Freeze { for_ms } => write!(f, "SIGSTOP for at most {}", in_words(*for_ms)),
            Self::Stutter { for_ms, stopped_ms, running_ms } => write!(
                f,
                "SIGSTOP for {} of every {}, for at most {}",
                in_words(*stopped_ms),
                in_words(stopped_ms + running_ms),
                in_words(*for_ms)
            ),
            Self::KillAgain { times } => write!(f, "SIGKILL, and again at each start, {times} times in all"),
            Self::BadRelease => f.write_str("a deploy of a release that passes its checks and fails every request"),
            Self::Spike { for_ms, factor } => {
                write!(f, "{factor} times as many requests for {}", in_words(*for_ms))
            }
            Self::Ramp { step_ms, p99_ms } => write!(
                f,
                "more requests every {} until one fails, they pile up or 99 of 100 take longer than {}, first with all instances and \
                 then with one drained",
                in_words(*step_ms),
                in_words(*p99_ms)
            ),
            Self::DiskFull { for_ms } => write!(f, "no more bytes in files for {}", in_words(*for_ms)),
            Self::SlowDependency { service, for_ms, stopped_ms, running_ms } => write!(
                f,
                "SIGSTOP for {} of every {} to all of `{service}`, for at most {}",
                in_words(*stopped_ms),
                in_words(stopped_ms + running_ms),
                in_words(*for_ms)
            ),
            Self::ClockStep { by_ms, for_ms } => {
                let side = if *by_ms < 0 { "behind" } else { "ahead" };
                let by_s = by_ms.unsigned_abs() / 1000;
                write!(f, "a restart with clocks that are {by_s} s {side}, for {}", in_words(*for_ms))
            }
            Self::Reboot => f.write_str("SIGKILL to everything at once, and a start"),
        }
    }
}
