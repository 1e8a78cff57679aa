//! What the gate says in words and in every case, and how deploys go: seen from outside, by observations and outputs.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;

use super::{
    gate::{self, Limits, Look, Tally, Verdict},
    *,
};
use crate::{
    link::{Counters, InstanceCounters, ServiceCounters},
    status::{Health, InstanceId},
    time::Moment,
};

const LIMITS: Limits = Limits { watch: Duration::from_secs(10), max_errors_percent: 1 };

fn tally(good: u64, errors: u64, bucket: usize) -> Tally {
    let mut tally = Tally { tries: good + errors, good, refused: errors, failed: errors, ..Tally::default() };
    tally.latency[bucket] = good + errors;
    tally
}

/// Of a trial that has been open for as long as it has lasted.
fn judge(elapsed: Duration, new: &Tally, old: &Tally) -> Verdict {
    gate::judge(&LIMITS, &Look { elapsed, open: true, lasted: elapsed, new, old })
}

fn words(verdict: &Verdict) -> String {
    let (head, reasons) = match verdict {
        Verdict::Watching => return "watching".to_owned(),
        Verdict::Open => return "open".to_owned(),
        Verdict::Doubtful(doubt) => return format!("goes on: {doubt}"),
        Verdict::Slow => return "goes on: slow".to_owned(),
        Verdict::Passed(reasons) => ("passed", reasons),
        Verdict::Failed(reasons) => ("failed", reasons),
    };
    let lines = reasons.iter().map(|reason| format!("\n  {:?}: {}", reason.role, reason.text));
    format!("{head}{}", lines.collect::<String>())
}

#[test]
fn the_gate_in_its_words() {
    let s = Duration::from_secs;
    let cases = [
        ("nothing yet", s(1), tally(0, 0, 0), tally(100, 0, 4)),
        ("no traffic at all", s(10), tally(0, 0, 0), tally(0, 0, 0)),
        ("well, and enough of it", s(3), tally(200, 0, 4), tally(1800, 0, 4)),
        ("well, but little", s(10), tally(12, 0, 4), tally(110, 0, 4)),
        ("two failures prove nothing", s(10), tally(10, 2, 4), tally(110, 0, 4)),
        ("three of three", s(1), tally(0, 3, 4), tally(110, 0, 4)),
        ("a little worse, at last", s(30), tally(96, 4, 4), tally(990, 10, 4)),
        ("a little worse", s(10), tally(96, 4, 4), tally(990, 10, 4)),
        ("the former ones fail as well", s(10), tally(50, 50, 4), tally(500, 500, 4)),
        ("a little worse may be chance", s(10), tally(96, 4, 4), tally(980, 20, 4)),
        ("nobody to compare with", s(2), tally(20, 20, 4), tally(0, 0, 0)),
        ("slow at first", s(4), tally(160, 0, 13), tally(500, 0, 4)),
        ("slow still", s(10), tally(60, 0, 13), tally(500, 0, 4)),
        ("slow at last", s(30), tally(60, 0, 13), tally(500, 0, 4)),
        ("answers nothing", s(10), Tally { tries: 9, ..Tally::default() }, tally(500, 0, 4)),
        (
            "answers late, as the others",
            s(10),
            Tally { tries: 9, ..Tally::default() },
            Tally { tries: 40, ..tally(4, 0, 4) },
        ),
        ("slow, but so are the others", s(10), tally(60, 0, 11), tally(500, 0, 11)),
    ];
    let said = cases.map(|(name, elapsed, new, old)| format!("{name}: {}", words(&judge(elapsed, &new, &old))));
    insta::assert_snapshot!(said.join("\n"));
}

