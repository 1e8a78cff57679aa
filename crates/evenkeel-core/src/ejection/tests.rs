//! The ejection rules, one by one and against their definition.

use proptest::prelude::*;

use super::*;

fn rules() -> Ejection {
    Ejection {
        consecutive: 5,
        percent: 50,
        min_requests: 20,
        window_ms: 10_000,
        base_ms: 1_000,
        max_ms: 3_000,
        max_percent: 50,
        count_5xx: false,
    }
}

fn ms(at: u64) -> Moment {
    Moment::from_millis(at)
}

fn service(rules: Ejection, instances: u8) -> Ejector<u8> {
    let mut ejector = Ejector::new(rules);
    for key in 1..=instances {
        ejector.on(Event::Member { key, well: true }, ms(0));
    }
    ejector
}

fn fail(ejector: &mut Ejector<u8>, key: u8, failed: u32, at: u64) -> Vec<Output<u8>> {
    ejector.on(Event::Traffic { key, ok: 0, failed, trailing: failed }, ms(at));
    ejector.on(Event::Time, ms(at))
}

#[test]
fn failures_in_a_row_eject_and_time_brings_back() {
    let mut ejector = service(rules(), 3);
    assert!(fail(&mut ejector, 1, 3, 10).is_empty());
    let outputs = fail(&mut ejector, 1, 2, 20);
    assert_eq!(outputs, [Output::Ejected { key: 1, reason: "5 failures in a row; out for 1 s".to_owned() }]);
    assert!(ejector.is_ejected(1));
    assert!(ejector.on(Event::Time, ms(1_019)).is_empty());
    let outputs = ejector.on(Event::Time, ms(1_020));
    assert_eq!(outputs, [Output::Returned { key: 1, reason: "its time out of 1 s is over".to_owned() }]);
    assert!(ejector.on(Event::Time, ms(1_021)).is_empty(), "judged anew");
}

#[test]
fn a_success_breaks_the_row() {
    let mut ejector = service(rules(), 3);
    fail(&mut ejector, 1, 4, 10);
    ejector.on(Event::Traffic { key: 1, ok: 1, failed: 3, trailing: 2 }, ms(20));
    assert!(fail(&mut ejector, 1, 2, 30).is_empty());
    assert_eq!(fail(&mut ejector, 1, 1, 40).len(), 1, "two trailing and three more");
}

#[test]
fn a_share_ejects_once_there_are_enough_requests() {
    let mut ejector = service(Ejection { consecutive: 0, ..rules() }, 3);
    ejector.on(Event::Traffic { key: 1, ok: 9, failed: 10, trailing: 10 }, ms(10));
    assert!(ejector.on(Event::Time, ms(10)).is_empty());
    ejector.on(Event::Traffic { key: 1, ok: 1, failed: 0, trailing: 0 }, ms(20));
    let outputs = ejector.on(Event::Time, ms(20));
    let reason = "10 of 20 requests failed within 10 s; out for 1 s".to_owned();
    assert_eq!(outputs, [Output::Ejected { key: 1, reason }]);
}

#[test]
fn a_share_of_long_ago_does_not_count() {
    let mut ejector = service(Ejection { consecutive: 0, ..rules() }, 3);
    ejector.on(Event::Traffic { key: 1, ok: 0, failed: 19, trailing: 19 }, ms(0));
    ejector.on(Event::Traffic { key: 1, ok: 0, failed: 1, trailing: 1 }, ms(10_200));
    assert!(ejector.on(Event::Time, ms(10_200)).is_empty());
}

#[test]
fn time_out_doubles_in_a_row_and_is_bounded() {
    let mut ejector = service(rules(), 3);
    let mut at = 0;
    for lasts in [1_000, 2_000, 3_000, 3_000] {
        assert!(matches!(fail(&mut ejector, 1, 5, at).as_slice(), [Output::Ejected { .. }]));
        assert!(ejector.on(Event::Time, ms(at + lasts - 1)).is_empty(), "{lasts}");
        assert!(matches!(ejector.on(Event::Time, ms(at + lasts)).as_slice(), [Output::Returned { .. }]));
        at += lasts + 9_999;
    }
    // It served for a whole window, so this one is not in a row any more.
    let outputs = fail(&mut ejector, 1, 5, at + 1);
    assert!(matches!(outputs.as_slice(), [Output::Ejected { reason, .. }] if reason.ends_with("out for 1 s")));
}

#[test]
fn the_last_healthy_one_stays_and_that_is_said_once() {
    let mut ejector = service(Ejection { max_percent: 100, ..rules() }, 2);
    assert_eq!(fail(&mut ejector, 1, 5, 0).len(), 1);
    let reason = "5 failures in a row; not ejected: it is the last healthy instance of its service".to_owned();
    assert_eq!(fail(&mut ejector, 2, 5, 10), [Output::Kept { key: 2, reason }]);
    assert!(fail(&mut ejector, 2, 5, 20).is_empty());
    // Once the other one is back there is room again.
    let outputs = fail(&mut ejector, 2, 1, 1_000);
    assert!(matches!(outputs.as_slice(), [Output::Returned { key: 1, .. }, Output::Ejected { key: 2, .. }]));
}

