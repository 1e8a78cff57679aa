//! Whole deploys on simulated traffic: how often a healthy release is rolled back, and how often a bad one is caught.
//!
//! Everything is drawn from seeds, so a number here is the same each time.

use std::collections::BTreeMap;

use super::{
    gate::Tally,
    tests::{WALL, deploy, seen},
    *,
};
use crate::{
    link::{Counters, InstanceCounters, ServiceCounters},
    status::Health,
    time::Moment,
};

/// The generator `SplitMix64` (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// True for `of` in a million.
    fn hits(&mut self, of: u64) -> bool {
        self.next() % 1_000_000 < of
    }
}

/// How instances answer.
#[derive(Clone, Copy)]
struct App {
    /// Failures in a million requests that may be repeated.
    repeatable: u64,
    /// And of those that may not.
    others: u64,
    /// Answers in a million that take long.
    slow: u64,
    /// For so long after its start every answer takes long.
    cold_s: u64,
}

const WELL: App = App { repeatable: 0, others: 0, slow: 0, cold_s: 0 };

/// What everybody asks for.
#[derive(Clone, Copy)]
struct Traffic {
    /// Requests in each quarter of a second.
    requests: u64,
    /// How many in a million may be repeated.
    repeatable: u64,
}

/// Buckets of an ordinary answer and of a slow one.
const QUICK: usize = 4;
const LONG: usize = 13;

/// Deploys a release onto `replicas` instances and returns how that ended and after how many seconds.
fn run(random: &mut Random, replicas: u32, traffic: Traffic, old: App, new: App) -> (Phase, u64) {
    let mut control = Control::new(deploy());
    let mut tallies: BTreeMap<u32, Tally> = BTreeMap::new();
    let mut instances: Vec<(u32, bool, u64)> = (1..=replicas).map(|number| (number, false, 0)).collect();
    instances.push((replicas + 1, true, 0));
    for quarter in 0..4 * 600 {
        let now = Moment::from_millis(quarter * 250);
        let trial =
            instances.iter().copied().find(|(number, new, _)| *new && control.on_trial(&seen(*number, true).id));
        let sheltered = trial.is_some_and(|(number, ..)| control.is_sheltered(&seen(number, true).id));
        let others: Vec<_> = instances.iter().copied().filter(|one| trial != Some(*one)).collect();
        for _ in 0..traffic.requests {
            let repeatable = random.hits(traffic.repeatable);
            let its = trial.filter(|_| (repeatable || !sheltered) && random.hits(100_000));
            let other = usize::try_from(random.next() % others.len() as u64).unwrap();
            let (number, is_new, since) = its.unwrap_or(others[other]);
            let app = if is_new { new } else { old };
            let bad = random.hits(if repeatable { app.repeatable } else { app.others });
            let long = random.hits(app.slow) || quarter < since + app.cold_s * 4;
            let tally = tallies.entry(number).or_default();
            tally.tries += 1;
            *(if bad { &mut tally.refused } else { &mut tally.good }) += 1;
            tally.failed += u64::from(bad && its.is_some());
            tally.latency[if long { LONG } else { QUICK }] += 1;
        }
        control.counted(&counters(&tallies));
        let world = World {
            instances: instances.iter().map(|(number, new, _)| seen(*number, *new)).collect(),
            wanted: replicas,
            revision: 6,
            release: 3,
            ..World::default()
        };
        let outputs = control.step(&world, now, WALL);
        if !matches!(control.deploy().phase, Phase::Rolling) {
            return (control.deploy().phase.clone(), quarter / 4);
        }
        if outputs.iter().any(|output| matches!(output, Output::Note(note) if note.kind == "trial-passed")) {
            let old = instances.iter().position(|(_, new, _)| !new).expect("one is left as long as it is not done");
            instances.remove(old);
            if instances.iter().any(|(_, new, _)| !new) {
                let number = instances.iter().map(|(number, ..)| number).max().unwrap() + 1;
                instances.push((number, true, quarter));
            }
        }
    }
    panic!("a deploy ends");
}

