//! One instance of a service that is run: its supervision and what is known of its process.

use std::{sync::Arc, time::Duration};

use evenkeel_core::{
    rollout::{self, State},
    snapshot::Duty,
    stack::Service,
    status::{Health, InstanceId, Phase},
    supervise::{Policy, Supervisor},
    time::WallTime,
};

use crate::{launch::Launch, state_dir::Record};

/// Ends the digest of an instance that is to be replaced although its specification is the one in force.
const STALE: &str = "-stale";

/// An instance.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) service: String,
    pub(super) number: u32,
    pub(super) launch: Arc<Launch>,
    /// The revision that `launch` stems from.
    pub(super) revision: u64,
    pub(super) port: u16,
    pub(super) supervisor: Supervisor,
    pub(super) pid: Option<u32>,
    pub(super) started: Option<WallTime>,
    pub(super) last_exit: Option<String>,
    pub(super) verdict: Verdict,
    /// What kept its check from passing last, since its start.
    pub(super) check_saw: String,
    /// Whether its liveness check fails, as far as the journal has said.
    pub(super) not_live: bool,
    /// Whether it was taken over from a former node process and the edge has said nothing of it yet.
    pub(super) adopted: bool,
    /// The first snapshot in which it drains.
    pub(super) drained_from: Option<u64>,
    /// Whether an operator drains it.
    pub(super) drained: bool,
}

/// What the edge thinks of an instance.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Verdict {
    pub(super) health: Health,
    pub(super) reason: String,
    pub(super) in_flight: u64,
}

impl Slot {
    /// `shop/1`.
    pub(super) fn name(&self) -> String {
        format!("{}/{}", self.service, self.number)
    }

    pub(super) fn id(&self) -> InstanceId {
        InstanceId { name: self.name(), generation: self.supervisor.memory().generation }
    }

    /// The guard's name for its process.
    pub(super) fn key(&self) -> String {
        self.id().to_string()
    }

    /// What the edge should do with it; `None`: nothing, there is no process.
    pub(super) fn duty(&self) -> Option<Duty> {
        match self.supervisor.phase() {
            Phase::Waiting | Phase::GaveUp => None,
            Phase::Starting | Phase::Running if !self.supervisor.is_doomed() && !self.drained => Some(Duty::Serve),
            Phase::Starting | Phase::Running | Phase::Draining | Phase::Stopping => Some(Duty::Drain),
        }
    }

    /// As a rollout sees it. Only what is healthy now counts as ready, so that a revision whose instances get
    /// ready and then fail does not spread.
    pub(super) fn observed(&self) -> rollout::Observed {
        let state = match self.supervisor.phase() {
            Phase::Running if self.drained => State::Drained,
            Phase::Running if self.supervisor.is_healthy() => State::Ready,
            Phase::Waiting | Phase::Starting | Phase::Running => State::Starting,
            Phase::Draining | Phase::Stopping => State::Leaving,
            Phase::GaveUp => State::GaveUp,
        };
        rollout::Observed { number: self.number, digest: self.launch.digest.clone(), state }
    }

    /// Whether it is not being stopped for good.
    pub(super) fn is_staying(&self) -> bool {
        !matches!(self.supervisor.phase(), Phase::Draining | Phase::Stopping)
    }

    /// Makes it one of a former specification, so that the rollout replaces it although nothing changed.
    pub(super) fn make_stale(&mut self) {
        if !self.launch.digest.ends_with(STALE) {
            let digest = format!("{}{STALE}", self.launch.digest);
            self.launch = Arc::new((*self.launch).clone().known_as(&digest));
        }
    }

    /// What a successor of this process must know. `start_due`: when its delayed start is due.
    pub(super) fn record(&self, active: bool, start_due: Option<WallTime>) -> Record {
        let memory = self.supervisor.memory();
        Record {
            service: self.service.clone(),
            number: self.number,
            active,
            generation: memory.generation,
            port: self.port,
            digest: self.launch.digest.clone(),
            revision: self.revision,
            restarts: memory.restarts,
            exits: memory.exits,
            fruitless: memory.fruitless,
            ready: memory.ready,
            leaving: memory.leaving.clone(),
            gave_up: memory.gave_up,
            last_exit: self.last_exit.clone(),
            start_due,
        }
    }
}

/// The settings of a service that supervision needs.
pub(super) fn policy(service: &Service) -> Policy {
    let ms = |duration: evenkeel_core::stack::Duration| Duration::from_millis(duration.as_ms());
    Policy {
        start_timeout: ms(service.start_timeout),
        drain: ms(service.stop.drain),
        grace: ms(service.stop.grace),
        liveness_after: service.liveness.as_ref().map(|liveness| ms(liveness.after)),
        delay: ms(service.restart.delay),
        max_delay: ms(service.restart.max_delay),
        reset: ms(service.restart.reset),
        attempts: service.restart.attempts.max(1),
        ..Policy::default()
    }
}

/// `shop`, 1 and 4 of `shop/1#4`.
pub(super) fn parse_key(key: &str) -> Option<(&str, u32, u64)> {
    let (name, generation) = key.rsplit_once('#')?;
    let (service, number) = name.rsplit_once('/')?;
    Some((service, number.parse().ok()?, generation.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back() {
        assert_eq!(parse_key("shop/1#4"), Some(("shop", 1, 4)));
        for wrong in ["shop/1", "shop#4", "shop/x#4", "shop/1#", "listener/web/0"] {
            assert_eq!(parse_key(wrong), None, "{wrong}");
        }
    }
}