proptest! {
    #[test]
    fn a_flawless_instance_never_fails_by_errors(good in 0_u64..10_000, old in 0_u64..10_000, bad in 0_u64..10_000, ms in 0_u64..60_000) {
        let verdict = judge(Duration::from_millis(ms), &tally(good, 0, 4), &tally(old, bad, 4));
        prop_assert!(!matches!(verdict, Verdict::Failed(_)), "{}", words(&verdict));
    }

    #[test]
    fn who_does_as_the_others_passes_in_time(good in 0_u64..2_000, bad in 0_u64..2_000, times in 1_u64..20) {
        let verdict = judge(LIMITS.watch, &tally(good, bad, 4), &tally(good * times, bad * times, 4));
        prop_assert!(matches!(verdict, Verdict::Passed(_)), "{}", words(&verdict));
    }

    #[test]
    fn who_only_fails_is_condemned_at_once(bad in 5_u64..10_000, old in 30_u64..10_000) {
        let verdict = judge(Duration::ZERO, &tally(0, bad, 4), &tally(old, 0, 4));
        prop_assert!(matches!(verdict, Verdict::Failed(_)), "{}", words(&verdict));
    }

    #[test]
    fn few_failures_condemn_nobody(good in 0_u64..1000, bad in 0_u64..3, old in 0_u64..10_000, ms in 0_u64..60_000) {
        let verdict = judge(Duration::from_millis(ms), &tally(good, bad, 4), &tally(old, 0, 4));
        prop_assert!(!matches!(verdict, Verdict::Failed(_)), "{}", words(&verdict));
    }

    #[test]
    fn nobody_passes_before_the_least_time(good in 0_u64..10_000, ms in 0_u64..3_000) {
        let verdict = judge(Duration::from_millis(ms), &tally(good, 0, 4), &tally(good, 0, 4));
        prop_assert_eq!(verdict, Verdict::Watching);
    }

    #[test]
    fn a_share_is_a_share(percent in 1_u8..=50, others in 1_usize..50) {
        let weight = f64::from(trial_weight(percent, others));
        let share = weight / (weight + f64::from(WEIGHT) * f64::from(u32::try_from(others).unwrap()));
        prop_assert!(share * 100.0 <= f64::from(percent) + 1e-9 && weight >= 1.0);
    }
}

fn release(number: u64) -> Release {
    let (digest, dir) = (format!("d{number}"), Some(format!("/releases/shop/{number}")));
    Release { number, digest, dir, run: None, env: BTreeMap::new(), deployed: WallTime::from_millis(1) }
}

pub(super) fn deploy() -> Deploy {
    Deploy {
        number: 7,
        service: "shop".to_owned(),
        kind: Kind::Deploy,
        to: Some(release(3)),
        from: Some(release(2)),
        by: "by root (uid 0)".to_owned(),
        began: WallTime::from_millis(1),
        ended: None,
        settings: Settings {
            watch_ms: 10_000,
            canary: false,
            share_percent: 10,
            max_errors_percent: 1,
            before_timeout_ms: 60_000,
        },
        phase: Phase::Rolling,
        revision: 5,
        passed: BTreeSet::new(),
        reasons: Vec::new(),
        failed_on: None,
        last_output: Vec::new(),
        affected: Affected::default(),
    }
}

fn id(number: u32) -> InstanceId {
    InstanceId { name: format!("shop/{number}"), generation: 1 }
}

pub(super) fn seen(number: u32, new: bool) -> Seen {
    Seen {
        id: id(number),
        new,
        ready: true,
        health: Health::Healthy,
        reason: "a probe passed".to_owned(),
        exits: 0,
        last_exit: None,
        too_late: None,
        gave_up: false,
    }
}

fn world(instances: Vec<Seen>) -> World {
    World { instances, wanted: 2, revision: 6, release: 3, ..World::default() }
}

/// Cumulative: what each instance has answered, good and bad.
fn counters(pid: u32, answered: &[(u32, u64, u64)]) -> Counters {
    let of = |(number, good, bad): &(u32, u64, u64)| {
        let mut latency = [0; 19];
        latency[4] = good + bad;
        InstanceCounters {
            id: id(*number),
            health: Health::Healthy,
            in_flight: 0,
            tries: good + bad,
            failures: *bad,
            responses: [0, *good, 0, 0, *bad],
            latency_sum_us: 0,
            latency,
        }
    };
    let shop = ServiceCounters {
        name: "shop".to_owned(),
        retries: answered.iter().map(|(_, _, bad)| bad).sum(),
        instances: answered.iter().map(of).collect(),
        ..ServiceCounters::default()
    };
    Counters { pid, services: vec![shop], ..Counters::default() }
}

const fn at(s: u64) -> Moment {
    Moment::from_millis(s * 1000)
}

pub(super) const WALL: WallTime = WallTime::from_millis(99);

