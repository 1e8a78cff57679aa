//! The bad release of `bad-deploy`: an instance that passes its checks and fails everything else.
//!
//! It listens on 127.0.0.1 and the port in `PORT`, as every instance does, and answers the paths it was given with the
//! status that passes, and any other path with 500, until SIGTERM. It reads nothing of the service and keeps nothing.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    process::ExitCode,
};

use axum::{
    Router,
    http::{StatusCode, Uri},
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

use crate::{context::block_on, failure::Failure};

/// What it answers.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// A path that is answered as if all were well; several times
    #[arg(long)]
    well: Vec<String>,
    /// By which the release is known
    #[arg(long)]
    mark: Option<String>,
    /// The status of such an answer
    #[arg(long, default_value_t = 200)]
    status: u16,
}

/// Is that instance.
pub(crate) fn run(args: Args) -> Result<ExitCode, Failure> {
    let port = std::env::var("PORT").ok().and_then(|port| port.parse().ok());
    let port: u16 = port.ok_or_else(|| Failure::usage("this command needs PORT in its environment"))?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let failed = |error: io::Error| Failure::new("cannot serve errors").at(address).because(error);
    println!("a release that fails every request: made by `keel drill run bad-deploy`");
    block_on(async { serve(address, args).await.map_err(failed) })?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(address: SocketAddr, args: Args) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let listener = TcpListener::bind(address).await?;
    let answers = Router::new().fallback(move |uri: Uri| {
        let well = args.well.iter().any(|path| path == uri.path());
        let status = if well { args.status } else { 500 };
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
        async move { (status, if well { "well\n" } else { "this release fails every request, as a drill wants it\n" }) }
    });
    axum::serve(listener, answers).with_graceful_shutdown(async move { _ = terminate.recv().await }).await
}
