//! Who may ask over TCP: whoever shows a token or a session of the console whose role is high enough.
//!
//! `/metrics` stays open, as programs that scrape expect, and so does the way to sign in. Everything else needs
//! `Authorization: Bearer TOKEN` (RFC 6750) or the console's cookie: 401 without a valid one, after a short wait that
//! makes guessing pointless, and 403 where the role is too low. Browsers send a cookie whoever's page asks, so with it
//! every request must call us by a name of ours and come from no page elsewhere, and every change must repeat in
//! `X-Keel-Csrf` what only our own page knows. What is being answered ends with the right to read it. Whoever is known
//! has a place among those who are, as far as there is room (`seats`).

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    body::{Body, HttpBody},
    extract::{ConnectInfo, Request, State, connect_info::Connected},
    http::{
        HeaderMap, HeaderName, HeaderValue,
        header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE},
        request::Parts,
    },
    middleware::Next,
    response::{IntoResponse, Response},
    serve::IncomingStream,
};
use evenkeel_core::access::{Role, required};

use super::{
    bounded::Bounded,
    entitled::{Entitled, Still},
    error::ApiError,
    seats::{Answering, Full, Guest},
    who::Who,
};
use crate::{
    clock::wall_now,
    console::{
        Door, Session, Signed, Standing, authority, csrf_of, harden, is_csrf, is_foreign_page, is_open, is_our_page,
        shown,
    },
    tokens::{Shown, Token, hash},
};

/// How long somebody waits who showed nothing valid. Connections are bounded in number, and so is what waits.
const FAILURE_WAIT: Duration = Duration::from_millis(200);

/// What a page repeats with every change.
const CSRF: HeaderName = HeaderName::from_static("x-keel-csrf");

/// The way in at one address.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    door: Door,
    /// Whether it is served there no more.
    closed: Arc<AtomicBool>,
}

impl Gate {
    /// With what closes it.
    pub(super) fn new(door: Door) -> (Self, Arc<AtomicBool>) {
        let closed = Arc::<AtomicBool>::default();
        (Self { door, closed: Arc::clone(&closed) }, closed)
    }
}

/// Somebody at the other end of a TCP connection.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    address: SocketAddr,
    guest: Arc<Guest>,
}

impl Caller {
    /// Whether what is sent stays on this machine.
    pub(super) fn is_local(&self) -> bool {
        self.address.ip().to_canonical().is_loopback()
    }
}

impl Connected<IncomingStream<'_, Bounded>> for Caller {
    fn connect_info(stream: IncomingStream<'_, Bounded>) -> Self {
        Self { address: *stream.remote_addr(), guest: stream.io().guest() }
    }
}

/// Lets those pass who may do what they ask for, and puts onto every answer what keeps pages elsewhere from it.
pub(super) async fn admit(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    // A body is not to be looked at from here, and would keep this future on one thread.
    let (mut head, body) = request.into_parts();
    let answering = head.extensions.get::<ConnectInfo<Caller>>().map(|ConnectInfo(caller)| caller.guest.answer());
    let (mut response, right) = match judge(&gate.door, &mut head).await {
        Err(refusal) => (refusal, None),
        Ok(right) => (next.run(Request::from_parts(head, body)).await, right),
    };
    response = response.map(|body| while_entitled(body, gate, right, answering));
    harden(&mut response);
    response
}

/// What somebody showed.
enum Right {
    Token(Token),
    /// The number of a session, and what it is.
    Session(String, Session),
}

impl Right {
    /// On whose behalf, and with what role.
    fn standing(&self) -> Standing {
        match self {
            Self::Session(_, session) => session.standing.clone(),
            Self::Token(token) => {
                let who = format!("token {}", token.name);
                Standing { who, role: token.role, token: Some(token.clone()) }
            }
        }
    }

    /// What tells whoever shows this from others, without being what they show.
    fn key(&self) -> String {
        match self {
            Self::Session(id, _) => hash(id),
            Self::Token(token) => format!("token {}", token.name),
        }
    }

