//! How a failure looks: JSON below `/api`, a page elsewhere, with the same status and words.
//!
//! Handlers return a [`ShopError`]; it becomes a response that carries a [`Failure`], which one middleware puts
//! into its form. Failures that axum finds itself (an unknown path, a body too large) pass the same way.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use maud::html;
use serde_json::json;

use super::guard::{self, RequestId};
use super::{App, layout};
use crate::error::ShopError;

/// What a failed request is told.
#[derive(Clone)]
struct Failure {
    message: String,
    /// The cause, for the log; `None` where the request itself is the cause.
    ours: Option<String>,
}

impl IntoResponse for ShopError {
    fn into_response(self) -> Response {
        let (status, retry_after_s) = match &self {
            Self::Unavailable(_) | Self::Payment(_) => (StatusCode::SERVICE_UNAVAILABLE, Some("1")),
            Self::Disk(_) => (StatusCode::SERVICE_UNAVAILABLE, Some("30")),
            Self::Full => (StatusCode::INSUFFICIENT_STORAGE, Some("30")),
            Self::NotFound(_) => (StatusCode::NOT_FOUND, None),
            Self::Conflict(_) => (StatusCode::CONFLICT, None),
            Self::Invalid(_) => (StatusCode::UNPROCESSABLE_ENTITY, None),
            Self::BadRequest(_) => (StatusCode::BAD_REQUEST, None),
            Self::Unauthorised(_) => (StatusCode::UNAUTHORIZED, None),
            Self::Forbidden(_) => (StatusCode::FORBIDDEN, None),
            Self::Config(_)
            | Self::Bind { .. }
            | Self::System { .. }
            | Self::Open { .. }
            | Self::SchemaTooNew { .. }
            | Self::Storage(_)
            | Self::Damaged(_) => (StatusCode::INTERNAL_SERVER_ERROR, None),
        };
        let failure = if self.is_ours() {
            Failure { message: words(status).to_owned(), ours: Some(self.to_string()) }
        } else {
            Failure { message: self.to_string(), ours: None }
        };
        let mut response = status.into_response();
        if let Some(seconds) = retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(seconds));
        }
        response.extensions_mut().insert(failure);
        response
    }
}

/// The answer for a path that leads nowhere.
pub(super) async fn no_such_page() -> ShopError {
    ShopError::NotFound("page")
}

/// Gives every failure its form, and refuses what another site makes a browser send.
pub(super) async fn render(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let id = request.extensions().get::<RequestId>().cloned();
    let response = if guard::is_from_elsewhere(request.method(), request.headers()) {
        ShopError::Forbidden("this request was made by another site").into_response()
    } else {
        next.run(request).await
    };
    let status = response.status();
    if status.as_u16() < 400 || path == "/readyz" || response.extensions().get::<layout::FinishedPage>().is_some() {
        return response;
    }
    let failure = response.extensions().get::<Failure>().cloned();
    let failure = failure.unwrap_or_else(|| Failure { message: words(status).to_owned(), ours: None });
    if let Some(cause) = &failure.ours {
        let request_id = id.as_ref().and_then(|id| id.0.to_str().ok()).unwrap_or_default();
        tracing::error!(cause, path, request_id, status = status.as_u16(), "a request failed");
    }
    let (mut parts, _) = response.into_parts();
    let (kind, body) = if path == "/api" || path.starts_with("/api/") {
        let body = json!({ "error": { "code": code(status), "message": failure.message } });
        ("application/json", body.to_string())
    } else {
        ("text/html; charset=utf-8", page(&app, status, &failure.message))
    };
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(body))
}

fn page(app: &App, status: StatusCode, message: &str) -> String {
    let heading = match status {
        StatusCode::NOT_FOUND => "Nothing here",
        StatusCode::CONFLICT => "That did not work out",
        status if status.is_server_error() => "We are having a moment",
        _ => "Please check that again",
    };
    let content = html! {
        section class="notice" {
            p class="eyebrow" { (status.as_u16()) }
            h1 { (heading) }
            p class="lead" { (sentence(message)) }
            p { a class="button" href="/products" { "Look around the shop" } " " a class="quiet" href="/cart" { "Go to the cart" } }
        }
    };
    layout::bare(app, heading, &content).into_string()
}

/// `text` with a capital and a full stop, as a page shows it.
pub(super) fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let capital: String = chars.next().map(|first| first.to_uppercase().collect()).unwrap_or_default();
    let stop = if text.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{capital}{}{stop}", chars.as_str())
}

fn words(status: StatusCode) -> &'static str {
    match status {
        StatusCode::BAD_REQUEST => "the request could not be understood",
        StatusCode::NOT_FOUND => "there is no such page",
        StatusCode::METHOD_NOT_ALLOWED => "this address does not answer to that method",
        StatusCode::PAYLOAD_TOO_LARGE => "the request is too large",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "the content type must be application/json",
        StatusCode::SERVICE_UNAVAILABLE => "the shop cannot do this right now; nothing was changed, please try again",
        StatusCode::INSUFFICIENT_STORAGE => "the shop cannot store anything right now; nothing was changed",
        status if status.is_server_error() => "something went wrong on our side; nothing was charged twice",
        _ => "the request cannot be accepted",
    }
}

fn code(status: StatusCode) -> &'static str {
    match status {
        StatusCode::BAD_REQUEST => "bad_request",
        StatusCode::UNAUTHORIZED => "unauthorised",
        StatusCode::FORBIDDEN => "forbidden",
        StatusCode::NOT_FOUND => "not_found",
        StatusCode::METHOD_NOT_ALLOWED => "method_not_allowed",
        StatusCode::CONFLICT => "conflict",
        StatusCode::PAYLOAD_TOO_LARGE => "too_large",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "unsupported_media_type",
        StatusCode::UNPROCESSABLE_ENTITY => "invalid",
        StatusCode::SERVICE_UNAVAILABLE => "unavailable",
        StatusCode::INSUFFICIENT_STORAGE => "storage_full",
        _ => "failed",
    }
}
