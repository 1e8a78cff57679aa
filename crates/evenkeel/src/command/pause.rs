//! `keel pause`: for a time nothing is decided without an order.

use std::time::Duration;

use serde_json::json;

use super::ordered::{give, say};
use crate::{
    api::Api,
    context::{Context, block_on},
    failure::{Exit, Failure},
    words::duration,
};

/// Options of `keel pause`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A service, or `stack` for all: nothing of it is started again, killed, ejected, scaled or rolled back meanwhile;
    /// what is ordered is done
    subject: String,
    /// For how long, at most 30 days; it ends by itself
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    length: Duration,
    /// Why, for whoever finds it paused
    #[arg(long, value_name = "WORDS")]
    reason: String,
}

/// Orders it.
pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let running = context.running()?;
    let for_ms = u64::try_from(args.length.as_millis()).unwrap_or(u64::MAX);
    let order = json!({ "subject": args.subject, "for_ms": for_ms, "reason": args.reason });
    let ordered = block_on(async { give(&Api::of(&running), "/v1/pause", &order).await })?;
    if context.json {
        context.json(&ordered)?;
        return Ok(Exit::Done);
    }
    say(&ordered, context)?;
    let resume = context.command(&running.state_dir, &format!("resume {}", args.subject));
    context.next(&resume, "ends it before its time")?;
    Ok(Exit::Done)
}
