//! The corpus of ambiguous and hostile messages (`strict/*.txt`): each is refused, or forwarded in one meaning, and
//! the instance reads exactly that by another parser than the edge's.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)] // What fails here fails the test.

mod common;
#[path = "strict/corpus.rs"]
mod corpus;
#[path = "strict/wire.rs"]
mod wire;

use std::sync::{Arc, Mutex};

use common::{Edge, eventually, snapshot};
use corpus::{Case, Outcome};
use evenkeel_core::{ambiguity::Ambiguity, snapshot::Strictness};
use evenkeel_edge::messages::Notice;
use wire::{Not, Recorder, Wire};

/// Sends a case and says what is not as it must be.
fn run(edge: &Edge, recorder: &Recorder, case: &Case, outcome: &Outcome, piece: usize) -> Option<String> {
    let mut wire = Wire::connect(edge.address);
    for bytes in case.sent.chunks(piece) {
        wire.send(bytes);
    }
    let count = outcome.sees.len();
    let expected = outcome.answers.clone().unwrap_or_else(|| outcome.refused.map_or(vec![200; count], |s| vec![s]));
    let heads = outcome.sees.iter().map(|sight| sight.method == "HEAD").chain([false]);
    let wanted = if expected.is_empty() { count } else { expected.len() };
    let mut statuses = Vec::new();
    for to_head in heads.take(wanted) {
        match wire.answer(to_head) {
            Ok(answer) => statuses.push(answer.status),
            Err(not) => return Some(format!("{not:?} after {statuses:?}")),
        }
    }
    // Whoever refuses waits a while for the rest, so that the answer survives.
    let _ = wire.stream.shutdown(std::net::Shutdown::Write);
    let rest = wire.rest();
    let seen = recorder.take();
    if !expected.is_empty() && statuses != expected {
        return Some(format!("the client got {statuses:?}"));
    }
    if !rest.is_empty() {
        return Some(format!("the client got more: {:?}", String::from_utf8_lossy(&rest)));
    }
    if seen.len() != count {
        return Some(format!("the instance saw {seen:?}"));
    }
    seen.iter().zip(&outcome.sees).find_map(|(read, sight)| {
        let twice = ["host", "x-forwarded-for", "x-request-id"].iter().find(|name| read.values(name).len() != 1);
        twice
            .map(|name| format!("not one {name}"))
            .or_else(|| read.is_not(sight))
            .map(|what| format!("{what}: {read:?}"))
    })
}

fn run_all(strictness: Strictness, piece: usize) -> (Edge, Vec<Case>) {
    let recorder = Recorder::plain();
    let mut snapshot = snapshot(&[recorder.address]);
    snapshot.listeners[0].strictness = strictness;
    let edge = Edge::start(snapshot);
    let cases = corpus::requests();
    let mut failed = Vec::new();
    for case in &cases {
        let outcome = if strictness == Strictness::Report { &case.report } else { &case.strict };
        if let Some(problem) = run(&edge, &recorder, case, outcome, piece) {
            failed.push(format!("{}: {problem}", case.name));
        }
    }
    assert!(failed.is_empty(), "{} cases:\n{}", failed.len(), failed.join("\n"));
    // A body that turns out to be bad on its way is cut off, and the instance sees that; nothing else is.
    assert!(piece < usize::MAX || recorder.bad.lock().unwrap().is_empty(), "{:?}", recorder.bad);
    (edge, cases)
}

#[test]
fn every_request_is_refused_or_forwarded_in_one_meaning() {
    let (mut edge, cases) = run_all(Strictness::Refuse, usize::MAX);
    assert!(cases.len() > 200, "{} cases", cases.len());
    let reports: Vec<Notice> = edge.notices();
    assert!(reports.iter().all(|notice| !matches!(notice, Notice::Ambiguous { reported: true, .. })));
    assert!(reports.iter().any(|notice| matches!(notice, Notice::Ambiguous { reported: false, .. })), "left-out names");
}

#[test]
fn where_the_network_cuts_does_not_matter() {
    // Refusals may come before the last byte, so long cases are left to the test of sizes.
    run_all(Strictness::Refuse, 7);
    run_all(Strictness::Report, 7);
}

