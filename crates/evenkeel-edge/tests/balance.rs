//! Which instance gets a request: algorithms, sticky sessions and slow start, over real sockets.

#![allow(clippy::unwrap_used)] // What fails in the helpers fails the test.

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use common::{Answer, Edge, Server, nowhere, snapshot};
use evenkeel_core::{
    balance::{TokenKey, hash_bytes},
    snapshot::{Balance, Choice, Duty, HashBy, Snapshot, Sticky},
    status::Health,
};

const NAMES: [&str; 4] = ["one", "two", "three", "four"];

fn servers(count: usize) -> Vec<Server> {
    NAMES[..count].iter().map(|name| Server::named(name)).collect()
}

fn addresses(servers: &[Server]) -> Vec<SocketAddr> {
    servers.iter().map(|server| server.address).collect()
}

fn balanced(servers: &[Server], balance: Balance, choice: Choice) -> Snapshot {
    let mut snapshot = snapshot(&addresses(servers));
    // Names as a service with fixed addresses has them would differ from run to run.
    snapshot.services[0].balance = balance;
    snapshot.services[0].choice = choice;
    snapshot
}

fn cookie() -> Choice {
    let sticky = Some(Sticky::Cookie { name: "at".into(), max_age_s: 60, secure: false });
    Choice { sticky, ..Choice::default() }
}

/// `GET` with these field lines; the body is the name of who answered.
fn with(edge: &Edge, path: &str, fields: &str) -> Answer {
    edge.ask(&format!("GET {path} HTTP/1.1\r\nHost: test\r\n{fields}\r\n"))
}

/// The `name=value` that an answer sets.
fn given(answer: &Answer) -> Option<String> {
    answer.field("set-cookie").map(|line| line.split(';').next().unwrap().to_owned())
}

fn counts(edge: &Edge, requests: usize) -> BTreeMap<String, usize> {
    let mut client = edge.client();
    let mut counts = BTreeMap::new();
    for _ in 0..requests {
        client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        *counts.entry(client.answer().text()).or_default() += 1;
    }
    counts
}

#[test]
fn one_request_at_a_time_goes_to_all_by_weight() {
    let servers = servers(3);
    let mut weighted = balanced(&servers, Balance::LeastConnections, Choice::default());
    for (instance, weight) in weighted.services[0].instances.iter_mut().zip([1, 3, 6]) {
        instance.weight = weight;
    }
    let counts = counts(&Edge::start(weighted), 100);
    let of = |name: &str| counts.get(name).copied().unwrap_or(0);
    for (name, wanted) in [("one", 10), ("two", 30), ("three", 60)] {
        assert!(of(name).abs_diff(wanted) <= 1, "{counts:?}");
    }
}

#[test]
fn hashing_algorithms_keep_each_path_at_its_instance() {
    for balance in [Balance::Maglev, Balance::ConsistentHash] {
        let servers = servers(4);
        let choice = Choice { hash_by: HashBy::Path, hash_bound_percent: 125, ..Choice::default() };
        let mut of_threads = balanced(&servers, balance, choice);
        of_threads.threads = 2;
        let edge = Edge::start(of_threads);
        let who = |n: usize, query: &str| edge.get(&format!("/item/{n}{query}")).text();
        let before: Vec<String> = (0..40).map(|n| who(n, "")).collect();
        assert!(before.iter().collect::<BTreeSet<_>>().len() == 4, "{balance:?}: {before:?}");
        // Every connection may be one of another thread.
        let again: Vec<String> = (0..40).map(|n| who(n, "?page=2")).collect();
        assert_eq!(before, again, "{balance:?}: the query does not count");
        edge.set_health(1, Health::Unhealthy);
        let without: Vec<String> = (0..40).map(|n| who(n, "")).collect();
        for (was, is) in before.iter().zip(&without) {
            assert!(was == is || was == "two", "{balance:?}: {was} to {is}");
            assert_ne!(is, "two");
        }
        edge.set_health(1, Health::Healthy);
        assert_eq!(before, (0..40).map(|n| who(n, "")).collect::<Vec<_>>(), "{balance:?}");
    }
}

