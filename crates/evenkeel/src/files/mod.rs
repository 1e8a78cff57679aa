//! An instance of a service with `files`: serves one folder over HTTP/1.1, on loopback, until SIGTERM.
//!
//! `folder` opens files and cannot leave the folder; `site` makes answers of them: which page, which status, how long
//! it may be cached. Parsing of conditions and ranges, encodings and types are tower-http's. Nothing is written,
//! listed or executed, and nothing is kept in memory, so a file that changes is served changed.

mod folder;
mod missing;
mod site;

#[cfg(test)]
mod tests;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
};

use axum::{Router, serve::ListenerExt};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

pub(crate) use self::missing::missing;
use self::{folder::Folder, site::Site};
use crate::{context::block_on, failure::Failure, logging};

/// Options of the instance.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Port on 127.0.0.1.
    #[arg(long)]
    port: u16,
    /// The folder.
    #[arg(long)]
    dir: PathBuf,
    /// File that answers for paths that have none.
    #[arg(long)]
    fallback: Option<String>,
}

/// Is that instance.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    logging::start();
    let folder = Folder::new(&args.dir);
    folder.check().map_err(|error| {
        let failure = Failure::new("the folder of `files` cannot be served").at_path(&args.dir).because(&error);
        match error.kind() {
            io::ErrorKind::NotFound => failure.fix("create it, or correct `files` in the stack file"),
            io::ErrorKind::Unsupported => failure.fix("it needs Linux 5.6 or newer"),
            _ => failure.fix("give it to the user that the service runs as"),
        }
    })?;
    let site = Site::new(folder, args.fallback.clone());
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, args.port));
    let failed = |error: io::Error| Failure::new("cannot serve files").at(address).because(error);
    let serve = async { serve(TcpListener::bind(address).await?, site, stop_signal()?).await };
    block_on(async { serve.await.map_err(failed) })?;
    Ok(ExitCode::SUCCESS)
}

/// Serves until `stop`, and what is in flight then to its end; the supervisor's `stop.grace` bounds that.
async fn serve(listener: TcpListener, site: Site, stop: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
    // Waiting for more to fill a packet would only delay an answer.
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    let site = Router::new().fallback(site::answer).with_state(site);
    axum::serve(listener, site).with_graceful_shutdown(stop).await
}

/// Ends at the first SIGTERM or SIGINT.
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
