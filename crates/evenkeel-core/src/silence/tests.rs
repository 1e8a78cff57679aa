//! The silent-instance rule, one situation after the other.
//!
//! Here are those of suspicion and verdict; beside them how long a probe may take, what habits say, and a random world.

mod bounds;
mod habits;
mod world;

use super::{watch::*, *};

const AFTER_MS: u64 = 400;
/// While nothing is known of how long probes take.
const BOUND: Duration = Duration::from_millis(AFTER_MS * UNKNOWN_BOUND as u64);

/// It has shown that its answers take no time.
const QUICK: Asked = Asked::Probe { answered: ENOUGH, longest: Duration::ZERO };

/// The rule for a service that is known to serve many requests at once.
fn known() -> Silence<u8> {
    Silence { at_once: (1_000, ms(3_600_000)), ..Silence::new(AFTER_MS) }
}

fn ms(at: u64) -> Moment {
    Moment::from_millis(at)
}

/// Its requests in flight have been there since before the last byte.
fn seen(key: u8, in_flight: u64, last_received_ms: u64) -> Seen<u8> {
    let last_received = Some(ms(last_received_ms));
    let quiet_since = last_received.filter(|_| in_flight > 0);
    Seen { key, healthy: true, in_flight, quiet_since, last_received, asked: QUICK }
}

/// Observes every 20 ms in `(from, to]`: instance 1 has a request in flight and sends nothing after `quiet`, while
/// instance 2 keeps answering.
fn watch(silence: &mut Silence<u8>, quiet: u64, from: u64, to: u64) -> Vec<(u64, Output<u8>)> {
    watch_asked(silence, QUICK, quiet, from, to)
}

/// The same where somebody else knows whether instance 1 lives.
fn watch_asked(silence: &mut Silence<u8>, asked: Asked, quiet: u64, from: u64, to: u64) -> Vec<(u64, Output<u8>)> {
    let mut outputs = Vec::new();
    for at in (from / 20 + 1..=to / 20).map(|n| n * 20) {
        let now = [Seen { asked, ..seen(1, 3, at.min(quiet)) }, seen(2, 1, at)];
        outputs.extend(silence.on(Event::Observed(&now), ms(at)).into_iter().map(|output| (at, output)));
    }
    outputs
}

fn number(outputs: &[(u64, Output<u8>)]) -> u64 {
    match outputs {
        [(_, Output::ProbeNow { key: 1, number, timeout })] if *timeout == BOUND => *number,
        other => panic!("one probe of instance 1 expected: {other:?}"),
    }
}

fn fail(silence: &mut Silence<u8>, number: u64, at: u64) -> Vec<Output<u8>> {
    silence.on(Event::Probed { key: 1, number, took: BOUND, result: Err("timed out after 400 ms") }, ms(at))
}

/// A probe as slow as the bound while nothing is known, so that the bound stays what it is.
fn pass(silence: &mut Silence<u8>, number: u64, at: u64) -> Vec<Output<u8>> {
    silence.on(Event::Probed { key: 1, number, took: BOUND / PATIENCE, result: Ok(()) }, ms(at))
}

/// Freezes instance 1 at 1 s and fails both probes.
fn silent(silence: &mut Silence<u8>) {
    let first = number(&watch(silence, 1_000, 0, 1_400));
    assert_eq!(fail(silence, first, 1_800).len(), 1);
    assert!(matches!(fail(silence, first + 1, 2_200).as_slice(), [Output::Silent { key: 1, .. }]));
}

