//! The reviver: a process of its own that has an instance started again that was given up for the sake of a drill.
//!
//! An instance that dies too often is given up, and must not stay so because the drill that killed it was interrupted,
//! panicked or was killed. So the drill starts `keel drill reviver INSTANCE`. When its standard input ends, for whatever
//! reason, it looks until the instance has a process that lives, and orders a restart where it was given up. It kills
//! nothing, and ends with an error where there is no such process in the end.

use std::{
    io::{self, Read},
    process::ExitCode,
    time::{Duration, Instant},
};

use evenkeel_core::status::{InstanceStatus, Phase, Status};
use serde_json::json;

use super::processes::stat;
use crate::{
    api::Api,
    context::{Context, block_on},
    failure::Failure,
    http::Ask,
};

/// How long it takes at most, in which any delay between two starts has room.
pub(super) const PATIENCE: Duration = Duration::from_mins(2);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// So many looks in a row must show the same living process: one that was killed just now may be shown for a moment.
const LOOKS: u32 = 3;

/// What it looks after: its command line.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// The instance
    pub(super) instance: String,
}

/// Runs it to its end.
pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode, Failure> {
    context.running()?;
    context.line("ready")?;
    // However reading ends, nobody watches over the instance any more.
    let _ = io::stdin().lock().read_to_end(&mut Vec::new());
    // Asked for anew each time: whoever runs the stack may be another one by then.
    let api = || context.running().map(|running| Api::of(&running));
    block_on(revive(&api, &args.instance, PATIENCE))?;
    Ok(ExitCode::SUCCESS)
}

/// Waits until the instance has a process, and orders one where nobody else does.
pub(super) async fn revive(
    api: &impl Fn() -> Result<Api, Failure>,
    instance: &str,
    patience: Duration,
) -> Result<(), Failure> {
    let end = Instant::now() + patience;
    let mut same: (Option<u32>, u32) = (None, 0);
    loop {
        let problem = match turn(api, instance).await {
            // Whoever removed it wants none.
            Ok(Found::NotThere) => return Ok(()),
            Ok(Found::Lives(pid)) => {
                same = if same.0 == Some(pid) { (same.0, same.1 + 1) } else { (Some(pid), 1) };
                if same.1 >= LOOKS {
                    return Ok(());
                }
                None
            }
            Ok(Found::Waits) => None,
            Err(failure) => Some(failure),
        };
        if Instant::now() >= end {
            return Err(problem.unwrap_or_else(|| Failure::new(format!("{instance} has no process that stays"))));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

enum Found {
    NotThere,
    Lives(u32),
    /// For its next start.
    Waits,
}

async fn turn(api: &impl Fn() -> Result<Api, Failure>, instance: &str) -> Result<Found, Failure> {
    let api = api()?;
    let status = api.status().await?;
    let Some(seen) = find(&status, instance) else { return Ok(Found::NotThere) };
    if seen.phase == Some(Phase::GaveUp) {
        let order = json!({ "subject": instance }).to_string().into_bytes();
        api.succeed(Ask::post("/v1/restart", order)).await?;
        return Ok(Found::Waits);
    }
    let lives = |pid: &u32| stat(*pid).is_some_and(|(state, _)| !"ZX".contains(state));
    Ok(seen.pid.filter(lives).map_or(Found::Waits, Found::Lives))
}

fn find<'s>(status: &'s Status, instance: &str) -> Option<&'s InstanceStatus> {
    status.services.iter().flat_map(|service| &service.instances).find(|one| one.name == instance)
}