#[test]
fn a_request_is_hashed_by_field_or_cookie_and_otherwise_by_address() {
    let servers = servers(4);
    let by = |hash_by| Choice { hash_by, ..Choice::default() };
    let edge = Edge::start(balanced(&servers, Balance::Maglev, by(HashBy::Header("x-user".into()))));
    let who = |n: usize| with(&edge, "/", &format!("X-User: {n}\r\n")).text();
    let all: Vec<String> = (0..30).map(who).collect();
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 4);
    assert_eq!(all, (0..30).map(who).collect::<Vec<_>>());
    let without: BTreeSet<String> = (0..10).map(|n| edge.get(&format!("/{n}")).text()).collect();
    assert_eq!(without.len(), 1, "one client has one address");
    let edge = Edge::start(balanced(&servers, Balance::ConsistentHash, by(HashBy::Cookie("user".into()))));
    let who = |n: usize| with(&edge, "/", &format!("Cookie: a=1; user={n}\r\n")).text();
    let all: Vec<String> = (0..30).map(who).collect();
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 4);
    assert_eq!(all, (0..30).map(who).collect::<Vec<_>>());
}

#[test]
fn a_popular_path_overflows_to_the_next_instance() {
    let (first, release) = Server::silent();
    let (second, release_second) = Server::silent();
    let mut snapshot = snapshot(&[first.address, second.address]);
    snapshot.services[0].balance = Balance::ConsistentHash;
    let choice = Choice { hash_by: HashBy::Path, hash_bound_percent: 100, ..Choice::default() };
    snapshot.services[0].choice = choice;
    let edge = Edge::start(snapshot);
    let mut clients: Vec<_> = (0..6).map(|_| edge.client()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.send(b"GET /popular HTTP/1.1\r\nHost: test\r\n\r\n");
        common::eventually("it is at an instance", || first.count() + second.count() > n);
    }
    assert_eq!((first.count(), second.count()), (3, 3), "none is above the mean");
    for sender in [release, release_second] {
        for _ in 0..3 {
            sender.send(b"HTTP/1.1 204 x\r\n\r\n".to_vec()).unwrap();
        }
    }
    for client in &mut clients {
        assert_eq!(client.answer().status(), 204);
    }
}

#[test]
fn random_spreads_by_weight() {
    let servers = servers(3);
    let mut snapshot = balanced(&servers, Balance::Random, Choice::default());
    snapshot.services[0].instances[2].weight = 8;
    let counts = counts(&Edge::start(snapshot), 600);
    assert!(counts["three"] > 400 && counts["one"] > 20 && counts["two"] > 20, "{counts:?}");
}

/// Takes so long for an answer.
fn slow(name: &'static str, ms: u64) -> Server {
    Server::start(move |mut script| {
        while script.request().is_some() {
            std::thread::sleep(Duration::from_millis(ms));
            script.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len()));
        }
    })
}

#[test]
fn power_of_two_prefers_who_answers_sooner() {
    let all = [slow("slow", 60), Server::named("quick"), Server::named("other")];
    let edge = Edge::start(balanced(&all, Balance::PowerOfTwo, Choice::default()));
    let counts = counts(&edge, 300);
    let slow = counts.get("slow").copied().unwrap_or_default();
    // Which of the other two had the luck of the quicker answers is no matter.
    assert!((1..20).contains(&slow), "one finds out, and few more: {counts:?}");
}

#[test]
fn power_of_two_does_not_prefer_who_fails_sooner() {
    let fails = Server::start(|mut script| {
        while script.request().is_some() {
            script.send("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 5\r\n\r\nfails");
        }
    });
    let all = [fails, slow("one", 20), slow("two", 20)];
    let counts = counts(&Edge::start(balanced(&all, Balance::PowerOfTwo, Choice::default())), 60);
    assert!(counts.get("fails").is_none_or(|fails| *fails < 10), "{counts:?}");
}

