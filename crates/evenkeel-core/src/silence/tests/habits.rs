//! What the habits of a service, and probes that were passed while requests waited, say of a quiet.

use super::*;

/// Quiets of its service lasted a second lately.
const LONG_QUIETS: Asked = Asked::Probe { answered: ENOUGH, longest: Duration::from_secs(1) };

/// Instance 1 is quiet from 1 s to 1.8 s with three requests waiting and passes, or not, what is asked then.
fn after_a_quiet(passes: bool, answers_first: bool) -> Silence<u8> {
    let mut silence = Silence::new(AFTER_MS);
    let outputs = watch_asked(&mut silence, LONG_QUIETS, 1_000, 0, 1_780);
    let [(1_100, Output::ProbeNow { number: asked, .. })] = outputs.as_slice() else { panic!("{outputs:?}") };
    let asked = *asked;
    if answers_first {
        // What it was busy with is done, and what waited behind that is answered, before anybody looks again.
        pass(&mut silence, asked, 1_790);
        watch_asked(&mut silence, LONG_QUIETS, 1_800, 1_780, 1_800);
    } else if passes {
        pass(&mut silence, asked, 1_790);
        watch_asked(&mut silence, LONG_QUIETS, 1_000, 1_780, 1_800);
    } else {
        assert_eq!(fail(&mut silence, asked, 1_790), [], "a probe without consequences");
    }
    silence
}

#[test]
fn who_answers_probes_while_requests_wait_is_suspected_whatever_the_habit() {
    let mut silence = after_a_quiet(true, false);
    let outputs = watch_asked(&mut silence, LONG_QUIETS, 2_000, 1_800, 2_780);
    let [(2_400, Output::ProbeNow { key: 1, number, .. })] = outputs.as_slice() else { panic!("{outputs:?}") };
    fail(&mut silence, *number, 2_600);
    let verdict = fail(&mut silence, number + 1, 2_800);
    let [Output::Silent { key: 1, reason }] = verdict.as_slice() else { panic!("{verdict:?}") };
    assert!(reason.ends_with("; its service answers probes while 3 requests wait, as was seen lately"), "{reason}");
}

#[test]
fn who_serves_one_request_at_a_time_is_protected_by_its_habit() {
    for answers_first in [true, false] {
        let mut silence = after_a_quiet(false, answers_first);
        watch_asked(&mut silence, LONG_QUIETS, 1_900, 1_800, 1_900);
        let outputs = watch_asked(&mut silence, LONG_QUIETS, 2_000, 1_900, 3_900);
        let [(2_100, Output::ProbeNow { number, .. })] = outputs.as_slice() else { panic!("{outputs:?}") };
        assert_eq!(fail(&mut silence, *number, 3_910), [], "asked once to learn, and not suspected");
        let outputs = watch_asked(&mut silence, LONG_QUIETS, 2_000, 3_900, 4_100);
        let [(4_000, Output::ProbeNow { number, .. })] = outputs.as_slice() else { panic!("{outputs:?}") };
        fail(&mut silence, *number, 4_200);
        let verdict = fail(&mut silence, number + 1, 4_300);
        let [Output::Silent { key: 1, reason }] = verdict.as_slice() else { panic!("{verdict:?}") };
        let habits = "; it gave 300 answers lately, and quiets of its service lasted 1 s at most";
        assert!(reason.ends_with(habits), "{reason}");
    }
}

#[test]
fn what_was_seen_holds_for_about_as_many_requests_and_a_while() {
    let mut silence = after_a_quiet(true, false);
    assert_eq!(silence.serves_at_once(ms(1_800)), 48);
    let crowd = |at: u64| [Seen { asked: LONG_QUIETS, ..seen(1, 49, at.min(2_000)) }, seen(2, 1, at)];
    let mut asked = Vec::new();
    for at in (91..=125).map(|n| n * 20) {
        let outputs = silence.on(Event::Observed(&crowd(at)), ms(at));
        asked.extend(outputs.into_iter().map(|output| (at, output)));
    }
    let [(2_100, Output::ProbeNow { number, .. })] = asked.as_slice() else { panic!("{asked:?}") };
    assert_eq!(fail(&mut silence, *number, 2_510), [], "49 are too many to say");
    assert_eq!(silence.serves_at_once(ms(121_820)), 0);
}

#[test]
fn a_passed_probe_does_not_vouch_for_requests_that_came_later() {
    let mut silence = known();
    let observe = |silence: &mut Silence<u8>, at: u64| {
        // One slow request since 1 s; from 1.9 s on, others wait beside it.
        let in_flight = if at < 1_900 { 1 } else { 3 };
        silence.on(Event::Observed(&[seen(1, in_flight, at.min(1_000)), seen(2, 1, at)]), ms(at))
    };
    let mut asked = Vec::new();
    for at in (1..=120).map(|n| n * 20) {
        for output in observe(&mut silence, at) {
            let Output::ProbeNow { number, .. } = output else { panic!("{output:?}") };
            asked.push(at);
            pass(&mut silence, number, at);
        }
    }
    assert_eq!(asked, [1_400, 1_800, 2_300], "the third would wait until 2.6 s for the slow one alone");
}

#[test]
fn only_who_has_shown_how_long_its_answers_take_is_asked_tightly() {
    let first = |asked| {
        let mut silence = Silence::new(AFTER_MS);
        (1..=500).map(|n| n * 20).find_map(|at| {
            let outputs = watch_asked(&mut silence, asked, 1_000, at - 20, at);
            let [(_, Output::ProbeNow { number, timeout, .. })] = outputs.as_slice() else { return None };
            let suspected = !fail(&mut silence, *number, at).is_empty();
            suspected.then(|| (at, u64::try_from(timeout.as_millis()).unwrap()))
        })
    };
    let probe = |answered, longest_ms| Asked::Probe { answered, longest: Duration::from_millis(longest_ms) };
    assert_eq!(first(Asked::Nobody), None);
    assert_eq!(first(probe(ENOUGH - 1, 0)), None, "a quiet service: a silence of this length may be its habit");
    assert_eq!(first(probe(ENOUGH, 200)), Some((1_400, 800)));
    assert_eq!(first(probe(ENOUGH, 1_000)), Some((3_000, 800)), "answers that take long");
    assert_eq!(first(Asked::Probe { answered: ENOUGH, longest: Duration::MAX }), None);
}
