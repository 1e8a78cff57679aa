//! `keel logs`: what instances print.

use std::fmt::Write;

use evenkeel_core::time::WallTime;
use serde::{Deserialize, Serialize};

use crate::{
    api::{Api, encode},
    context::{Context, block_on},
    failure::{Exit, Failure},
    style::harmless,
};

/// Options of `keel logs`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this service or instance, as `shop` or `shop/1`
    subject: Option<String>,
    /// Go on with what is printed from now on
    #[arg(short, long)]
    follow: bool,
    /// Only lines that contain this text
    #[arg(short, long, value_name = "TEXT")]
    grep: Option<String>,
    /// How many of the newest lines
    #[arg(short = 'n', long, default_value_t = 100, value_name = "N")]
    lines: u32,
}

/// One line of output.
#[derive(Serialize, Deserialize)]
struct Line {
    at: WallTime,
    instance: String,
    #[serde(rename = "line")]
    text: String,
}

/// Prints lines as they come.
pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let running = context.running()?;
    let api = Api::of(&running);
    let shown = block_on(async {
        if args.follow {
            return tokio::select! {
                ended = follow(&api, args, context) => Err(ended),
                gone = context.reader_gone() => Err(gone),
            };
        }
        show(&api, &target(args, args.lines), context).await
    })?;
    if context.json {
        return Ok(Exit::Done);
    }
    // Lines of applications are often piped: what is not theirs goes to standard error.
    if shown == 0 {
        let filtered = args.subject.is_some() || args.grep.is_some();
        eprintln!("{}", if filtered { "no such lines" } else { "no instance has printed anything" });
    }
    if context.terminal {
        context.next(&context.command(&running.state_dir, "logs --follow"), "goes on with what comes")?;
    }
    Ok(Exit::Done)
}

/// Goes on until the stack is gone. A node process that is being restarted breaks off one answer.
async fn follow(api: &Api, args: &Args, context: &Context) -> Failure {
    let mut lines = args.lines;
    loop {
        if let Err(failure) = show(api, &target(args, lines), context).await {
            return failure;
        }
        lines = 0;
    }
}

/// What to ask for.
fn target(args: &Args, lines: u32) -> String {
    let mut target = format!("/v1/logs?lines={lines}");
    for (name, value) in [("subject", &args.subject), ("grep", &args.grep)] {
        if let Some(value) = value {
            let _ = write!(target, "&{name}={}", encode(value));
        }
    }
    if args.follow {
        target.push_str("&follow=true");
    }
    target
}

/// Prints one answer, line by line; how many lines it had.
async fn show(api: &Api, target: &str, context: &Context) -> Result<u64, Failure> {
    let mut lines = api.stream(target).await?;
    let mut shown = 0;
    while let Some(line) = lines.next::<Line>().await? {
        shown += 1;
        if context.json {
            context.json(&line)?;
        } else {
            let instance = context.paint.dim(&format!("{} |", harmless(&line.instance)));
            context.line(format!("{instance} {}", harmless(&line.text)))?;
        }
    }
    Ok(shown)
}
