//! What a controller is shown: instances as the rollout sees them, and the load as the edge, the kernel and a queue
//! tell it.
//!
//! Requests in flight come about four times a second and are averaged over the time between two looks. What is not
//! known is said to be unknown, with the cause; nothing is guessed.

use std::time::Duration;

use evenkeel_core::{
    rollout::State,
    scale::{Observation, Reading},
    status::Phase,
    time::Moment,
};

use super::{super::Node, super::slot::Slot};

/// Counters that are older say nothing about now.
const STALE: Duration = Duration::from_secs(3);

/// Requests in flight since the last look.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    sum: f64,
    samples: u32,
    /// The average before, which holds while no new counters come.
    before: f64,
    /// Whether anybody was there at any sample.
    anybody: bool,
    /// Requests that were over at the last look.
    over: Option<u64>,
}

impl Gauge {
    fn take(&mut self, in_flight: u64) {
        self.sum += crate::traffic::as_f64(in_flight);
        self.samples += 1;
        self.anybody |= in_flight > 0;
    }

    /// The average and whether anybody asked since the last look; begins anew.
    fn read(&mut self, over: u64) -> (f64, bool) {
        let average = if self.samples == 0 { self.before } else { self.sum / f64::from(self.samples) };
        let asked = average > 0.0 || self.anybody || self.over.is_some_and(|before| over > before);
        *self = Self { over: Some(over), before: average, ..Self::default() };
        (average, asked)
    }
}

impl Node {
    /// Takes the newest counters into every gauge.
    pub(super) fn gauge_all(&mut self) {
        for (name, controlled) in &mut self.scaling.services {
            let counters = self.traffic.newest().services.iter().find(|counters| counters.name == *name);
            let in_flight = counters.map_or(0, |counters| {
                counters.holding + counters.instances.iter().map(|instance| instance.in_flight).sum::<u64>()
            });
            controlled.gauge.take(in_flight);
        }
    }

    /// A service as it is now.
    pub(super) fn observe_load(&mut self, name: &str, now: Moment) -> Observation {
        let mut ready = 0;
        let mut drained = 0;
        let mut failing = 0;
        let mut pids = Vec::new();
        for slot in self.staying(name) {
            // One that an operator drains holds its place as one that is ready does, and bears nothing.
            let state = slot.observed().state;
            let is_ready = matches!(state, State::Ready | State::Drained);
            ready += u32::from(is_ready);
            drained += u32::from(state == State::Drained);
            failing += u32::from(!is_ready && has_failed(slot));
            pids.extend(slot.pid.map(|pid| (slot.key(), pid)));
        }
        let (over, rates) = (self.traffic.requests_over(name), self.traffic.rates(name, now));
        let deaf = self.deaf(now);
        let measures_cpu = self.revision.stack.services.get(name).and_then(|service| service.replicas.elastic());
        let measures_cpu = measures_cpu.is_some_and(|elastic| elastic.target.cpu_percent.is_some());
        let controlled = self.scaling.services.get_mut(name).expect("only a service that is controlled is observed");
        let heard = |reading: Reading| deaf.clone().map_or(reading, Reading::Unknown);
        let (in_flight, asked) = if deaf.is_none() { controlled.gauge.read(over) } else { (0.0, false) };
        let backlog = controlled.asker.as_ref().map_or(Reading::Idle, super::Asker::newest);
        // Who works off a queue is asked for by what waits in it.
        let waits = matches!(backlog, Reading::Known(waiting) if waiting > 0.0);
        Observation {
            ready,
            drained,
            failing,
            busy: (deaf.is_none() || waits).then_some(asked || waits),
            in_flight: heard(Reading::Known(in_flight)),
            cpu_percent: if measures_cpu { controlled.meter.read(&pids, now) } else { Reading::Idle },
            p99_ms: heard(rates.p99_ms.map_or(Reading::Idle, Reading::Known)),
            p99_requests: rates.measured,
            backlog,
        }
    }

    /// Instances of a service that are not being stopped.
    pub(in crate::node) fn staying(&self, name: &str) -> impl Iterator<Item = &Slot> {
        self.slots_of(name).filter(|slot| slot.observed().state != State::Leaving)
    }

    /// Why nothing is known of requests; `None` where it is.
    fn deaf(&self, now: Moment) -> Option<String> {
        match self.traffic.heard() {
            None => Some("nothing was heard from the edge yet".to_owned()),
            Some(heard) if now.since(heard) > STALE => {
                Some(format!("nothing was heard from the edge for {} s", now.since(heard).as_secs()))
            }
            Some(_) => None,
        }
    }
}

/// Whether it has tried to start and failed.
fn has_failed(slot: &Slot) -> bool {
    slot.supervisor.phase() == Phase::GaveUp || slot.supervisor.memory().fruitless > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_averages_and_notices_whoever_came_between_two_looks() {
        let mut gauge = Gauge::default();
        gauge.take(4);
        gauge.take(0);
        assert_eq!(gauge.read(10), (2.0, true));
        assert_eq!(gauge.read(10), (2.0, true), "nothing new came");
        gauge.take(0);
        assert_eq!(gauge.read(10), (0.0, false));
        gauge.take(0);
        assert_eq!(gauge.read(11), (0.0, true), "a request came and was over between two samples");
    }
}
