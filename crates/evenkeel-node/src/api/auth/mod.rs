//! Who may ask over TCP: whoever shows a token or a session of the console whose role is high enough.
//!
//! `/metrics` stays open, as programs that scrape expect, and so does the way to sign in. Everything else needs
//! `Authorization: Bearer TOKEN` (RFC 6750) or the console's cookie (`right`): 401 without a valid one, and 403 where the
//! role is too low. What is being answered ends with the right to read it (`entitled`). Whoever is known has a place among
//! those who are, as far as there is room (`seats`). This module keeps nothing of its own.

mod right;
#[cfg(test)]
mod tests;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{
    body::{Body, HttpBody},
    extract::{ConnectInfo, Request, State, connect_info::Connected},
    http::{HeaderValue, header::RETRY_AFTER, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
    serve::IncomingStream,
};
use evenkeel_core::access::{Role, required};

use self::right::{Right, find, not_our_name, our_name, session};
use super::{
    bounded::Bounded,
    entitled::{Endless, Entitled, Still},
    error::ApiError,
    seats::{Answering, Full, Guest},
    who::Who,
};
use crate::{
    console::{Door, Signed, Standing, csrf_of, harden, is_open},
    tokens::hash,
};

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
    let is_endless = response.extensions_mut().remove::<Endless>().is_some();
    response = response.map(|body| while_entitled(body, gate, right, is_endless, answering));
    harden(&mut response);
    response
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
    let right = find(door, head).await?;
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

fn while_entitled(
    body: Body,
    gate: Gate,
    right: Option<Right>,
    is_endless: bool,
    answering: Option<Answering>,
) -> Body {
    let is_whole = body.size_hint().exact().is_some();
    let still = move || match &right {
        // It was ready at once, and so it was entitled.
        _ if is_whole => Still::GoesOn,
        Some(right) if !right.lasts(&gate.door) => Still::Refused,
        // Any other is finished: cut short, it would look whole.
        _ if is_endless && gate.closed.load(Ordering::Relaxed) => Still::Over,
        _ => Still::GoesOn,
    };
    Body::new(Entitled { body, still, _answering: answering })
}

/// Whether metrics may be asked for by a page that lets its own name lead to this machine. Programs that scrape from
/// elsewhere call us as they like: what they can reach is meant for them.
fn is_seen_by_a_page(door: &Door, head: &Parts) -> bool {
    let caller = head.extensions.get::<ConnectInfo<Caller>>();
    caller.is_none_or(|ConnectInfo(caller)| caller.is_local()) && our_name(door, head).is_none()
}
