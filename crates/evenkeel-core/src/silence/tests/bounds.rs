//! How long a probe may take.

use super::*;

/// The bound of the next probe after these probes of the check were passed, one after the other.
fn bound_after(took_ms: &[u64]) -> u64 {
    let mut silence = known();
    watch(&mut silence, 1_000, 0, 20);
    let mut now = 20;
    for &took_ms in took_ms {
        now += AFTER_MS;
        let took = Duration::from_millis(took_ms);
        silence.on(Event::Probed { key: 1, number: 0, took, result: Ok(()) }, ms(now));
    }
    let outputs = watch(&mut silence, now + 980, now, now + 1_380);
    let [(_, Output::ProbeNow { timeout, number, .. })] = outputs.as_slice() else { panic!("{outputs:?}") };
    let again = fail(&mut silence, *number, now + 1_480);
    assert!(matches!(again.as_slice(), [Output::ProbeNow { timeout: second, .. }] if second == timeout), "{again:?}");
    u64::try_from(timeout.as_millis()).unwrap()
}

#[test]
fn the_bound_of_a_probe_follows_what_is_usual() {
    assert_eq!(bound_after(&[]), 800, "nothing is known");
    assert_eq!(bound_after(&[2, 3, 1]), 200, "half of the time: two probes take no longer than the suspicion");
    assert_eq!(bound_after(&[1_000]), 800, "the first one teaches nothing if it is slow");
    assert_eq!(bound_after(&[1_000; 4]), 4_000, "a service with a slow check is not accused for it");
    assert_eq!(bound_after(&[60_000; 9]), 8_000);
    assert_eq!(bound_after(&[160, 2]), 600, "a slow one is remembered");
    assert_eq!(bound_after(&[&[160][..], &[2; 100]].concat()), 200, "and forgotten");
    assert_eq!(bound_after(&[2, 900]), 200, "a single one may have met an instance that was stopped for a moment");
    assert_eq!(bound_after(&[2, 900, 900, 900, 900, 900, 900, 900]), 3_600);
    let mut silence = known();
    let first = number(&watch(&mut silence, 1_000, 0, 1_400));
    let again = silence.on(Event::Probed { key: 1, number: first, took: BOUND, result: Err("timed out") }, ms(2_200));
    assert!(matches!(again.as_slice(), [Output::ProbeNow { timeout: BOUND, .. }]), "a failed one teaches nothing");

    let known_now = Known { after: Duration::from_millis(AFTER_MS), at_once: 0, now: ms(0) };
    let bound = |silence: &Silence<u8>| silence.watches[&1].bound(known_now);
    let mut silence = known();
    watch(&mut silence, 1_000, 0, 20);
    for took_ms in [2, 900, 900, 900, 900, 900] {
        let took = Duration::from_millis(took_ms);
        silence.on(Event::Probed { key: 1, number: 0, took, result: Ok(()) }, ms(20));
    }
    assert_eq!(bound(&silence), Duration::from_millis(200), "nor do several that one stop held up");

    let mut silence = known();
    super::silent(&mut silence);
    silence.on(Event::Probed { key: 1, number: 0, took: BOUND * 5, result: Ok(()) }, ms(3_000));
    assert_eq!(bound(&silence), BOUND, "nor does the first one that is passed after a silence");
}

#[test]
fn one_whose_probes_take_long_is_not_judged_by_others() {
    let mut silence = known();
    for at in (1..=1_000).map(|n| n * 20) {
        assert!(silence.on(Event::Observed(&[seen(1, 0, 0), seen(2, 1, at)]), ms(at)).is_empty());
        for (key, took_ms) in [(1, 1_500), (2, 1)] {
            if at % 1_000 == 0 {
                let took = Duration::from_millis(took_ms);
                silence.on(Event::Probed { key, number: 0, took, result: Ok(()) }, ms(at));
            }
        }
    }
    let outputs = watch(&mut silence, 20_020, 20_000, 20_420);
    let [(_, Output::ProbeNow { key: 1, timeout, .. })] = outputs.as_slice() else { panic!("{outputs:?}") };
    assert_eq!(*timeout, Duration::from_secs(6));
}
