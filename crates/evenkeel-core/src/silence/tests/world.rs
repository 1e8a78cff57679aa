//! Random rounds: what holds whatever happens.

use proptest::prelude::*;

use super::*;

/// What one round of the random world does to three instances.
#[derive(Clone, Debug)]
struct Round {
    step_ms: u64,
    in_flight: [u64; 3],
    sends: [bool; 3],
    /// What the oldest awaited probe ends with, if it ends in this round.
    probe: Option<bool>,
}

fn round() -> impl Strategy<Value = Round> {
    let step = prop_oneof![9 => Just(20u64), 1 => 20u64..1_000];
    let some = prop_oneof![3 => Just(1u64), 1 => Just(0u64)];
    (step, [some.clone(), some.clone(), some], any::<[bool; 3]>(), prop::option::weighted(0.2, any::<bool>()))
        .prop_map(|(step_ms, in_flight, sends, probe)| Round { step_ms, in_flight, sends, probe })
}

proptest! {
    /// Nobody is called silent who did not fail two probes in a row that this rule asked for, with nothing
    /// received between them; and nobody stays silent who sent something or passed a probe.
    #[test]
    fn silent_only_after_two_failures_in_a_row(rounds in prop::collection::vec(round(), 1..400)) {
        let mut silence = Silence::new(100);
        let mut now = 0;
        let mut last = [None; 3];
        let mut failed_in_a_row = [0; 3];
        let mut awaited: Vec<(usize, u64)> = Vec::new();
        for round in rounds {
            now += round.step_ms;
            for key in 0..3 {
                if round.sends[key] && round.in_flight[key] > 0 && key != 0 {
                    last[key] = Some(ms(now));
                    failed_in_a_row[key] = 0;
                }
            }
            let seen: [_; 3] = std::array::from_fn(|key| {
                let quiet_since = last[key].or(Some(ms(0))).filter(|_| round.in_flight[key] > 0);
                Seen { key, healthy: true, in_flight: round.in_flight[key], quiet_since, last_received: last[key], asked: QUICK }
            });
            let mut outputs = silence.on(Event::Observed(&seen), ms(now));
            if let (Some(passes), false) = (round.probe, awaited.is_empty()) {
                let (key, number) = awaited.remove(0);
                if passes { failed_in_a_row[key] = 0 } else { failed_in_a_row[key] += 1 }
                let result = if passes { Ok(()) } else { Err("timed out") };
                outputs.extend(silence.on(Event::Probed { key, number, took: Duration::from_millis(1), result }, ms(now)));
                prop_assert!(!(passes && silence.is_silent(key)));
            }
            for output in outputs {
                match output {
                    Output::ProbeNow { key, number, .. } => awaited.push((key, number)),
                    Output::Silent { key, .. } => prop_assert!(failed_in_a_row[key] >= 2),
                    Output::Answers { key, .. } => prop_assert!(!silence.is_silent(key)),
                    Output::LookNow { .. } => prop_assert!(false, "the kernel knows of nobody here"),
                }
            }
        }
    }

    /// A service of one is never asked about.
    #[test]
    fn one_alone_is_never_suspected(in_flight in prop::collection::vec(0u64..4, 1..300)) {
        let mut silence = Silence::new(100);
        for (index, in_flight) in (0u64..).zip(in_flight) {
            let outputs = silence.on(Event::Observed(&[seen(1, in_flight, 0)]), ms(index * 20));
            prop_assert!(outputs.is_empty());
        }
    }
}
