//! Coverage: how often each output and branch of a decision was seen over all runs.
//!
//! A simulator that never reaches a branch proves nothing about it, so [`EXPECTED`] lists what must occur over a
//! thousand seeds; what is missing fails the run.

use std::collections::BTreeMap;

/// What must have been seen over [`SEEDS`] seeds.
pub const EXPECTED: [&str; 91] = [
    "balance: consistent-hash",
    "balance: ip-hash",
    "balance: least-connections",
    "balance: maglev",
    "balance: power-of-two",
    "balance: random",
    "balance: round-robin",
    "balance: weighted-round-robin",
    "edge: drained reported",
    "edge: snapshot applied",
    "edge: instance removed",
    "ejection: ejected",
    "ejection: kept",
    "ejection: returned after its time",
    "ejection: returned early",
    "fault: boot-slowly",
    "fault: crash",
    "fault: crash-all",
    "fault: crash-loop",
    "fault: errors",
    "fault: edge-restart",
    "fault: edge-stall",
    "fault: hang",
    "fault: ignore-term",
    "fault: message-delay",
    "fault: never-ready",
    "fault: node-restart",
    "fault: not-startable",
    "fault: pause",
    "fault: rollout",
    "fault: rollout of a broken specification",
    "fault: scale",
    "fault: slow",
    "health: draining",
    "health: ejected",
    "health: healthy",
    "health: silent",
    "health: unhealthy",
    "liveness: failing",
    "liveness: passing again",
    "node: adopted draining",
    "node: adopted running",
    "node: adopted starting",
    "node: exit found at adoption",
    "node: late report dropped",
    "request: answered",
    "request: answered with an error status",
    "request: failed, budget used up",
    "request: failed, edge ended",
    "request: failed, hold full",
    "request: failed, held too long",
    "request: failed, not repeatable",
    "request: failed, timed out",
    "request: failed, tries used up",
    "request: held",
    "request: kept at a silent instance",
    "request: moved off a silent instance",
    "request: released from hold",
    "request: repeated",
    "order: pause",
    "order: restart",
    "order: scale auto",
    "rollout: create",
    "rollout: retire",
    "rollout: stopped by a broken specification",
    "rollout: waiting",
    "scale: down",
    "scale: held by a pause",
    "scale: limited",
    "scale: up",
    "silence: answers to a probe",
    "silence: answers by sending",
    "silence: look",
    "silence: probe",
    "silence: runs again",
    "silence: silent",
    "silence: suspicion refuted",
    "supervise: draining",
    "supervise: gave-up",
    "supervise: held by a pause",
    "supervise: killed after its grace",
    "supervise: killing for liveness",
    "supervise: killing for start",
    "supervise: not started",
    "supervise: ready",
    "supervise: removed",
    "supervise: restarting after a delay",
    "supervise: restarting at once",
    "supervise: stopped",
    "supervise: stopping",
    "supervise: trying-again",
];

/// So many seeds must be enough to see all of [`EXPECTED`].
pub const SEEDS: u64 = 1_000;

/// How often what was seen.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    counts: BTreeMap<&'static str, u64>,
}

impl Coverage {
    /// Counts one occurrence.
    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// How often this was seen.
    pub fn of(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or_default()
    }

    /// Adds what another run saw.
    pub fn add(&mut self, other: &Self) {
        for (what, count) in &other.counts {
            *self.counts.entry(what).or_default() += count;
        }
    }

    /// All of it in order, what is expected but was not seen with zero.
    pub fn table(&self) -> BTreeMap<&'static str, u64> {
        let mut table: BTreeMap<_, _> = EXPECTED.into_iter().map(|what| (what, 0)).collect();
        table.extend(&self.counts);
        table
    }

    /// What is expected but was not seen.
    pub fn missing(&self) -> Vec<&'static str> {
        EXPECTED.into_iter().filter(|what| self.of(what) == 0).collect()
    }
}