#[test]
fn power_of_two_does_not_take_a_slow_upload_for_a_slow_instance() {
    let all = [slow("one", 20), slow("two", 20)];
    let edge = Edge::start(balanced(&all, Balance::PowerOfTwo, Choice::default()));
    counts(&edge, 20);
    let mut client = edge.client();
    client.send(b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
    let tries = |edge: &Edge| (0..2).map(|n| edge.instance(n).sum(|cell| &cell.tries)).sum::<u64>();
    common::eventually("the upload is at an instance", || tries(&edge) == 21);
    std::thread::sleep(Duration::from_millis(400));
    client.send(b"0\r\n\r\n");
    let uploaded = client.answer().text();
    // Four at once are shared out where latencies are alike. Had the upload counted, this one would seem twenty times as
    // slow as the other and get nothing for seconds.
    let mut clients: Vec<_> = (0..4).map(|_| edge.client()).collect();
    let mut after = 0;
    for _ in 0..15 {
        for client in &mut clients {
            client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        }
        after += clients.iter_mut().filter_map(|client| (client.answer().text() == uploaded).then_some(())).count();
    }
    assert!(after > 5, "{uploaded} got {after} of 60");
}

#[test]
fn a_cookie_keeps_a_client_at_its_instance() {
    let servers = servers(4);
    let mut snapshot = balanced(&servers, Balance::RoundRobin, cookie());
    snapshot.threads = 2;
    let edge = Edge::start(snapshot);
    let first = edge.get("/");
    let line = first.field("set-cookie").unwrap();
    assert!(line.ends_with("; Path=/; HttpOnly; SameSite=Lax; Max-Age=60"), "{line}");
    let cookie = given(&first).unwrap();
    let value = cookie.strip_prefix("at=").unwrap();
    assert!(value.len() == 16 && value.bytes().all(|byte| byte.is_ascii_hexdigit()), "{cookie}");
    for _ in 0..20 {
        let again = with(&edge, "/", &format!("Cookie: sid=7; {cookie}; theme=dark\r\n"));
        assert_eq!((again.text(), again.field("set-cookie")), (first.text(), None));
    }
    let others: BTreeSet<String> = (0..8).map(|_| edge.get("/").text()).collect();
    assert_eq!(others.len(), 4, "who has no cookie goes where the algorithm says");
}

#[test]
fn instances_do_not_see_the_edges_cookie() {
    let server = Server::echo();
    let edge = Edge::start(balanced(&[server], Balance::RoundRobin, cookie()));
    for (sent, seen) in [
        ("Cookie: sid=7; at=0123456789abcdef; theme=dark\r\n", Some("sid=7; theme=dark")),
        ("Cookie: at=anything\r\n", None),
        ("Cookie: bat=1\r\n", Some("bat=1")),
    ] {
        let mut client = edge.client();
        client.send(format!("POST /x HTTP/1.1\r\nHost: a\r\n{sent}Content-Length: 4\r\n\r\nbody").as_bytes());
        let echoed = client.answer().text();
        let cookie = echoed.lines().find_map(|line| line.strip_prefix("Cookie: "));
        assert_eq!(cookie, seen, "{sent}");
        assert!(echoed.ends_with("\n\nbody"), "{echoed}");
    }
}

#[test]
fn instances_do_not_see_a_session_of_the_console() {
    let server = Server::echo();
    let edge = Edge::start(balanced(&[server], Balance::RoundRobin, Choice::default()));
    for (sent, seen) in [
        ("Cookie: sid=7; keel_session_9400=secret; theme=dark\r\n", Some("sid=7; theme=dark")),
        ("Cookie: keel_session_9400=secret\r\n", None),
        ("Cookie: akeel_session=1\r\n", Some("akeel_session=1")),
    ] {
        let mut client = edge.client();
        client.send(format!("POST /x HTTP/1.1\r\nHost: a\r\n{sent}Content-Length: 4\r\n\r\nbody").as_bytes());
        let echoed = client.answer().text();
        let cookie = echoed.lines().find_map(|line| line.strip_prefix("Cookie: "));
        assert_eq!(cookie, seen, "{sent}");
        assert!(echoed.ends_with("\n\nbody"), "{echoed}");
    }
}

#[test]
fn a_forged_cookie_is_ignored_and_replaced() {
    let edge = Edge::start(balanced(&servers(2), Balance::RoundRobin, cookie()));
    for forged in ["at=1", "at=ffffffffffffffff", "at=127.0.0.1:80", "at=", "AT=0", "at=\"\""] {
        let answer = with(&edge, "/", &format!("Cookie: {forged}\r\n"));
        assert_eq!(answer.status(), 200);
        assert!(given(&answer).is_some_and(|given| given != forged), "{forged}");
    }
}

#[test]
fn a_cookie_means_the_same_to_edges_of_one_key_and_nothing_to_others() {
    let servers = servers(4);
    let keyed = |key: u8| {
        let edge = Edge::start(balanced(&servers, Balance::RoundRobin, cookie()));
        edge.threads.shared.tokens.set(TokenKey::new([key; 16])).unwrap();
        edge
    };
    let edge = keyed(1);
    let given_by_one: BTreeMap<String, String> =
        (0..4).map(|_| edge.get("/")).map(|answer| (answer.text(), given(&answer).unwrap())).collect();
    assert_eq!(given_by_one.len(), 4);
    drop(edge);
    let (same, other) = (keyed(1), keyed(2));
    for (name, cookie) in &given_by_one {
        let field = format!("Cookie: {cookie}\r\n");
        let answer = with(&same, "/", &field);
        assert_eq!((&answer.text(), answer.field("set-cookie")), (name, None));
        assert!(given(&with(&other, "/", &field)).is_some_and(|fresh| fresh != *cookie), "it is replaced");
    }
    // Who knows the name of an instance does not know its token.
    let guessed = hash_bytes(b"app/1");
    assert!(!given_by_one.values().any(|cookie| cookie.ends_with(&format!("{guessed:016x}"))));
}

#[test]
fn a_client_moves_with_a_new_cookie_when_its_instance_is_away() {
    let servers = servers(3);
    let mut edge = Edge::start(balanced(&servers, Balance::RoundRobin, cookie()));
    let place = |name: &str| NAMES.iter().position(|other| *other == name).unwrap();
    let first = edge.get("/");
    let former = given(&first).unwrap();
    edge.set_health(place(&first.text()), Health::Silent);
    let second = with(&edge, "/", &format!("Cookie: {former}\r\n"));
    let cookie = given(&second).unwrap();
    assert!(second.text() != first.text() && cookie != former);
    edge.set_health(place(&first.text()), Health::Healthy);
    let stays = with(&edge, "/", &format!("Cookie: {cookie}\r\n"));
    assert_eq!((stays.text(), stays.field("set-cookie")), (second.text(), None), "it stays where it went");
    // Who drains finishes what it has, and its clients move.
    let mut snapshot = edge.snapshot.clone();
    snapshot.services[0].instances[place(&second.text())].duty = Duty::Drain;
    snapshot.version += 1;
    edge.apply(snapshot);
    let third = with(&edge, "/", &format!("Cookie: {cookie}\r\n"));
    assert!(third.text() != second.text() && given(&third).is_some());
    // And it is known under the same name when it comes back.
    let mut snapshot = edge.snapshot.clone();
    snapshot.services[0].instances[place(&second.text())].duty = Duty::Serve;
    snapshot.version += 1;
    edge.apply(snapshot);
    assert_eq!(with(&edge, "/", &format!("Cookie: {cookie}\r\n")).text(), second.text());
}

#[test]
fn a_retry_gives_the_cookie_of_the_instance_that_answered() {
    let good = Server::named("good");
    let mut snapshot = snapshot(&[nowhere(), good.address]);
    snapshot.services[0].choice = cookie();
    let edge = Edge::start(snapshot);
    let answers: Vec<Answer> = (0..4).map(|_| edge.get("/")).collect();
    let tokens: BTreeSet<String> = answers.iter().map(|answer| given(answer).unwrap()).collect();
    assert_eq!(tokens.len(), 1, "only the one that answers is named");
    assert!(edge.instance(0).sum(|cell| &cell.tries) > 0, "the other one was tried");
}

#[test]
fn a_client_whose_instance_is_full_keeps_its_cookie() {
    let (full, release) = Server::silent();
    let other = Server::named("other");
    let mut snapshot = snapshot(&[full.address, other.address]);
    snapshot.services[0].choice = cookie();
    snapshot.services[0].limits.in_flight_per_instance = 1;
    let edge = Edge::start(snapshot);
    release.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfull".to_vec()).unwrap();
    let cookie = (0..2).map(|_| edge.get("/")).find(|answer| answer.text() == "full").and_then(|full| given(&full));
    let fields = format!("Cookie: {}\r\n", cookie.unwrap());
    let mut waiting = edge.client();
    waiting.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes());
    common::eventually("its instance is full", || full.count() == 2);
    let meanwhile = with(&edge, "/", &fields);
    assert_eq!((meanwhile.text().as_str(), meanwhile.field("set-cookie")), ("other", None));
    release.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfull".to_vec()).unwrap();
    assert_eq!(waiting.answer().text(), "full");
}

