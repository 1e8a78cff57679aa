//! `keel restart`: new processes, one by one, and no request waits for them.

use serde_json::json;

use super::ordered::{Patience, finish, give};
use crate::{
    api::Api,
    context::{Context, block_on},
    failure::{Exit, Failure},
};

/// Options of `keel restart`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A service (`shop`), or one of its instances (`shop/2`). A new instance is ready before a former one drains
    subject: String,
    #[command(flatten)]
    patience: Patience,
}

/// Orders it and waits until every process is a new one.
pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let running = context.running()?;
    let api = Api::of(&running);
    block_on(async {
        let ordered = give(&api, "/v1/restart", &json!({ "subject": args.subject })).await?;
        let service = args.subject.split_once('/').map_or(args.subject.as_str(), |(service, _)| service);
        finish((&api, &running), service, &ordered, &args.patience, context).await
    })
}
