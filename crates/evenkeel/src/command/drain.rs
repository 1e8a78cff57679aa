//! `keel drain`: an instance gets no new requests and goes on running.

use std::time::Instant;

use evenkeel_core::status::{InstanceStatus, Status};
use serde::Serialize;
use serde_json::json;

use super::{
    ordered::{Ordered, Patience, give, say},
    rollout::ASK_EVERY,
};
use crate::{
    api::Api,
    context::{Context, block_on},
    failure::{Exit, Failure},
    progress::Progress,
};

/// Options of `keel drain`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The instance, as `shop/2` or `shop/10.0.0.5:8080`
    instance: String,
    /// Why, for whoever finds it drained
    #[arg(long, value_name = "WORDS")]
    reason: Option<String>,
    /// Also where it is the last healthy instance of its service
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    patience: Patience,
}

/// The answer under `--json`.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    ordered: Ordered,
    /// Whether nothing is in flight there any more.
    finished: bool,
}

/// Orders it and waits until nothing is in flight there.
pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let running = context.running()?;
    let api = Api::of(&running);
    block_on(async {
        let began = Instant::now();
        let order = json!({ "instance": args.instance, "reason": args.reason.as_deref().unwrap_or_default(), "force": args.force });
        let ordered = give(&api, "/v1/drain", &order).await?;
        if !context.json {
            say(&ordered, context)?;
        }
        let finished = if args.patience.no_wait { false } else { wait(&api, args).await? };
        if context.json {
            context.json(&Report { ordered, finished })?;
            return Ok(if finished || args.patience.no_wait { Exit::Done } else { Exit::Failed });
        }
        let command = |words: &str| context.command(&running.state_dir, words);
        if finished {
            let took = began.elapsed().as_secs_f64();
            context.line(format!("{} has nothing in flight any more after {took:.1} s", args.instance))?;
        } else if !args.patience.no_wait {
            let waited = args.patience.waited();
            return Err(Failure::new(format!("{} still has requests in flight after {waited}", args.instance))
                .because("it gets no new ones, but those that it has take long")
                .fix(format!("it stays drained; look at it:  {}", command("status --watch"))));
        }
        context.next(&command(&format!("resume {}", args.instance)), "lets it have requests again")?;
        Ok(Exit::Done)
    })
}

/// Whether nothing is in flight before the time is over.
async fn wait(api: &Api, args: &Args) -> Result<bool, Failure> {
    let live = Progress::new();
    let deadline = Instant::now() + args.patience.wait;
    loop {
        let asked = api.status_now().await;
        if let Ok(status) = &asked {
            let instance = of(status, &args.instance);
            // One that is gone has nothing in flight either.
            if instance.is_none_or(|one| one.drained.as_ref().is_none_or(|drained| drained.finished)) {
                return Ok(true);
            }
            live.say(format!("{}: {} in flight", args.instance, instance.map_or(0, |one| one.in_flight)));
        }
        if let Some(end) = api.end() {
            return Err(end);
        }
        if Instant::now() >= deadline {
            return asked.map(|_| false).map_err(|error| api.unreachable(&error));
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

fn of<'a>(status: &'a Status, instance: &str) -> Option<&'a InstanceStatus> {
    status.services.iter().flat_map(|service| &service.instances).find(|one| one.name == instance)
}
