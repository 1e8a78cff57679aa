//! Lives of instances, told as events and outputs.

use proptest::prelude::*;

use super::*;
use crate::pause::Stance;

fn at(ms: u64) -> Moment {
    Moment::from_millis(ms)
}

fn healthy() -> Event {
    Event::Health { health: Health::Healthy, reason: "probe passed".to_owned() }
}

fn exited() -> Event {
    Event::Exited { status: ExitStatus::Code(1), leftovers: 0 }
}

fn retire() -> Event {
    Event::Retire { reason: "scaled down".to_owned() }
}

/// Started at 0 ms and ready at 100 ms.
fn running(policy: &Policy) -> Supervisor {
    let mut it = Supervisor::new(Memory::default(), at(0));
    assert_eq!(it.on(policy, Event::Tick, at(0)), [Output::Spawn]);
    it.on(policy, healthy(), at(100));
    assert_eq!(it.phase(), Phase::Running);
    it
}

/// One line an event: what was decided, and why.
fn transcript(it: &mut Supervisor, policy: &Policy, events: Vec<(u64, Event)>) -> String {
    let mut text = String::new();
    for (ms, event) in events {
        text += &format!("{ms} ms {event:?}\n");
        for output in it.on(policy, event, at(ms)) {
            match output {
                Output::Record(d) => {
                    text += &format!("  {} {}: {}\n", d.level, d.kind, d.message);
                    for reason in d.reasons {
                        text += &format!("    {:?}: {}\n", reason.role, reason.text);
                    }
                }
                other => text += &format!("  -> {other:?}\n"),
            }
        }
        text += &format!("  {} generation {}\n", it.phase(), it.memory().generation);
    }
    text
}

#[test]
fn the_first_exit_is_answered_at_once_and_delays_double() {
    let policy = Policy { attempts: 8, ..Policy::default() };
    let mut it = Supervisor::new(Memory::default(), at(0));
    let (mut now, mut delays) = (at(0), Vec::new());
    while it.phase() != Phase::GaveUp {
        assert_eq!(it.on(&policy, Event::Tick, now), [Output::Spawn]);
        it.on(&policy, exited(), now);
        if let Some(wake) = it.deadline(&policy) {
            delays.push(wake.since(now).as_millis());
            now = wake;
        }
    }
    assert_eq!(delays, [0, 100, 200, 400, 800, 1600, 3200]);
    assert_eq!(it.deadline(&policy), None);
    assert_eq!(it.memory().restarts, 7);
}

#[test]
fn deaths_of_an_instance_that_was_healthy_never_wait_long_nor_give_up() {
    let policy = Policy::default();
    let mut it = running(&policy);
    let mut now = at(3000);
    for _ in 0..50 {
        it.on(&policy, exited(), now);
        let wake = it.deadline(&policy).unwrap();
        assert!(wake.since(now) <= SHORT_DELAY);
        it.on(&policy, Event::Tick, wake);
        it.on(&policy, healthy(), wake);
        now = wake + Duration::from_secs(3);
    }
    assert_eq!(it.phase(), Phase::Running);
    now = now + policy.reset;
    it.on(&policy, exited(), now);
    assert_eq!(it.deadline(&policy), Some(now));
}

#[test]
fn a_verdict_that_comes_after_the_end_counts_for_nothing() {
    let policy = Policy::default();
    let mut it = Supervisor::new(Memory::default(), at(0));
    it.on(&policy, Event::Tick, at(0));
    it.on(&policy, exited(), at(10));
    it.on(&policy, healthy(), at(11));
    assert_eq!((it.phase(), it.memory().fruitless, it.is_healthy()), (Phase::Waiting, 1, false));
}

