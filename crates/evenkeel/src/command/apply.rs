//! `keel apply`: the running stack becomes what the file says now.
//!
//! A file that is accepted is in force at once, but its instances may never get ready; so this waits until they
//! are, or until it is plain that they will not be.

use std::{path::PathBuf, time::Instant};

use evenkeel_core::status::Status;
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
    http::Ask,
    stack_file::{self, Fault, Purpose},
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
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<Fault>,
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
    let purpose = if context.url.is_none() { Purpose::Here } else { Purpose::Elsewhere };
    let (_, warnings) = stack_file::understand(&args.file, &text, purpose).map_err(Failure::bad_file)?;
    stack_file::warn(&warnings, context);
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
            context.json(&Report { applied, outcome, warnings: stack_file::faults(&warnings) })?;
            return Ok(exit);
        }
        let command = |args: &str| context.command(&running.state_dir, args);
        match outcome {
            Outcome::Done => {
                let took = began.elapsed().as_secs_f64();
                let said = api.status_now().await.map_or_else(|_| "it is carried out".to_owned(), |now| reached(&now));
                context.line(format!("{said} at revision {} after {took:.1} s", applied.revision))?;
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

/// What has come of it: that instances are healthy, as far as there are any.
fn reached(status: &Status) -> String {
    let services = || status.services.iter().filter(|service| !service.page);
    let drained = services().flat_map(|service| &service.instances).filter(|one| one.drained.is_some()).count();
    let empty: Vec<&str> =
        services().filter(|one| one.instances.is_empty()).map(|service| service.name.as_str()).collect();
    let but = match drained {
        0 => String::new(),
        1 => " but the one that is drained".to_owned(),
        n => format!(" but the {n} that are drained"),
    };
    match empty.as_slice() {
        _ if empty.len() == services().count() => "no service has an instance".to_owned(),
        [] => format!("every instance{but} is healthy"),
        [one] => format!("{one} has no instance, and every other one{but} is healthy"),
        more => format!("{} have no instance, and every other one{but} is healthy", more.join(", ")),
    }
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

#[cfg(test)]
mod tests {
    use evenkeel_core::status::{DrainStatus, InstanceStatus, ProcessStatus, ServiceStatus};
    use evenkeel_core::time::WallTime;

    use super::*;

    #[test]
    fn what_has_no_instance_is_not_called_healthy() {
        let service = |name: &str, instances: usize| ServiceStatus {
            name: name.to_owned(),
            instances: vec![InstanceStatus::default(); instances],
            ..ServiceStatus::default()
        };
        let page = ServiceStatus { page: true, ..service("sorry", 0) };
        let mut status = Status {
            stack: "t".to_owned(),
            version: String::new(),
            revision: 1,
            since: WallTime::default(),
            guard: ProcessStatus { pid: 1, restarts: 0 },
            node: ProcessStatus { pid: 2, restarts: 0 },
            edge: None,
            listeners: Vec::new(),
            console: None,
            services: vec![service("shop", 2), page],
            problems: Vec::new(),
            overrides: Vec::new(),
            proofs: Vec::new(),
        };
        assert_eq!(reached(&status), "every instance is healthy");
        status.services.push(service("app", 0));
        assert_eq!(reached(&status), "app has no instance, and every other one is healthy");
        status.services[0].instances[1].drained =
            Some(DrainStatus { reason: String::new(), by: String::new(), since: WallTime::default(), finished: true });
        assert_eq!(reached(&status), "app has no instance, and every other one but the one that is drained is healthy");
        status.services[0].instances.clear();
        assert_eq!(reached(&status), "no service has an instance");
    }
}
