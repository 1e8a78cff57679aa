//! The console: one page, where the stack is seen working.
//!
//! It is rendered here and kept up to date by server-sent events, while somebody looks; nothing is computed for nobody.
//! The page changes things only through the API, as the command line does, so a role that may not do something by
//! `keel` may not do it here either. This module says which paths there are and what every answer carries against
//! pages elsewhere; `session` and `links` own who is signed in, `host` judges names and origins, and the middleware of
//! the API (`api/auth`) applies all of it. Nothing here decides about the stack.

mod assets;
mod host;
mod links;
mod live;
mod page;
mod panels;
mod plan;
mod plot;
mod session;
mod sign_in;
mod sprite;
mod view;

use std::path::Path;

use axum::{
    Router,
    extract::State,
    http::{
        HeaderMap, HeaderName, HeaderValue,
        header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS},
    },
    response::Response,
    routing::{get, post},
};
use evenkeel_core::{secret::Secret, time::WallTime};

use self::links::Given;
pub(crate) use self::{
    host::{Hosts, authority, is_foreign_page, is_our_page},
    links::Links,
    live::Live,
    session::{Session, Sessions, Signed, Standing, csrf_of, is_csrf, shown},
    sign_in::Called,
    view::Views,
};
use crate::{api::Api, tokens::Tokens};

/// What a page of ours may load and do: what this address serves, and nothing else (Content Security Policy Level 3).
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// Where one signs in.
pub(crate) const SIGN_IN: &str = "/console/sign-in";

/// Where one signs out.
const SIGN_OUT: &str = "/console/sign-out";

/// Who comes in: tokens, sessions, links that begin one, and names under which we answer. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    pub(crate) tokens: Tokens,
    pub(crate) sessions: Sessions,
    pub(crate) links: Links,
    pub(crate) hosts: Hosts,
}

impl Door {
    /// With the sessions of this file.
    pub(crate) fn open(sessions: &Path, tokens: Tokens) -> Self {
        let kept = Sessions::open(sessions, tokens.clone());
        Self { tokens, sessions: kept, links: Links::default(), hosts: Hosts::default() }
    }

    /// Makes a link that gives on what somebody may do, who shows this session if it is one: its code and when it ends.
    pub(crate) fn make_link(&self, standing: Standing, session: Option<String>, now: WallTime) -> (Secret, WallTime) {
        self.links.make(Given { standing, session }, now)
    }

    /// Uses a link up: for whom it lets somebody in, while whoever made it may still come in themselves.
    fn take_link(&self, code: &str, now: WallTime) -> Option<Standing> {
        let Given { standing, session } = self.links.take(code, now)?;
        let token_lasts = standing.token.as_ref().is_none_or(|token| self.tokens.is_valid(token, now));
        let session_lasts = session.is_none_or(|session| self.sessions.is_lasting(&session, now));
        (token_lasts && session_lasts).then_some(standing)
    }
}

/// What the console adds to the API's paths.
pub(crate) fn routes() -> Router<Api> {
    Router::new()
        .route("/", get(home))
        .route(SIGN_IN, get(sign_in::show).post(sign_in::sign_in))
        .route(SIGN_OUT, post(sign_in::sign_out))
        .route("/console/live", get(live::stream))
        .route("/console/plan", get(plan::plan))
        .route("/console/assets/{name}", get(assets::serve))
}

/// Paths that everybody may ask for: they show who may sign in how, and nothing of the stack.
pub(crate) fn is_open(path: &str) -> bool {
    path == "/" || path == SIGN_IN || path.starts_with("/console/assets/")
}

/// The page, for who is signed in.
async fn home(state: State<Api>, called: Called, signed: Option<Signed>, headers: HeaderMap) -> Response {
    match signed {
        Some(signed) => page::page(state, signed).await,
        None => sign_in::not_signed_in(&called, &headers),
    }
}

/// Puts onto an answer what keeps pages elsewhere from using it. Where an answer says something else, it knows better.
pub(crate) fn harden(response: &mut Response) {
    let fields: [(HeaderName, &'static str); 7] = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        // A form of ours says its origin only under a policy that lets ourselves know it.
        (REFERRER_POLICY, "same-origin"),
        (CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    for (name, value) in fields {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests {
    use evenkeel_core::access::Role;

    use super::*;

    #[tokio::test]
    async fn a_link_lasts_no_longer_than_the_right_of_whoever_made_it() {
        let temp = tempfile::tempdir().unwrap();
        let door = Door::open(&temp.path().join("sessions.json"), Tokens::open(&temp.path().join("tokens.json")));
        let now = WallTime::from_millis(1_000_000);
        let (token, _) = door.tokens.create("ops", Role::Admin, now, None).unwrap();
        let standing = Standing { who: "token ops".to_owned(), role: Role::Admin, token: Some(token) };
        let (_, id) = door.sessions.begin(standing.clone(), now).await;
        let session = Some(crate::tokens::hash(id.expose()));
        let viewer = Standing { role: Role::Viewer, ..standing.clone() };
        let make = |session: &Option<String>| door.make_link(viewer.clone(), session.clone(), now).0;

        assert_eq!(door.take_link(make(&session).expose(), now), Some(viewer.clone()));
        let (by_session, by_token) = (make(&session), make(&None));
        door.sessions.end(&[id.expose()], now).await;
        assert_eq!(door.take_link(by_session.expose(), now), None, "whoever made it has signed out");
        assert_eq!(door.take_link(by_token.expose(), now), Some(viewer.clone()));
        let by_token = make(&None);
        door.tokens.revoke("ops").unwrap();
        assert_eq!(door.take_link(by_token.expose(), now), None, "the token by which it was made is revoked");
    }
}
