//! The bad release of `bad-deploy`: an instance that passes its checks and fails everything else.
//!
//! It listens on 127.0.0.1 and the port in `PORT`, as every instance does, and answers the paths it was given with the
//! status that passes, and any other path with 500, until SIGTERM. It reads nothing of the service and keeps nothing.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    process::ExitCode,
    sync::Arc,
};

use axum::{
    Router,
    http::{HeaderMap, StatusCode, Uri},
};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
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
    /// Where the mark is said once a request has come
    #[arg(long)]
    tell: Option<SocketAddr>,
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
    let args = Arc::new(args);
    let answers = Router::new().fallback(move |uri: Uri, headers: HeaderMap| {
        let args = Arc::clone(&args);
        // The edge gives what it passes on a name; what a check asks has none.
        let of_client = headers.contains_key("x-request-id");
        async move { answer(&args, uri.path(), of_client).await }
    });
    axum::serve(listener, answers).with_graceful_shutdown(async move { _ = terminate.recv().await }).await
}

/// Passes where a check asks for its path; what a client asks is told to the drill before it fails.
async fn answer(args: &Args, path: &str, of_client: bool) -> (StatusCode, &'static str) {
    if !of_client && args.well.iter().any(|well| well == path) {
        return (StatusCode::from_u16(args.status).unwrap_or(StatusCode::OK), "well\n");
    }
    if let (true, Some(drill), Some(mark)) = (of_client, args.tell, &args.mark) {
        // The drill may be gone: then nobody wants to know.
        if let Ok(mut stream) = TcpStream::connect(drill).await {
            let _ = stream.write_all(mark.as_bytes()).await;
        }
    }
    (StatusCode::INTERNAL_SERVER_ERROR, "this release fails every request, as a drill wants it\n")
}
