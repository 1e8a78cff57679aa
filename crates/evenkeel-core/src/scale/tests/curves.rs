//! Load curves: what they cost in instances, and how soon there are enough.

use super::model::{World, elastic, windows};

const CURVE_STEP_S: u64 = 60;

#[test]
fn a_step_is_followed_within_its_bound_and_left_slowly() {
    let mut world = World::new(elastic(1, 12, 10), 5.0);
    world.run(CURVE_STEP_S + 540, |at, _| if at < 60.0 { 50.0 } else { 900.0 });
    let enough = world.enough_at(60).expect("there are enough in the end") - 60;
    // Up to 5 at once, then double: two steps, each with its window and its starts.
    assert!(enough <= 3 + 5 + 15 + 5 + 2, "it took {enough} s");
    world.run(600, |_, _| 50.0);
    assert_eq!(world.seconds.last().unwrap().wanted, 1);
    insta::assert_snapshot!(world.transcript(true));
}

#[test]
fn a_ramp_is_followed_all_the_way() {
    let mut world = World::new(elastic(2, 12, 10), 5.0);
    world.run(900, |at, _| 50.0 + at.min(600.0) * 1.5);
    let behind = world.seconds.iter().filter(|second| second.ready < second.needed).count();
    assert!(behind <= 12 * 9, "for {behind} s there were too few");
    assert!(world.decisions.windows(2).all(|pair| pair[0].1.to <= pair[1].1.to), "never down on the way up");
    insta::assert_snapshot!(world.transcript(false));
}

#[test]
fn a_spike_is_answered_and_not_followed_by_another_change_for_long() {
    let mut world = World::new(windows(elastic(2, 10, 10), 3, 300), 2.0);
    world.run(900, |at, _| if (120.0..150.0).contains(&at) { 800.0 } else { 100.0 });
    let enough = world.enough_at(120).unwrap() - 120;
    assert!(enough <= 30, "it took {enough} s");
    let during =
        |from: usize, to: usize| world.seconds[from..to].iter().map(|second| second.wanted).collect::<Vec<_>>();
    assert!(during(160, 420).windows(2).all(|pair| pair[0] == pair[1]), "the window keeps what the spike needed");
    assert_eq!(world.seconds.last().unwrap().wanted, 2);
    insta::assert_snapshot!(world.transcript(true));
}

#[test]
fn noise_moves_nothing_to_and_fro() {
    let mut world = World::new(elastic(2, 10, 10), 3.0);
    world.run(3600, |_, noise| 300.0 * (0.6 + 0.8 * noise));
    assert!(world.changes() <= 3, "{} changes:\n{}", world.changes(), world.transcript(true));
    insta::assert_snapshot!(world.transcript(false));
}

#[test]
fn a_day_is_followed_with_little_waste() {
    let mut world = World::new(elastic(2, 20, 10), 20.0);
    let day = |at: f64| (1.0 - (at / 86_400.0 * std::f64::consts::TAU).cos()) / 2.0;
    world.run(86_400, |at, noise| (60.0 + 1400.0 * day(at)) * (0.95 + 0.1 * noise));
    let sum =
        |of: fn(&super::model::Second) -> u32| world.seconds.iter().map(|second| u64::from(of(second))).sum::<u64>();
    let (wanted, needed) = (sum(|second| second.wanted), sum(|second| second.needed));
    assert!(wanted * 100 <= needed * 130, "{wanted} instance seconds where {needed} were needed");
    let behind = world.seconds.iter().filter(|second| second.ready + 1 < second.needed).count();
    assert!(behind <= 60, "for {behind} s of the day there were too few by more than one");
    insta::assert_snapshot!(world.transcript(false));
}

#[test]
fn a_night_without_requests_goes_to_zero_and_the_first_request_starts_one() {
    let mut world = World::new(windows(elastic(0, 5, 10), 3, 60), 4.0);
    world.run(120, |at, _| if at < 20.0 { 30.0 } else { 0.0 });
    assert_eq!(world.seconds.last().unwrap().wanted, 0);
    world.run(5, |_, _| 1.0);
    assert_eq!(world.seconds.last().unwrap().wanted, 1);
    insta::assert_snapshot!(world.transcript(true));
}

#[test]
fn latency_is_approached_in_bounded_steps() {
    let settings = toml::from_str("min = 1\nmax = 10\ntarget = { p99 = \"300ms\" }\ndown_after = \"1m\"").unwrap();
    let mut world = World::new(settings, 3.0);
    world.run(300, |at, _| if at < 30.0 { 50.0 } else { 700.0 });
    let most = world.seconds.iter().map(|second| second.wanted).max().unwrap();
    assert!((4..=8).contains(&most), "{most} instances at most:\n{}", world.transcript(true));
    insta::assert_snapshot!(world.transcript(true));
}

#[test]
fn the_most_allowed_is_said_once() {
    let mut world = World::new(elastic(1, 3, 10), 2.0);
    world.run(600, |_, noise| 500.0 + 400.0 * noise);
    let limited = world.decisions.iter().filter(|(_, decision)| decision.kind.as_str() == "scaling-limited").count();
    assert_eq!(limited, 1, "{}", world.transcript(true));
}
