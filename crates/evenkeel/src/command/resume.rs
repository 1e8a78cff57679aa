//! `keel resume`: the end of a drain or of a pause.

use serde_json::json;

use super::ordered::{give, say};
use crate::{
    api::Api,
    context::{Context, block_on},
    failure::{Exit, Failure},
};

/// Options of `keel resume`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What was drained or paused: an instance (`shop/2`), a service or `stack`
    subject: String,
}

/// Orders it.
pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let running = context.running()?;
    let ordered =
        block_on(async { give(&Api::of(&running), "/v1/resume", &json!({ "subject": args.subject })).await })?;
    if context.json {
        context.json(&ordered)?;
        return Ok(Exit::Done);
    }
    say(&ordered, context)?;
    context.next(&context.command(&running.state_dir, "status"), "shows how it is now")?;
    Ok(Exit::Done)
}