#[test]
fn a_start_that_never_gets_ready_is_killed_and_counted() {
    let policy = Policy { attempts: 2, ..Policy::default() };
    let mut it = Supervisor::new(Memory::default(), at(0));
    let killed = Event::Exited { status: ExitStatus::Signal(9), leftovers: 0 };
    insta::assert_snapshot!(transcript(
        &mut it,
        &policy,
        vec![
            (0, Event::Tick),
            (59_999, Event::Tick),
            (60_000, Event::Tick),
            (60_010, killed.clone()),
            (60_010, Event::Tick),
            (60_500, Event::NotStarted { reason: "cannot run `nod`: no such file or directory".to_owned() }),
            (60_500, Event::Tick),
            (61_000, Event::TryAgain { reason: "revision 2 was applied".to_owned() }),
            (61_000, Event::Tick),
        ]
    ));
}

#[test]
fn failing_liveness_kills_after_its_time_and_a_pass_in_between_saves() {
    let policy = Policy { liveness_after: Some(Duration::from_secs(5)), ..Policy::default() };
    let mut it = running(&policy);
    let fails = || Event::Liveness { passing: false, reason: "no answer within 1 s".to_owned() };
    let passes = Event::Liveness { passing: true, reason: String::new() };
    let silent = Event::Health { health: Health::Silent, reason: "nothing came back".to_owned() };
    insta::assert_snapshot!(transcript(
        &mut it,
        &policy,
        vec![
            (1000, fails()),
            (4000, passes),
            (7000, Event::Tick),
            (8000, silent),
            (8000, fails()),
            (12_999, Event::Tick),
            (13_000, Event::Tick),
            (18_000, Event::Tick),
            (18_002, Event::Exited { status: ExitStatus::Signal(9), leftovers: 2 }),
            (18_002, Event::Tick),
        ]
    ));
}

#[test]
fn a_retired_instance_drains_stops_and_is_gone() {
    let policy = Policy::default();
    let mut it = running(&policy);
    let ended = Event::Exited { status: ExitStatus::Code(0), leftovers: 0 };
    insta::assert_snapshot!(transcript(
        &mut it,
        &policy,
        vec![(1000, retire()), (1200, Event::Drained), (1300, retire()), (1400, ended)]
    ));
}

#[test]
fn an_instance_that_is_not_known_to_be_ready_drains_too() {
    let policy = Policy::default();
    let mut it = Supervisor::new(Memory::default(), at(0));
    it.on(&policy, Event::Tick, at(0));
    let stops = |outputs: Vec<Output>| outputs.contains(&Output::Stop { grace: policy.grace });
    assert!(!stops(it.on(&policy, retire(), at(100))));
    assert_eq!(it.phase(), Phase::Draining);
    assert!(stops(it.on(&policy, Event::Drained, at(101))));
}

#[test]
fn draining_ends_in_time_and_a_lost_stop_is_followed_by_a_kill() {
    let policy = Policy::default();
    let mut it = running(&policy);
    it.on(&policy, retire(), at(1000));
    assert_eq!(it.on(&policy, Event::Tick, at(30_999)), []);
    let outputs = it.on(&policy, Event::Tick, at(31_000));
    assert!(outputs.contains(&Output::Stop { grace: policy.grace }));
    assert_eq!(it.on(&policy, Event::Tick, at(46_000)), [Output::Kill]);
}

#[test]
fn a_successor_carries_on() {
    let policy = Policy::default();
    let mut it = running(&policy);
    it.on(&policy, retire(), at(1000));
    let next = Supervisor::adopt(it.memory().clone(), at(0), &policy, at(2000));
    assert_eq!(next.phase(), Phase::Draining);
    assert_eq!(next.memory(), it.memory());
    let fresh = Memory { generation: 3, ..Memory::default() };
    let next = Supervisor::adopt(fresh, at(0), &policy, at(2000));
    assert_eq!((next.phase(), next.deadline(&policy)), (Phase::Starting, Some(at(60_000))));
}

