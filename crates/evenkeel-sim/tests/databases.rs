//! The failover of databases: invariants hold over many seeds, and a rule that is missing is noticed.

use evenkeel_core::failover::{Rule, Rules};
use evenkeel_sim::database::{Options, run};

#[test]
fn invariants_hold_over_many_seeds() {
    let hold = |seeds: std::ops::Range<u64>| {
        for seed in seeds {
            let violation = run(seed, Options { rules: Rules::ALL, text: false }).violation;
            assert_eq!(violation, None, "replay: cargo run --release -p evenkeel-sim --bin databases -- --seed {seed}");
        }
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| hold(30..60));
        hold(0..30);
        other.join().expect("the invariants hold in the other half too");
    });
}

#[test]
fn a_seed_has_one_outcome() {
    let options = Options { rules: Rules::ALL, text: false };
    for seed in 5000..5004 {
        let (once, again) = (run(seed, options), run(seed, options));
        assert_eq!((once.coverage, once.acknowledged), (again.coverage, again.acknowledged), "seed {seed}");
    }
}

/// Each with a seed that shows it: `databases --without RULE` finds others after a change.
#[test]
fn a_rule_that_is_missing_is_noticed() {
    let shown = [
        (Rule::OneSided, 19, "no acknowledged write is lost"),
        (Rule::Settled, 98, "no acknowledged write is lost"),
        (Rule::StoppedReceiving, 100, "never two that acknowledge"),
        (Rule::Furthest, 42, "no acknowledged write is lost"),
        (Rule::LeaseFirst, 1, "nobody is primary without the lease"),
        (Rule::FencedFirst, 2, "given back by nothing that runs"),
        (Rule::StopInTime, 176, "what was read stays"),
        (Rule::CompareAndSwap, 17, "no acknowledged write is lost"),
        (Rule::Revalidate, 62, "nobody is primary without the lease"),
        (Rule::NewestToken, 282, "no acknowledged write is lost"),
        (Rule::ElectorateOnly, 1, "no acknowledged write is lost"),
        (Rule::OpenConfirmed, 117, "what was read stays"),
        (Rule::Rejoin, 17, "who follows has a beginning"),
        (Rule::Promises, 130, "promises are kept"),
        (Rule::OwnSight, 0, "no unneeded failover"),
        (Rule::SuspicionIsNoProof, 10, "suspicion is no proof"),
        (Rule::Calm, 2, "calm"),
        (Rule::MaxLag, 35, "no more is lost than permitted"),
    ];
    for (rule, seed, invariant) in shown {
        let found = run(seed, Options { rules: Rules::without(rule), text: false }).violation;
        assert_eq!(found.map(|violation| violation.invariant), Some(invariant), "without {rule:?}, seed {seed}");
    }
}
