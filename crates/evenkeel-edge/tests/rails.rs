//! Guard rails: where a request is sent, how often a client may ask, and which service gets which part.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::{
    io::{ErrorKind, Read},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    sync::mpsc,
    time::Duration,
};

use common::{Client, Edge, Message, Server, eventually, nowhere, service, snapshot};
use evenkeel_core::{
    snapshot::{Actions, Rate, RateKey, Redirect, Route, Snapshot, Split, SplitBy, Strictness},
    status::Health,
};
use evenkeel_edge::messages::{Notice, ToThread};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

fn with(mut snapshot: Snapshot, change: impl FnOnce(&mut Actions)) -> Snapshot {
    change(&mut snapshot.routes[0].actions);
    snapshot
}

fn redirecting(to: &str, status: u16) -> Snapshot {
    let mut snapshot = snapshot(&[]);
    snapshot.routes[0].service = String::new();
    with(snapshot, |actions| actions.redirect = Some(Redirect { to: to.into(), status }))
}

/// A connection from one of the machine's own addresses.
fn from(last: u8, to: SocketAddr) -> Client {
    let made = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&made, &SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0))).unwrap();
    connect(&made, &to).unwrap();
    Client::new(TcpStream::from(made))
}

fn get(client: &mut Client, path: &str, fields: &str) -> Message {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n{fields}\r\n").as_bytes());
    client.answer()
}

