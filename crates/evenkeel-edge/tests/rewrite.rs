//! What of a head is written otherwise than it came: target, host, fields of requests and of answers.

#![allow(clippy::unwrap_used)]

mod common;
#[path = "fuzzed/rewrite.rs"]
#[allow(missing_docs, unreachable_pub)]
mod fuzzed;

use common::{Edge, Server, snapshot};
use evenkeel_core::snapshot::{Actions, FieldChanges, Network, Rewrite, Snapshot, Strictness};

fn with(actions: Actions, instance: &Server) -> Snapshot {
    let mut snapshot = snapshot(&[instance.address]);
    snapshot.routes[0].actions = actions;
    snapshot
}

fn fields(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn target_and_host_are_rewritten_and_the_client_can_still_be_known() {
    let instance = Server::echo();
    let rewrite = Rewrite {
        strip_prefix: Some("/api".into()),
        add_prefix: Some("/v2".into()),
        host: Some("app.internal:81".into()),
        path: None,
    };
    let edge = Edge::start(with(Actions { rewrite, ..Actions::default() }, &instance));
    assert_eq!(edge.get("/api/orders?page=2&next=/api/x").status(), 200);
    assert_eq!(edge.get("/other").status(), 200);
    let seen = instance.seen.lock().unwrap();
    assert_eq!(seen[0].head.lines().next(), Some("GET /v2/orders?page=2&next=/api/x HTTP/1.1"));
    assert_eq!(seen[0].fields("host"), ["app.internal:81"]);
    assert_eq!(seen[0].fields("x-forwarded-host"), ["test"]);
    assert_eq!(seen[0].fields("x-forwarded-prefix"), ["/api"]);
    assert_eq!(seen[1].head.lines().next(), Some("GET /v2/other HTTP/1.1"));
    assert!(seen[1].fields("x-forwarded-prefix").is_empty(), "nothing was taken away");
}

#[test]
fn what_could_leave_its_prefix_is_refused_and_the_connection_goes_on() {
    let instance = Server::echo();
    let rewrite = Rewrite { strip_prefix: Some("/api".into()), ..Rewrite::default() };
    let edge = Edge::start(with(Actions { rewrite, ..Actions::default() }, &instance));
    let mut client = edge.client();
    for path in ["/api/../admin", "/api/%2e%2e/admin", "/api/..%2fadmin", "/api/..;x/admin", "/api/..\\admin"] {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes());
        assert_eq!(client.answer().status(), 400, "{path}");
    }
    client.send(b"GET /api//evil.example/x HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(client.answer().status(), 200);
    let seen = instance.seen.lock().unwrap();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].head.lines().next(), Some("GET /evil.example/x HTTP/1.1"));
}

#[test]
fn prefixes_of_trusted_peers_come_first_and_those_of_others_are_not_believed() {
    let instance = Server::echo();
    let rewrite = Rewrite { strip_prefix: Some("/api".into()), ..Rewrite::default() };
    let mut snapshot = with(Actions { rewrite, ..Actions::default() }, &instance);
    let request = "GET /api/x HTTP/1.1\r\nHost: test\r\nX-Forwarded-Prefix: /outer/\r\n\r\n";
    assert_eq!(Edge::start(snapshot.clone()).ask(request).status(), 200);
    snapshot.listeners[0].trusted = vec![Network { address: "127.0.0.1".parse().unwrap(), prefix: 32 }];
    assert_eq!(Edge::start(snapshot).ask(request).status(), 200);
    let seen = instance.seen.lock().unwrap();
    assert_eq!(seen[0].fields("x-forwarded-prefix"), ["/api"]);
    assert_eq!(seen[1].fields("x-forwarded-prefix"), ["/outer/api"]);
}

#[test]
fn fields_of_requests_are_removed_set_and_added() {
    let instance = Server::echo();
    let request_fields = FieldChanges {
        remove: vec!["cookie".into(), "x-forwarded-host".into()],
        set: fields(&[
            ("X-Tenant", "a {host} {path} {client}"),
            ("X-Forwarded-Proto", "https"),
            ("X-Id", "{id}"),
            ("X-Json", "{\"a\":1}"),
        ]),
        add: fields(&[("Accept", "text/plain")]),
    };
    let edge = Edge::start(with(Actions { request_fields, ..Actions::default() }, &instance));
    let request = "POST /a/b?c=d HTTP/1.1\r\nHost: Shop.example:80\r\nx-tenant: evil\r\nX-TENANT: too\r\nCookie: a\r\n\
                   Accept: */*\r\nContent-Length: 4\r\n\r\nbody";
    assert_eq!(edge.ask(request).status(), 200);
    let seen = instance.seen.lock().unwrap();
    let seen = &seen[0];
    assert_eq!(seen.fields("x-tenant"), ["a Shop.example /a/b 127.0.0.1"]);
    assert_eq!(seen.fields("x-forwarded-proto"), ["https"]);
    assert_eq!(seen.fields("x-id"), seen.fields("x-request-id"));
    assert_eq!(seen.fields("x-json"), ["{\"a\":1}"]);
    assert_eq!(seen.fields("accept"), ["*/*", "text/plain"]);
    assert!(seen.fields("cookie").is_empty() && seen.fields("x-forwarded-host").is_empty(), "{}", seen.head);
    assert_eq!((seen.fields("content-length"), seen.text().as_str()), (vec!["4"], "body"));
}

