//! The API: JSON over a Unix socket for this user and root, and `/metrics` over TCP on loopback.
//!
//! Handlers ask the owner of the world, the journal or the logs, and write down what they hear; none of them
//! decides anything. Errors are `{"error": …, "hint": …}` with the status that fits.

mod apply;
mod bounded;
mod error;
mod events;
mod logs;
mod peer;

use std::{io, net::SocketAddr, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Query, State},
    http::header::CONTENT_TYPE,
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use evenkeel_core::{journal::Entry, status::Status};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, UnixListener};

use self::{
    bounded::{Bounded, Bounds},
    error::ApiError,
};
use crate::{
    journal::{self, Journal},
    logs::Logs,
    metrics,
    node::{Command, Commands},
};

/// The largest body of a request: a stack file with room to spare.
const BODY_BYTES: usize = 4 << 20;

/// What connections to the metrics may cost. Whoever scrapes asks at least every minute or opens another connection.
const METRICS: Bounds = Bounds { connections: 64, silence: Duration::from_secs(75) };

/// Entries that `why` shows.
const WHY_ENTRIES: u32 = 20;

/// What handlers use.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    commands: Commands,
    journal: Journal,
    logs: Logs,
}

impl Api {
    pub(crate) fn new(commands: Commands, journal: Journal, logs: Logs) -> Self {
        Self { commands, journal, logs }
    }
}

/// Serves the whole API on a Unix socket, in place of whatever a predecessor left there.
pub(crate) fn serve_control(path: &Path, api: Api) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    let service = control_routes(api).into_make_service_with_connect_info::<peer::Peer>();
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, service).await {
            tracing::error!(%error, "the API ended");
        }
    });
    Ok(())
}

/// Serves metrics, and a page that says so, on a TCP address.
pub(crate) async fn serve_metrics(address: SocketAddr, api: Api) -> io::Result<()> {
    let listener = Bounded::new(TcpListener::bind(address).await?, METRICS);
    let routes = Router::new().route("/metrics", get(scrape)).route("/", get(page));
    let routes = routes.fallback(not_found).method_not_allowed_fallback(not_allowed).with_state(api);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, routes).await {
            tracing::error!(%error, "metrics are not served any more");
        }
    });
    Ok(())
}

fn control_routes(api: Api) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/stack", get(stack))
        .route("/v1/events", get(events::list).post(events::record))
        .route("/v1/why", get(why))
        .route("/v1/logs", get(logs::lines))
        .route("/v1/apply", post(apply::apply))
        .route("/metrics", get(scrape))
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(middleware::from_fn(peer::only_this_user_and_root))
        .with_state(api)
}

async fn status(State(api): State<Api>) -> Result<Json<Status>, ApiError> {
    api.commands.ask(Command::Status).await.map(Json).ok_or_else(ApiError::ending)
}

/// The stack file in force.
#[derive(Debug, Serialize)]
struct StackFile {
    /// Its name, for messages about it.
    file: String,
    text: String,
}

async fn stack(State(api): State<Api>) -> Result<Json<StackFile>, ApiError> {
    let (file, text) = api.commands.ask(Command::Stack).await.ok_or_else(ApiError::ending)?;
    Ok(Json(StackFile { file, text }))
}

async fn scrape(State(api): State<Api>) -> Result<Response, ApiError> {
    let scrape = api.commands.ask(Command::Scrape).await.ok_or_else(ApiError::ending)?;
    Ok(([(CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::render(scrape)).into_response())
}

async fn page() -> &'static str {
    "Evenkeel's node process.\n\n/metrics    what is counted, in the OpenMetrics format\n\n\
     Everything else is told by the command line: keel status, keel events, keel why, keel logs.\n"
}

#[derive(Debug, Deserialize)]
struct Subject {
    #[serde(default)]
    subject: String,
}

#[derive(Debug, Serialize)]
struct Why {
    subject: String,
    now: String,
    /// Newest first.
    entries: Vec<Entry>,
}

async fn why(
    State(api): State<Api>,
    subject: Result<Query<Subject>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Why>, ApiError> {
    let Query(Subject { subject }) = subject?;
    let subject = if subject.is_empty() { "stack".to_owned() } else { subject };
    let asked = subject.clone();
    let now = api.commands.ask(|reply| Command::Now { subject: asked, reply }).await.ok_or_else(ApiError::ending)?;
    let query = journal::Query { after: None, limit: WHY_ENTRIES, subject: Some(subject.clone()) };
    let mut entries = api.journal.read(query).await;
    entries.reverse();
    let now = match now {
        Ok(now) => now,
        // It is gone, but there is something to tell about it.
        Err(_) if !entries.is_empty() => format!("{subject} does not exist any more"),
        Err(unknown) => return Err(unknown.into()),
    };
    Ok(Json(Why { subject, now, entries }))
}

async fn not_found() -> ApiError {
    ApiError::new(404, "there is nothing at this path", "The API is below /v1/.")
}

async fn not_allowed() -> ApiError {
    ApiError::new(405, "this path does not know that method", "")
}