fn counters(tallies: &BTreeMap<u32, Tally>) -> Counters {
    let of = |(number, tally): (&u32, &Tally)| InstanceCounters {
        id: seen(*number, true).id,
        health: Health::Healthy,
        in_flight: 0,
        tries: tally.tries,
        failures: tally.failed,
        responses: [0, tally.good, 0, 0, tally.refused],
        latency_sum_us: 0,
        latency: tally.latency,
    };
    let instances = tallies.iter().map(of).collect();
    let shop = ServiceCounters { name: "shop".to_owned(), instances, ..ServiceCounters::default() };
    Counters { pid: 1, services: vec![shop], ..Counters::default() }
}

/// How many of so many deploys were rolled back.
fn rolled_back(seed: u64, deploys: u64, replicas: u32, traffic: Traffic, old: App, new: App) -> u64 {
    let mut random = Random(seed);
    let ends = (0..deploys).map(|_| run(&mut random, replicas, traffic, old, new).0);
    ends.filter(|end| *end == Phase::RollingBack).count().try_into().unwrap()
}

#[test]
fn a_healthy_release_is_not_rolled_back() {
    let failing = |of| App { repeatable: of, others: of, ..WELL };
    let mut deploys = 0;
    let mut wrong = Vec::new();
    for (seed, app) in (1..).zip([failing(10_000), failing(30_000), failing(50_000), failing(200_000)]) {
        for requests in [2, 10, 60] {
            let traffic = Traffic { requests, repeatable: 900_000 };
            let n = 1_500 / requests;
            deploys += n;
            wrong.push(rolled_back(seed, n, 3, traffic, app, app));
        }
    }
    assert!(deploys > 3_000);
    assert!(wrong.iter().sum::<u64>() * 1000 < deploys, "{wrong:?} of {deploys}");
}

#[test]
fn a_healthy_release_is_not_rolled_back_for_the_kind_of_its_requests_or_their_latency() {
    // What may be repeated fails often, and is a small part; one answer in twenty takes long, which is just where a 95th
    // percentile lies.
    let mixed = App { repeatable: 100_000, others: 0, slow: 50_000, cold_s: 0 };
    for repeatable in [0, 100_000, 500_000] {
        assert_eq!(rolled_back(5, 100, 2, Traffic { requests: 40, repeatable }, mixed, mixed), 0, "{repeatable}");
    }
}

#[test]
fn a_cold_start_is_waited_for() {
    let traffic = Traffic { requests: 50, repeatable: 900_000 };
    let cold = App { cold_s: 15, ..WELL };
    let (end, took_s) = run(&mut Random(6), 2, traffic, WELL, cold);
    assert_eq!(end, Phase::Done);
    assert!(took_s < 60, "{took_s} s");
    let always = App { slow: 200_000, ..WELL };
    let (end, took_s) = run(&mut Random(6), 2, traffic, WELL, always);
    assert_eq!(end, Phase::RollingBack);
    assert!(took_s <= 31, "{took_s} s");
}

#[test]
fn a_bad_release_is_caught() {
    let failing = |of| App { repeatable: of, others: of, ..WELL };
    let only_others = App { others: 500_000, ..WELL };
    for (name, requests, repeatable, old, new, at_least) in [
        ("three of a hundred fail", 50, 900_000, WELL, failing(30_000), 95),
        ("three of a hundred in place of one in two hundred", 100, 900_000, failing(5_000), failing(30_000), 90),
        ("half of them, with little traffic", 5, 900_000, WELL, failing(500_000), 99),
        ("only what may not be repeated", 20, 500_000, WELL, only_others, 99),
        ("nothing may be repeated", 20, 0, WELL, failing(500_000), 99),
    ] {
        let caught = rolled_back(7, 100, 2, Traffic { requests, repeatable }, old, new);
        assert!(caught >= at_least, "{name}: {caught} of 100");
    }
}
