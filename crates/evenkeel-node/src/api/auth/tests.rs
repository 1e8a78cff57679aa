//! Who is let in over TCP, what they may do, and when what they read ends.

use std::time::Duration;

use axum::{Extension, Router, http::StatusCode, middleware, routing::get};
use evenkeel_core::{access::Role, secret::Secret, time::WallTime};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::*;
use crate::{
    api::{
        bounded::{Bounds, Patience},
        seats::Room,
    },
    clock::wall_now,
    console::Session,
    tokens::{Token, Tokens},
};

/// Connections of one who is known.
const MOST_OF_ONE: usize = 3;

/// Serves a few routes, of which `/` and `/v1/why` answer later than connections may stay silent.
async fn serve(tokens: &Tokens) -> SocketAddr {
    serve_door(Door::open(&std::env::temp_dir().join("no such folder/sessions.json"), tokens.clone())).await
}

async fn serve_door(door: Door) -> SocketAddr {
    serve_gate(Gate::new(door).0).await
}

async fn serve_gate(gate: Gate) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let long = Duration::from_hours(1);
    let bounds = Bounds {
        room: Room { strangers: 8, strangers_of_one: 8, known: [8; 3], known_of_one: MOST_OF_ONE },
        patience: Patience { silence: Duration::from_secs(1), head: long, stuck: long },
    };
    let who = async |Who(who): Who| who;
    let late = async || {
        tokio::time::sleep(Duration::from_secs(3)).await;
        "late"
    };
    // Without an end, as whoever follows output gets it.
    let follow = async || {
        let (mut to, body) = http_body_util::channel::Channel::<axum::body::Bytes>::new(1);
        tokio::spawn(async move {
            while to.send_data("line\n".into()).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        (Extension(Endless), Body::new(body))
    };
    // In two pieces, with a while between them.
    let found = async || {
        let (mut to, body) = http_body_util::channel::Channel::<axum::body::Bytes>::new(1);
        tokio::spawn(async move {
            to.send_data("first\n".into()).await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
            to.send_data("last\n".into()).await.unwrap();
        });
        Body::new(body)
    };
    let routes = Router::new()
        .route("/", get(late))
        .route("/v1/why", get(late))
        .route("/metrics", get(async || "open"))
        .route("/v1/status", get(who))
        .route("/v1/logs", get(follow))
        .route("/v1/events", get(found))
        .route("/v1/apply", get(who).post(who))
        .layer(middleware::from_fn_with_state(gate, admit));
    let service = routes.into_make_service_with_connect_info::<Caller>();
    tokio::spawn(async move { axum::serve(Bounded::new(listener, bounds), service).await });
    address
}

async fn ask(address: SocketAddr, line: &str, token: Option<&str>) -> (u16, String) {
    let token = token.map(|token| format!("authorization: bearer {token}\r\n")).unwrap_or_default();
    send(address, line, &format!("host: localhost\r\n{token}")).await
}

async fn send(address: SocketAddr, line: &str, fields: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let text = format!("{line} HTTP/1.1\r\n{fields}connection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

#[tokio::test]
async fn a_role_permits_what_it_permits() {
    let temp = tempfile::tempdir().unwrap();
    let tokens = Tokens::open(&temp.path().join("tokens.json"));
    let now = wall_now();
    let (_, viewer) = tokens.create("grafana", Role::Viewer, now, None).unwrap();
    let (_, admin) = tokens.create("ci", Role::Admin, now, None).unwrap();
    let (_, over) = tokens.create("old", Role::Admin, now, Some(now)).unwrap();
    let address = serve(&tokens).await;
    assert_eq!(ask(address, "GET /metrics", None).await.0, 200);
    let (status, answer) = ask(address, "GET /v1/status", Some(viewer.expose())).await;
    assert!(status == 200 && answer.ends_with("token grafana"), "{answer}");
    let (status, answer) = ask(address, "POST /v1/apply", Some(viewer.expose())).await;
    assert!(status == 403 && answer.contains("needs the role admin"), "{answer}");
    let (status, answer) = ask(address, "POST /v1/apply", Some(admin.expose())).await;
    assert!(status == 200 && answer.ends_with("token ci"), "{answer}");
    for (token, said) in [
        (None, "needs a token"),
        (Some("keel_00"), "not known"),
        (Some(over.expose()), "`old` has ended"),
        (Some(""), "needs a token"),
    ] {
        let (status, answer) = ask(address, "GET /v1/status", token).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED.as_u16());
        assert!(answer.contains(said) && answer.contains("www-authenticate: Bearer"), "{answer}");
    }
}

#[tokio::test]
async fn who_is_known_may_wait_for_longer() {
    let temp = tempfile::tempdir().unwrap();
    let tokens = Tokens::open(&temp.path().join("tokens.json"));
    let (_, viewer) = tokens.create("wall", Role::Viewer, wall_now(), None).unwrap();
    let address = serve(&tokens).await;
    let unknown = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        // Reset or closed: without an answer in any case.
        let _ = stream.read_to_end(&mut answer).await;
        answer
    };
    let (answer, closed) = tokio::join!(ask(address, "GET /v1/why", Some(viewer.expose())), unknown);
    assert!(answer.0 == 200 && answer.1.ends_with("late"), "{answer:?}");
    assert!(closed.is_empty(), "{}", String::from_utf8_lossy(&closed));
}

#[tokio::test]
async fn whose_token_ends_reads_no_further() {
    let temp = tempfile::tempdir().unwrap();
    let tokens = Tokens::open(&temp.path().join("tokens.json"));
    let soon = WallTime::from_millis(wall_now().as_millis() + 1_500);
    let (_, revoked) = tokens.create("gone", Role::Viewer, wall_now(), None).unwrap();
    let (_, ending) = tokens.create("guest", Role::Viewer, wall_now(), Some(soon)).unwrap();
    let address = serve(&tokens).await;
    let read = async |token: &Secret, revoke: bool| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head =
            format!("GET /v1/logs HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\r\n", token.expose());
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = [0; 1024];
        assert!(stream.read(&mut answer).await.unwrap() > 0);
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
        if revoke {
            tokens.revoke("gone").unwrap();
        }
        // Closed or reset, but not before what was sent has come.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    };
    let both = async { tokio::join!(read(&revoked, true), read(&ending, false)) };
    tokio::time::timeout(Duration::from_secs(20), both).await.expect("both answers end");
}

#[tokio::test]
async fn who_follows_too_much_keeps_nobody_else_out() {
    let temp = tempfile::tempdir().unwrap();
    let tokens = Tokens::open(&temp.path().join("tokens.json"));
    let (_, wall) = tokens.create("wall", Role::Viewer, wall_now(), None).unwrap();
    let (_, ci) = tokens.create("ci", Role::Viewer, wall_now(), None).unwrap();
    let address = serve(&tokens).await;
    let mut following = Vec::new();
    for _ in 0..MOST_OF_ONE {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!("GET /v1/logs HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n", wall.expose());
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        following.push(stream);
    }
    let (status, answer) = ask(address, "GET /v1/status", Some(wall.expose())).await;
    assert!(status == 429 && answer.contains("retry-after: 1"), "{answer}");
    assert_eq!(ask(address, "GET /v1/status", Some(ci.expose())).await.0, 200);
    following.pop();
    let again = async {
        while ask(address, "GET /v1/status", Some(wall.expose())).await.0 != 200 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), again).await.expect("its place is free");
}

