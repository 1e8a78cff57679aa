//! What applies to every request: an identifier, a time limit, headers that keep browsers strict, a log line.

use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::domain::random_token;
use crate::error::ShopError;

/// More than the longest wait for the write lock, so that a write that gives up can still say so. It bounds the
/// time a client may take to send a body.
const REQUEST_WAIT: Duration = Duration::from_secs(25);
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const MAX_ID_CHARS: usize = 128;

/// Pages have no scripts and take everything from this origin.
const CONTENT_POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; \
                              base-uri 'none'; frame-ancestors 'none'";

/// A request's identifier, for log lines written while it is answered.
#[derive(Clone)]
pub(super) struct RequestId(pub(super) HeaderValue);

pub(super) async fn every_request(mut request: Request, next: Next) -> Response {
    let began = Instant::now();
    let id = request_id(request.headers());
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    request.extensions_mut().insert(RequestId(id.clone()));
    let answer = tokio::time::timeout(REQUEST_WAIT, next.run(request));
    let mut response =
        answer.await.unwrap_or_else(|_| ShopError::Unavailable("the request took too long").into_response());
    tracing::debug!(
        target: "evenkeel_shop::request",
        request_id = id.to_str().unwrap_or_default(),
        %method,
        path,
        status = response.status().as_u16(),
        elapsed_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
        "request"
    );
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id);
    let strict = [
        (header::CONTENT_SECURITY_POLICY, CONTENT_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
    ];
    for (name, value) in strict {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
    response
}

/// Whether a browser says that another site made it send this (<https://www.w3.org/TR/fetch-metadata/>).
pub(super) fn is_from_elsewhere(method: &Method, headers: &HeaderMap) -> bool {
    let changes = !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    changes && headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site" || site == "same-site")
}

/// The identifier the request came with, if it is short and plain, else a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    headers
        .get(REQUEST_ID)
        .filter(|id| (1..=MAX_ID_CHARS).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic))
        .cloned()
        .or_else(|| HeaderValue::from_str(&random_token(20).ok()?).ok())
        .unwrap_or(HeaderValue::from_static("unknown"))
}