#[test]
fn every_way_of_an_answer_carries_the_cookie() {
    let large = 300_000;
    let server = Server::start(move |mut script| {
        while let Some(request) = script.request() {
            match request.head.split(' ').nth(1).unwrap() {
                "/chunks" => script.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"),
                "/large" => {
                    script.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {large}\r\n\r\n"));
                    script.send(vec![b'x'; large]);
                }
                "/ws" => {
                    script
                        .send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
                }
                _ => script.send("HTTP/1.1 304 Not Modified\r\n\r\n"),
            }
        }
    });
    let edge = Edge::start(balanced(&[server], Balance::RoundRobin, cookie()));
    for path in ["/chunks", "/large", "/unchanged"] {
        let answer = edge.get(path);
        assert_eq!(answer.fields("set-cookie").len(), 1, "{path}: {}", answer.head);
    }
    let upgrade = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let mut client = edge.client();
    client.send(upgrade.as_bytes());
    assert!(given(&client.answer_to_head()).is_some());
}

#[test]
fn a_field_or_the_address_keeps_a_client_without_a_cookie() {
    let servers = servers(4);
    let by = |sticky| Choice { sticky: Some(sticky), ..Choice::default() };
    let edge = Edge::start(balanced(&servers, Balance::RoundRobin, by(Sticky::Header("x-session".into()))));
    let who = |n: usize| {
        let answer = with(&edge, "/", &format!("X-Session: {n}\r\n"));
        assert_eq!(answer.field("set-cookie"), None);
        answer.text()
    };
    let all: Vec<String> = (0..40).map(who).collect();
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 4);
    assert_eq!(all, (0..40).map(who).collect::<Vec<_>>());
    let without: BTreeSet<String> = (0..8).map(|_| edge.get("/").text()).collect();
    assert_eq!(without.len(), 4, "without the field the algorithm says");
    edge.set_health(0, Health::Ejected);
    for (was, is) in all.iter().zip((0..40).map(who)) {
        assert!(*was == is || was == "one");
    }
    let edge = Edge::start(balanced(&servers, Balance::RoundRobin, by(Sticky::Address)));
    let mine: BTreeSet<String> = (0..8).map(|_| edge.get("/").text()).collect();
    assert_eq!(mine.len(), 1);
}