#[test]
fn a_delay_goes_on_where_its_keeper_ended() {
    let policy = Policy::default();
    let memory = Memory { generation: 4, exits: 4, fruitless: 4, ..Memory::default() };
    let mut next = Supervisor::new(memory, at(0)).not_before(at(300));
    assert_eq!((next.start_due(), next.deadline(&policy)), (Some(at(300)), Some(at(300))));
    assert_eq!(next.on(&policy, Event::Tick, at(299)), []);
    assert_eq!(next.on(&policy, Event::Tick, at(300)), [Output::Spawn]);
    assert_eq!(next.start_due(), None);
    let gave_up = Memory { gave_up: true, ..Memory::default() };
    assert_eq!(Supervisor::new(gave_up, at(0)).not_before(at(300)).deadline(&policy), None);
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => Just(Event::Tick),
        2 => Just(exited()),
        1 => Just(Event::NotStarted { reason: "no".to_owned() }),
        3 => Just(healthy()),
        1 => Just(Event::Health { health: Health::Unhealthy, reason: String::new() }),
        1 => any::<bool>().prop_map(|passing| Event::Liveness { passing, reason: String::new() }),
        1 => Just(Event::Drained),
        1 => Just(retire()),
        1 => Just(Event::TryAgain { reason: String::new() }),
    ]
}

proptest! {
    /// Whatever happens in whatever order: never two processes at once, a generation for each start, nothing after
    /// the end, and whoever has something to do says when.
    #[test]
    fn invariants(steps in prop::collection::vec((any_event(), 0_u64..20_000), 1..120)) {
        let policy = Policy { liveness_after: Some(Duration::from_secs(5)), attempts: 3, ..Policy::default() };
        let mut it = Supervisor::new(Memory::default(), at(0));
        let (mut now, mut alive, mut starts) = (0, false, 0);
        for (event, wait) in steps {
            now += wait;
            let ends = matches!(event, Event::Exited { .. } | Event::NotStarted { .. });
            if ends && !alive {
                continue;
            }
            alive &= !ends;
            let outputs = it.on(&policy, event, at(now));
            for output in &outputs {
                match output {
                    Output::Spawn => {
                        prop_assert!(!alive, "a second process");
                        (alive, starts) = (true, starts + 1);
                    }
                    Output::Stop { .. } | Output::Kill => prop_assert!(alive, "a signal to nobody"),
                    Output::Gone => prop_assert!(!alive, "gone while it runs"),
                    Output::Forget => prop_assert!(ends),
                    Output::Record(d) => prop_assert!(!d.message.is_empty()),
                }
            }
            prop_assert_eq!(it.memory().generation, starts);
            if outputs.contains(&Output::Gone) {
                return Ok(());
            }
            let waits_for_somebody = matches!(it.phase(), Phase::Running | Phase::GaveUp);
            prop_assert!(waits_for_somebody || it.deadline(&policy).is_some(), "stuck in {}", it.phase());
        }
    }
}

/// What was written down, by kind.
fn kinds(outputs: &[Output]) -> Vec<&'static str> {
    let kind = |output: &Output| match output {
        Output::Record(decision) => Some(decision.kind),
        _ => None,
    };
    outputs.iter().filter_map(kind).collect()
}

#[test]
fn a_restart_waits_for_the_end_of_a_pause() {
    let act = Policy::default();
    let paused = Policy { stance: Stance::Paused, ..Policy::default() };
    let mut it = running(&act);
    insta::assert_snapshot!(transcript(&mut it, &paused, vec![(5000, exited()), (6000, Event::Tick)]));
    assert_eq!(it.deadline(&paused), None, "nothing to wake up for");
    assert_eq!(it.deadline(&act), Some(at(5000)), "due since its exit");
    assert_eq!(it.on(&act, Event::Tick, at(9000)), [Output::Spawn]);
}

#[test]
fn a_pause_that_begins_during_a_delay_is_said_once() {
    let act = Policy::default();
    let paused = Policy { stance: Stance::Paused, ..Policy::default() };
    let mut it = running(&act);
    it.on(&act, exited(), at(200));
    it.on(&act, Event::Tick, at(200));
    it.on(&act, exited(), at(300));
    assert_eq!(it.deadline(&paused), Some(at(400)));
    assert_eq!(kinds(&it.on(&paused, Event::Tick, at(400))), ["held"]);
    assert_eq!((it.on(&paused, Event::Tick, at(500)), it.deadline(&paused)), (Vec::new(), None));
}

