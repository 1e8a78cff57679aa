//! `keel apply`: the running stack becomes what the file says now.
//!
//! A file that is accepted is in force at once, but its instances may never get ready; so this waits until they
//! are, or until it is plain that they will not be.

use std::{path::PathBuf, time::Instant};

use evenkeel_core::stack;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

mod difference;

use super::{
    ordered::{Patience, not_ready},
    rollout::{self, Outcome, Wanted},
    validate,
};
use crate::{
    api::{Api, as_fix, read},
    context::{Context, block_on},
    failure::{Exit, Failure},
    files,
    http::Ask,
    style::harmless,
};

/// Options of `keel apply`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The stack file
    #[arg(default_value = "keel.toml")]
    file: PathBuf,
    #[command(flatten)]
    patience: Patience,
    /// Let the file take the place of everything that `scale` and `deploy` changed of it
    #[arg(long)]
    reset: bool,
    /// Show what would change and what is overridden, and change nothing; ends with 1 where there is a difference
    #[arg(long, conflicts_with_all = ["wait", "no_wait"])]
    diff: bool,
}

/// The answer of `POST /v1/apply`.
#[derive(Serialize, Deserialize)]
struct Applied {
    revision: u64,
    changes: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    kept: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    dropped: Vec<String>,
}

/// The answer under `--json`.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    applied: Applied,
    #[serde(flatten)]
    outcome: Outcome,
}

/// A refused file, as the node process says it.
#[derive(Deserialize)]
struct Refused {
    error: String,
    #[serde(default)]
    diagnostics: String,
    hint: Option<String>,
}

/// Checks the file here, where its faults can be shown in place, and hands it over.
pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let text = validate::read(&args.file)?;
    let stack = stack::parse(&text, &args.file.display().to_string()).map_err(Failure::bad_file)?;
    if context.url.is_none() {
        files::missing(&args.file, &text, &stack).map_err(Failure::bad_file)?;
    }
    let file = std::fs::canonicalize(&args.file)
        .map_err(|error| Failure::usage("the stack file cannot be found").at_path(&args.file).because(error))?;
    let running = context.running()?;
    // A folder of this machine means nothing elsewhere: without one, instances stay where they are.
    let file = if running.remote.is_some() { file.file_name().map_or(file.clone(), PathBuf::from) } else { file };
    let api = Api::of(&running);
    block_on(async {
        let order = json!({ "text": text, "file": file.display().to_string(), "reset": args.reset });
        if args.diff {
            return difference::run((&api, &running), &args.file, &order, context).await;
        }
        let applied: Applied = ask(&api, "/v1/apply", &order).await?;
        if !context.json {
            say(&applied, context)?;
        }
        let was_in_force = applied.changes.is_empty();
        let wanted = Wanted { revision: applied.revision, was_in_force, ..Wanted::default() };
        let began = Instant::now();
        let Patience { wait, no_wait } = args.patience;
        let outcome = if no_wait { Outcome::NotAwaited } else { rollout::watch(&api, &wanted, wait).await? };
        let exit = if outcome.is_well() { Exit::Done } else { Exit::Failed };
        if context.json {
            context.json(&Report { applied, outcome })?;
            return Ok(exit);
        }
        let command = |args: &str| context.command(&running.state_dir, args);
        match outcome {
            Outcome::Done => {
                let took = began.elapsed().as_secs_f64();
                context
                    .line(format!("every instance is healthy at revision {} after {took:.1} s", applied.revision))?;
                context.next(&command("status"), "shows its instances")?;
            }
            Outcome::NotAwaited => {
                context.next(&command("status --watch"), "shows the change being carried out")?;
            }
            other => {
                let revision = format!("revision {}", applied.revision);
                let advice =
                    format!("Correct the file, or take the former one, and apply it:  {}", command("apply FILE"));
                return Err(not_ready(&other, &revision, &args.patience, Some(advice), command));
            }
        }
        Ok(exit)
    })
}

fn say(applied: &Applied, context: &Context) -> Result<(), Failure> {
    if applied.changes.is_empty() {
        context.line(format!("nothing to change: revision {} is in force", applied.revision))?;
    } else {
        context.line(format!("revision {} is in force:", applied.revision))?;
    }
    for change in &applied.changes {
        context.line(format!("  {}", harmless(change)))?;
    }
    difference::overrides(&applied.kept, &applied.dropped, context)
}

/// Hands a file over; faults that the node process finds are shown as those found here.
async fn ask<T: DeserializeOwned>(api: &Api, target: &str, order: &Value) -> Result<T, Failure> {
    let answer = api.ask(Ask::post(target, order.to_string().into_bytes())).await?;
    let file = order["file"].as_str().unwrap_or_default();
    if answer.status.is_success() {
        return read(&answer);
    }
    let refused: Refused = read(&answer)?;
    let wrong_file = answer.status == hyper::StatusCode::UNPROCESSABLE_ENTITY;
    if wrong_file && !refused.diagnostics.is_empty() {
        return Err(Failure::bad_file(refused.diagnostics));
    }
    let failure = Failure::new(refused.error).exit(if wrong_file { Exit::Usage } else { Exit::Failed }).at(file);
    Err(match refused.hint {
        Some(hint) if !hint.is_empty() => failure.fix(as_fix(&hint)),
        _ => failure,
    })
}