fn kinds(outputs: &[Output]) -> Vec<&str> {
    let kind = |output: &Output| match output {
        Output::StartBefore => "start-before",
        Output::KillBefore => "kill-before",
        Output::PutInForce { .. } => "put-in-force",
        Output::Note(note) => note.kind,
    };
    outputs.iter().map(kind).collect()
}

#[test]
fn instances_pass_one_after_the_other() {
    let mut control = Control::new(deploy());
    let before = World { revision: 5, release: 2, ..world(vec![seen(1, false), seen(2, false)]) };
    let outputs = control.step(&before, at(0), WALL);
    assert!(matches!(&outputs[..], [Output::PutInForce { release: Some(release), .. }] if release.number == 3));

    let first = world(vec![seen(1, false), seen(2, false), seen(3, true)]);
    assert_eq!(control.step(&first, at(1), WALL), []);
    assert!(control.on_trial(&id(3)));
    assert_eq!(control.waiting(), Some("0 of 2 instances passed, shop/3 is on trial"));
    assert!(control.deadline().is_some());
    assert!(control.is_sheltered(&id(3)));
    assert_eq!(control.step(&first, at(8), WALL), []);
    assert!(control.on_trial(&id(3)) && !control.is_sheltered(&id(3)), "its last third is open to all requests");
    assert_eq!(kinds(&control.step(&first, at(12), WALL)), ["trial-passed"]);
    assert!(!control.on_trial(&id(3)));

    let second = world(vec![seen(2, false), seen(3, true), seen(4, true)]);
    assert_eq!(control.step(&second, at(12), WALL), []);
    assert_eq!(control.step(&second, at(20), WALL), []);
    assert_eq!(kinds(&control.step(&second, at(24), WALL)), ["trial-passed"]);
    let last = world(vec![seen(3, true), seen(4, true)]);
    assert_eq!(kinds(&control.step(&last, at(25), WALL)), ["deployed"]);
    assert_eq!((control.deploy().phase.clone(), control.deploy().ended), (Phase::Done, Some(WALL)));
    assert_eq!(control.step(&last, at(26), WALL), [], "it is over");
}

#[test]
fn a_canary_is_the_only_one_on_trial() {
    let settings = Settings { canary: true, ..deploy().settings };
    let mut control = Control::new(Deploy { settings, ..deploy() });
    let first = world(vec![seen(1, false), seen(2, false), seen(3, true)]);
    control.step(&first, at(0), WALL);
    control.step(&first, at(7), WALL);
    assert_eq!(kinds(&control.step(&first, at(11), WALL)), ["trial-passed"]);
    let second = world(vec![seen(3, true), seen(4, true)]);
    assert_eq!(kinds(&control.step(&second, at(12), WALL)), ["trial-passed", "deployed"]);
}

/// Begins with one new instance on trial, and then this is seen.
fn after(change: impl FnOnce(&mut Control, &mut Seen)) -> (Control, Vec<Output>) {
    let mut control = Control::new(deploy());
    let mut instances = vec![seen(1, false), seen(2, false), seen(3, true)];
    control.step(&world(instances.clone()), at(0), WALL);
    control.counted(&counters(10, &[(1, 500, 0), (2, 500, 0)]));
    change(&mut control, &mut instances[2]);
    let mut outputs = control.step(&world(instances.clone()), at(1), WALL);
    if outputs.is_empty() {
        // An ejection counts once it has lasted.
        outputs = control.step(&world(instances), at(2), WALL);
    }
    (control, outputs)
}

type Change = fn(&mut Control, &mut Seen);

