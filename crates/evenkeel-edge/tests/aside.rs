//! Who answers where a service cannot or should not: a page, a fallback, another zone; and what is said of it.

#![allow(clippy::unwrap_used)] // What fails in the helpers fails the test.

mod common;
mod control_support;

use std::{
    net::TcpListener,
    sync::atomic::Ordering::Relaxed,
    thread,
    time::{Duration, Instant},
};

use common::{Edge, Server, eventually, snapshot};
use control_support::{Edge as WholeEdge, Node, get, instance::Server as Known, member, service};
use evenkeel_core::{
    link::{Event, EventKind, ToNode},
    snapshot::{Page, Service, Snapshot},
    status::Health,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

fn sorry() -> Page {
    Page { status: 503, content_type: "text/html; charset=utf-8".into(), body: "<p>Gleich zurück</p>".into() }
}

fn page_service(name: &str, page: Page) -> Service {
    Service { page: Some(page), ..common::service(name, &[]) }
}

fn serving_page(page: Page) -> Snapshot {
    let mut snapshot = snapshot(&[]);
    snapshot.services = vec![page_service("app", page)];
    snapshot
}

#[test]
fn a_page_is_answered_by_the_edge_itself() {
    let edge = Edge::start(serving_page(sorry()));
    let mut client = edge.client();
    for body in ["\r\n", "Content-Length: 3\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"] {
        client.send(format!("POST /any HTTP/1.1\r\nHost: a\r\n{body}").as_bytes());
        let answer = client.answer();
        assert_eq!((answer.status(), answer.text()), (503, sorry().body));
        assert_eq!(answer.field("content-type"), Some("text/html; charset=utf-8"));
        assert_eq!(answer.field("retry-after"), Some("10"));
        assert!(answer.field("x-request-id").is_some());
    }
    client.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let head = client.answer_to_head();
    assert_eq!(head.field("content-length"), Some(sorry().body.len().to_string().as_str()));
    let last = client.answer();
    assert_eq!((last.text(), last.field("connection")), (sorry().body, Some("close")));
    assert!(client.is_closed());
    eventually("all are counted", || edge.sum(|cell| &cell.responses[4]) == 5);
    let old = edge.ask("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!((old.status(), old.field("connection")), (503, Some("keep-alive")));
    let fine = Edge::start(serving_page(Page { status: 200, ..sorry() }));
    assert_eq!((fine.get("/").status(), fine.get("/").field("retry-after")), (200, None));
}

#[test]
fn a_page_whose_request_is_not_read_to_its_end_closes() {
    let edge = Edge::start(serving_page(sorry()));
    let mut client = edge.client();
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000000\r\n\r\nbegin");
    let answer = client.answer();
    assert_eq!((answer.status(), answer.field("connection")), (503, Some("close")));
}

#[test]
fn a_preferred_zone_gets_everything_while_it_can() {
    let servers = [Server::named("near"), Server::named("far"), Server::named("far too")];
    let mut zoned = snapshot(&[servers[0].address, servers[1].address, servers[2].address]);
    zoned.services[0].prefer = Some("here".into());
    for (instance, zone) in zoned.services[0].instances.iter_mut().zip(["here", "there", "there"]) {
        instance.zone = Some(zone.into());
    }
    let mut edge = Edge::start(zoned.clone());
    let near = |edge: &Edge| (0..6).filter(|_| edge.get("/").text() == "near").count();
    assert_eq!(near(&edge), 6);
    edge.set_health(0, Health::Unhealthy);
    eventually("the other zone answers", || near(&edge) == 0);
    edge.set_health(0, Health::Healthy);
    eventually("the preferred one is back", || near(&edge) == 6);

    zoned.services[0].away = true;
    edge.apply(zoned);
    assert_eq!(near(&edge), 0, "it is told to stay away");
    edge.set_health(1, Health::Unhealthy);
    edge.set_health(2, Health::Ejected);
    eventually("better there than nowhere", || near(&edge) == 6);
}

#[test]
fn another_zone_takes_what_the_preferred_one_failed() {
    let good = Server::named("far");
    let dead = Server::start(|mut script| drop(script.request()));
    let mut zoned = snapshot(&[dead.address, good.address]);
    zoned.services[0].prefer = Some("here".into());
    zoned.services[0].instances[0].zone = Some("here".into());
    let edge = Edge::start(zoned);
    assert_eq!(edge.get("/").text(), "far");
}

#[test]
fn away_holds_only_while_the_fallback_can_answer() {
    let (first, second) = (Server::named("first"), Server::named("second"));
    let mut both = snapshot(&[first.address]);
    both.services[0].fallback = Some("second".into());
    both.services[0].away = true;
    both.services.push(common::service("second", &[second.address]));
    let mut edge = Edge::start(both.clone());
    assert_eq!(edge.get("/").text(), "second");
    let other = std::sync::Arc::clone(&edge.view.services[1].instances[0].shared);
    other.set_health(Health::Unhealthy);
    assert_eq!(edge.get("/").text(), "first");
    other.set_health(Health::Healthy);
    both.services[0].away = false;
    edge.apply(both);
    assert_eq!(edge.get("/").text(), "first");
}

/// An instance whose first request kills it. Probes are none.
fn mortal() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        common::Client::new(stream.try_clone().unwrap()).message(true);
        drop(listener);
        drop(stream);
    });
    address
}