#[test]
fn two_failed_probes_make_it_silent_and_a_passed_one_brings_it_back() {
    let mut silence = known();
    let outputs = watch(&mut silence, 1_000, 0, 1_500);
    assert_eq!(outputs[0].0, 1_400, "asked once the time is over");
    let first = number(&outputs);
    let again = fail(&mut silence, first, 1_800);
    let [Output::ProbeNow { key: 1, number: second, .. }] = again.as_slice() else { panic!("{again:?}") };
    assert!(!silence.is_silent(1));
    let verdict = fail(&mut silence, *second, 2_200);
    let [Output::Silent { key: 1, reason }] = verdict.as_slice() else { panic!("{verdict:?}") };
    assert_eq!(
        reason,
        "nothing received for 1200 ms with 3 requests in flight while others are well, and 2 probes in a row failed: timed out after 400 ms; its service answers probes while 1000 requests wait, as was seen lately"
    );
    assert!(silence.is_silent(1));
    let third = number(&watch(&mut silence, 1_000, 1_500, 2_700));
    assert!(fail(&mut silence, third, 3_000).is_empty());
    let fourth = number(&watch(&mut silence, 1_000, 2_700, 3_400));
    let back = pass(&mut silence, fourth, 3_420);
    assert!(matches!(back.as_slice(), [Output::Answers { key: 1, .. }]));
    assert!(!silence.is_silent(1));
}

#[test]
fn a_silent_one_is_asked_for_a_bounded_time_whatever_others_take() {
    let mut silence = known();
    silent(&mut silence);
    silence.at_once.0 = 0;
    let asked = Asked::Probe { answered: ENOUGH, longest: Duration::MAX };
    let outputs = watch_asked(&mut silence, asked, 1_000, 2_200, 2_700);
    let [(_, Output::ProbeNow { key: 1, timeout, .. })] = outputs.as_slice() else { panic!("{outputs:?}") };
    assert_eq!(*timeout, LONGEST_HABIT);
}

#[test]
fn a_slow_request_is_left_alone_and_asked_about_ever_less_often() {
    let mut silence = known();
    let mut asked = Vec::new();
    for at in (1..=1_000).map(|n| n * 20) {
        for (when, output) in watch(&mut silence, 1_000, at - 20, at) {
            let Output::ProbeNow { number, .. } = output else { panic!("{output:?}") };
            asked.push(when);
            assert!(pass(&mut silence, number, when).is_empty());
        }
    }
    assert_eq!(asked, [1_400, 1_800, 2_600, 4_200, 7_400, 10_600, 13_800, 17_000]);
}

#[test]
fn one_failure_and_one_pass_is_no_silence() {
    let mut silence = known();
    let first = number(&watch(&mut silence, 1_000, 0, 1_400));
    fail(&mut silence, first, 1_800);
    assert!(pass(&mut silence, first + 1, 1_900).is_empty());
    let next = number(&watch(&mut silence, 1_000, 1_400, 2_700));
    assert!(matches!(fail(&mut silence, next, 2_800).as_slice(), [Output::ProbeNow { .. }]), "counting starts anew");
}

#[test]
fn the_kernel_is_believed_at_once() {
    let mut silence = known();
    let mut looks = Vec::new();
    for at in (1..=500).map(|n| n * 20) {
        for (at, output) in watch_asked(&mut silence, Asked::Kernel, 1_000, at - 20, at) {
            assert_eq!(output, Output::LookNow { key: 1 });
            looks.push(at);
            // It serves one request for nine seconds, and is stopped meanwhile.
            let stopped = at > 6_000;
            let result = if stopped { Err("its process 7 is stopped") } else { Ok(()) };
            let outputs = silence.on(Event::Looked { key: 1, result }, ms(at));
            if stopped && outputs.is_empty() {
                continue;
            }
            let reason = "nothing received for 6400 ms with 3 requests in flight while others are well, and its \
                          process 7 is stopped";
            let silent = Output::Silent { key: 1, reason: reason.to_owned() };
            assert_eq!(outputs, if stopped { vec![silent] } else { Vec::new() });
        }
    }
    assert_eq!(
        looks[..6],
        [1_400, 1_800, 2_600, 4_200, 7_400, 7_800],
        "seldom while it runs, then as often as it takes"
    );
    let again = watch_asked(&mut silence, Asked::Kernel, 1_000, 10_000, 10_400);
    assert!(matches!(again.as_slice(), [(_, Output::LookNow { key: 1 })]), "{again:?}");
    let back = silence.on(Event::Looked { key: 1, result: Ok(()) }, ms(10_400));
    assert_eq!(back, [Output::Answers { key: 1, reason: "it runs again".to_owned() }]);
    assert!(silence.on(Event::Looked { key: 1, result: Err("unasked") }, ms(10_400)).is_empty());
}

