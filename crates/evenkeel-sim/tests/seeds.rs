//! A few hundred seeds hold every invariant, and a seed is all there is to a run.

use std::process::Command;

use evenkeel_sim::{Options, run};

/// Runs these seeds on two threads.
fn all_hold(seeds: std::ops::Range<u64>) {
    let middle = u64::midpoint(seeds.start, seeds.end);
    let half = |seeds: std::ops::Range<u64>| {
        for seed in seeds {
            let violation = run(seed, &Options::default()).violation;
            assert_eq!(violation, None, "replay: cargo run --release -p evenkeel-sim -- --seed {seed}");
        }
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| half(middle..seeds.end));
        half(seeds.start..middle);
        other.join().expect("the invariants hold in the other half too");
    });
}

#[test]
fn invariants_hold_over_many_seeds() {
    all_hold(0..200);
}

#[test]
fn a_seed_replays_exactly() {
    for seed in 1_000..1_010 {
        let plain = run(seed, &Options::default());
        let told = Options { text: true, ..Options::default() };
        let again = run(seed, &told);
        assert_eq!((plain.hash, plain.events), (again.hash, again.events), "seed {seed}");
        assert_eq!(again.lines, run(seed, &told).lines, "seed {seed}");
        assert_ne!(plain.hash, run(seed + 1, &Options::default()).hash);
    }
}

#[test]
fn a_violation_is_told_with_the_command_that_replays_it() {
    let sim = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_evenkeel-sim")).args(arguments).output();
        let output = output.expect("the simulator was built with this test");
        let text = String::from_utf8(output.stdout).expect("it prints text");
        (output.status.code(), text)
    };
    let (code, text) = sim(&["--seeds", "100", "--sabotage", "repeat-anything"]);
    assert_eq!(code, Some(1), "{text}");
    let (_, command) = text.split_once("evenkeel-sim -- ").expect("the command is printed");
    let arguments: Vec<&str> = command.split_whitespace().collect();
    let (code, replayed) = sim(&arguments);
    assert_eq!(code, Some(1), "{replayed}");
    let (_, told) = text.split_once("\nseed ").expect("the violation is printed");
    assert!(replayed.ends_with(told), "the replay ends as the search did");
    assert_eq!(sim(&["--seeds"]).0, Some(2), "a wrong command line");
}
