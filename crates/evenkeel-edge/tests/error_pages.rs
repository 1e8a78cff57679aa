//! Pages of the stack where the edge would say a plain line, and in place of what an instance says.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::Write;

use common::{Edge, Server, service, snapshot};
use evenkeel_core::snapshot::{ErrorPage, FieldChanges, Page, Rate, RateKey, Snapshot};

fn page(statuses: (u16, u16), body: &str, of_instances: bool) -> ErrorPage {
    let content_type = "text/html; charset=utf-8".to_owned();
    ErrorPage { statuses, of_instances, page: Page { status: 503, content_type, body: body.to_owned() } }
}

#[test]
fn a_listener_has_pages_for_what_it_refuses_itself() {
    let instance = Server::named("a");
    let mut snapshot = snapshot(&[instance.address]);
    snapshot.routes[0].path = "/app".into();
    snapshot.listeners[0].limits.body_bytes = 10;
    snapshot.listeners[0].error_pages =
        vec![page((404, 404), "<p>not here</p>", false), page((400, 499), "<p>no</p>", false)];
    let edge = Edge::start(snapshot);
    let mut client = edge.client();
    client.send(b"GET /x HTTP/1.1\r\nHost: test\r\n\r\nHEAD /x HTTP/1.1\r\nHost: test\r\n\r\n");
    let answer = client.answer();
    assert_eq!((answer.status(), answer.text().as_str()), (404, "<p>not here</p>"));
    assert_eq!(answer.fields("content-type"), ["text/html; charset=utf-8"]);
    assert_eq!(answer.fields("x-request-id").len(), 1);
    let head = client.answer_to_head();
    assert_eq!((head.status(), head.fields("content-length")), (404, vec!["15"]));
    client.send(b"GET /app HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(client.answer().text(), "a", "the connection goes on");
    for (request, status) in [
        ("GET /app HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("POST /app HTTP/1.1\r\nHost: test\r\nContent-Length: 11\r\n\r\n".to_owned(), 413),
        (format!("GET /{} HTTP/1.1\r\nHost: test\r\n\r\n", "x".repeat(9000)), 414),
        (format!("GET /app HTTP/1.1\r\nHost: test\r\nX: {}\r\n\r\n", "x".repeat(20_000)), 431),
    ] {
        let answer = edge.ask(&request);
        assert_eq!((answer.status(), answer.text().as_str()), (status, "<p>no</p>"));
    }
    let plain = edge.ask("GET /app HTTP/2.0\r\nHost: test\r\n\r\n");
    assert_eq!(plain.status(), 505);
    assert!(plain.text().contains("HTTP version not supported"), "no page for it: {}", plain.text());
}

#[test]
fn a_service_has_pages_for_when_no_instance_answers_and_the_listener_stands_in() {
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = Server::start(|mut script| {
        script.request();
        script.reset();
    });
    let mut snapshot = snapshot(&[dead]);
    snapshot.services[0].hold.max_ms = 0;
    snapshot.services[0].retry.max = 0;
    snapshot.services[0].answers.error_pages = vec![page((500, 599), "<p>back soon</p>", false)];
    snapshot.listeners[0].error_pages = vec![page((502, 503), "<p>edge</p>", false)];
    let mut other = service("other", &[silent.address]);
    (other.retry.max, other.hold.max_ms) = (0, 0);
    snapshot.services.push(other);
    let mut route = snapshot.routes[0].clone();
    (route.path, route.service) = ("/other".into(), "other".into());
    snapshot.routes.push(route);
    let edge = Edge::start_unknown(snapshot);
    let answer = edge.get("/");
    assert_eq!((answer.status(), answer.text().as_str()), (503, "<p>back soon</p>"));
    assert_eq!(answer.fields("retry-after").len(), 1, "{}", answer.head);
    let answer = edge.get("/other");
    assert_eq!((answer.status(), answer.text().as_str()), (503, "<p>edge</p>"));
}

fn of_instances(instance: &Server) -> Snapshot {
    let mut snapshot = snapshot(&[instance.address]);
    snapshot.services[0].answers.error_pages =
        vec![page((401, 404), "<p>mine</p>", true), page((500, 500), "<p>sorry</p>", true)];
    snapshot
}

#[test]
fn an_instances_own_page_is_replaced_and_its_status_kept() {
    let instance = Server::start(|mut script| {
        while let Some(request) = script.request() {
            let (method, path) = request.head.split_once(' ').unwrap();
            let path = path.split(' ').next().unwrap();
            let fields = "WWW-Authenticate: Basic\r\nETag: \"a\"\r\nContent-Encoding: gzip\r\nContent-Type: text/x\r\n\
                          Set-Cookie: a=1\r\n";
            let (status, body) = path.strip_prefix('/').unwrap().split_once('/').unwrap();
            script.send(format!("HTTP/1.1 {status} Whatever\r\n{fields}"));
            let bodiless = method == "HEAD" || status == "304";
            match (body, bodiless) {
                ("length", true) => script.send("Content-Length: 1000\r\n\r\n"),
                ("length", false) => script.send(format!("Content-Length: 1000\r\n\r\n{}", "x".repeat(1000))),
                _ => script.send("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
            }
        }
    });
    let edge = Edge::start(of_instances(&instance));
    let mut client = edge.client();
    for (path, status, text) in [
        ("/401/length", 401, "<p>mine</p>"),
        ("/404/chunked", 404, "<p>mine</p>"),
        ("/500/length", 500, "<p>sorry</p>"),
    ] {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes());
        let answer = client.answer();
        assert_eq!((answer.status(), answer.text().as_str()), (status, text), "{path}");
        assert!(answer.head.starts_with(&format!("HTTP/1.1 {status} Whatever")), "{}", answer.head);
        assert_eq!(answer.fields("content-type"), ["text/html; charset=utf-8"], "{path}");
        assert_eq!(answer.fields("content-length"), [text.len().to_string()], "{path}");
        assert_eq!((answer.fields("www-authenticate"), answer.fields("set-cookie")), (vec!["Basic"], vec!["a=1"]));
        for gone in ["etag", "content-encoding", "transfer-encoding"] {
            assert!(answer.fields(gone).is_empty(), "{path} {gone}");
        }
    }
    client.send(b"HEAD /404/length HTTP/1.1\r\nHost: test\r\n\r\n");
    let head = client.answer_to_head();
    assert_eq!((head.status(), head.fields("content-length")), (404, vec!["11"]));
    client.send(b"GET /405/length HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(client.answer().body.len(), 1000, "no page for it");
    client.send(b"GET /304/length HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(client.message(false).unwrap().fields("content-type"), ["text/x"]);
    let mut old = edge.client();
    old.send(b"GET /404/chunked HTTP/1.0\r\n\r\n");
    assert_eq!(old.answer().text(), "<p>mine</p>");
}

#[test]
fn what_the_route_says_of_a_field_holds_beside_a_page() {
    let instance = Server::answering("HTTP/1.1 404 Not Found\r\nContent-Type: text/x\r\nContent-Length: 2\r\n\r\nno");
    let mut snapshot = of_instances(&instance);
    let set = vec![("Content-Type".to_owned(), "text/y".to_owned())];
    snapshot.routes[0].actions.response_fields = FieldChanges { set, ..FieldChanges::default() };
    let answer = Edge::start(snapshot).get("/");
    assert_eq!((answer.text().as_str(), answer.fields("content-type")), ("<p>mine</p>", vec!["text/y"]));
}

#[test]
fn a_page_for_429_says_when_to_come_again() {
    let instance = Server::named("a");
    let mut snapshot = snapshot(&[instance.address]);
    snapshot.listeners[0].error_pages = vec![page((429, 429), "<p>slowly</p>", false)];
    snapshot.routes[0].actions.rates = vec![Rate { by: RateKey::Address, requests: 1, per_ms: 3_600_000, burst: 0 }];
    let edge = Edge::start(snapshot);
    assert_eq!(edge.get("/").text(), "a");
    let answer = edge.get("/");
    assert_eq!((answer.status(), answer.text().as_str()), (429, "<p>slowly</p>"));
    assert!(answer.field("retry-after").is_some_and(|after| after.parse::<u64>().is_ok()), "{}", answer.head);
}

#[test]
fn an_endless_page_of_an_instance_is_not_waited_for() {
    let instance = Server::start(|mut script| {
        // Whatever has come of the request is enough for it.
        if !script.client.some().is_empty() {
            script.send("HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n");
            while script.client.stream.write_all(b"4\r\nmore\r\n").is_ok() {}
        }
    });
    let edge = Edge::start(of_instances(&instance));
    let mut client = edge.client();
    for _ in 0..3 {
        client.send(b"GET /x HTTP/1.1\r\nHost: test\r\n\r\n");
        assert_eq!(client.answer().text(), "<p>mine</p>");
    }
    // The same where the instance answers before it has the whole request.
    client.send(b"POST /x HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000\r\n\r\nsome");
    let answer = client.answer();
    assert_eq!((answer.status(), answer.text().as_str()), (404, "<p>mine</p>"));
    assert_eq!(answer.fields("connection"), ["close"]);
}
