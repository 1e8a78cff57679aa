//! `keel resume`: the end of a drain, of a pause, or of a stay away from what is preferred.

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
    /// A drained instance (`shop/2`), a paused service or `stack`, or a service that is to return from its fallback
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
