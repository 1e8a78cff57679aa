//! The withdrawal of a bad release: a process of its own that takes it back whatever happens to the drill.
//!
//! A release that fails every request must not stay in force because the drill was interrupted, panicked or was
//! killed. So the drill starts `keel drill withdraw SERVICE RELEASE` in a process group of its own before it deploys
//! anything. When its standard input ends, for whatever reason, it looks whether the service still runs something else
//! than the release that it was given, and orders that one back. It deploys nothing, and leaves alone what is in force
//! or being rolled back already.

use std::{
    io::{self, Read},
    process::ExitCode,
    time::{Duration, Instant},
};

use evenkeel_core::status::Status;
use serde_json::json;

use crate::{
    api::Api,
    context::{Context, block_on},
    failure::Failure,
    http::Ask,
};

/// How long it waits until the former release is in force again.
const PATIENCE: Duration = Duration::from_mins(2);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// An order that was on its way when the drill ended is seen within so many looks.
const LOOKS: u32 = 6;

/// What it looks after: its command line.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// The service
    pub(super) service: String,
    /// The number of the release that was in force before; 0 is what the stack file says
    pub(super) release: u64,
}

/// Runs it to its end.
pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode, Failure> {
    let running = context.running()?;
    let api = Api::of(&running);
    context.line("ready")?;
    // However reading ends, nobody watches over the release any more.
    let _ = io::stdin().lock().read_to_end(&mut Vec::new());
    block_on(withdraw(&api, args))?;
    Ok(ExitCode::SUCCESS)
}

async fn withdraw(api: &Api, args: &Args) -> Result<(), Failure> {
    for _ in 0..LOOKS {
        if let Stands::InForce = stands(&api.status().await?, args) {
            let wanted = json!({ "service": args.service });
            api.succeed(Ask::post("/v1/rollback", wanted.to_string().into_bytes())).await?;
            break;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end && !matches!(stands(&api.status().await?, args), Stands::Gone) {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// What became of the bad release.
enum Stands {
    /// It is in force, or about to be.
    InForce,
    /// It is being rolled back.
    GoingBack,
    /// What was in force before is so again.
    Gone,
}

fn stands(status: &Status, args: &Args) -> Stands {
    let Some(service) = status.services.iter().find(|service| service.name == args.service) else {
        return Stands::Gone;
    };
    match &service.deploy {
        Some(deploy) if deploy.phase == "rolling-back" => Stands::GoingBack,
        Some(deploy) if deploy.kind == evenkeel_core::deploy::Kind::Rollback => Stands::GoingBack,
        None if service.release.unwrap_or(0) == args.release => Stands::Gone,
        _ => Stands::InForce,
    }
}
