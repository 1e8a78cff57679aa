//! What the edge forwards means the same to others: nginx, Apache and HAProxy stand behind it as instances, and behind
//! them an instance that writes down what each of them understood. Nothing that was one request to the edge is two to
//! one of them, and what they pass on is what the edge meant.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)] // What fails here fails the test.
#![allow(dead_code)] // Of the corpus' parts only some are used here.

mod common;
#[path = "strict/corpus.rs"]
mod corpus;
#[path = "strict/peers.rs"]
mod peers;
#[path = "strict/wire.rs"]
mod wire;

use common::{Edge, eventually, snapshot};
use corpus::{Outcome, Sight};
use evenkeel_core::snapshot::Strictness;
use peers::Peer;
use wire::{Read1, Recorder, Wire};

/// Sends what is forwarded and reads as many answers.
fn send(edge: &Edge, sent: &[u8], outcome: &Outcome) {
    let mut wire = Wire::connect(edge.address);
    wire.send(sent);
    let count = outcome.answers.as_ref().map_or(outcome.sees.len(), |answers| answers.len().max(outcome.sees.len()));
    let heads = outcome.sees.iter().map(|sight| sight.method == "HEAD").chain([false]);
    for to_head in heads.take(count) {
        wire.answer(to_head).unwrap();
    }
}

/// What of `seen` is none of what was meant, in its order.
fn strange(seen: &[Read1], meant: &[Sight]) -> Option<String> {
    let mut rest = meant.iter();
    seen.iter().find_map(|read| {
        // Apache makes one slash of several at the beginning.
        let path = |target: &str| target.trim_start_matches('/').to_owned();
        let fits = |sight: &&Sight| {
            read.method == sight.method && path(&read.target) == path(&sight.target) && read.body == sight.body
        };
        rest.by_ref().find(fits).is_none().then(|| format!("{read:?}"))
    })
}

fn compare(strictness: Strictness) {
    let recorder = Recorder::plain();
    for peer in Peer::all(recorder.address) {
        let mut snapshot = snapshot(&[peer.address]);
        snapshot.listeners[0].strictness = strictness;
        let edge = Edge::start(snapshot);
        let before = peer.logged().len();
        let (mut meant, mut passed, mut strange_ones) = (0, 0, Vec::new());
        for case in corpus::requests() {
            let outcome = if strictness == Strictness::Report { &case.report } else { &case.strict };
            if outcome.sees.is_empty() {
                continue;
            }
            send(&edge, &case.sent, outcome);
            let seen = recorder.take();
            meant += outcome.sees.len();
            passed += seen.len();
            if let Some(read) = strange(&seen, &outcome.sees) {
                strange_ones.push(format!("{}: {} passed on {read}", case.name, peer.name));
            }
        }
        assert!(strange_ones.is_empty(), "{}", strange_ones.join("\n"));
        // Each refuses a few of its own accord, as an asterisk or an escaped NUL.
        assert!(meant > 50 && passed * 10 >= meant * 9, "{}: {passed} of {meant}", peer.name);
        edge.get("/the-end");
        // Lines of different connections may come in another order than their requests.
        let ended = || peer.logged().iter().any(|line| line.contains("/the-end"));
        eventually("its log is complete", || ended() && peer.logged().len() - before > meant);
        assert_eq!(peer.logged().len() - before, meant + 1, "{}: {:#?}", peer.name, peer.logged());
        recorder.take();
    }
    assert!(recorder.bad.lock().unwrap().is_empty(), "{:?}", recorder.bad);
}

#[test]
fn others_understand_what_is_forwarded_as_the_edge_does() {
    compare(Strictness::Refuse);
}

#[test]
fn others_understand_what_was_put_right_as_the_edge_does() {
    compare(Strictness::Report);
}
