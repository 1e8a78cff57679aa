//! Routes are found whichever way a path is spelled, and instances get it as it was sent.

#![allow(clippy::unwrap_used)]

mod common;
#[path = "fuzzed/path.rs"]
#[allow(missing_docs, unreachable_pub)]
mod fuzzed;

use common::{Edge, Server, service, snapshot};
use evenkeel_core::snapshot::{Rate, RateKey, Snapshot};

/// `/wp-login.php` and `/café` lead to a service of their own, everything else to another one.
fn guarded(open: &Server, login: &Server) -> Snapshot {
    let mut snapshot = snapshot(&[open.address]);
    snapshot.services.push(service("login", &[login.address]));
    for path in ["/wp-login.php", "/café", "/down//here/"] {
        let mut route = snapshot.routes[0].clone();
        (route.path, route.service) = (path.to_owned(), "login".to_owned());
        snapshot.routes.push(route);
    }
    snapshot
}

#[test]
fn no_spelling_of_a_path_gets_around_its_route() {
    let (open, login) = (Server::named("open"), Server::named("login"));
    let edge = Edge::start(guarded(&open, &login));
    let long = format!("/{}/../wp-login.php", "x".repeat(2000));
    let mut client = edge.client();
    let mut sent = Vec::new();
    for path in [
        "/wp-login.php",
        "/wp-login.php?action=x",
        "/wp-login.php/x",
        "//wp-login.php",
        "///wp-login.php",
        "/%77p-login.php",
        "/wp%2dlogin%2Ephp",
        "/%77%70%2D%6c%6F%67%69%6e%2e%70%68%70?q=%20//",
        "/a/../wp-login.php",
        "/a/%2e%2E/wp-login.php",
        "/a/b/.././../wp-login.php",
        "/./wp-login.php",
        "/.//%2e/wp-login.php",
        "/wp-login.php/x/..",
        "/wp-login.php//",
        "/caf%c3%a9",
        "/caf%C3%A9/x",
        "/down/here",
        "/down///here/x",
        &long,
    ] {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes());
        assert_eq!(client.answer().text(), "login", "{path}");
        sent.push(format!("GET {path} HTTP/1.1"));
    }
    let seen = login.requests();
    let lines: Vec<&str> = seen.iter().map(|request| request.head.lines().next().unwrap()).collect();
    assert_eq!(lines, sent, "every byte as it was sent");
}

#[test]
fn other_paths_stay_others() {
    let (open, login) = (Server::named("open"), Server::named("login"));
    let edge = Edge::start(guarded(&open, &login));
    let mut client = edge.client();
    for path in [
        "/",
        "//",
        "/x?/wp-login.php",
        "/?x=/../wp-login.php",
        "/wp-login.phpx",
        "/wp-login.php/..",
        "/wp-login.php%2Fx",
        "/wp-login.php%3Fx",
        "/%2Fwp-login.php",
        "/%2577p-login.php",
        "/wp-login.php%",
        "/WP-login.php",
        "/.well-known/wp-login.php",
        "/...",
    ] {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes());
        assert_eq!(client.answer().text(), "open", "{path}");
    }
}

#[test]
fn what_climbs_is_refused_and_the_connection_goes_on() {
    let (open, login) = (Server::named("open"), Server::named("login"));
    let edge = Edge::start(guarded(&open, &login));
    let mut client = edge.client();
    for path in [
        "/..",
        "/../wp-login.php",
        "/%2e%2e/wp-login.php",
        "/a/../../wp-login.php",
        "/a%2F..%2Fwp-login.php",
        "/a/..;/wp-login.php",
        "http://test/../x",
    ] {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes());
        assert_eq!(client.answer().status(), 400, "{path}");
    }
    client.send(
        b"POST /.. HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\nhiOPTIONS * HTTP/1.1\r\nHost: test\r\n\r\n",
    );
    assert_eq!(client.answer().status(), 400);
    assert_eq!(client.answer().text(), "open", "what follows a whole request is the next one");
    assert_eq!((open.count(), login.count()), (1, 0));
}

#[test]
fn a_bound_on_a_route_counts_every_spelling() {
    let (open, login) = (Server::named("open"), Server::named("login"));
    let mut snapshot = guarded(&open, &login);
    let once = Rate { by: RateKey::Address, requests: 1, per_ms: 3_600_000, burst: 0 };
    snapshot.routes[1].actions.rates.push(once);
    let edge = Edge::start(snapshot);
    assert_eq!(edge.get("/wp-login.php").status(), 200);
    for path in ["//wp-login.php", "/%77p-login.php", "/a/../wp-login.php"] {
        assert_eq!(edge.get(path).status(), 429, "{path}");
    }
}

#[test]
fn the_corpus_of_the_fuzzer_holds() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/path");
    let files: Vec<_> = std::fs::read_dir(corpus).unwrap().map(|file| file.unwrap().path()).collect();
    let good = files.iter().filter(|file| fuzzed::run(&std::fs::read(file).unwrap())).count();
    assert!(good >= 10 && files.len() - good >= 4, "{good} of {}", files.len());
}
