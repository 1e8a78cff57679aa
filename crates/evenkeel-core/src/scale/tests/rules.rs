//! One rule each.

use std::time::Duration;

use super::model::{elastic, windows};
use crate::{
    scale::{Decision, Kind, Observation, Reading, Scaler},
    stack::Elastic,
    time::Moment,
};

fn seen(ready: u32, in_flight: f64) -> Observation {
    Observation {
        ready,
        drained: 0,
        failing: 0,
        busy: Some(in_flight > 0.0),
        in_flight: Reading::Known(in_flight),
        cpu_percent: Reading::Known(0.0),
        p99_ms: Reading::Idle,
        p99_requests: 0,
        backlog: Reading::Known(0.0),
    }
}

/// A controller and its clock.
struct Bench {
    scaler: Scaler,
    settings: Elastic,
    now: Moment,
}

impl Bench {
    fn new(settings: Elastic, wanted: u32) -> Self {
        let now = Moment::from_millis(1_000_000);
        Self { scaler: Scaler::new(wanted, now), settings, now }
    }

    /// The same for so many seconds; every decision is taken.
    fn same(&mut self, seen: &Observation, seconds: u32) -> Vec<Decision> {
        let mut decisions = Vec::new();
        for _ in 0..seconds {
            self.now = self.now + Duration::from_secs(1);
            if let Some(decision) = self.scaler.on(&self.settings, seen, self.now) {
                self.scaler.take(&decision, self.now);
                decisions.push(decision);
            }
        }
        decisions
    }
}

