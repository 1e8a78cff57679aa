//! Who may ask over TCP: whoever shows a token whose role is high enough.
//!
//! `/` and `/metrics` stay open, as programs that scrape expect. Everything else needs `Authorization: Bearer TOKEN`
//! (RFC 6750): 401 without a valid one, after a short wait that makes guessing pointless, and 403 where the role is
//! too low. What is being answered ends with the token's right. The connection of somebody who is known may stay silent for longer.

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
        HeaderMap, HeaderValue,
        header::{AUTHORIZATION, WWW_AUTHENTICATE},
    },
    middleware::Next,
    response::{IntoResponse, Response},
    serve::IncomingStream,
};
use evenkeel_core::access::required;

use super::{bounded::Bounded, entitled::Entitled, error::ApiError, who::Who};
use crate::{
    clock::wall_now,
    tokens::{Shown, Tokens},
};

/// How long somebody waits who showed no valid token. Connections are bounded in number, and so is what waits.
const FAILURE_WAIT: Duration = Duration::from_millis(200);

/// Somebody at the other end of a TCP connection.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    address: SocketAddr,
    known: Arc<AtomicBool>,
}

impl Caller {
    /// Whether what is sent stays on this machine.
    pub(super) fn is_local(&self) -> bool {
        self.address.ip().to_canonical().is_loopback()
    }
}

impl Connected<IncomingStream<'_, Bounded>> for Caller {
    fn connect_info(stream: IncomingStream<'_, Bounded>) -> Self {
        Self { address: *stream.remote_addr(), known: stream.io().known() }
    }
}

/// Lets those pass whose token permits what they ask for.
pub(super) async fn by_token(State(tokens): State<Tokens>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if matches!(path, "/" | "/metrics") {
        return next.run(request).await;
    }
    let needed = required(request.method().as_str(), path);
    let shown = bearer(request.headers()).map(|text| tokens.look_up(text, wall_now()));
    let token = match shown {
        Some(Shown::Valid(token)) => token,
        Some(Shown::Expired(token)) => {
            return refused(&format!("the token `{}` has ended", token.name), "Make another one: keel token create")
                .await;
        }
        Some(Shown::Unknown) => return refused("this token is not known", "It may have been revoked.").await,
        None => {
            let hint = "Send `Authorization: Bearer TOKEN`, with a token made by `keel token create`.";
            return refused("this needs a token", hint).await;
        }
    };
    if token.role < needed {
        let error = format!("this needs the role {needed}, and the token `{}` has {}", token.name, token.role);
        return ApiError::new(403, error, format!("Make one: keel token create NAME --role {needed}")).into_response();
    }
    if let Some(ConnectInfo(caller)) = request.extensions().get::<ConnectInfo<Caller>>() {
        caller.known.store(true, Ordering::Relaxed);
    }
    request.extensions_mut().insert(Who(format!("token {}", token.name)));
    next.run(request).await.map(|body| match body.size_hint().exact() {
        Some(_) => body,
        None => Body::new(Entitled { body, tokens, token }),
    })
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
    use evenkeel_core::{
        access::{self, Role},
        secret::Secret,
        time::WallTime,
    };
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;

    /// Serves a few routes, of which `/` and `/v1/why` answer later than connections may stay silent.
    async fn serve(tokens: &Tokens) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let bounds = super::super::Bounds { connections: 8, silence: Duration::from_secs(1) };
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
            .layer(middleware::from_fn_with_state(tokens.clone(), by_token));
        let service = routes.into_make_service_with_connect_info::<Caller>();
        tokio::spawn(async move { axum::serve(Bounded::new(listener, bounds), service).await });
        address
    }

    async fn ask(address: SocketAddr, line: &str, token: Option<&str>) -> (u16, String) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let token = token.map(|token| format!("authorization: bearer {token}\r\n")).unwrap_or_default();
        let text = format!("{line} HTTP/1.1\r\nhost: x\r\n{token}connection: close\r\n\r\n");
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
            stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
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
            let head = format!("GET /v1/logs HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n", token.expose());
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

    /// A route that nobody gave a role would silently ask for the highest one.
    #[test]
    fn every_route_has_its_role() {
        let source = include_str!("mod.rs");
        let routes: Vec<&str> = source
            .split("\"/v1/")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
            .filter(|path| !path.is_empty())
            .collect();
        assert!(routes.len() >= 8, "{routes:?}");
        for route in routes {
            let path = format!("/v1/{route}");
            assert!(access::is_known(&path), "{path} stands in no table of core/access.rs");
        }
    }
}