#[test]
fn who_has_a_cookie_stays_while_others_try_a_new_release() {
    let servers = servers(2);
    let mut snapshot = balanced(&servers, Balance::LeastConnections, cookie());
    snapshot.services[0].instances[0].trial = true;
    snapshot.services[0].instances[0].sheltered = true;
    let edge = Edge::start(snapshot);
    let old = (0..20).map(|_| edge.get("/")).find(|answer| answer.text() == "two").unwrap();
    let new = (0..20).map(|_| edge.get("/")).find(|answer| answer.text() == "one").unwrap();
    let (old, new) = (given(&old).unwrap(), given(&new).unwrap());
    for _ in 0..20 {
        assert_eq!(with(&edge, "/", &format!("Cookie: {old}\r\n")).text(), "two");
        assert_eq!(with(&edge, "/", &format!("Cookie: {new}\r\n")).text(), "one");
    }
    // What could not be repeated is not given to a sheltered one, and its client stays its client.
    let post = format!("POST / HTTP/1.1\r\nHost: a\r\nCookie: {new}\r\nContent-Length: 0\r\n\r\n");
    let answer = edge.ask(&post);
    assert_eq!((answer.text().as_str(), answer.field("set-cookie")), ("two", None));
}

#[test]
fn a_fallback_gives_no_cookie_of_its_own() {
    let (shop, other) = (Server::named("shop"), Server::named("other"));
    let mut snapshot = snapshot(&[shop.address]);
    snapshot.services[0].choice = cookie();
    snapshot.services[0].fallback = Some("other".into());
    let mut stand_in = common::service("other", &[other.address]);
    stand_in.choice = cookie();
    snapshot.services.push(stand_in);
    let edge = Edge::start(snapshot);
    let mine = given(&edge.get("/")).unwrap();
    edge.set_health(0, Health::Unhealthy);
    let meanwhile = with(&edge, "/", &format!("Cookie: {mine}\r\n"));
    assert_eq!((meanwhile.text().as_str(), meanwhile.field("set-cookie")), ("other", None));
    edge.set_health(0, Health::Healthy);
    let back = with(&edge, "/", &format!("Cookie: {mine}\r\n"));
    assert_eq!((back.text().as_str(), back.field("set-cookie")), ("shop", None));
}