fn texts(decision: &Decision) -> String {
    decision.reasons.iter().map(|reason| reason.text.as_str()).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_drained_instance_bears_nothing_and_is_added_once() {
    for target in ["concurrency = 10", "p99 = \"200ms\""] {
        let drained = |ready, in_flight| Observation { drained: 1, ..seen(ready, in_flight) };
        let settings = toml::from_str(&format!("min = 1\nmax = 8\ntarget = {{ {target} }}")).unwrap();
        let mut bench = Bench::new(settings, 2);
        // 15 in flight are for two, and one of the two that there are gets nothing.
        let load = Observation { p99_ms: Reading::Known(300.0), p99_requests: 1000, ..drained(2, 15.0) };
        let up = bench.same(&load, 60);
        assert_eq!(up.first().map(|decision| decision.to), Some(3), "{target}: {up:?}");
        assert!(texts(&up[0]).contains("beside 1 drained"), "{}", texts(&up[0]));
        let enough = Observation { p99_ms: Reading::Known(150.0), p99_requests: 1000, ..drained(3, 15.0) };
        assert_eq!(bench.same(&enough, 60).len(), 0, "{target}: it is added once, not at each look");
    }
    let mut bench = Bench::new(elastic(0, 8, 10), 1);
    let idle = bench.same(&Observation { drained: 1, ..seen(1, 0.0) }, 1200);
    assert_eq!(idle.last().map(|decision| decision.to), Some(0), "for its own sake nobody is kept");
}

#[test]
fn more_must_be_needed_without_a_break() {
    let mut bench = Bench::new(elastic(1, 8, 10), 1);
    for _ in 0..10 {
        assert_eq!(bench.same(&seen(1, 30.0), 3), []);
        assert_eq!(bench.same(&seen(1, 5.0), 1), []);
    }
    assert_eq!(bench.same(&seen(1, 30.0), 4)[0].to, 3);
}

#[test]
fn within_the_tolerance_nothing_changes() {
    let mut bench = Bench::new(windows(elastic(1, 8, 10), 3, 10), 4);
    assert_eq!(bench.same(&seen(4, 43.9), 60), []);
    assert_eq!(bench.same(&seen(4, 36.1), 60), []);
    assert_eq!(bench.same(&seen(4, 44.2), 4)[0].to, 5);
}

#[test]
fn a_load_that_is_not_known_never_makes_a_service_smaller() {
    let settings: Elastic =
        toml::from_str("min = 1\nmax = 8\ntarget = { concurrency = 10, cpu_percent = 50 }\ndown_after = \"10s\"")
            .unwrap();
    let mut bench = Bench::new(settings, 4);
    let blind = Observation { cpu_percent: Reading::Unknown("a reason".to_owned()), ..seen(4, 10.0) };
    let decisions = bench.same(&blind, 120);
    assert_eq!(decisions.len(), 1, "said once: {decisions:#?}");
    assert_eq!((decisions[0].kind, decisions[0].to), (Kind::Limited, 4));
    assert!(texts(&decisions[0]).starts_with("processor time: not known, a reason"), "{}", texts(&decisions[0]));
    // What is known may still ask for more.
    let busier = Observation { in_flight: Reading::Known(70.0), ..blind };
    assert_eq!(bench.same(&busier, 5)[0].to, 7);
    let known = bench.same(&seen(7, 10.0), 40);
    assert!(known.iter().all(|decision| decision.kind == Kind::Down) && !known.is_empty());
}

#[test]
fn the_target_that_asks_for_most_decides() {
    let settings: Elastic =
        toml::from_str("min = 1\nmax = 8\ntarget = { concurrency = 10, backlog = { url = \"http://q/\", each = 5 } }")
            .unwrap();
    let mut bench = Bench::new(settings, 1);
    let decision = bench.same(&Observation { backlog: Reading::Known(18.0), ..seen(1, 20.0) }, 4).remove(0);
    assert_eq!(decision.to, 4);
    let reasons = texts(&decision);
    assert!(reasons.starts_with("18 waiting entries, 5 for each instance, asks for 4"), "{reasons}");
    assert!(reasons.contains("20 requests in flight, 10 for each instance, asks for 2"), "{reasons}");
    assert!(reasons.contains("the target that asks for most decides"), "{reasons}");
}

#[test]
fn the_first_request_starts_one_at_once_and_requests_between_two_looks_keep_it() {
    let mut bench = Bench::new(windows(elastic(0, 5, 10), 3, 30), 0);
    assert_eq!(bench.same(&seen(0, 0.0), 60), []);
    let first = bench.same(&Observation { busy: Some(true), ..seen(0, 0.0) }, 1);
    assert_eq!((first[0].kind, first[0].to), (Kind::Up, 1));
    // Nothing is in flight at any look, but somebody asks now and then.
    for _ in 0..5 {
        assert_eq!(bench.same(&seen(1, 0.0), 25), []);
        assert_eq!(bench.same(&Observation { busy: Some(true), ..seen(1, 0.0) }, 1), []);
    }
    assert_eq!(bench.same(&seen(1, 0.0), 32)[0].to, 0);
}

#[test]
fn a_service_that_nobody_hears_of_does_not_go_to_zero() {
    let mut bench = Bench::new(windows(elastic(0, 5, 10), 3, 10), 1);
    let deaf = Observation { busy: None, in_flight: Reading::Unknown("silence".to_owned()), ..seen(1, 0.0) };
    assert!(bench.same(&deaf, 60).iter().all(|decision| decision.kind == Kind::Limited));
    assert_eq!(bench.scaler.wanted(), 1);
}

#[test]
fn more_of_what_does_not_start_help_nobody() {
    let mut bench = Bench::new(elastic(1, 8, 10), 2);
    let broken = Observation { failing: 2, ..seen(0, 60.0) };
    let decisions = bench.same(&broken, 60);
    assert_eq!(decisions.len(), 1);
    assert!(decisions[0].message.contains("none gets ready"), "{decisions:#?}");
    assert_eq!(bench.same(&seen(1, 60.0), 4)[0].to, 6);
}

#[test]
fn other_bounds_hold_at_once_and_other_windows_begin_anew() {
    let mut bench = Bench::new(elastic(1, 8, 10), 6);
    bench.same(&seen(6, 60.0), 10);
    bench.settings = elastic(1, 4, 10);
    let decision = bench.same(&seen(6, 60.0), 1).remove(0);
    assert_eq!((decision.kind, decision.to), (Kind::Down, 4));
    assert!(texts(&decision).contains("`replicas` is from 1 to 4 now"));
    bench.settings = elastic(5, 8, 10);
    assert_eq!(bench.same(&seen(4, 40.0), 1)[0].to, 5);
}

#[test]
fn what_was_needed_while_nobody_looked_is_not_guessed() {
    let mut bench = Bench::new(windows(elastic(1, 8, 10), 3, 60), 4);
    bench.same(&seen(4, 5.0), 50);
    bench.now = bench.now + Duration::from_mins(10);
    assert_eq!(bench.same(&seen(4, 5.0), 60), [], "the window begins anew after a pause");
    assert_eq!(bench.same(&seen(4, 5.0), 2)[0].to, 3);
}

#[test]
fn a_decision_that_is_not_taken_is_made_again() {
    let mut bench = Bench::new(elastic(1, 8, 10), 1);
    let decide = |bench: &mut Bench| {
        bench.now = bench.now + Duration::from_secs(1);
        bench.scaler.on(&bench.settings, &seen(1, 30.0), bench.now)
    };
    let said: Vec<Decision> = (0..10).filter_map(|_| decide(&mut bench)).collect();
    assert!(said.len() >= 6 && said.iter().all(|decision| decision.to == 3));
    assert_eq!(bench.scaler.wanted(), 1);
}

#[test]
fn latency_is_judged_neither_too_soon_nor_by_too_little() {
    let settings: Elastic = toml::from_str("min = 1\nmax = 8\ntarget = { p99 = \"100ms\" }").unwrap();
    let mut bench = Bench::new(settings, 2);
    let slow = |requests| Observation {
        p99_ms: Reading::Known(900.0),
        p99_requests: requests,
        busy: Some(true),
        ..seen(2, 3.0)
    };
    assert_eq!(bench.same(&slow(7), 60), [], "seven requests prove nothing");
    assert_eq!(bench.same(&slow(500), 4)[0].to, 3, "half as many more at most");
    let starting = Observation { ready: 2, ..slow(500) };
    assert_eq!(bench.same(&starting, 60), [], "what was asked for is not ready yet");
}