#[test]
fn of_those_that_are_stopped_together_the_last_one_stays() {
    let mut silence = known();
    let mut told = Vec::new();
    for at in (1..=100).map(|n| n * 20) {
        let now = [1, 2].map(|key| Seen { asked: Asked::Kernel, ..seen(key, 3, at.min(200)) });
        for output in silence.on(Event::Observed(&now), ms(at)) {
            let Output::LookNow { key } = output else { panic!("{output:?}") };
            told.extend(silence.on(Event::Looked { key, result: Err("it is stopped") }, ms(at)));
        }
    }
    assert!(matches!(told.as_slice(), [Output::Silent { key: 1, .. }]), "{told:?}");
    let mut alone = known();
    for at in (1..=100).map(|n| n * 20) {
        assert!(alone.on(Event::Observed(&[Seen { asked: Asked::Kernel, ..seen(1, 9, 0) }]), ms(at)).is_empty());
    }
}

#[test]
fn who_can_be_asked_no_more_is_back() {
    let mut silence = known();
    self::silent(&mut silence);
    let outputs = watch_asked(&mut silence, Asked::Nobody, 1_000, 2_200, 2_300);
    assert!(matches!(outputs.as_slice(), [(_, Output::Answers { key: 1, .. })]), "{outputs:?}");
}

#[test]
fn bytes_clear_the_suspicion_and_bring_back() {
    let mut silence = known();
    let first = number(&watch(&mut silence, 1_000, 0, 1_400));
    let now = [seen(1, 3, 1_410), seen(2, 1, 1_420)];
    assert!(silence.on(Event::Observed(&now), ms(1_420)).is_empty());
    assert!(fail(&mut silence, first, 1_800).is_empty(), "a probe of a former suspicion says nothing");

    let mut silence = known();
    self::silent(&mut silence);
    watch(&mut silence, 1_000, 1_500, 2_300);
    let now = [seen(1, 1, 2_310), seen(2, 1, 2_320)];
    let back = silence.on(Event::Observed(&now), ms(2_320));
    assert!(matches!(back.as_slice(), [Output::Answers { key: 1, .. }]), "{back:?}");
}

#[test]
fn losing_its_requests_does_not_bring_a_silent_one_back() {
    let mut silence = known();
    self::silent(&mut silence);
    let mut asked = 0;
    for at in (70..200).map(|n| n * 20) {
        let now = [seen(1, 0, 1_000), seen(2, 1, at)];
        for output in silence.on(Event::Observed(&now), ms(at)) {
            let Output::ProbeNow { number, .. } = output else { panic!("{output:?}") };
            asked += 1;
            fail(&mut silence, number, at);
        }
    }
    assert!(silence.is_silent(1));
    assert!((3..8).contains(&asked), "it is asked again in a steady rhythm: {asked}");
}

#[test]
fn nothing_to_compare_with_is_no_suspicion() {
    let mut alone = known();
    let mut together = known();
    for at in (0..500).map(|n| n * 20) {
        assert!(alone.on(Event::Observed(&[seen(1, 9, 0)]), ms(at)).is_empty());
        // Both stopped at the same moment; the second one's last byte is the older one.
        let now = [seen(1, 9, at.min(200)), seen(2, 9, at.min(190))];
        assert!(together.on(Event::Observed(&now), ms(at)).is_empty());
    }
}

