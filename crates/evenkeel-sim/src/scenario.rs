//! Scenarios: what a seed asks for.
//!
//! A seed draws the service's settings, the load, and at least five faults. Faults come after the world had time
//! to come up and are over by [`Scenario::calm_at`]; then nothing is done until [`Scenario::ends_at`], so that
//! what should recover has recovered. Settings are drawn where rules differ by them and otherwise as in production.

use std::time::Duration;

use evenkeel_core::{
    snapshot::{Answers, Balance, Check, Choice, Ejection, Hold, Probe, Retry, Service, ServiceLimits, Wire},
    stack::{self, Elastic, Target},
    supervise::Policy,
    time::Moment,
};

use crate::{
    fault::{Change, Fault},
    rng::Rng,
};

/// When the first fault may strike.
const FIRST_FAULT_MS: u64 = 8_000;
/// When the last fault has struck.
const LAST_FAULT_MS: u64 = 40_000;
/// When operators fix the number of an elastic service, after the last fault.
const ORDERS_OVER: Duration = Duration::from_secs(18);
/// How long everything may take to recover.
const SETTLE: Duration = Duration::from_secs(45);

/// What a seed asks for.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Where it came from.
    pub seed: u64,
    /// The service as the edge is told; without its instances.
    pub service: Service,
    /// The service as supervisors are told.
    pub policy: Policy,
    /// Instances wanted at first.
    pub replicas: u32,
    /// Elastic scaling, where the service has it.
    pub elastic: Option<Elastic>,
    /// Mean time between two requests.
    pub every: Duration,
    /// Another mean time from a moment on; by moment.
    pub waves: Vec<(Moment, Duration)>,
    /// Faults by moment.
    pub faults: Vec<(Moment, Fault)>,
    /// When all faults are over.
    pub calm_at: Moment,
    /// Whether an operator then tries again what gave up.
    pub try_again: bool,
    /// When the run ends.
    pub ends_at: Moment,
    /// Bounds are so narrow that requests may fail by them although an instance is well.
    pub narrow: bool,
    /// The edge may ask the kernel whether a process is stopped; else it probes whoever is silent.
    pub kernel_tells: bool,
}

impl Scenario {
    /// The scenario of this seed.
    pub fn draw(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let narrow = rng.chance(12);
        let policy = draw_policy(&mut rng);
        let service = draw_service(&mut rng, narrow);
        let replicas = u32::try_from(rng.between(1, 4)).expect("at most 4");
        let every = rng.millis(15, 80);
        let mut faults = draw_faults(&mut rng);
        // Drawn from a sequence of its own, so that a seed without a pause is what it would be if there were none.
        draw_pauses(&mut Rng::new(seed ^ 0x9a05_e000), &mut faults);
        let last_over = faults.iter().map(|(at, fault)| *at + fault.lasts()).max();
        let calm_at = last_over.unwrap_or_default() + Duration::from_millis(100);
        let try_again = rng.chance(50);
        // Drawn from a sequence of its own, so that a seed without it is what it would be if there were no such thing.
        let mut own = Rng::new(seed ^ 0xe1a5_71c5);
        let elastic = own.chance(30).then(|| draw_elastic(&mut own));
        let waves = if elastic.is_some() { draw_waves(&mut own, calm_at) } else { Vec::new() };
        if elastic.is_some() {
            give_orders(&mut faults, calm_at);
        }
        let replicas = elastic.as_ref().map_or(replicas, |elastic| replicas.clamp(elastic.min, elastic.max));
        Self {
            seed,
            service,
            policy,
            replicas,
            elastic,
            every,
            waves,
            faults,
            calm_at,
            try_again,
            ends_at: calm_at + SETTLE,
            narrow,
            kernel_tells: Rng::new(seed ^ 0x57a7_e000).chance(50),
        }
    }

    /// The mean time between two requests at this moment.
    pub fn every_at(&self, now: Moment) -> Duration {
        let wave = self.waves.iter().rev().find(|(from, _)| *from <= now);
        wave.map_or(self.every, |(_, every)| *every)
    }
}

/// Operators pause some services for some time.
fn draw_pauses(rng: &mut Rng, faults: &mut Vec<(Moment, Fault)>) {
    if !rng.chance(20) {
        return;
    }
    for _ in 0..rng.between(1, 2) {
        let at = Moment::ORIGIN + rng.millis(FIRST_FAULT_MS, LAST_FAULT_MS);
        faults.push((at, Fault::Change(Change::Pause(rng.millis(500, 8_000)))));
    }
    faults.sort_by_key(|(at, _)| *at);
}

fn draw_elastic(rng: &mut Rng) -> Elastic {
    let min = rng.between(1, 2);
    let max = rng.between(min + 1, 5);
    let count = |n: u64| u32::try_from(n).expect("at most 5");
    Elastic {
        min: count(min),
        max: count(max),
        target: Target { concurrency: Some(rng.pick(&[1, 2, 4])), ..Target::default() },
        up_after: stack::Duration::s(rng.between(1, 3)),
        down_after: stack::Duration::s(rng.between(4, 12)),
    }
}

/// Load comes and goes, and is at rest once the faults are over.
fn draw_waves(rng: &mut Rng, calm_at: Moment) -> Vec<(Moment, Duration)> {
    let mut waves = Vec::new();
    let mut at = Moment::from_millis(rng.between(4_000, 9_000));
    while at < calm_at {
        let (quickest, slowest) = rng.pick(&[(1, 3), (2, 6), (20, 80)]);
        waves.push((at, rng.millis(quickest, slowest)));
        at = at + rng.millis(4_000, 16_000);
    }
    waves.push((calm_at, rng.millis(15, 80)));
    waves
}