/// A listener that reports passes names with underscores on, and many applications take `X_Tenant` for `X-Tenant`.
#[test]
fn who_spells_a_field_otherwise_does_not_get_around_what_is_said_of_it() {
    let instance = Server::echo();
    let request_fields = FieldChanges {
        remove: vec!["x-secret".into(), "x_exactly".into()],
        set: fields(&[("X-Tenant", "mine")]),
        ..FieldChanges::default()
    };
    let mut snapshot = with(Actions { request_fields, ..Actions::default() }, &instance);
    snapshot.listeners[0].strictness = Strictness::Report;
    let request = "GET / HTTP/1.1\r\nHost: test\r\nX_Tenant: evil\r\nx_TENANT: too\r\nX_Secret: 1\r\nx_exactly: 1\r\n\
                   X-Exactly: 2\r\nX_Other: 3\r\n\r\n";
    assert_eq!(Edge::start(snapshot).ask(request).status(), 200);
    let seen = &instance.seen.lock().unwrap()[0];
    assert_eq!(seen.fields("x-tenant"), ["mine"]);
    for gone in ["x_tenant", "x_secret", "x_exactly"] {
        assert!(seen.fields(gone).is_empty(), "{gone}: {}", seen.head);
    }
    assert_eq!((seen.fields("x-exactly"), seen.fields("x_other")), (vec!["2"], vec!["3"]), "others are none of it");
}

#[test]
fn fields_of_final_answers_are_changed_however_they_are_passed_on() {
    let instance = Server::start(|mut script| {
        while let Some(request) = script.request() {
            if request.head.starts_with("GET /early") {
                script.send("HTTP/1.1 103 Early Hints\r\nServer: old\r\nLink: </a.css>\r\n\r\n");
            }
            let head = "HTTP/1.1 200 OK\r\nServer: old\r\nX-Powered-By: old\r\nSet-Cookie: a=1\r\n";
            match request.head.split(' ').nth(1).unwrap() {
                "/relayed" => {
                    script.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n5\r\n"));
                    script.send("hello\r\n0\r\n\r\n");
                }
                "/large" => script.send(format!("{head}Content-Length: 200000\r\n\r\n{}", "x".repeat(200_000))),
                _ => script.send(format!("{head}Content-Length: 5\r\n\r\nhello")),
            }
        }
    });
    let response_fields = FieldChanges {
        remove: vec!["x-powered-by".into()],
        set: fields(&[("Server", "keel {host}"), ("Strict-Transport-Security", "max-age=63072000")]),
        add: fields(&[("Set-Cookie", "b=2")]),
    };
    let edge = Edge::start(with(Actions { response_fields, ..Actions::default() }, &instance));
    let mut client = edge.client();
    for path in ["/whole", "/relayed", "/large", "/early"] {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes());
        if path == "/early" {
            // What comes before the answer is not the answer.
            assert_eq!(client.answer().fields("server"), ["old"]);
        }
        let answer = client.answer();
        assert_eq!(answer.status(), 200, "{path}");
        assert_eq!(answer.fields("server"), ["keel test"], "{path}");
        assert_eq!(answer.fields("strict-transport-security"), ["max-age=63072000"], "{path}");
        assert_eq!(answer.fields("set-cookie"), ["a=1", "b=2"], "{path}");
        assert!(answer.fields("x-powered-by").is_empty(), "{path}");
        assert!(answer.body.starts_with(if path == "/large" { b"xxxxx" } else { b"hello" }), "{path}");
    }
}

#[test]
fn an_upgrade_is_rewritten_as_any_request_and_answer() {
    let instance = Server::start(|mut script| {
        script.request();
        script
            .send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\nServer: old\r\n\r\nhi");
        let _ = script.client.some();
    });
    let response_fields = FieldChanges {
        remove: vec!["server".into()],
        set: fields(&[("X-Served-By", "{host}")]),
        ..FieldChanges::default()
    };
    let rewrite = Rewrite { strip_prefix: Some("/ws".into()), ..Rewrite::default() };
    let edge = Edge::start(with(Actions { rewrite, response_fields, ..Actions::default() }, &instance));
    let mut client = edge.client();
    client.send(b"GET /ws/echo HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n");
    let answer = client.message(false).unwrap();
    assert_eq!((answer.status(), answer.fields("server").len()), (101, 0), "{}", answer.head);
    assert_eq!((answer.fields("x-served-by"), answer.fields("upgrade")), (vec!["test"], vec!["echo"]));
    assert_eq!((answer.fields("connection"), answer.fields("vary").len()), (vec!["upgrade"], 0));
    assert_eq!(client.take(2).unwrap(), b"hi");
    assert!(instance.seen.lock().unwrap()[0].head.starts_with("GET /echo HTTP/1.1"));
}

#[test]
fn a_retried_request_is_rewritten_once() {
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let instance = Server::echo();
    let rewrite = Rewrite { strip_prefix: Some("/a".into()), ..Rewrite::default() };
    let mut snapshot = snapshot(&[dead, instance.address]);
    snapshot.routes[0].actions = Actions { rewrite, ..Actions::default() };
    let edge = Edge::start(snapshot);
    for _ in 0..4 {
        assert_eq!(edge.get("/a/a/b").status(), 200);
    }
    let seen = instance.seen.lock().unwrap();
    assert_eq!(seen.len(), 4);
    assert!(seen.iter().all(|request| request.head.starts_with("GET /a/b HTTP/1.1")), "{seen:?}");
}

#[test]
fn the_corpus_of_the_fuzzer_holds() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/rewrite");
    let files: Vec<_> = std::fs::read_dir(corpus).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(files.len() >= 10, "{}", files.len());
    for file in files {
        fuzzed::run(&std::fs::read(file).unwrap());
    }
}