#[tokio::test]
async fn where_an_address_is_served_no_more_answers_are_finished_that_have_an_end() {
    let temp = tempfile::tempdir().unwrap();
    let door = door(&temp);
    let (_, viewer) = door.tokens.create("wall", Role::Viewer, wall_now(), None).unwrap();
    let (gate, closed) = Gate::new(door);
    let address = serve_gate(gate).await;
    let mut answers = Vec::new();
    for path in ["/v1/logs", "/v1/events"] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n", viewer.expose());
        stream.write_all(format!("{head}connection: close\r\n\r\n").as_bytes()).await.unwrap();
        let mut begun = [0; 12];
        stream.read_exact(&mut begun).await.unwrap();
        assert_eq!(&begun, b"HTTP/1.1 200");
        answers.push(stream);
    }
    closed.store(true, Ordering::Relaxed);
    for (mut stream, last) in answers.into_iter().zip(["line\n", "last\n"]) {
        let mut rest = String::new();
        let end = tokio::time::timeout(Duration::from_secs(20), stream.read_to_string(&mut rest));
        end.await.expect("it ends").unwrap();
        assert!(rest.ends_with(&format!("{last}\r\n0\r\n\r\n")), "whole, and ended as HTTP ends it: {rest}");
    }
}

#[test]
fn a_token_and_what_was_begun_by_it_are_one_and_sessions_of_a_user_are_not() {
    let token = Token { name: "ci".to_owned(), role: Role::Viewer, created: wall_now(), expires: None };
    let begun = |token: Option<&Token>| {
        let standing = Standing { who: "somebody".to_owned(), role: Role::Viewer, token: token.cloned() };
        Session { standing, begun: wall_now(), ends: wall_now() }
    };
    let key = |id: &str, token: Option<&Token>| Right::Session(id.to_owned(), begun(token)).key();
    assert_eq!(key("1", Some(&token)), Right::Token(token.clone()).key());
    assert_ne!(key("1", None), key("2", None));
    assert!(!key("1", None).contains("somebody"), "nor is it theirs who gave them the link");
}