#[test]
fn a_request_that_kills_two_instances_alone_is_not_sent_to_a_third() {
    let good = Server::named("good");
    let edge = Edge::start(snapshot(&[mortal(), mortal(), good.address]));
    let answer = edge.get("/poison");
    assert_eq!(answer.status(), 502);
    assert!(answer.text().contains("two instances died"), "{}", answer.text());
    assert_eq!(good.count(), 0);
}

/// One of which the kernel closes the listening socket last, after it has let somebody in.
fn lets_in_at_last() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        common::Client::new(stream.try_clone().unwrap()).message(true);
        drop(stream);
        let mut somebody = [PollFd::new(&listener, PollFlags::IN)];
        let patience = Timespec::try_from(common::PATIENCE).unwrap();
        poll(&mut somebody, Some(&patience)).unwrap();
    });
    address
}

#[test]
fn a_death_is_seen_although_what_listens_is_closed_last() {
    // Again, where a busy machine closes it so late that somebody seems to live there.
    eventually("two deaths are seen", || {
        let good = Server::named("good");
        let edge = Edge::start(snapshot(&[lets_in_at_last(), lets_in_at_last(), good.address]));
        let answer = edge.get("/poison");
        answer.status() == 502 && answer.text().contains("two instances died") && good.count() == 0
    });
}

#[test]
fn a_request_in_company_is_not_accused() {
    let good = Server::named("good");
    let edge = Edge::start(snapshot(&[mortal(), mortal(), good.address]));
    // As if another request were in flight there, which may be the cause.
    edge.instance(1).in_flight.fetch_add(1, Relaxed);
    assert_eq!(edge.get("/").text(), "good");
}

/// Whatever is said on its first connection; the second one's request kills it, and everybody hears of that at once.
fn mortal_with(head: &'static str) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut lasting = listener.accept().unwrap().0;
        common::Client::new(lasting.try_clone().unwrap()).message(true);
        std::io::Write::write_all(&mut lasting, head.as_bytes()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        common::Client::new(stream.try_clone().unwrap()).message(true);
        let linger = Some(Duration::ZERO);
        rustix::net::sockopt::set_socket_linger(&lasting, linger).unwrap();
        drop((listener, lasting));
        // The kernel closes one after the other, too.
        thread::sleep(Duration::from_millis(50));
        drop(stream);
    });
    address
}