#[test]
fn whatever_goes_wrong_is_rolled_back_with_its_cause_first() {
    let cases: [(&str, Change); 5] = [
        ("shop/3 ended 2 times: exit code 3", |_, seen| {
            (seen.exits, seen.ready, seen.last_exit) = (2, false, Some("exit code 3".to_owned()));
        }),
        ("shop/3 gave up: cannot run `nod`", |_, seen| {
            (seen.gave_up, seen.ready, seen.last_exit) = (true, false, Some("cannot run `nod`".to_owned()));
        }),
        ("shop/3 did not get ready", |_, seen| {
            (seen.ready, seen.too_late) = (false, Some("not ready after 60 s".to_owned()));
        }),
        ("shop/3 was ejected by what its traffic showed: 3 failures in a row", |_, seen| {
            (seen.ready, seen.health, seen.reason) = (false, Health::Ejected, "3 failures in a row".to_owned());
        }),
        ("shop/3 answers worse than what it replaces: 9 of 9 requests failed (100 %)", |control, _| {
            control.counted(&counters(10, &[(1, 550, 0), (2, 550, 0), (3, 0, 9)]));
        }),
    ];
    for (cause, change) in cases {
        let (control, outputs) = after(change);
        assert_eq!(kinds(&outputs), ["rolling-back"], "{cause}");
        assert_eq!(control.deploy().phase, Phase::RollingBack);
        assert_eq!(control.deploy().reasons[0].text, cause);
        assert_eq!(control.deploy().failed_on.as_deref(), Some("shop/3"));
    }
    let (control, outputs) = after(|_, seen| (seen.exits, seen.ready) = (1, false));
    assert!(outputs.is_empty() && control.deploy().phase == Phase::Rolling, "one end may be an accident");
}

#[test]
fn the_former_release_comes_back_and_it_is_said_what_it_cost() {
    let (mut control, _) = after(|control, _| control.counted(&counters(10, &[(1, 550, 0), (2, 550, 0), (3, 1, 14)])));
    let bad = vec![seen(1, false), seen(2, false), seen(3, true)];
    assert_eq!(control.step(&world(bad.clone()), at(3), WALL), [], "the edge has not counted all of it yet");
    control.counted(&counters(10, &[(1, 560, 0), (2, 560, 0), (3, 1, 15)]));
    let outputs = control.step(&world(bad.clone()), at(3), WALL);
    assert!(matches!(&outputs[..], [Output::PutInForce { release: Some(release), .. }] if release.number == 2));
    let back = World { revision: 7, release: 2, ..world(bad) };
    assert_eq!(control.step(&back, at(4), WALL), [], "an instance of it is still there");
    assert!(control.on_trial(&id(3)), "and gets as little as possible");
    let printed = vec!["Traceback".to_owned(), "KeyError: 'db'".to_owned(), String::new()];
    let back = World { revision: 7, release: 2, printed, ..world(vec![seen(1, false), seen(2, false)]) };
    let outputs = control.step(&back, at(5), WALL);
    assert_eq!(kinds(&outputs), ["rolled-back"]);
    let Output::Note(note) = &outputs[0] else { panic!("it is a note") };
    let reasons: Vec<_> = note.reasons.iter().map(|reason| format!("  {:?}: {}", reason.role, reason.text)).collect();
    insta::assert_snapshot!(format!("{}\n{}", note.message, reasons.join("\n")));
    assert_eq!(control.deploy().affected, Affected { clients: 0, repeated: 15 });
    assert_eq!(control.deploy().last_output.len(), 3);
}

#[test]
fn what_failed_does_not_stay_because_something_else_changed() {
    let (mut control, _) = after(|_, seen| seen.gave_up = true);
    // Another service was scaled before the edge had told its counters.
    let meanwhile = World { revision: 9, ..world(vec![seen(1, false), seen(3, true)]) };
    control.step(&meanwhile, at(3), WALL);
    assert_eq!(kinds(&control.step(&meanwhile, at(5), WALL)), ["put-in-force"]);
}

#[test]
fn a_former_release_that_does_not_come_up_keeps_no_better_one_out() {
    let (mut control, _) = after(|_, seen| seen.gave_up = true);
    let stuck = World { revision: 7, release: 2, ..world(vec![seen(3, true)]) };
    assert_eq!(control.clone().give_way(&world(Vec::new()), "by x", WALL), [], "it is not in force yet");
    assert_eq!(control.step(&stuck, at(9), WALL), []);
    assert_eq!(kinds(&control.give_way(&stuck, "by x", WALL)), ["rolled-back"]);
    assert_eq!(control.deploy().phase, Phase::RolledBack);
}

#[test]
fn a_service_that_is_removed_ends_it() {
    let before = Phase::Before { command: vec!["migrate".to_owned()], ordered: true };
    for (phase, outputs) in
        [(before, ["deploy-failed", "kill-before"].as_slice()), (Phase::Rolling, &["deploy-failed"])]
    {
        let mut control = Control::new(Deploy { phase, ..deploy() });
        let gone = World { revision: 6, release: 0, gone: true, ..world(Vec::new()) };
        assert_eq!(kinds(&control.step(&gone, at(0), WALL)), outputs);
        assert!(control.deploy().reasons[0].text.contains("has no processes of shop any more"));
        assert_eq!(control.step(&gone, at(1), WALL), [], "once");
    }
}

