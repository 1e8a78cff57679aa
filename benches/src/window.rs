//! What a contender did and used between two moments of a load that was under way before and goes on after them.
//!
//! So neither the opening of thousands of connections nor the start of the load is counted as the cost of requests. What
//! was answered is counted at the instances; their health checks, a few a second, are counted with it.

use std::{
    io,
    time::{Duration, Instant},
};

use crate::{cpu, instances::Instances};

/// One moment.
pub struct Sample {
    at: Instant,
    answered: u64,
    spent: Duration,
}

/// Between two moments.
pub struct Window {
    pub answered: u64,
    pub spent: Duration,
    pub lasted: Duration,
}

impl Sample {
    pub fn take(root: u32, instances: &Instances) -> io::Result<Self> {
        let spent = cpu::of_tree(root)?;
        Ok(Self { at: Instant::now(), answered: instances.answered(), spent })
    }

    pub fn until(&self, later: &Self) -> Window {
        Window {
            answered: later.answered - self.answered,
            spent: later.spent.saturating_sub(self.spent),
            lasted: later.at - self.at,
        }
    }
}

impl Window {
    pub fn cpu_us_per_request(&self) -> f64 {
        self.spent.as_secs_f64() * 1e6 / self.answered.max(1) as f64
    }

    pub fn per_second(&self) -> f64 {
        self.answered as f64 / self.lasted.as_secs_f64()
    }

    /// Of one core.
    pub fn busy_percent(&self) -> f64 {
        self.spent.as_secs_f64() * 100.0 / self.lasted.as_secs_f64()
    }
}
