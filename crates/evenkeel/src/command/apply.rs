//! `keel apply`: the running stack becomes what the file says now.

use std::path::PathBuf;

use evenkeel_core::stack;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::validate;
use crate::{
    api::{Api, read},
    context::{Context, block_on},
    failure::{Exit, Failure},
    http::Ask,
    style::harmless,
};

/// Options of `keel apply`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The stack file
    #[arg(default_value = "keel.toml")]
    file: PathBuf,
}

/// The answer of `POST /v1/apply`.
#[derive(Serialize, Deserialize)]
struct Applied {
    revision: u64,
    changes: Vec<String>,
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
    stack::parse(&text, &args.file.display().to_string()).map_err(Failure::bad_file)?;
    let file = std::fs::canonicalize(&args.file)
        .map_err(|error| Failure::usage("the stack file cannot be found").at_path(&args.file).because(error))?;
    let running = context.running()?;
    let applied = block_on(apply(&Api::of(&running), &text, &file.display().to_string()))?;
    if context.json {
        context.json(&applied)?;
        return Ok(Exit::Done);
    }
    if applied.changes.is_empty() {
        context.line(format!("nothing to change: revision {} is in force", applied.revision))?;
    } else {
        context.line(format!("revision {} is in force:", applied.revision))?;
        for change in &applied.changes {
            context.line(format!("  {}", harmless(change)))?;
        }
    }
    context.next(&context.command(&running.state_dir, "status --watch"), "shows the change being carried out")?;
    Ok(Exit::Done)
}

async fn apply(api: &Api, text: &str, file: &str) -> Result<Applied, Failure> {
    let body = json!({ "text": text, "file": file }).to_string().into_bytes();
    let answer = api.ask(Ask::post("/v1/apply", body)).await?;
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
        Some(hint) if !hint.is_empty() => failure.fix(hint),
        _ => failure,
    })
}
