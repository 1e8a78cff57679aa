//! The drain of an instance while a capacity is measured: a process of its own that ends it whatever happens to the drill.
//!
//! An instance must not stay without requests because the drill was interrupted, panicked or was killed. So the drill
//! starts `keel drill drainer INSTANCE BOUND_MS`. Told `drain`, it orders the drain, says `drained`, and lets the instance
//! have requests again when its standard input ends, for whatever reason, or its bound is over. It never forces a drain:
//! the last healthy instance of a service stays. It ends no drain but its own, which it knows by the reason that it
//! gave: what an operator drained before, or orders to be drained meanwhile, stays drained. It ends with an error where
//! its own drain goes on.

use std::{
    io::{self, BufRead, Read},
    process::ExitCode,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use evenkeel_core::{
    drill::DRAIN_REASON,
    status::{DrainStatus, Status},
};
use serde_json::json;

use crate::{
    api::Api,
    context::{Context, block_on},
    failure::Failure,
    http::Ask,
};

/// How long it tries to take the drain back. A node process that died is there again well within it.
pub(super) const PATIENCE: Duration = Duration::from_mins(2);
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
    context.running()?;
    context.line("ready")?;
    let mut order = String::new();
    if io::stdin().lock().read_line(&mut order).is_err() || order != "drain\n" {
        return Ok(ExitCode::SUCCESS);
    }
    // From here on the end of standard input ends the drain, also one that was just ordered.
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || {
        // However reading ends, nobody waits for the drain any more.
        let _ = io::stdin().lock().read_to_end(&mut Vec::new());
        let _ = sender.send(());
    });
    // Asked for anew each time: whoever runs the stack may be another one by then.
    let api = || context.running().map(|running| Api::of(&running));
    let drained = block_on(drain(&api, &args.instance));
    // Where the drill is gone already, nobody reads it, and the drain ends at once.
    match &drained {
        Ok(()) => _ = context.line("drained"),
        Err(failure) => _ = context.line(failure.what()),
    }
    if drained.is_ok() {
        let _ = ended.recv_timeout(Duration::from_millis(args.bound_ms));
    }
    // An order that failed may be in force all the same, as where its answer was lost.
    block_on(resume(&api, &args.instance, PATIENCE))?;
    Ok(ExitCode::SUCCESS)
}

async fn drain(api: &impl Fn() -> Result<Api, Failure>, instance: &str) -> Result<(), Failure> {
    let api = api()?;
    if let Some(drained) = drain_of(&api.status().await?, instance) {
        return Err(Failure::new(format!("{instance} is drained already by {}", drained.by)));
    }
    let order = json!({ "instance": instance, "reason": DRAIN_REASON });
    api.succeed(Ask::post("/v1/drain", order.to_string().into_bytes())).await.map(drop)
}

/// Ends the drain of a drill, if that is what is in force.
pub(super) async fn resume(
    api: &impl Fn() -> Result<Api, Failure>,
    instance: &str,
    patience: Duration,
) -> Result<(), Failure> {
    let end = Instant::now() + patience;
    loop {
        match try_resume(api, instance).await {
            Err(_) if Instant::now() < end => {}
            ended => return ended,
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn try_resume(api: &impl Fn() -> Result<Api, Failure>, instance: &str) -> Result<(), Failure> {
    let api = api()?;
    if drain_of(&api.status().await?, instance).is_none_or(|drained| drained.reason != DRAIN_REASON) {
        return Ok(());
    }
    // Said again, since an operator may have ordered a drain after this look.
    let order = json!({ "subject": instance, "drained_for": DRAIN_REASON }).to_string().into_bytes();
    api.succeed(Ask::post("/v1/resume", order)).await.map(drop)
}

/// Who drains an instance, if somebody does.
fn drain_of(status: &Status, instance: &str) -> Option<DrainStatus> {
    let mut all = status.services.iter().flat_map(|service| &service.instances);
    all.find(|one| one.name == instance)?.drained.clone()
}