/// What operators order of an elastic service: they fix the number, let it go and restart it in turn. In the end they
/// fix it, so that what should settle can.
fn give_orders(faults: &mut Vec<(Moment, Fault)>, calm_at: Moment) {
    let orders = faults.iter_mut().filter(|(_, fault)| matches!(fault, Fault::Change(Change::Scale(_))));
    for (at, (_, fault)) in orders.enumerate() {
        match at % 3 {
            1 => *fault = Fault::Change(Change::Auto),
            2 => *fault = Fault::Change(Change::Restart),
            _ => {}
        }
    }
    faults.push((calm_at + ORDERS_OVER, Fault::Change(Change::Scale(2))));
}

fn draw_faults(rng: &mut Rng) -> Vec<(Moment, Fault)> {
    let count = rng.between(5, 16);
    let mut faults: Vec<(Moment, Fault)> = (0..count)
        .map(|_| {
            let at = Moment::ORIGIN + rng.millis(FIRST_FAULT_MS, LAST_FAULT_MS);
            (at, Fault::draw(rng))
        })
        .collect();
    // Faults that strike together find more than faults that strike alone: some are moved next to another one.
    for at in 1..faults.len() {
        if rng.chance(40) {
            faults[at].0 = faults[at - 1].0 + rng.millis(0, 1_500);
        }
    }
    faults.sort_by_key(|(at, _)| *at);
    faults
}

fn draw_policy(rng: &mut Rng) -> Policy {
    Policy {
        start_timeout: rng.millis(3_000, 6_000),
        drain: rng.millis(1_000, 3_000),
        grace: rng.millis(300, 1_000),
        liveness_after: rng.pick(&[None, Some(2_000), Some(3_000)]).map(Duration::from_millis),
        delay: Duration::from_millis(100),
        max_delay: rng.millis(800, 3_000),
        reset: rng.millis(3_000, 8_000),
        attempts: rng.pick(&[3, 4, 6]),
        ..Policy::default()
    }
}

fn draw_service(rng: &mut Rng, narrow: bool) -> Service {
    let check = |path: &str, interval_ms, fall| Check {
        probe: Probe::Http { path: path.to_owned(), host: None, status: (200, 399) },
        interval_ms,
        timeout_ms: interval_ms,
        rise: 2,
        fall,
    };
    Service {
        name: "shop".to_owned(),
        balance: rng.pick(&[
            Balance::RoundRobin,
            Balance::WeightedRoundRobin,
            Balance::LeastConnections,
            Balance::IpHash,
            Balance::Random,
            Balance::PowerOfTwo,
            Balance::Maglev,
            Balance::ConsistentHash,
        ]),
        check: Some(check("/healthz", rng.pick(&[500, 1_000]), rng.pick(&[2, 3]))),
        liveness: Some(check("/livez", 500, 1)),
        ejection: Ejection {
            consecutive: rng.pick(&[0, 3, 5]),
            percent: rng.pick(&[0, 50]),
            min_requests: rng.pick(&[10, 20]),
            window_ms: 10_000,
            base_ms: rng.pick(&[1_000, 2_000, 5_000]),
            max_ms: 8_000,
            max_percent: rng.pick(&[30, 50, 100]),
            count_5xx: rng.chance(50),
        },
        retry: draw_retry(rng, narrow),
        hold: Hold { max_ms: rng.pick(&[0, 500, 3_000, 10_000]), max_requests: rng.pick(&[10, 1_000]) },
        limits: ServiceLimits {
            connect_timeout_ms: 1_000,
            response_timeout_ms: if narrow { 1_500 } else { 10_000 },
            idle_timeout_ms: 60_000,
            tunnel_idle_ms: 3_600_000,
            in_flight_per_instance: 0,
            head_bytes: 65_536,
            whole_bytes: 65_536,
            silent_after_ms: rng.pick(&[100, 250, 400]),
            idle_connections: 128,
        },
        fallback: None,
        prefer: None,
        away: false,
        observe: false,
        page: None,
        choice: Choice::default(),
        wire: Wire::default(),
        answers: Answers::default(),
        instances: Vec::new(),
    }
}

fn draw_retry(rng: &mut Rng, narrow: bool) -> Retry {
    if narrow {
        return Retry {
            max: u8::try_from(rng.between(0, 1)).expect("at most 1"),
            budget_percent: rng.pick(&[0, 5]),
            budget_min_per_s: 0,
            try_timeout_ms: 0,
            hedge_after_ms: 0,
        };
    }
    Retry { max: 8, budget_percent: 20, budget_min_per_s: 50, try_timeout_ms: 0, hedge_after_ms: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_enough_and_faulty_enough() {
        for seed in 0..500 {
            let scenario = Scenario::draw(seed);
            assert!(scenario.ends_at >= Moment::from_millis(60_000));
            assert!(scenario.faults.len() >= 5);
            let over = |(at, fault): &(Moment, Fault)| *at + fault.lasts() < scenario.calm_at;
            let harm = scenario.faults.iter().filter(|(_, fault)| !matches!(fault, Fault::Change(Change::Scale(_))));
            assert!(harm.copied().all(|fault| over(&fault)));
        }
    }
}