#[test]
fn http_leads_to_https() {
    let edge = Edge::start(redirecting("https://{host}{uri}", 308));
    let mut client = edge.client();
    for (path, to) in
        [("/a/b?c=d&e=%0d%0a", "https://shop.example/a/b?c=d&e=%0d%0a"), ("//evil/", "https://shop.example//evil/")]
    {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: shop.example:80\r\n\r\n").as_bytes());
        let answer = client.answer();
        assert_eq!((answer.status(), answer.field("location")), (308, Some(to)));
        assert!(answer.field("x-request-id").is_some() && answer.field("connection").is_none());
        assert_eq!(answer.text(), "Permanent Redirect\n");
    }
    client.send(b"HEAD /x HTTP/1.1\r\nHost: [::1]:80\r\n\r\n");
    let answer = client.answer_to_head();
    assert_eq!((answer.field("location"), answer.field("content-length")), (Some("https://[::1]/x"), Some("19")));
    client.send(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhiOPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer().field("location"), Some("https://a/x"));
    assert_eq!(client.answer().field("location"), Some("https://a/"));
    client.send(b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!(client.answer().field("connection"), Some("keep-alive"));
    client.send(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\nhi");
    let answer = client.answer();
    assert_eq!((answer.status(), answer.field("connection")), (308, Some("close")));
    assert!(client.rest().is_empty());
    let redirected: u64 = edge.threads.shared.threads.iter().map(|cell| cell.0.redirected.get()).sum();
    assert_eq!(redirected, 7);
}

#[test]
fn nobody_is_sent_where_a_crafted_request_says() {
    let mut edge = Edge::start(redirecting("https://{host}{uri}", 301));
    for bad in [
        "GET / HTTP/1.1\r\nHost: evil/\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: shop.example@evil\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\tevil\r\n\r\n",
        "GET http://evil/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
    ] {
        let answer = edge.ask(bad);
        assert_eq!((answer.status(), answer.field("location")), (400, None), "{bad:?}");
    }
    edge.apply(redirecting("/new{path}", 302));
    assert_eq!(edge.get("//evil/?x").field("location"), Some("/new//evil/"));
    assert_eq!(edge.ask("GET http://test HTTP/1.1\r\nHost: test\r\n\r\n").field("location"), Some("/new/"));
}

#[test]
fn routes_by_method() {
    let (reads, writes) = (Server::named("reads"), Server::named("writes"));
    let mut snapshot = snapshot(&[writes.address]);
    snapshot.services.push(service("reads", &[reads.address]));
    let mut route = snapshot.routes[0].clone();
    (route.methods, route.service) = (vec!["GET".into(), "HEAD".into()], "reads".into());
    snapshot.routes.insert(0, route);
    let edge = Edge::start(snapshot);
    for (method, name) in [("GET", "reads"), ("get", "writes"), ("DELETE", "writes"), ("GETX", "writes")] {
        assert_eq!(edge.ask(&format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n")).text(), name);
    }
}

/// So slow that no token comes back while a test runs.
fn rate(requests: u32, by: RateKey) -> Rate {
    Rate { by, requests, per_ms: 3_600_000, burst: 0 }
}

#[test]
fn who_asks_too_often_is_told_when_to_come_again() {
    let server = Server::named("a");
    let mut edge = Edge::start(with(snapshot(&[server.address]), |a| a.rates = vec![rate(3, RateKey::Address)]));
    let mut client = from(2, edge.address);
    for _ in 0..3 {
        assert_eq!(get(&mut client, "/", "").status(), 200);
    }
    let refused = get(&mut client, "/", "");
    assert_eq!(refused.status(), 429);
    let wait: u64 = refused.field("retry-after").unwrap().parse().unwrap();
    assert!((1100..=1200).contains(&wait), "a third of an hour, not {wait}");
    client.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer_to_head().status(), 429, "the connection goes on");
    assert_eq!(get(&mut from(3, edge.address), "/", "").status(), 200, "another client is not concerned");
    assert_eq!((server.count(), edge.sum(|cell| &cell.limited)), (4, 2));
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nhi");
    assert_eq!(client.answer().field("connection"), Some("close"), "what is refused is not read for long");

    // A reload of something else forgets nothing; another limit begins anew.
    let mut other = edge.snapshot.clone();
    (other.version, other.services[0].hold.max_ms) = (2, 5_000);
    edge.apply(other.clone());
    assert_eq!(get(&mut from(2, edge.address), "/", "").status(), 429);
    (other.version, other.routes[0].actions.rates[0].requests) = (3, 4);
    edge.apply(other);
    assert_eq!(get(&mut from(2, edge.address), "/", "").status(), 200);
}

#[test]
fn all_threads_count_together() {
    let server = Server::named("a");
    let mut snapshot = with(snapshot(&[server.address]), |a| a.rates = vec![rate(50, RateKey::Address)]);
    snapshot.threads = 4;
    let edge = Edge::start(snapshot);
    let passed: usize = std::thread::scope(|scope| {
        let some = || (0..20).filter(|_| edge.get("/").status() == 200).count();
        let clients: Vec<_> = (0..8).map(|_| scope.spawn(some)).collect();
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    assert_eq!((passed, server.count()), (50, 50));
}

#[test]
fn clients_are_told_apart_by_what_the_limit_says() {
    let server = Server::named("a");
    let limited = |rates: Vec<Rate>| Edge::start(with(snapshot(&[server.address]), |a| a.rates = rates));
    let ask = |edge: &Edge, fields: &str| get(&mut edge.client(), "/", fields).status();

    let edge = limited(vec![rate(1, RateKey::Header("x-api-key".into()))]);
    let said =
        ["X-Api-Key: a\r\n", "X-Api-Key: b\r\n", "x-api-key: a\r\n", "", "X-Api-Key: \r\n"].map(|f| ask(&edge, f));
    assert_eq!(said, [200, 200, 429, 200, 429], "without a key, by address");

    let edge = limited(vec![rate(1, RateKey::Cookie("sid".into()))]);
    let said =
        ["Cookie: a=1; sid=x\r\n", "Cookie: sid=y\r\n", "Cookie: b=2\r\nCookie: sid=x; c\r\n"].map(|f| ask(&edge, f));
    assert_eq!(said, [200, 200, 429]);

    let edge = limited(vec![rate(2, RateKey::Route)]);
    let said = [2, 3, 4].map(|last| get(&mut from(last, edge.address), "/", "").status());
    assert_eq!(said, [200, 200, 429], "all together");

    // Behind a trusted proxy, by whom it names; nobody else is believed.
    let behind = |trusted: bool| {
        let mut snapshot = with(snapshot(&[server.address]), |a| a.rates = vec![rate(1, RateKey::Address)]);
        let proxy = evenkeel_core::snapshot::Network { address: IpAddr::from([127, 0, 0, 0]), prefix: 8 };
        snapshot.listeners[0].trusted = if trusted { vec![proxy] } else { Vec::new() };
        let edge = Edge::start(snapshot);
        ["192.0.2.1", "192.0.2.2", "198.51.100.1, 192.0.2.1, 127.0.0.9"]
            .map(|named| ask(&edge, &format!("X-Forwarded-For: {named}\r\n")))
    };
    assert_eq!((behind(true), behind(false)), ([200, 200, 429], [200, 429, 429]));

    // What a second limit refuses costs nothing of the first one.
    let edge = limited(vec![rate(2, RateKey::Address), rate(1, RateKey::Header("x-k".into()))]);
    let said = ["X-K: a\r\n", "X-K: a\r\n", "X-K: a\r\n", "X-K: b\r\n", "X-K: c\r\n"].map(|f| ask(&edge, f));
    assert_eq!(said, [200, 429, 429, 200, 429]);
}

#[test]
fn a_client_has_so_many_connections_and_no_more() {
    let server = Server::named("a");
    let mut snapshot = snapshot(&[server.address]);
    snapshot.threads = 2;
    snapshot.listeners[0].limits.connections_per_client = 2;
    let mut edge = Edge::start(snapshot);
    let mut kept: Vec<Client> = (0..2).map(|_| from(2, edge.address)).collect();
    for client in &mut kept {
        assert_eq!(get(client, "/", "").status(), 200);
    }
    assert!(from(2, edge.address).is_closed(), "one more is closed without an answer");
    assert_eq!(get(&mut from(3, edge.address), "/", "").status(), 200, "another client is not concerned");
    assert!(edge.notices().iter().any(|notice| matches!(notice, Notice::Rejected { status: 429, .. })));
    let turned_away =
        |edge: &Edge| edge.threads.shared.threads.iter().map(|cell| cell.0.turned_away.get()).sum::<u64>();
    assert_eq!(turned_away(&edge), 1);

    // A reload keeps the count; a connection that ends makes room.
    let mut next = edge.snapshot.clone();
    next.version = 2;
    edge.apply(next.clone());
    assert!(from(2, edge.address).is_closed());
    kept.pop();
    let admitted = |client: &mut Client| {
        let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        std::io::Write::write_all(&mut client.stream, request).is_ok() && client.message(false).is_some()
    };
    eventually("there is room again", || admitted(&mut from(2, edge.address)));

    // Who is trusted stands for many.
    (next.version, next.listeners[0].trusted) =
        (3, vec![evenkeel_core::snapshot::Network { address: IpAddr::from([127, 0, 0, 2]), prefix: 32 }]);
    edge.apply(next);
    let mut many: Vec<Client> = (0..5).map(|_| from(2, edge.address)).collect();
    assert!(many.iter_mut().all(|client| get(client, "/", "").status() == 200));
}

#[test]
fn a_client_that_a_proxy_names_has_so_many_connections_and_no_more() {
    let server = Server::named("a");
    let mut snapshot = snapshot(&[server.address]);
    let listener = &mut snapshot.listeners[0];
    listener.limits.connections_per_client = 1;
    listener.accepts_proxy = true;
    listener.trusted = vec![evenkeel_core::snapshot::Network { address: IpAddr::from([127, 0, 0, 2]), prefix: 32 }];
    let edge = Edge::start(snapshot);
    let named = |client: &str| {
        let mut connection = from(2, edge.address);
        connection.send(format!("PROXY TCP4 {client} 192.0.2.100 4711 80\r\n").as_bytes());
        connection
    };
    let mut first = named("192.0.2.1");
    assert_eq!(get(&mut first, "/", "").status(), 200);
    assert!(named("192.0.2.1").is_closed(), "the client that is named is counted");
    assert_eq!(get(&mut named("192.0.2.2"), "/", "").status(), 200, "not the proxy");
}

#[test]
fn a_full_instance_has_a_bounded_queue_that_is_first_come_first_served() {
    let (server, answers) = Server::silent();
    let mut snapshot = snapshot(&[server.address]);
    snapshot.services[0].limits.in_flight_per_instance = 1;
    snapshot.services[0].hold.max_requests = 3;
    let edge = Edge::start(snapshot);
    let shared = &edge.view.services[0].shared;
    let holding = |n: u32| eventually("it waits", || shared.holding.load(std::sync::atomic::Ordering::Relaxed) == n);
    let ask = |path: &str| {
        let mut client = edge.client();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes());
        client
    };
    let mut first = ask("/0");
    eventually("it is there", || server.count() == 1);
    let mut waiting: Vec<Client> = (1..=3)
        .map(|n| {
            let client = ask(&format!("/{n}"));
            holding(n);
            client
        })
        .collect();
    let refused = ask("/4").answer();
    assert_eq!(refused.status(), 503);
    assert!(refused.field("retry-after").is_some());
    assert_eq!(server.count(), 1, "nobody was answered meanwhile: it was refused at once");
    let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec();
    for n in 0..4 {
        answers.send(ok.clone()).unwrap();
        let client = if n == 0 { &mut first } else { &mut waiting[n - 1] };
        assert_eq!(client.answer().status(), 200);
        eventually("the next one has its turn", || server.count() == (n + 2).min(4));
    }
    let order: Vec<String> = server.requests().iter().map(|r| r.head.split(' ').nth(1).unwrap().to_owned()).collect();
    assert_eq!(order, ["/0", "/1", "/2", "/3"]);
}

fn canary(main: &[SocketAddr], next: &[SocketAddr], percent: u8, by: SplitBy) -> Snapshot {
    let mut snapshot = snapshot(main);
    snapshot.services.push(service("next", next));
    with(snapshot, |actions| {
        actions.split = vec![Split { service: "next".into(), percent }];
        actions.split_by = by;
    })
}

#[test]
fn a_canary_gets_its_part() {
    let (main, next) = (Server::named("main"), Server::named("next"));
    let edge = Edge::start(canary(&[main.address], &[next.address], 7, SplitBy::Request));
    let mut client = edge.client();
    for _ in 0..200 {
        assert_eq!(get(&mut client, "/", "").status(), 200);
    }
    assert_eq!((main.count(), next.count()), (186, 14));
    let answered = |place: usize| edge.view.services[place].shared.sum(|cell| &cell.responses[1]);
    eventually("each is counted where it was answered", || (answered(0), answered(1)) == (186, 14));
}

#[test]
fn a_canary_by_value_keeps_its_clients() {
    let (main, next) = (Server::named("main"), Server::named("next"));
    let parts = |percent: u8, by: SplitBy, field: &dyn Fn(u32) -> String| {
        let edge = Edge::start(canary(&[main.address], &[next.address], percent, by));
        let mut client = edge.client();
        (0..300).map(|n| get(&mut client, "/", &field(n)).text() == "next").collect::<Vec<bool>>()
    };
    let header = |n: u32| format!("X-User: u{n}\r\n");
    let cookie = |n: u32| format!("Cookie: a=b; user=u{n}\r\n");
    let twenty = parts(20, SplitBy::Header("x-user".into()), &header);
    let count = twenty.iter().filter(|&&canary| canary).count();
    assert!((30..=90).contains(&count), "{count} of 300");
    assert_eq!(parts(20, SplitBy::Cookie("user".into()), &cookie), twenty, "the same value, the same part");
    let fifty = parts(50, SplitBy::Header("x-user".into()), &header);
    assert!(twenty.iter().zip(&fifty).all(|(before, after)| !before || *after), "who had it keeps it when it grows");
    assert!(parts(50, SplitBy::Address, &header).windows(2).all(|pair| pair[0] == pair[1]), "one address, one part");
}

#[test]
fn a_canary_that_cannot_serve_costs_nobody_an_answer() {
    let main = Server::named("main");
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
    // Known to be ill.
    let edge = Edge::start(canary(&[main.address], &[nowhere()], 100, SplitBy::Request));
    let ill = &edge.view.services[1].instances[0].shared;
    ill.set_health(Health::Unhealthy);
    edge.threads.tell(|| ToThread::Changed(ill.clone()));
    assert_eq!(edge.ask(post).text(), "main");
    // Just died, and nobody knows yet: nothing was sent, so a POST goes on too.
    let edge =
        Edge::start(canary(&[main.address], &[nowhere(), nowhere(), nowhere(), nowhere()], 100, SplitBy::Request));
    for _ in 0..5 {
        assert_eq!(edge.ask(post).text(), "main");
        assert_eq!(edge.get("/").text(), "main");
    }
    eventually("counted where it was answered", || edge.sum(|cell| &cell.responses[1]) == 10);
    assert_eq!(edge.view.services[1].shared.sum(|cell| &cell.responses[4]), 0);
    // Full: nobody waits for it.
    let (slow, _answers) = Server::silent();
    let mut full = canary(&[main.address], &[slow.address], 100, SplitBy::Request);
    full.services[1].limits.in_flight_per_instance = 1;
    let edge = Edge::start(full);
    let mut waiting = edge.client();
    waiting.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("it is full", || slow.count() == 1);
    assert_eq!(edge.get("/").text(), "main");
}

#[test]
fn a_canary_by_header_is_a_route() {
    let (main, next) = (Server::named("main"), Server::named("next"));
    let mut snapshot = snapshot(&[main.address]);
    snapshot.services.push(service("next", &[next.address]));
    let route =
        Route { headers: vec![("x-canary".into(), "1".into())], service: "next".into(), ..snapshot.routes[0].clone() };
    snapshot.routes.push(snapshot.routes[0].clone());
    snapshot.routes[0] = route;
    let edge = Edge::start(snapshot);
    let mut client = edge.client();
    for (fields, name) in [("X-Canary: 1\r\n", "next"), ("X-Canary: 0\r\n", "main"), ("", "main")] {
        assert_eq!(get(&mut client, "/", fields).text(), name);
    }
}

/// Answers CONNECT with `answer`, then sends back what comes.
fn far_side(answer: &'static str) -> Server {
    Server::start(move |mut script| {
        let Some(head) = script.request() else { return };
        assert!(head.head.starts_with("CONNECT "), "{}", head.head);
        script.send(answer);
        let mut bytes = [0; 1024];
        while let Ok(count @ 1..) = script.client.stream.read(&mut bytes) {
            script.send(bytes[..count].to_ascii_uppercase());
        }
    })
}

#[test]
fn connect_is_a_tunnel_only_where_a_route_says_so() {
    let server = far_side("HTTP/1.1 200 Fine\r\nContent-Length: 5\r\nX-Far: 1\r\n\r\n");
    let connect = "CONNECT far.example:443 HTTP/1.1\r\nHost: far.example:443\r\n\r\n";
    let mut edge = Edge::start(snapshot(&[server.address]));
    let mut refused = edge.client();
    refused.send(format!("{connect}GET / HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
    let answer = refused.answer();
    assert_eq!((answer.status(), answer.field("connection")), (501, Some("close")));
    assert!(refused.rest().is_empty(), "what follows is not read as a request");

    let mut allowed = with(edge.snapshot.clone(), |actions| actions.connect = true);
    allowed.version = 2;
    edge.apply(allowed);
    for bad in [
        "CONNECT far.example HTTP/1.1\r\nHost: far.example\r\n\r\n",
        "CONNECT far.example:443 HTTP/1.1\r\nHost: near.example:443\r\n\r\n",
        "CONNECT far.example:443 HTTP/1.1\r\nHost: far.example:443\r\nContent-Length: 2\r\n\r\nhi",
        "CONNECT far.example:443 HTTP/1.0\r\nHost: far.example:443\r\n\r\n",
    ] {
        assert_eq!(edge.ask(bad).status(), 400, "{bad:?}");
    }
    assert_eq!(server.count(), 0);
    let mut client = edge.client();
    client.send(format!("{connect}hello").as_bytes());
    let answer = client.answer_to_head();
    assert_eq!((answer.status(), answer.field("x-far")), (200, Some("1")));
    assert!(answer.field("content-length").is_none() && answer.field("connection").is_none(), "{}", answer.head);
    assert_eq!(client.take(5).unwrap(), b"HELLO");
    client.send(b" again");
    assert_eq!(client.take(6).unwrap(), b" AGAIN");
    client.finish_sending();
    assert!(client.is_closed());
    assert!(server.requests()[0].head.starts_with("CONNECT far.example:443 HTTP/1.1\r\nHost: far.example:443"));
}

#[test]
fn a_refused_connect_is_an_answer_and_the_end() {
    let server = far_side("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
    let edge = Edge::start(with(snapshot(&[server.address]), |actions| actions.connect = true));
    let mut client = edge.client();
    client.send(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = client.answer();
    assert_eq!((answer.status(), answer.text().as_str(), answer.field("connection")), (403, "no", Some("close")));
    assert!(client.rest().is_empty());
    assert_eq!(server.count(), 1);
}

#[test]
fn a_connect_that_may_have_been_seen_is_not_sent_again() {
    let (died, alive) = (Server::start(|mut script| drop(script.request())), far_side("HTTP/1.1 200 OK\r\n\r\n"));
    let edge = Edge::start(with(snapshot(&[died.address, alive.address]), |actions| actions.connect = true));
    let statuses: Vec<u16> = (0..2)
        .map(|_| {
            let mut client = edge.client();
            client.send(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n");
            client.answer_to_head().status()
        })
        .collect();
    assert_eq!(statuses.iter().filter(|&&status| status == 502).count(), died.count());
    assert_eq!((died.count(), alive.count()), (1, 1));
}

#[test]
fn a_flood_of_refused_requests_stays_cheap_and_bounded() {
    // Many clients at once, each of which asks more often than it may; all of them get an answer of their own.
    let server = Server::named("a");
    let edge =
        Edge::start(with(snapshot(&[server.address]), |a| a.rates = vec![rate(1, RateKey::Header("x-k".into()))]));
    let (told, counts) = mpsc::channel();
    std::thread::scope(|scope| {
        for client in 0..4 {
            let (told, edge) = (told.clone(), &edge);
            scope.spawn(move || {
                let mut connection = edge.client();
                let mut seen = [0, 0];
                for n in 0..250 {
                    let status = get(&mut connection, "/", &format!("X-K: {client}/{}\r\n", n / 2)).status();
                    seen[usize::from(status == 429)] += 1;
                }
                told.send(seen).unwrap();
            });
        }
    });
    drop(told);
    assert!(counts.iter().all(|seen| seen == [125, 125]));
    assert_eq!(edge.sum(|cell| &cell.limited), 500);
    let mut quiet = edge.client();
    quiet.stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    let nothing = quiet.stream.read(&mut [0; 1]).unwrap_err().kind();
    assert!(matches!(nothing, ErrorKind::WouldBlock | ErrorKind::TimedOut));
}

#[test]
fn what_a_rail_refuses_is_not_looked_at_again_where_ambiguous_requests_are_forwarded() {
    let mut snapshot = redirecting("https://{host}{uri}", 308);
    snapshot.listeners[0].strictness = Strictness::Report;
    let edge = Edge::start(snapshot);
    let mut client = edge.client();
    // The second one would be put right, in the place of the first.
    client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /second HTTP/1.1\nHost: a\n\n");
    assert_eq!(client.answer().status(), 400, "it names no host");
    assert_eq!(client.answer().field("location"), Some("https://a/second"));
    client.send(b"GET / HTTP/1.0\r\n\r\n");
    assert_eq!(client.answer().status(), 400, "at once");
}