fn door(temp: &tempfile::TempDir) -> Door {
    Door::open(&temp.path().join("sessions.json"), Tokens::open(&temp.path().join("tokens.json")))
}

fn of(role: Role) -> Standing {
    Standing { who: "root (uid 0)".to_owned(), role, token: None }
}

#[tokio::test]
async fn a_session_changes_things_only_by_our_own_page() {
    let temp = tempfile::tempdir().unwrap();
    let door = door(&temp);
    let (_, id) = door.sessions.begin(of(Role::Admin), wall_now()).await;
    let (_, other) = door.sessions.begin(of(Role::Admin), wall_now()).await;
    let (_, low) = door.sessions.begin(of(Role::Viewer), wall_now()).await;
    let address = serve_door(door).await;
    let port = address.port();
    let cookie = |id: &Secret| format!("host: {address}\r\ncookie: keel_session_{port}={}\r\n", id.expose());
    let csrf = |id: &Secret| format!("x-keel-csrf: {}\r\n", csrf_of(id.expose()));
    let here = format!("origin: http://{address}\r\n");

    let (status, answer) = send(address, "GET /v1/status", &cookie(&id)).await;
    assert!(status == 200 && answer.ends_with("root (uid 0), in the console"), "{answer}");
    for (fields, wanted) in [
        (format!("{}{here}", csrf(&id)), 200),
        (format!("{}sec-fetch-site: same-origin\r\n", csrf(&id)), 200),
        (String::new(), 403),
        (here.clone(), 403),
        (csrf(&id), 403),
        (format!("{}{here}", csrf(&other)), 403),
        (format!("{}origin: null\r\n", csrf(&id)), 403),
        (format!("{}origin: http://127.0.0.1:1\r\n", csrf(&id)), 403),
        (format!("{}sec-fetch-site: same-site\r\n", csrf(&id)), 403),
        (format!("{}{here}sec-fetch-site: cross-site\r\n", csrf(&id)), 403),
    ] {
        let (status, answer) = send(address, "POST /v1/apply", &format!("{}{fields}", cookie(&id))).await;
        assert_eq!(status, wanted, "{fields:?}: {answer}");
    }
    let allowed = format!("{}{}{here}", cookie(&low), csrf(&low));
    let (status, answer) = send(address, "POST /v1/apply", &allowed).await;
    assert!(status == 403 && answer.contains("signed in as viewer"), "{answer}");
    let elsewhere = cookie(&id).replace(&format!("host: {address}"), "host: evil.example");
    assert_eq!(send(address, "GET /v1/status", &elsewhere).await.0, 401, "the cookie is not of that port");
    let elsewhere = cookie(&id).replace(&format!("host: {address}"), &format!("host: evil.example:{port}"));
    assert_eq!(send(address, "GET /v1/status", &elsewhere).await.0, 421);
    assert_eq!(send(address, "GET /metrics", "host: evil.example\r\n").await.0, 421);
    let foreign = format!("{}sec-fetch-site: same-site\r\n", cookie(&id));
    assert_eq!(send(address, "GET /v1/status", &foreign).await.0, 403);
}

#[tokio::test]
async fn whose_session_ends_reads_no_further() {
    let temp = tempfile::tempdir().unwrap();
    let door = door(&temp);
    let (_, id) = door.sessions.begin(of(Role::Viewer), wall_now()).await;
    let address = serve_door(door.clone()).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let cookie = format!("cookie: keel_session_{}={}", address.port(), id.expose());
    let head = format!("GET /v1/logs HTTP/1.1\r\nhost: {address}\r\n{cookie}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 1024];
    assert!(stream.read(&mut answer).await.unwrap() > 0);
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    door.sessions.end(&[id.expose()], wall_now()).await;
    let rest = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut Vec::new())).await;
    let _ = rest.expect("the answer ends");
    let (status, _) = send(address, "GET /v1/status", &format!("host: {address}\r\n{cookie}\r\n")).await;
    assert_eq!(status, 401);
}
