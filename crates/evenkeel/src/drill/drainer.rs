//! The drain of an instance while a capacity is measured: a process of its own that ends it whatever happens to the drill.
//!
//! An instance must not stay without requests because the drill was interrupted, panicked or was killed. So the drill
//! starts `keel drill drainer INSTANCE BOUND_MS` in a process group of its own. It orders the drain, says `drained`, and
//! lets the instance have requests again when its standard input ends, for whatever reason, or its bound is over. It
//! never forces a drain: the last healthy instance of a service stays.

use std::{
    io::{self, Read},
    process::ExitCode,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    api::Api,
    context::{Context, block_on},
    failure::Failure,
    http::Ask,
};

/// How long it tries to take the drain back. A node process that died is there again well within it.
const PATIENCE: Duration = Duration::from_mins(2);
const AGAIN: Duration = Duration::from_millis(500);

/// What it is to do: its command line.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// The instance
    pub(super) instance: String,
    /// Let it have requests again after so many milliseconds whatever happens
    pub(super) bound_ms: u64,
}

/// Runs it to its end.
pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode, Failure> {
    let running = context.running()?;
    let api = Api::of(&running);
    // From here on the end of standard input ends the drain, also one that was just ordered.
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || {
        // However reading ends, nobody waits for the drain any more.
        let _ = io::stdin().lock().read_to_end(&mut Vec::new());
        let _ = sender.send(());
    });
    let order = json!({ "instance": args.instance, "reason": "a drill measures what the others bear" });
    block_on(async { api.succeed(Ask::post("/v1/drain", order.to_string().into_bytes())).await })?;
    // Where the drill is gone already, nobody reads it, and the drain ends at once.
    let _ = context.line("drained");
    let _ = ended.recv_timeout(Duration::from_millis(args.bound_ms));
    block_on(resume(&api, &args.instance))?;
    Ok(ExitCode::SUCCESS)
}

async fn resume(api: &Api, instance: &str) -> Result<(), Failure> {
    let end = Instant::now() + PATIENCE;
    let order = json!({ "subject": instance }).to_string().into_bytes();
    loop {
        match api.succeed(Ask::post("/v1/resume", order.clone())).await {
            Err(failure) if api.end().is_none() && Instant::now() < end => drop(failure),
            ended => return ended.map(drop),
        }
        tokio::time::sleep(AGAIN).await;
    }
}