#[test]
fn a_tunnel_and_a_stream_are_company() {
    let tunnel = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let stream = "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nbegin";
    for head in [tunnel, stream] {
        let good = Server::named("good");
        let edge = Edge::start(snapshot(&[mortal_with(head), mortal_with(head), good.address]));
        edge.set_health(2, Health::Unhealthy);
        let lasting: Vec<_> = (0..2)
            .map(|_| {
                let mut client = edge.client();
                client.send(b"GET /lasts HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
                assert!(client.answer_to_head().status() < 300);
                client
            })
            .collect();
        edge.set_health(2, Health::Healthy);
        // The third one has its turn now.
        assert_eq!(edge.get("/").text(), "good");
        assert_eq!(edge.get("/").text(), "good", "of the two that died anything may have been the cause");
        drop(lasting);
    }
}

fn latencies(node: &mut Node, name: &str) -> (u64, u64, u64, [u64; 5]) {
    node.until("counters", |message| {
        let ToNode::Counters(counters) = message else { return None };
        let one = counters.services[0].instances.iter().find(|one| one.id.name == name)?;
        let count = one.latency.iter().sum();
        (count > 0).then_some((count, one.latency_sum_us, one.tries, one.responses))
    })
}

#[test]
fn each_instance_counts_its_answers_and_how_long_their_heads_took() {
    let (edge, mut node) = WholeEdge::linked(2);
    let server = Known::start("one");
    node.send(edge.snapshot(1, vec![service(vec![member("shop/1", server.address)])]));
    node.health("shop/1", Health::Healthy);
    edge.get("/slow");
    let (count, sum_us, tries, responses) = latencies(&mut node, "shop/1");
    assert_eq!((count, tries, responses), (1, 1, [0, 1, 0, 0, 0]));
    assert!((2_000_000..10_000_000).contains(&sum_us), "{sum_us} us for an answer that takes two seconds");
}

/// Waits for the next event of this service that is not about an instance.
fn said<T>(node: &mut Node, find: impl Fn(&EventKind) -> Option<T>) -> T {
    node.until("an event of the service", |message| {
        let ToNode::Events { events, .. } = message else { return None };
        let of_service = |event: &&Event| event.service == "shop" && event.instance.is_none();
        events.iter().filter(of_service).find_map(|event| find(&event.what))
    })
}

#[test]
fn falling_back_and_returning_is_said_once_with_the_reason() {
    let (edge, mut node) = WholeEdge::linked(2);
    let server = Known::start("one");
    let mut shop = service(vec![member("shop/1", server.address)]);
    shop.fallback = Some("sorry".into());
    let check = shop.check.as_mut().unwrap();
    (check.interval_ms, check.fall, check.rise) = (50, 2, 1);
    let page = Service { page: Some(sorry()), name: "sorry".into(), ..service(Vec::new()) };
    node.send(edge.snapshot(1, vec![shop, page]));
    assert_eq!(get(edge.address, "/").1, "one", "nobody falls back before anything is known");
    server.set_check_status(500);
    let (to, reason) = said(&mut node, |what| match what {
        EventKind::FellBack { to, reason } => Some((to.clone(), reason.clone())),
        _ => None,
    });
    assert_eq!(to, "sorry");
    let expected = "no instance of shop is healthy: shop/1: unhealthy, 2 probes in a row failed: status 500";
    assert!(reason.starts_with(expected), "{reason}");
    assert_eq!(get(edge.address, "/"), (503, sorry().body));
    // A node process that starts now hears how things stand.
    let mut node = edge.link();
    said(&mut node, |what| matches!(what, EventKind::FellBack { .. }).then_some(()));
    server.set_check_status(200);
    let from = said(&mut node, |what| match what {
        EventKind::Returned { from } => Some(from.clone()),
        _ => None,
    });
    assert_eq!(from, "sorry");
    assert_eq!(get(edge.address, "/").1, "one");
    let times = node.past.iter().filter(|event| matches!(event.what, EventKind::FellBack { .. })).count();
    assert_eq!(times, 1);
}

#[test]
fn leaving_a_zone_is_said_with_the_reason() {
    let (edge, mut node) = WholeEdge::linked(1);
    let (near, far) = (Known::start("near"), Known::start("far"));
    let (mut one, mut two) = (member("shop/1", near.address), member("shop/2", far.address));
    (one.zone, two.zone) = (Some("a".into()), Some("b".into()));
    let mut shop = service(vec![one, two]);
    shop.prefer = Some("a".into());
    let check = shop.check.as_mut().unwrap();
    (check.interval_ms, check.fall, check.rise) = (50, 2, 1);
    node.send(edge.snapshot(1, vec![shop]));
    node.all_healthy(&["shop/1", "shop/2"]);
    assert_eq!(get(edge.address, "/").1, "near");
    near.set_check_status(503);
    let (to, reason) = said(&mut node, |what| match what {
        EventKind::FellBack { to, reason } => Some((to.clone(), reason.clone())),
        _ => None,
    });
    assert_eq!(to, "b");
    let expected = "no instance of zone a is healthy: shop/1: unhealthy, 2 probes in a row failed: status 503";
    assert!(reason.starts_with(expected), "{reason}");
    assert_eq!(get(edge.address, "/").1, "far");
    near.set_check_status(200);
    said(&mut node, |what| (*what == EventKind::Returned { from: "b".into() }).then_some(()));
    assert_eq!(get(edge.address, "/").1, "near");
}

#[test]
fn a_zone_is_not_left_before_anything_is_known_of_it() {
    let (edge, mut node) = WholeEdge::linked(1);
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    let receiver = std::sync::Mutex::new(receiver);
    let near = Server::start(move |mut script| {
        while script.request().is_some() {
            // The first probe takes until it is told; later ones find that nobody tells any more.
            let _ = receiver.lock().unwrap().recv();
            script.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnear");
        }
    });
    let far = Known::start("far");
    let (mut one, mut two) = (member("shop/1", near.address), member("shop/2", far.address));
    (one.zone, two.zone) = (Some("a".into()), Some("b".into()));
    let mut shop = service(vec![one, two]);
    shop.prefer = Some("a".into());
    shop.check.as_mut().unwrap().timeout_ms = 20_000;
    node.send(edge.snapshot(1, vec![shop]));
    node.health("shop/2", Health::Healthy);
    assert_eq!(get(edge.address, "/").1, "far", "nobody has to wait for that");
    thread::sleep(Duration::from_millis(200));
    drop(sender);
    node.health("shop/1", Health::Healthy);
    assert_eq!(get(edge.address, "/").1, "near");
    let fell = node.past.iter().find(|event| matches!(event.what, EventKind::FellBack { .. }));
    assert!(fell.is_none(), "{fell:?}");
}

#[test]
fn a_hold_says_of_each_instance_why_it_could_not() {
    let (edge, mut node) = WholeEdge::linked(1);
    let server = Known::start("one");
    server.set_check_status(500);
    let mut shop = service(vec![member("shop/1", server.address), member("shop/2", common::nowhere())]);
    shop.hold.max_ms = 300;
    node.send(edge.snapshot(1, vec![shop]));
    // Said once a probe has failed.
    node.health("shop/1", Health::Unknown);
    assert_eq!(get(edge.address, "/").0, 503);
    let reason = said(&mut node, |what| match what {
        EventKind::HoldStarted { reason } => Some(reason.clone()),
        _ => None,
    });
    for part in ["no instance is healthy: ", "shop/1: unknown, no probe has passed yet: status 500", "shop/2: unknown"]
    {
        assert!(reason.contains(part), "{part}: {reason}");
    }
}

#[test]
fn who_is_only_observed_is_not_ejected() {
    let (edge, mut node) = WholeEdge::linked(1);
    let (good, bad) = (Known::start("good"), Server::start(dies_of_requests));
    let mut shop = service(vec![member("shop/1", good.address), member("shop/2", bad.address)]);
    shop.ejection.consecutive = 3;
    shop.observe = true;
    node.send(edge.snapshot(1, vec![shop]));
    node.all_healthy(&["shop/1", "shop/2"]);
    let until = Instant::now() + common::PATIENCE;
    let would = loop {
        assert_eq!(get(edge.address, "/").1, "good");
        let said = node.past.iter().find_map(|event| match &event.what {
            EventKind::Health { health, reason } if reason.starts_with("would be ejected") => {
                Some((*health, reason.clone()))
            }
            _ => None,
        });
        if let Some(said) = said {
            break said;
        }
        assert!(Instant::now() < until, "it never said so: {:#?}", node.past);
        node.next();
    };
    assert_eq!(would.0, Health::Healthy);
    assert!(would.1.contains("3 failures in a row") && would.1.contains("connection cut off"), "{}", would.1);
    let tried = bad.count();
    (0..4).for_each(|_| drop(get(edge.address, "/")));
    assert!(bad.count() > tried, "it still gets requests");
}

/// Well by its check, and by nothing else.
fn dies_of_requests(mut script: common::Script) {
    while let Some(request) = script.client.message(true) {
        if !request.head.starts_with("GET /healthz ") {
            script.note(request);
            return;
        }
        script.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    }
}
