//! Everything about HTTP: routes, pages, the JSON API.
//!
//! Handlers read a request, call the store or the checkout in the shop's terms, and show the result. They hold no
//! state between requests, so that any instance can answer any of them. What applies to every request (identifier,
//! log line, headers, bounds) is in [`guard`], in one place.

mod api;
mod assets;
mod cookies;
mod csrf;
mod failure;
mod guard;
mod layout;
mod listing;
mod pages;
mod picture;
mod visitor;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::checkout::Checkout;
use crate::password::Passwords;
use crate::store::Store;

/// The largest body a request may have. The largest of the shop's own is the form to publish, with about 5 KB.
const BODY_BYTES: usize = 64 * 1024;

/// What handlers work with.
pub(crate) struct App {
    pub(crate) store: Store,
    pub(crate) checkout: Checkout,
    pub(crate) passwords: Passwords,
    pub(crate) admin_token: Option<String>,
    /// The port this instance listens on, by which pages say who made them.
    pub(crate) port: u16,
}

type Shared = State<Arc<App>>;

/// Every route of the shop.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/healthz", get(alive))
        .route("/readyz", get(ready))
        .merge(assets::routes())
        .merge(pages::routes())
        .nest("/api", api::routes())
        .fallback(failure::no_such_page)
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(from_fn_with_state(Arc::clone(&app), failure::render))
        .layer(from_fn(guard::every_request))
        .with_state(app)
}

/// The process lives and its runtime answers. It touches no database, so that one process's trouble with a lock
/// does not make every instance look dead.
async fn alive() -> &'static str {
    "ok\n"
}

/// The database can be read and has the right schema.
async fn ready(State(app): Shared) -> Response {
    match app.store.check_ready().await {
        Ok(()) => "ready\n".into_response(),
        Err(error) => {
            tracing::warn!(%error, "not ready");
            (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response()
        }
    }
}
