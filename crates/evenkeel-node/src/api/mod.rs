//! The API: JSON over a Unix socket for this user and root, and over TCP, at the console's address, for tokens
//! and for who is signed in to the console.
//!
//! Handlers ask the owner of the world, the journal or the logs, and write down what they hear; none of them
//! decides anything. Errors are `{"error": …, "hint": …}` with the status that fits.

mod apply;
mod auth;
mod bounded;
mod console;
mod deploy;
mod drills;
mod entitled;
mod error;
mod events;
mod history;
mod limits;
mod logs;
mod openapi;
mod operate;
mod peer;
mod routes;
mod seats;
mod secrets;
mod tokens;
mod who;
mod why;

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, State},
    http::header::CONTENT_TYPE,
    middleware,
    response::{IntoResponse, Response},
};
use evenkeel_core::status::Status;
use tokio::{
    net::{TcpListener, UnixListener},
    sync::{Semaphore, oneshot},
};

use self::{
    bounded::{Bounded, Bounds, Patience},
    error::ApiError,
    seats::Room,
};
pub(crate) use self::{entitled::Endless, tokens::in_clear};
use crate::{
    console::{self as page, Door, Live, Views},
    drills::Runs,
    history::History,
    journal::Journal,
    logs::Logs,
    metrics,
    node::{Command, Commands, InForce},
    tokens::Tokens,
};

/// The largest body of a request: a stack file with room to spare.
const BODY_BYTES: usize = 4 << 20;

/// What connections to the console may cost. A browser opens several; whoever scrapes asks at least every minute or opens
/// another connection.
const CONSOLE: Bounds = Bounds {
    room: Room { strangers: 64, strangers_of_one: 16, known: [128, 192, 256], known_of_one: 32 },
    patience: Patience {
        silence: Duration::from_secs(75),
        head: Duration::from_secs(15),
        stuck: Duration::from_secs(30),
    },
};

/// What handlers use.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    commands: Commands,
    journal: Journal,
    logs: Logs,
    history: History,
    door: Door,
    state_dir: PathBuf,
    runs: Runs,
    live: Live,
    views: Views,
    /// Who may read the state directory at the same time.
    readers: Arc<Semaphore>,
}

/// How many read the state directory at the same time: each holds a thread and a file in memory.
const READERS: usize = 4;

impl Api {
    pub(crate) fn new(
        commands: Commands,
        journal: Journal,
        logs: Logs,
        history: History,
        door: Door,
        state_dir: PathBuf,
    ) -> Self {
        let runs = Runs::new(&state_dir);
        let (live, views, readers) = (Live::default(), Views::default(), Arc::new(Semaphore::new(READERS)));
        Self { commands, journal, logs, history, door, state_dir, runs, live, views, readers }
    }

    /// What was counted of services.
    pub(crate) fn history(&self) -> &History {
        &self.history
    }

    /// The stack's state directory.
    pub(crate) fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// Runs of drills.
    pub(crate) fn runs(&self) -> &Runs {
        &self.runs
    }

    /// What is seen of all by those who look at the console.
    pub(crate) fn views(&self) -> &Views {
        &self.views
    }

    /// Who looks at the console.
    pub(crate) fn live(&self) -> &Live {
        &self.live
    }

    /// The way to the owner of the world.
    pub(crate) fn commands(&self) -> &Commands {
        &self.commands
    }

    pub(crate) fn journal(&self) -> &Journal {
        &self.journal
    }

    pub(crate) fn tokens(&self) -> &Tokens {
        &self.door.tokens
    }

    pub(crate) fn door(&self) -> &Door {
        &self.door
    }

    /// Whether anybody has a token.
    pub(crate) fn has_tokens(&self) -> bool {
        self.tokens().list().is_ok_and(|tokens| !tokens.is_empty())
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
    let routes = routes().layer(middleware::from_fn(peer::only_this_user_and_root)).with_state(api);
    let service = routes.into_make_service_with_connect_info::<peer::Peer>();
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, service).await {
            tracing::error!(%error, "the API ended");
        }
    });
    Ok(())
}

/// A console that is served until this is dropped; then it takes no more connections and finishes its answers. Those
/// that would never be finished end then.
#[derive(Debug)]
pub(crate) struct Served {
    address: SocketAddr,
    _until: oneshot::Sender<Infallible>,
    closed: Arc<AtomicBool>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Relaxed);
    }
}

impl Served {
    /// As bound.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Serves the same API on a TCP address, for those who show a token or are signed in, with the console's page; metrics
/// for everybody.
pub(crate) fn serve_console(bound: std::net::TcpListener, api: Api) -> io::Result<Served> {
    bound.set_nonblocking(true)?;
    let address = bound.local_addr()?;
    let listener = Bounded::new(TcpListener::from_std(bound)?, CONSOLE);
    let (until, ended) = oneshot::channel::<Infallible>();
    let (gate, closed) = auth::Gate::new(api.door.clone());
    let admitted = middleware::from_fn_with_state(gate, auth::admit);
    let routes = routes().merge(page::routes()).layer(admitted).with_state(api);
    let service = routes.into_make_service_with_connect_info::<auth::Caller>();
    tokio::spawn(async move {
        let served = axum::serve(listener, service).with_graceful_shutdown(async { drop(ended.await) });
        if let Err(error) = served.await {
            tracing::error!(%error, "metrics are not served any more");
        }
    });
    Ok(Served { address, _until: until, closed })
}

fn routes() -> Router<Api> {
    let router = routes::table().router().fallback(not_found).method_not_allowed_fallback(not_allowed);
    router.layer(DefaultBodyLimit::max(BODY_BYTES))
}

async fn status(State(api): State<Api>) -> Result<Json<Status>, ApiError> {
    api.commands.ask(Command::Status).await.map(Json).ok_or_else(ApiError::ending)
}

async fn stack(State(api): State<Api>) -> Result<Json<InForce>, ApiError> {
    api.commands.ask(Command::Stack).await.map(Json).ok_or_else(ApiError::ending)
}

/// Serves the description of the API.
async fn describe() -> Response {
    static DESCRIPTION: OnceLock<String> = OnceLock::new();
    let text: &str = DESCRIPTION.get_or_init(|| routes::table().describe().to_string());
    ([(CONTENT_TYPE, "application/json")], text).into_response()
}

async fn scrape(State(api): State<Api>) -> Result<Response, ApiError> {
    let scrape = api.commands.ask(Command::Scrape).await.ok_or_else(ApiError::ending)?;
    Ok(([(CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::render(scrape)).into_response())
}

async fn not_found() -> ApiError {
    ApiError::new(404, "there is nothing at this path", "The API is below /v1/.")
}

async fn not_allowed() -> ApiError {
    ApiError::new(405, "this path does not know that method", "")
}