/// Observes a service in which nothing changes; returns who was probed first.
fn first_probed(now: [Seen<u8>; 2]) -> Option<u8> {
    let mut silence = known();
    (0..200).map(|n| n * 20).find_map(|at| match silence.on(Event::Observed(&now), ms(at)).first()? {
        Output::ProbeNow { key, .. } => Some(*key),
        other => panic!("{other:?}"),
    })
}

#[test]
fn one_that_has_nothing_to_answer_is_a_comparison_if_it_could_take_over() {
    // All clients wait for the first one, so the second one has nothing to answer.
    assert_eq!(first_probed([seen(1, 8, 20), seen(2, 0, 0)]), Some(1));
    assert_eq!(first_probed([seen(1, 8, 20), Seen { healthy: false, ..seen(2, 0, 0) }]), None);
    // A silent one has nothing to answer either, but could not take over.
    let mut silence = known();
    self::silent(&mut silence);
    for at in (110..500).map(|n| n * 20) {
        let now = [Seen { healthy: false, ..seen(1, 0, 1_000) }, seen(2, 5, 1_420)];
        for output in silence.on(Event::Observed(&now), ms(at)) {
            let Output::ProbeNow { key: 1, number, .. } = output else { panic!("{output:?}") };
            fail(&mut silence, number, at);
        }
    }
}

#[test]
fn idle_instances_are_never_suspected() {
    let mut silence = known();
    for at in (0..500).map(|n| n * 20) {
        let now = [seen(1, 0, 0), seen(2, 1, at)];
        assert!(silence.on(Event::Observed(&now), ms(at)).is_empty());
    }
    // The request that comes now starts the clock, not the last byte of long ago.
    for at in (500..519).map(|n| n * 20) {
        let now = [Seen { quiet_since: Some(ms(10_000)), ..seen(1, 1, 0) }, seen(2, 1, at)];
        assert!(silence.on(Event::Observed(&now), ms(at)).is_empty(), "at {at}");
    }
}

#[test]
fn a_pause_of_our_own_accuses_nobody() {
    let mut silence = known();
    assert!(watch(&mut silence, 1_000, 0, 1_200).is_empty());
    let late = [seen(1, 3, 1_000), seen(2, 1, 5_000)];
    assert!(silence.on(Event::Observed(&late), ms(5_000)).is_empty());
    let outputs = watch(&mut silence, 1_000, 5_000, 5_400);
    assert_eq!(outputs[0].0, 5_400, "the whole time counts again");

    // The same in the middle of a suspicion: the probe may have timed out because we slept.
    let mut silence = known();
    let first = number(&watch(&mut silence, 1_000, 0, 1_400));
    let late = [seen(1, 3, 1_000), seen(2, 1, 5_000)];
    silence.on(Event::Observed(&late), ms(5_000));
    assert!(fail(&mut silence, first, 5_001).is_empty());
}

#[test]
fn the_check_can_bring_it_back_but_not_accuse_it() {
    let mut silence = known();
    self::silent(&mut silence);
    assert!(matches!(pass(&mut silence, 0, 2_300).as_slice(), [Output::Answers { .. }]));
    let mut silence = known();
    number(&watch(&mut silence, 1_000, 0, 1_400));
    for at in 0..5 {
        assert!(fail(&mut silence, 0, 1_410 + at).is_empty());
    }
}

#[test]
fn switching_off_brings_back() {
    let mut silence = known();
    self::silent(&mut silence);
    silence.retune(0);
    let now = [seen(1, 1, 1_000), seen(2, 1, 2_300)];
    assert!(matches!(silence.on(Event::Observed(&now), ms(2_300)).as_slice(), [Output::Answers { key: 1, .. }]));
    for at in (150..300).map(|n| n * 20) {
        let now = [seen(1, 1, 1_000), seen(2, 1, at)];
        assert!(silence.on(Event::Observed(&now), ms(at)).is_empty());
    }
}