#[test]
fn what_has_one_meaning_is_forwarded_and_reported_where_the_listener_says_so() {
    let (mut edge, cases) = run_all(Strictness::Report, usize::MAX);
    let different = cases.iter().filter(|case| case.report != case.strict).count() as u64;
    let counted = edge.threads.shared.threads[0].0.ambiguities.each_ref().map(evenkeel_edge::shared::Count::get);
    assert!(different > 10 && counted.iter().sum::<u64>() >= different, "{different} and {counted:?}");
    let notices = edge.notices();
    let told = |kind: Ambiguity| {
        let of_it = |notice: &&Notice| matches!(notice, Notice::Ambiguous { kind: its, .. } if *its == kind);
        notices.iter().filter(of_it).count()
    };
    for kind in Ambiguity::ALL {
        assert!(counted[kind.place()] > 0, "{kind:?} is in the corpus");
        assert_eq!(told(kind), 1, "{kind:?}: each is told, however many others there are, and once");
    }
    let Some(Notice::Ambiguous { listener, client, request, reported, .. }) =
        notices.iter().find(|notice| matches!(notice, Notice::Ambiguous { .. }))
    else {
        unreachable!("they were counted")
    };
    assert!(*reported && listener == "web" && client.to_string() == "127.0.0.1" && request.contains(' '), "{request}");
}

#[test]
fn every_answer_is_passed_on_in_one_meaning_or_becomes_502() {
    let current = Arc::new(Mutex::new((Vec::new(), false)));
    let given = Arc::clone(&current);
    let recorder = Recorder::start(move || given.lock().unwrap().clone());
    let edge = Edge::start(snapshot(&[recorder.address]));
    let mut failed = Vec::new();
    for case in corpus::answers() {
        *current.lock().unwrap() = (case.sent.clone(), case.ends);
        if let Some(problem) = pass(&edge, &recorder, &case) {
            failed.push(format!("{}: {problem}", case.name));
        }
        // Whatever is left open of this case must not serve the next one.
        *current.lock().unwrap() =
            (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec(), true);
        assert_eq!(edge.get("/").status(), 200);
        recorder.take();
    }
    assert!(failed.is_empty(), "{} cases:\n{}", failed.len(), failed.join("\n"));
    eventually("nothing is in flight", || edge.instance(0).sum(|cell| &cell.in_flight) == 0);
}

/// Asks twice and says what is not as it must be.
fn pass(edge: &Edge, recorder: &Recorder, case: &corpus::AnswerCase) -> Option<String> {
    let ask = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
    let mut wire = Wire::connect(edge.address);
    wire.send(ask);
    let mut interim = Vec::new();
    let answer = loop {
        match wire.answer(false) {
            Ok(answer) if answer.status < 200 => interim.push(answer.status),
            Ok(answer) => break answer,
            Err(not) => return Some(format!("{not:?}")),
        }
    };
    if answer.status != case.status {
        return Some(format!("it became {answer:?}"));
    }
    if case.interim.as_ref().is_some_and(|expected| *expected != interim) {
        return Some(format!("before it came {interim:?}"));
    }
    if case.status != 502 && answer.body != case.body {
        return Some(format!("another body: {answer:?}"));
    }
    if answer.values("x-request-id").len() != 1 {
        return Some(format!("not one identity: {answer:?}"));
    }
    if let Some(problem) = answer.differs(&case.with, &case.without) {
        return Some(problem);
    }
    let kept = case.kept?;
    if answer.values("connection") == ["close"] {
        wire = Wire::connect(edge.address);
    }
    wire.send(ask);
    let second = loop {
        match wire.answer(false) {
            Ok(answer) if answer.status < 200 => {}
            other => break other.map(|answer| answer.status),
        }
    };
    if second != Ok::<_, Not>(case.status) {
        return Some(format!("the second one became {second:?}"));
    }
    let connections: Vec<usize> = recorder.take().iter().map(|read| read.connection).collect();
    let same = connections.first() == connections.last();
    (same != kept).then(|| format!("asked over connections {connections:?}"))
}
