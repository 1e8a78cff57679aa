//! What somebody shows who asks over TCP: a token (RFC 6750), or a session by its cookie.
//!
//! Browsers send a cookie whoever's page asks, so with it every request must call us by a name of ours and come from no
//! page elsewhere, and every change must repeat in `X-Keel-Csrf` what only our own page knows. Whoever shows nothing valid
//! is answered 401 after a short wait that makes guessing pointless. Nothing here knows which path needs which role.

use std::time::Duration;

use axum::{
    http::{
        HeaderMap, HeaderName, HeaderValue,
        header::{AUTHORIZATION, WWW_AUTHENTICATE},
        request::Parts,
    },
    response::{IntoResponse, Response},
};

use crate::{
    api::error::ApiError,
    clock::wall_now,
    console::{Door, Session, Standing, authority, is_csrf, is_foreign_page, is_our_page, shown},
    tokens::{Shown, Token, hash},
};

/// How long somebody waits who showed nothing valid. Connections are bounded in number, and so is what waits.
const FAILURE_WAIT: Duration = Duration::from_millis(200);

/// What a page repeats with every change.
const CSRF: HeaderName = HeaderName::from_static("x-keel-csrf");

/// What somebody showed.
pub(super) enum Right {
    Token(Token),
    /// The number of a session, and what it is.
    Session(String, Session),
}

impl Right {
    /// On whose behalf, and with what role.
    pub(super) fn standing(&self) -> Standing {
        match self {
            Self::Session(_, session) => session.standing.clone(),
            Self::Token(token) => {
                let who = format!("token {}", token.name);
                Standing { who, role: token.role, token: Some(token.clone()) }
            }
        }
    }

    /// What tells whoever shows this from others, without being what they show. A token and the sessions that were begun
    /// by it are one: otherwise each session would be another one with as much room.
    pub(super) fn key(&self) -> String {
        match self {
            Self::Token(token) | Self::Session(_, Session { standing: Standing { token: Some(token), .. }, .. }) => {
                format!("token {}", token.name)
            }
            Self::Session(id, _) => hash(id),
        }
    }

    /// Whether it is still valid.
    pub(super) fn lasts(&self, door: &Door) -> bool {
        let now = wall_now();
        match self {
            Self::Token(token) => door.tokens.is_valid(token, now),
            Self::Session(id, _) => door.sessions.look_up(id, now).is_some(),
        }
    }
}

/// What a request shows, if it is valid.
pub(super) async fn find(door: &Door, head: &Parts) -> Result<Right, Response> {
    match bearer(&head.headers) {
        Some(text) => by_token(door, text).await,
        None => by_session(door, head).await,
    }
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
pub(super) fn session(door: &Door, head: &Parts, called: &str) -> Option<Right> {
    let shown = door.sessions.look_up_shown(&shown(&head.headers, called), wall_now());
    shown.map(|(id, session)| Right::Session(id.to_owned(), session))
}

/// What a request calls us, where that is a name of ours.
pub(super) fn our_name<'a>(door: &Door, head: &'a Parts) -> Option<&'a str> {
    authority(&head.uri, &head.headers).filter(|called| door.hosts.are_ours(called))
}

/// 421 (RFC 9110, section 15.5.20).
pub(super) fn not_our_name() -> Response {
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
