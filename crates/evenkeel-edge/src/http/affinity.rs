//! Where a request belongs: by what it is hashed, and which instance its client stays with.
//!
//! Called only where the service of a request asks its head for that. A client is known by a cookie that the edge sets
//! and that instances never see, or by a field. The cookie holds the token of an instance, the same in every edge and for
//! every start of that instance, so that nothing has to be remembered; what is not such a token is ignored. Which instance
//! follows from it is decided in [`crate::pick`].

use std::sync::Arc;

use evenkeel_core::{
    balance::{TokenKey, hash_bytes},
    snapshot::{HashBy, Sticky},
};

use super::{
    cookie,
    head_request::RequestHead,
    request::{Extras, Request},
};
use crate::{
    local::ServiceLocal,
    pick::{Flight, Stays, Tie, keeps_cookie},
    thread::Thread,
};

/// Notes where a request with this head belongs, and takes the edge's own cookie out of what is written for the instance.
#[cold]
pub(crate) fn note(
    tokens: TokenKey,
    service: &ServiceLocal,
    head: &RequestHead<'_, '_>,
    extras: &mut Option<Box<Extras>>,
    out: &mut Vec<u8>,
) {
    let extras = extras.get_or_insert_default();
    extras.tie = tie(tokens, service, head);
    extras.tied_by = Arc::as_ptr(&service.view().shared).addr();
    if let Some(Sticky::Cookie { name, .. }) = &service.config().choice.sticky
        && cookie_of(head, name).is_some()
    {
        cookie::strip(out, name.as_bytes());
    }
}

fn tie(tokens: TokenKey, service: &ServiceLocal, head: &RequestHead<'_, '_>) -> Tie {
    let choice = &service.config().choice;
    let hash = match &choice.hash_by {
        HashBy::Address => None,
        HashBy::Path => head.path.split(|&byte| byte == b'?').next(),
        HashBy::Header(name) => head.field(name.as_bytes()).filter(|value| !value.is_empty()),
        HashBy::Cookie(name) => cookie_of(head, name),
    };
    let sticky = match &choice.sticky {
        None | Some(Sticky::Address) => Stays::No,
        Some(Sticky::Header(name)) => {
            let value = head.field(name.as_bytes()).filter(|value| !value.is_empty());
            value.map_or(Stays::No, |value| Stays::Hash(hash_bytes(value)))
        }
        Some(Sticky::Cookie { name, .. }) => {
            let token = cookie_of(head, name).and_then(cookie::token);
            Stays::Cookie(token.map(|token| tokens.open(token)))
        }
    };
    Tie { hash: hash.map(hash_bytes), sticky }
}

/// The value of the first cookie of this name.
pub(crate) fn cookie_of<'b>(head: &RequestHead<'b, '_>, name: &str) -> Option<&'b [u8]> {
    head.values(b"cookie").find_map(|field| cookie::value(field, name.as_bytes()))
}

/// Field lines for the head of this instance's answer: the cookie, where the client has none that leads here. None where
/// the client keeps its cookie although another instance answers, or where another service does.
pub(crate) fn fields(thread: &Thread, request: &Request, flight: &Flight) -> String {
    request.extras.as_deref().map_or_else(String::new, |extras| fields_of(thread, request, extras, flight))
}

#[cold]
fn fields_of(thread: &Thread, request: &Request, extras: &Extras, flight: &Flight) -> String {
    let service = &flight.service;
    let Stays::Cookie(named) = extras.tie.sticky else { return String::new() };
    let Some(Sticky::Cookie { name, max_age_s, secure }) = &service.config().choice.sticky else {
        return String::new();
    };
    if extras.tied_by != Arc::as_ptr(&service.view().shared).addr() {
        return String::new();
    }
    let here = flight.instance.key;
    let keeps = |named: u64| named == here || keeps_cookie(service, &request.tried, named);
    if named.is_some_and(keeps) {
        return String::new();
    }
    cookie::set(name, thread.tokens().seal(here), *max_age_s, *secure)
}