    fn lasts(&self, door: &Door) -> bool {
        let now = wall_now();
        match self {
            Self::Token(token) => door.tokens.is_valid(token, now),
            Self::Session(id, _) => door.sessions.look_up(id, now).is_some(),
        }
    }
}

/// Lets a request pass, with what handlers want to know of who asks, or answers it. What it passed by, where that is
/// needed, must go on being valid while it is answered.
async fn judge(door: &Door, head: &mut Parts) -> Result<Option<Right>, Response> {
    let path = head.uri.path();
    if path == "/metrics" {
        return if is_seen_by_a_page(door, head) { Err(not_our_name()) } else { Ok(None) };
    }
    if is_open(path) {
        let session = our_name(door, head).map(|called| session(door, head, called)).ok_or_else(not_our_name)?;
        if let Some(right) = session {
            tell(head, &right);
        }
        return Ok(None);
    }
    let right = match bearer(&head.headers) {
        Some(text) => by_token(door, text).await?,
        None => by_session(door, head).await?,
    };
    let Standing { who, role, .. } = right.standing();
    let needed = required(head.method.as_str(), path);
    if role < needed {
        let (error, hint) = too_low(&right, &who, role, needed);
        return Err(ApiError::new(403, error, hint).into_response());
    }
    if let Some(ConnectInfo(caller)) = head.extensions.get::<ConnectInfo<Caller>>() {
        caller.guest.admit(&right.key(), role).map_err(too_many)?;
    }
    tell(head, &right);
    Ok(Some(right))
}

/// 429 (RFC 6585, section 4) or 503.
fn too_many(full: Full) -> Response {
    let status = if full == Full::OfOne { 429 } else { 503 };
    let hint = "Close some of them, or wait until their answers end; an idle connection makes room by itself.";
    let mut response = ApiError::new(status, full.to_string(), hint).into_response();
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

fn too_low(right: &Right, who: &str, role: Role, needed: Role) -> (String, String) {
    match right {
        Right::Token(token) => (
            format!("this needs the role {needed}, and the token `{}` has {role}", token.name),
            format!("Make one: keel token create NAME --role {needed}"),
        ),
        Right::Session(..) => (
            format!("this needs the role {needed}, and {who} is signed in as {role}"),
            format!("Sign in as {needed}: keel console --role {needed}"),
        ),
    }
}

/// Tells handlers who asks.
fn tell(head: &mut Parts, right: &Right) {
    let standing = right.standing();
    let (who, csrf, session, ends) = match right {
        Right::Token(token) => (standing.who.clone(), String::new(), None, token.expires),
        Right::Session(id, session) => {
            (format!("{}, in the console", standing.who), csrf_of(id), Some(hash(id)), Some(session.ends))
        }
    };
    head.extensions.insert(Who(who));
    head.extensions.insert(Signed { who: standing.who.clone(), role: standing.role, csrf, session, ends });
    head.extensions.insert(standing);
}

fn while_entitled(body: Body, gate: Gate, right: Option<Right>, answering: Option<Answering>) -> Body {
    let is_whole = body.size_hint().exact().is_some();
    let still = move || match &right {
        // It was ready at once, and so it was entitled.
        _ if is_whole => Still::GoesOn,
        Some(right) if !right.lasts(&gate.door) => Still::Refused,
        _ if gate.closed.load(Ordering::Relaxed) => Still::Over,
        _ => Still::GoesOn,
    };
    Body::new(Entitled { body, still, _answering: answering })
}

async fn by_token(door: &Door, text: &str) -> Result<Right, Response> {
    match door.tokens.look_up(text, wall_now()) {
        Shown::Valid(token) => Ok(Right::Token(token)),
        Shown::Expired(token) => {
            let error = format!("the token `{}` has ended", token.name);
            Err(refused(&error, "Make another one: keel token create").await)
        }
        Shown::Unknown => Err(refused("this token is not known", "It may have been revoked.").await),
    }
}

/// By the cookie, which a browser sends whoever's page asks.
async fn by_session(door: &Door, head: &Parts) -> Result<Right, Response> {
    const HINT: &str = "Send `Authorization: Bearer TOKEN`, with a token made by `keel token create`; or sign in to the \
                        console, by `keel console`.";
    let headers = &head.headers;
    let called = authority(&head.uri, headers).unwrap_or_default();
    let ids = shown(headers, called);
    if ids.is_empty() {
        return Err(refused("this needs a token", HINT).await);
    }
    if !door.hosts.are_ours(called) {
        return Err(not_our_name());
    }
    if is_foreign_page(headers, called) {
        return Err(ApiError::new(403, "a page elsewhere may not ask with your session", "").into_response());
    }
    let Some((id, session)) = door.sessions.look_up_shown(&ids, wall_now()) else {
        return Err(refused("this session has ended, or it is not the only one", "Sign in again: keel console").await);
    };
    let changes = !matches!(head.method.as_str(), "GET" | "HEAD");
    let csrf = headers.get(CSRF).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if changes && !(is_our_page(headers, called) && is_csrf(id, csrf)) {
        let hint = "A page of the console sends `X-Keel-Csrf`, and its browser says that it comes from here.";
        return Err(
            ApiError::new(403, "with a session, only a page of the console changes things", hint).into_response()
        );
    }
    Ok(Right::Session(id.to_owned(), session))
}

/// The session that a browser shows with an open path, if it lasts.
fn session(door: &Door, head: &Parts, called: &str) -> Option<Right> {
    let shown = door.sessions.look_up_shown(&shown(&head.headers, called), wall_now());
    shown.map(|(id, session)| Right::Session(id.to_owned(), session))
}

fn our_name<'a>(door: &Door, head: &'a Parts) -> Option<&'a str> {
    authority(&head.uri, &head.headers).filter(|called| door.hosts.are_ours(called))
}