#[test]
fn who_only_observes_is_told_and_decides() {
    let mut control = Control::new(deploy());
    let bad = World { observing: true, ..world(vec![seen(1, false), Seen { gave_up: true, ..seen(3, true) }]) };
    assert_eq!(kinds(&control.step(&bad, at(1), WALL)), ["would-roll-back"]);
    assert_eq!(control.step(&bad, at(2), WALL), [], "once");
    assert_eq!(control.deploy().phase, Phase::Rolling);
    assert!(control.held().is_some() && control.waiting().unwrap().contains("`keel rollback shop` does it"));
    assert!(control.on_trial(&id(3)) && control.is_sheltered(&id(3)), "and it goes no further");
    let well = World { observing: true, ..world(vec![seen(1, false), seen(3, true)]) };
    assert_eq!(control.step(&well, at(60), WALL), [], "nor by itself");
    let mut acting = control.clone();
    assert_eq!(kinds(&acting.step(&World { observing: false, ..bad }, at(61), WALL)), ["rolling-back"]);
    assert_eq!(kinds(&control.abort("by x", 6, WALL)), ["rolling-back"]);
    assert_eq!(control.held(), None);
}

#[test]
fn one_that_is_ejected_where_all_fail_now_and_then_is_tried_again() {
    let mut control = Control::new(deploy());
    let mut instances = vec![seen(1, false), seen(2, false), seen(3, true)];
    control.step(&world(instances.clone()), at(0), WALL);
    control.counted(&counters(10, &[(1, 500, 0), (2, 500, 0)]));
    control.counted(&counters(10, &[(1, 950, 50), (2, 950, 50), (3, 95, 5)]));
    for again in 0..3 {
        (instances[2].health, instances[2].ready) = (Health::Ejected, false);
        let early = control.step(&world(instances.clone()), at(10 * again + 1), WALL);
        let outputs = [early, control.step(&world(instances.clone()), at(10 * again + 3), WALL)].concat();
        assert_eq!(outputs.len(), usize::from(again == 2), "{outputs:?}");
        (instances[2].health, instances[2].ready) = (Health::Healthy, true);
        control.step(&world(instances.clone()), at(10 * again + 5), WALL);
    }
}

#[test]
fn what_the_former_instances_answered_counts_when_they_are_gone() {
    let mut control = Control::new(deploy());
    let both = [seen(1, false), seen(2, false), seen(3, true)];
    control.step(&world(both.to_vec()), at(0), WALL);
    control.counted(&counters(10, &[(1, 0, 0), (2, 0, 0)]));
    control.counted(&counters(10, &[(1, 4900, 100), (2, 4900, 100)]));
    control.step(&world(both.to_vec()), at(7), WALL);
    assert_eq!(kinds(&control.step(&world(both.to_vec()), at(11), WALL)), ["trial-passed"]);
    // The larger part of the comparison leaves, and the new one has failures as all have.
    control.counted(&counters(10, &[(1, 5880, 120), (2, 4910, 100), (3, 980, 20)]));
    let outputs = control.step(&world(both[1..].to_vec()), at(12), WALL);
    assert_eq!(outputs, [], "{:?}", control.deploy().reasons);
}

#[test]
fn a_change_by_somebody_else_ends_it() {
    let mut control = Control::new(deploy());
    let other = World { revision: 9, release: 0, ..world(vec![seen(1, false)]) };
    assert_eq!(kinds(&control.step(&other, at(0), WALL)), ["deploy-failed"]);
    assert!(control.deploy().reasons[0].text.contains("another change put what the stack file says in force"));
}

