//! The console: one page, where the stack is seen working.
//!
//! It is rendered here and kept up to date by server-sent events, while somebody looks; nothing is computed for nobody.
//! The page changes things only through the API, as the command line does, so a role that may not do something by
//! `keel` may not do it here either. This module says which paths there are and what every answer carries against
//! pages elsewhere; `session` and `links` own who is signed in, `host` judges names and origins, and the middleware of
//! the API (`api/auth.rs`) applies all of it. Nothing here decides about the stack.

mod assets;
mod host;
mod links;
mod live;
mod page;
mod panels;
mod plan;
mod plot;
mod runs;
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

pub(crate) use self::{
    host::{Hosts, authority, is_foreign_page, is_our_page},
    links::Links,
    live::Live,
    session::{Session, Sessions, Signed, Standing, csrf_of, is_csrf, shown},
    sign_in::Called,
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