/// Whether metrics may be asked for by a page that lets its own name lead to this machine. Programs that scrape from
/// elsewhere call us as they like: what they can reach is meant for them.
fn is_seen_by_a_page(door: &Door, head: &Parts) -> bool {
    let caller = head.extensions.get::<ConnectInfo<Caller>>();
    caller.is_none_or(|ConnectInfo(caller)| caller.is_local()) && our_name(door, head).is_none()
}

/// 421 (RFC 9110, section 15.5.20).
fn not_our_name() -> Response {
    let hint = "Open it by its address or as localhost, or write the name into `hosts` of [console].";
    ApiError::new(421, "the console does not answer under this name", hint).into_response()
}

/// The token of a request (RFC 6750, section 2.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

async fn refused(error: &str, hint: &str) -> Response {
    tokio::time::sleep(FAILURE_WAIT).await;
    let mut response = ApiError::new(401, error, hint).into_response();
    let challenge = HeaderValue::from_static("Bearer realm=\"keel\"");
    response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    response
}

#[cfg(test)]
mod tests {
    use axum::{Router, http::StatusCode, middleware, routing::get};
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
        tokens::Tokens,
    };

    /// Connections of one who is known.
    const MOST_OF_ONE: usize = 3;

    /// Serves a few routes, of which `/` and `/v1/why` answer later than connections may stay silent.
    async fn serve(tokens: &Tokens) -> SocketAddr {
        serve_door(Door::open(&std::env::temp_dir().join("no such folder/sessions.json"), tokens.clone())).await
    }

    async fn serve_door(door: Door) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (gate, _) = Gate::new(door);
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
            Body::new(body)
        };
        let routes = Router::new()
            .route("/", get(late))
            .route("/v1/why", get(late))
            .route("/metrics", get(async || "open"))
            .route("/v1/status", get(who))
            .route("/v1/logs", get(follow))
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
}
