//! An instance's life: open, listen, serve, stop.
//!
//! The database is opened and brought up to date before the listener exists, so whoever can connect is served.
//! One thread runs the async runtime; the database and the password hashes have threads of their own. On SIGTERM
//! the listener closes, requests in progress are finished within [`STOP_WAIT`], and the log of the database is
//! written back. A process that is killed instead loses nothing: all of this is courtesy.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;

use crate::checkout::Checkout;
use crate::config::{Config, Role};
use crate::domain::NewAccount;
use crate::error::ShopError;
use crate::password::Passwords;
use crate::payment::{PaymentProvider, RemoteTill, TestProvider, till_router};
use crate::store::Store;
use crate::web::{self, App};

/// How long requests in progress may take to finish once the instance is told to stop.
const STOP_WAIT: Duration = Duration::from_secs(10);
/// How long a client may take to send a request's head, and a connection may stay idle before one. Longer than
/// proxies usually keep idle connections, so that it is they who close.
const HEAD_WAIT: Duration = Duration::from_secs(75);
/// Connections served at the same time; more wait in the kernel's queue.
const CONNECTIONS: usize = 2048;
const RECOVERY_INTERVAL: Duration = Duration::from_secs(2);
/// Rounds of recovery between two sweeps of old carts and sessions.
const SWEEP_EVERY: u32 = 300;

/// Runs an instance until SIGTERM or SIGINT. Blocks; brings its own runtime.
pub fn run(config: Config) -> Result<(), ShopError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| ShopError::System { what: "an async runtime", source })?;
    let ended = runtime.block_on(async {
        let stop = stop_signal()?;
        Shop::open(config).await?.serve(stop).await
    });
    // Work that did not end within the bound is abandoned; the database undoes what was not committed.
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}

/// An instance that listens and is ready to serve.
pub struct Shop {
    listener: TcpListener,
    address: SocketAddr,
    router: axum::Router,
    store: Store,
    /// What is done beside answering; the till does nothing.
    app: Option<Arc<App>>,
}

impl Shop {
    /// Opens the database and the listener.
    pub async fn open(config: Config) -> Result<Self, ShopError> {
        let path = config.database.clone();
        let opened = tokio::task::spawn_blocking(move || Ok((Store::open(&path)?, Passwords::new()?)));
        let (store, passwords) = opened.await.unwrap_or(Err(ShopError::Unavailable("opening the database failed")))?;
        if let Some(staff) = config.staff {
            ensure_staff(&store, &passwords, staff).await?;
        }
        let address = SocketAddr::new(config.bind, config.port);
        let listener = TcpListener::bind(address).await.map_err(|source| ShopError::Bind { address, source })?;
        let address = listener.local_addr().map_err(|source| ShopError::Bind { address, source })?;
        let own = TestProvider::new(store.clone());
        if config.role == Role::Till {
            return Ok(Self { listener, address, router: till_router(own), store, app: None });
        }
        let provider: Arc<dyn PaymentProvider> = match config.till {
            Some(till) => Arc::new(RemoteTill::new(till)),
            None => Arc::new(own),
        };
        let checkout = Checkout::new(store.clone(), provider);
        let port = address.port();
        let app = App { store: store.clone(), checkout, passwords, admin_token: config.admin_token, port };
        let app = Arc::new(app);
        Ok(Self { listener, address, router: web::router(Arc::clone(&app)), store, app: Some(app) })
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` ends, then finishes what is in progress.
    pub async fn serve(self, stop: impl Future<Output = ()>) -> Result<(), ShopError> {
        tracing::info!(address = %self.address, pid = std::process::id(), "listening");
        let upkeep = self.app.clone().map(|app| tokio::spawn(keep_up(app)));
        let open = GracefulShutdown::new();
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        let mut stop = std::pin::pin!(stop);
        loop {
            let accept = async {
                let room = Arc::clone(&room).acquire_owned().await.expect("the semaphore is never closed");
                (self.listener.accept().await, room)
            };
            let (accepted, room) = tokio::select! {
                accepted = accept => accepted,
                () = &mut stop => break,
            };
            match accepted {
                Ok((stream, _)) => serve_connection(stream, self.router.clone(), &open, room),
                Err(error) => {
                    // Out of descriptors or a connection that was gone already: the listener itself is sound.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
        drop(self.listener);
        if let Some(upkeep) = upkeep {
            upkeep.abort();
        }
        tracing::info!(connections = open.count(), "stopping");
        if tokio::time::timeout(STOP_WAIT, open.shutdown()).await.is_err() {
            tracing::warn!("requests that did not finish in time are cut off");
        }
        match tokio::time::timeout(Duration::from_secs(2), self.store.checkpoint()).await {
            Ok(Err(error)) => tracing::warn!(%error, "the write-ahead log was not written back"),
            Err(_) => tracing::warn!("the write-ahead log was not written back in time"),
            Ok(Ok(())) => {}
        }
        tracing::info!("stopped");
        Ok(())
    }
}

fn serve_connection(
    stream: TcpStream,
    router: axum::Router,
    open: &GracefulShutdown,
    room: tokio::sync::OwnedSemaphorePermit,
) {
    // Answers are written whole; waiting for more to fill a packet would only delay them.
    let _ = stream.set_nodelay(true);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WAIT)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let connection = open.watch(connection);
    tokio::spawn(async move {
        // An error here is the client's: it went away, or did not speak HTTP, and was told so by hyper.
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection ended");
        }
        drop(room);
    });
}

/// Settles pending payments at once and then again and again, and sweeps out what has expired.
async fn keep_up(app: Arc<App>) {
    for round in 0_u32.. {
        if let Err(error) = app.checkout.recover().await {
            tracing::warn!(%error, "pending payments could not be taken up; trying again");
        }
        if round % SWEEP_EVERY == 0 {
            let swept = async {
                app.store.forget_old_sessions().await?;
                app.store.forget_old_carts().await
            };
            if let Err(error) = swept.await {
                tracing::warn!(%error, "old carts and sessions could not be swept out; trying later");
            }
        }
        tokio::time::sleep(RECOVERY_INTERVAL).await;
    }
}

/// Makes the account that may publish. An account that exists is only given the right if the password is its
/// own: somebody else may have registered the address.
async fn ensure_staff(store: &Store, passwords: &Passwords, staff: NewAccount) -> Result<(), ShopError> {
    if store.account_with_hash(staff.email.clone()).await?.is_none() {
        let hash = passwords.hash(staff.password.clone()).await?;
        match store.create_account(staff.email.clone(), staff.name, hash, true).await {
            // Another instance that starts at the same moment was quicker.
            Ok(_) | Err(ShopError::Conflict(_)) => {}
            Err(error) => return Err(error),
        }
    }
    if let Some((account, hash)) = store.account_with_hash(staff.email).await?
        && !account.staff
    {
        if passwords.verify(staff.password, Some(hash)).await? {
            store.make_staff(account.id).await?;
        } else {
            tracing::warn!(
                "SHOP_STAFF_EMAIL has an account with another password; it was not given the right to publish"
            );
        }
    }
    Ok(())
}

/// Ends at the first SIGTERM or SIGINT.
fn stop_signal() -> Result<impl Future<Output = ()>, ShopError> {
    let watch = |kind| signal(kind).map_err(|source| ShopError::System { what: "a signal handler", source });
    let mut terminate = watch(SignalKind::terminate())?;
    let mut interrupt = watch(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