#[test]
fn an_ejected_one_comes_back_when_it_is_all_that_is_left() {
    let mut ejector = service(rules(), 2);
    assert_eq!(fail(&mut ejector, 1, 5, 0).len(), 1);
    ejector.on(Event::Member { key: 2, well: false }, ms(10));
    let outputs = ejector.on(Event::Time, ms(10));
    assert!(matches!(outputs.as_slice(), [Output::Returned { key: 1, reason }] if reason.starts_with("back before")));
    // One whose check fails does not help anybody.
    let mut ejector = service(rules(), 2);
    fail(&mut ejector, 1, 5, 0);
    ejector.on(Event::Member { key: 1, well: false }, ms(10));
    ejector.on(Event::Member { key: 2, well: false }, ms(10));
    assert!(ejector.on(Event::Time, ms(10)).is_empty());
}

#[test]
fn late_ends_of_former_requests_do_not_count() {
    let mut ejector = service(rules(), 3);
    fail(&mut ejector, 1, 5, 0);
    assert!(fail(&mut ejector, 1, 50, 500).is_empty());
    let outputs = ejector.on(Event::Time, ms(1_000));
    assert!(matches!(outputs.as_slice(), [Output::Returned { .. }]));
}

#[test]
fn gone_is_forgotten() {
    let mut ejector = service(rules(), 3);
    fail(&mut ejector, 1, 5, 0);
    ejector.on(Event::Gone { key: 1 }, ms(1));
    assert!(!ejector.is_ejected(1));
    assert!(ejector.on(Event::Time, ms(5_000)).is_empty());
}

#[derive(Clone, Debug)]
enum Act {
    Traffic(u8, u32, u32),
    Well(u8, bool),
    Wait(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (1u8..6, 0u32..4, 0u32..8).prop_map(|(key, ok, failed)| Act::Traffic(key, ok, failed)),
        1 => (1u8..6, any::<bool>()).prop_map(|(key, well)| Act::Well(key, well)),
        3 => (0u64..2_000).prop_map(Act::Wait),
    ]
}

proptest! {
    /// Whatever happens: the share is kept, an ejection leaves a healthy instance, nobody is out for longer than
    /// the longest time, and somebody who is well serves while anybody is well.
    #[test]
    fn keeps_the_minimum(max_percent in 0u8..=100, acts in prop::collection::vec(act(), 1..300)) {
        let mut ejector = service(Ejection { max_percent, ..rules() }, 5);
        let mut well = [true; 6];
        let mut out_since: [Option<u64>; 6] = [None; 6];
        let mut now = 0;
        for act in acts {
            match act {
                Act::Traffic(key, ok, failed) => {
                    let trailing = if ok == 0 { failed } else { failed / 2 };
                    let outputs = ejector.on(Event::Traffic { key, ok, failed, trailing }, ms(now));
                    prop_assert!(outputs.is_empty());
                }
                Act::Well(key, is) => {
                    well[usize::from(key)] = is;
                    ejector.on(Event::Member { key, well: is }, ms(now));
                }
                Act::Wait(step) => now += step,
            }
            for output in ejector.on(Event::Time, ms(now)) {
                match output {
                    Output::Ejected { key, .. } => out_since[usize::from(key)] = Some(now),
                    Output::Returned { key, .. } => out_since[usize::from(key)] = None,
                    Output::Kept { .. } => {}
                }
            }
            let ejected = (1..6).filter(|&key| ejector.is_ejected(key)).count();
            prop_assert_eq!(ejected, out_since.iter().flatten().count());
            prop_assert!(ejected * 100 <= 5 * usize::from(max_percent));
            prop_assert!(out_since.iter().flatten().all(|since| now - since < 3_000));
            let serves = (1..6).any(|key| well[usize::from(key)] && !ejector.is_ejected(key));
            prop_assert_eq!(serves, well[1..].iter().any(|&is| is));
        }
    }
}

#[test]
fn three_failures_in_a_row_eject_who_is_on_trial() {
    let off = Ejection { consecutive: 0, percent: 0, max_percent: 0, ..rules() };
    let mut ejector = service(off, 3);
    ejector.on(Event::Trial { key: 1, trial: true }, ms(0));
    assert!(fail(&mut ejector, 2, 100, 10).is_empty(), "the others are under their own rules");
    assert!(fail(&mut ejector, 1, 2, 20).is_empty());
    let outputs = fail(&mut ejector, 1, 1, 30);
    let reason = "3 failures in a row while on trial; out for 1 s".to_owned();
    assert_eq!(outputs, [Output::Ejected { key: 1, reason }]);
}

#[test]
fn who_has_passed_its_trial_is_under_the_rules_of_all() {
    let mut ejector = service(rules(), 2);
    ejector.on(Event::Trial { key: 1, trial: true }, ms(0));
    fail(&mut ejector, 1, 2, 10);
    ejector.on(Event::Trial { key: 1, trial: false }, ms(15));
    assert!(fail(&mut ejector, 1, 2, 20).is_empty());
    assert_eq!(fail(&mut ejector, 1, 1, 30).len(), 1);
}

#[test]
fn the_last_one_stays_on_trial_or_not() {
    let mut ejector = service(rules(), 1);
    ejector.on(Event::Trial { key: 1, trial: true }, ms(0));
    let outputs = fail(&mut ejector, 1, 9, 10);
    assert!(matches!(&outputs[..], [Output::Kept { reason, .. }] if reason.contains("last healthy")), "{outputs:?}");
}

#[test]
fn who_was_ejected_on_trial_takes_no_place_of_the_others() {
    let mut ejector = service(rules(), 3);
    ejector.on(Event::Trial { key: 1, trial: true }, ms(0));
    assert_eq!(fail(&mut ejector, 1, 3, 10).len(), 1);
    let outputs = fail(&mut ejector, 2, 5, 20);
    assert!(matches!(&outputs[..], [Output::Ejected { key: 2, .. }]), "one of two is half of them: {outputs:?}");
}