#[test]
fn who_starts_slowly_gets_a_part_of_its_share() {
    let by_load = [Balance::LeastConnections, Balance::PowerOfTwo];
    for balance in by_load.into_iter().chain([Balance::WeightedRoundRobin, Balance::Random]) {
        let choice = Choice { slow_start_ms: 3_600_000, ..Choice::default() };
        let edge = Edge::start(balanced(&servers(2), balance, choice));
        // Of two, the power of two prefers whoever answers sooner, which may be the other one nearly always.
        let whole = |edge: &Edge| balance == Balance::PowerOfTwo || counts(edge, 100)["one"] > 25;
        assert!(whole(&edge), "{balance:?}: nobody starts slowly yet");
        edge.instance(0).set_warming_since_ms(evenkeel_edge::clock::millis(evenkeel_edge::clock::now()));
        let slow = counts(&edge, 220)["one"];
        assert!((5..=40).contains(&slow), "{balance:?}: {slow} of 220, where a tenth against the whole is 20");
        // Whoever became healthy longer ago than that has the whole again.
        let mut snapshot = edge.snapshot.clone();
        snapshot.services[0].choice.slow_start_ms = 1;
        snapshot.version += 1;
        let mut edge = edge;
        edge.apply(snapshot);
        assert!(whole(&edge), "{balance:?}");
    }
}

#[test]
fn who_is_enlisted_gets_requests_until_its_verdict_changes() {
    let edge = Edge::start(balanced(&servers(2), Balance::RoundRobin, Choice::default()));
    edge.set_health(0, Health::Unhealthy);
    assert_eq!(counts(&edge, 10).len(), 1);
    edge.instance(0).enlist(true);
    assert_eq!(edge.instance(0).health(), Health::Unhealthy);
    assert_eq!(counts(&edge, 10)["one"], 5);
    edge.set_health(0, Health::Silent);
    assert_eq!(counts(&edge, 10).len(), 1, "a new verdict ends it");
}