#[test]
fn kills_are_observed_once_and_not_done() {
    let observe = Policy { stance: Stance::Observe, liveness_after: Some(Duration::from_secs(5)), ..Policy::default() };
    let mut slow = Supervisor::new(Memory::default(), at(0));
    assert_eq!(slow.on(&observe, Event::Tick, at(0)), [Output::Spawn], "a first start is ordered");
    assert_eq!(kinds(&slow.on(&observe, Event::Tick, at(60_000))), ["would-kill"]);
    assert_eq!((slow.on(&observe, Event::Tick, at(61_000)), slow.deadline(&observe)), (Vec::new(), None));
    // Late, but it gets ready all the same.
    assert_eq!(kinds(&slow.on(&observe, healthy(), at(62_000))), ["ready"]);

    let fails = || Event::Liveness { passing: false, reason: "no answer".to_owned() };
    slow.on(&observe, fails(), at(70_000));
    assert_eq!(kinds(&slow.on(&observe, Event::Tick, at(75_000))), ["would-kill"]);
    assert_eq!(slow.on(&observe, Event::Tick, at(76_000)), []);
    // Another bout of it is another thing to say.
    slow.on(&observe, Event::Liveness { passing: true, reason: String::new() }, at(77_000));
    slow.on(&observe, fails(), at(78_000));
    assert_eq!(kinds(&slow.on(&observe, Event::Tick, at(83_000))), ["would-kill"]);
    let act = Policy { stance: Stance::Act, ..observe };
    assert!(slow.on(&act, Event::Tick, at(84_000)).contains(&Output::Kill), "still due, so it is done now");
}

#[test]
fn what_an_operator_drains_is_not_killed_for_not_getting_ready() {
    let drained = Policy { drained: true, ..Policy::default() };
    let mut it = Supervisor::new(Memory::default(), at(0));
    it.on(&drained, Event::Tick, at(0));
    assert_eq!(it.on(&drained, Event::Tick, at(60_000)), []);
    let served = Policy::default();
    assert!(it.on(&served, Event::Tick, at(120_000)).contains(&Output::Kill), "given its time anew, then not");
}

proptest! {
    /// While automatic decisions are off nothing is killed or started again, each thing is said once, and there is
    /// no moment to wake up for again and again.
    #[test]
    fn nothing_is_done_without_an_order(
        observe in any::<bool>(),
        before in prop::collection::vec((any_event(), 0_u64..3_000), 0..20),
        during in prop::collection::vec((any_event(), 0_u64..20_000), 1..60),
    ) {
        let act = Policy { liveness_after: Some(Duration::from_secs(5)), ..Policy::default() };
        let off = Policy { stance: if observe { Stance::Observe } else { Stance::Paused }, ..act.clone() };
        let mut it = Supervisor::new(Memory::default(), at(0));
        let (mut now, mut alive) = (0, false);
        let steps = before.into_iter().map(|step| (step, &act)).chain(during.into_iter().map(|step| (step, &off)));
        for ((event, wait), policy) in steps {
            now += wait;
            let ends = matches!(event, Event::Exited { .. } | Event::NotStarted { .. });
            let ordered = matches!(event, Event::Retire { .. } | Event::TryAgain { .. });
            if ends && !alive {
                continue;
            }
            alive &= !ends;
            let first = it.memory().exits == 0;
            let (begun, leaving) = (it.is_doomed(), it.memory().leaving.is_some());
            let outputs = it.on(policy, event, at(now));
            if policy.stance != Stance::Act && !ordered {
                prop_assert!(!outputs.contains(&Output::Spawn) || first, "started again");
                prop_assert!(!outputs.contains(&Output::Kill) || begun || leaving, "killed");
            }
            alive |= outputs.contains(&Output::Spawn);
            if outputs.contains(&Output::Gone) {
                return Ok(());
            }
            // Whatever is due now is done or said by one tick, and then it is not due any more.
            it.on(policy, Event::Tick, at(now)).contains(&Output::Spawn).then(|| alive = true);
            prop_assert!(it.deadline(policy).is_none_or(|due| due > at(now)), "it would spin");
        }
    }
}