#[test]
fn the_step_before_runs_once() {
    let phase = Phase::Before { command: vec!["migrate".to_owned()], ordered: false };
    let begun = || Control::new(Deploy { phase: phase.clone(), ..deploy() });
    let with = |before| World { revision: 5, release: 2, before, ..world(vec![seen(1, false)]) };
    let mut control = begun();
    assert_eq!(kinds(&control.step(&with(BeforeStep::None), at(0), WALL)), ["start-before"]);
    // A successor finds that it was ordered, and orders it never again.
    let mut successor = Control::new(control.deploy().clone());
    assert_eq!(successor.step(&with(BeforeStep::Running { since: at(0) }), at(1), WALL), []);
    assert_eq!(successor.deadline(), Some(at(60)));
    let outputs = Control::new(control.deploy().clone()).step(&with(BeforeStep::None), at(1), WALL);
    let Output::Note(note) = &outputs[0] else { panic!("it is a note") };
    assert_eq!(note.kind, "deploy-failed");
    assert!(note.message.contains("how `migrate` ended is not known"), "{}", note.message);

    assert_eq!(successor.step(&with(BeforeStep::Succeeded), at(2), WALL), []);
    assert_eq!((successor.deploy().phase.clone(), successor.deploy().revision), (Phase::Rolling, 5));

    let failed = BeforeStep::Failed { how: "exit code 1".to_owned() };
    let mut world = with(failed);
    world.printed = vec!["column exists".to_owned()];
    control.step(&world, at(2), WALL);
    let (deploy, said) = (control.deploy(), DeployStatus::of(control.deploy(), None));
    assert_eq!((deploy.phase.clone(), deploy.failed_on.as_deref()), (Phase::Failed, Some("shop/before")));
    let cause = "`migrate` failed: exit code 1: column exists (its last line); nothing else was changed";
    assert_eq!(said.message, format!("the deploy of release 3 failed: {cause}"));
    assert_eq!(deploy.reasons[0].text, cause);

    let mut late = begun();
    late.step(&with(BeforeStep::None), at(0), WALL);
    let outputs = late.step(&with(BeforeStep::Running { since: at(0) }), at(60), WALL);
    assert_eq!(kinds(&outputs), ["deploy-failed", "kill-before"]);
}

#[test]
fn what_was_found_dead_does_not_come_up_untested() {
    let mut control = Control::new(deploy());
    assert_eq!(kinds(&control.found_dead(6)), ["rolling-back"]);
    let outputs = control.step(&World { revision: 6, ..world(Vec::new()) }, at(5), WALL);
    assert_eq!(kinds(&outputs), ["put-in-force"], "before anything starts");
    let mut rollback = Control::new(Deploy { kind: Kind::Rollback, ..deploy() });
    assert_eq!(rollback.found_dead(6), [], "a rollback goes on: what it leads to has run before");
}

#[test]
fn a_pause_stops_every_decision() {
    let mut control = Control::new(deploy());
    let broken = Seen { gave_up: true, ..seen(3, true) };
    let paused = World { paused: Some("somebody paused it".to_owned()), ..world(vec![broken]) };
    assert_eq!(control.step(&paused, at(0), WALL), []);
    assert_eq!(control.waiting(), Some("somebody paused it"));
}

#[test]
fn counters_are_added_up_over_restarts_of_the_edge() {
    let mut ledger = Ledger::default();
    let is_new = |of: &InstanceId| *of == id(3);
    ledger.update("shop", &counters(10, &[(1, 500, 7), (3, 4, 1)]), is_new);
    assert_eq!(ledger.of(&id(1)).requests(), 0, "what came before does not count");
    assert_eq!(ledger.of(&id(3)).requests(), 5, "unless it is new");
    ledger.update("shop", &counters(10, &[(1, 510, 7), (3, 5, 1)]), is_new);
    ledger.update("shop", &counters(11, &[(1, 3, 0), (3, 2, 0)]), is_new);
    assert_eq!((ledger.of(&id(1)).good, ledger.of(&id(3)).good), (13, 7));
    ledger.update("other", &counters(11, &[(1, 300, 0)]), is_new);
    assert_eq!(ledger.of(&id(1)).good, 13);
}

#[test]
fn a_deploy_reads_back() {
    let phase = Phase::Before { command: vec!["x".to_owned()], ordered: true };
    for phase in [phase, Phase::Rolling, Phase::Done] {
        let deploy = Deploy { phase, ..deploy() };
        let text = serde_json::to_string(&deploy).unwrap();
        assert_eq!(serde_json::from_str::<Deploy>(&text).unwrap(), deploy);
    }
}
