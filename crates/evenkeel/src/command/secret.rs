//! `keel secret`: values that stand in no stack file.
//!
//! A value comes from standard input or from a prompt, never from an argument, which others on the machine could see.
//! Where the stack runs, its node process keeps it; where it does not run yet, this command does so itself, under the
//! lock of the state directory, so that a first start finds everything it needs.

mod offline;
mod rotate;
mod value;

use std::path::PathBuf;

use evenkeel_core::{secret::Secret, time::WallTime};
use evenkeel_node::SHORTEST_MASKED;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::ordered::Patience;
use crate::{
    api::{Api, read},
    context::{Context, block_on},
    failure::{Exit, Failure},
    http::Ask,
    running::Running,
    style::harmless,
    table::Table,
    words::{self, since},
};

/// Options of `keel secret`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Keep a value, read from standard input or a prompt; also before the first start
    Set(Set),
    /// Show names, where each value comes from and who uses it, never values
    List(List),
    /// Take another value and replace the instances that use it, one by one
    Rotate(Rotate),
    /// Forget a value that nobody uses
    Remove {
        /// The secret
        name: String,
    },
}

#[derive(Debug, clap::Args)]
struct Set {
    /// The secret: what `secret:NAME` in `env` stands for
    name: String,
    #[command(flatten)]
    stack: StackFile,
}

#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    stack: StackFile,
}

/// Which stack is meant where none runs.
#[derive(Debug, clap::Args)]
struct StackFile {
    /// The stack file, where the stack does not run yet
    #[arg(long, value_name = "FILE", default_value = "keel.toml")]
    file: PathBuf,
}

#[derive(Debug, clap::Args)]
struct Rotate {
    /// The secret; one with a source of its own is read from there again
    #[arg(required_unless_present = "key")]
    name: Option<String>,
    /// Encrypt everything that is kept with another key
    #[arg(long, conflicts_with = "name")]
    key: bool,
    #[command(flatten)]
    patience: Patience,
}

/// The answer of `POST /v1/secrets`.
#[derive(Serialize, Deserialize)]
struct Changed {
    services: Vec<String>,
    replaced: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    new_key: Option<PathBuf>,
}

/// The answer of `GET /v1/secrets`.
#[derive(Serialize, Deserialize)]
struct All {
    secrets: Vec<Listed>,
}

/// One secret.
#[derive(Serialize, Deserialize)]
struct Listed {
    name: String,
    source: String,
    set: Option<WallTime>,
    services: Vec<String>,
    problem: Option<String>,
}

/// Runs the subcommand.
pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    match &args.command {
        Command::Set(args) => set(args, context),
        Command::List(args) => list(args, context),
        Command::Rotate(args) => rotate::run(args, context),
        Command::Remove { name } => remove(name, context),
    }
}

/// The stack that runs, or `None` where none does.
fn running(context: &Context) -> Result<Option<Running>, Failure> {
    match context.running() {
        Ok(running) => Ok(Some(running)),
        Err(failure) if failure.exit == Exit::NothingRuns && context.url.is_none() => Ok(None),
        Err(failure) => Err(failure),
    }
}

fn set(args: &Set, context: &Context) -> Result<Exit, Failure> {
    let running = running(context)?;
    let Some(running) = running else {
        return offline::set(&args.name, &args.stack.file, context);
    };
    may_send_value(&running)?;
    let value = value::ask(&args.name, context)?;
    let changed = block_on(order(&running, json!({ "set": { "name": args.name, "value": value.expose() } })))?;
    say_set(&args.name, &running.holder.stack, changed.replaced, context)?;
    say_key(changed.new_key.as_deref(), context)?;
    if context.json {
        context.json(&changed)?;
        return Ok(Exit::Done);
    }
    say_short(&value, context)?;
    say_replaced(&changed, context)?;
    let next = if changed.services.is_empty() { "secret list" } else { "status --watch" };
    context.next(&context.command(&running.state_dir, next), "shows where it is used")?;
    Ok(Exit::Done)
}

fn list(args: &List, context: &Context) -> Result<Exit, Failure> {
    let running = running(context)?;
    let secrets = match &running {
        Some(running) => {
            let api = Api::of(running);
            let all: All = block_on(async { api.get("/v1/secrets").await })?;
            all.secrets
        }
        None => offline::list(&args.stack.file, context)?,
    };
    if context.json {
        context.json(&secrets)?;
        return Ok(Exit::Done);
    }
    if secrets.is_empty() {
        context.line("no secrets: none are kept, and the stack file names none")?;
    } else {
        let mut table = Table::new(&["NAME", "SOURCE", "SET", "USED BY", "PROBLEM"]);
        for secret in &secrets {
            let set = secret.set.map_or_else(|| "-".to_owned(), |at| format!("{} ago", since(at, words::now())));
            let used = if secret.services.is_empty() { "-".to_owned() } else { secret.services.join(", ") };
            let problem = secret.problem.as_deref().map(harmless).unwrap_or_default();
            table.row(vec![
                secret.name.as_str().into(),
                harmless(&secret.source).into(),
                set.into(),
                used.into(),
                problem.into(),
            ]);
        }
        context.line(table.render(context.paint).trim_end())?;
    }
    let missing = secrets.iter().find(|secret| secret.source == "nowhere").map(|secret| secret.name.as_str());
    let (next, why) = match (&running, missing, secrets.as_slice()) {
        (_, Some(name), _) => (format!("secret set {name}"), "gives it a value"),
        (Some(_), None, [one, ..]) => (format!("secret rotate {}", one.name), "gives it another value"),
        _ => ("secret set NAME".to_owned(), "keeps one"),
    };
    let command = match &running {
        Some(running) => context.command(&running.state_dir, &next),
        None => offline::command(&format!("{next} --file"), &args.stack.file, context),
    };
    context.next(&command, why)?;
    Ok(Exit::Done)
}

fn remove(name: &str, context: &Context) -> Result<Exit, Failure> {
    let running = context.running()?;
    let changed = block_on(order(&running, json!({ "remove": { "name": name } })))?;
    if context.json {
        context.json(&changed)?;
        return Ok(Exit::Done);
    }
    context.line(format!("the secret `{name}` is forgotten"))?;
    context.next(&context.command(&running.state_dir, "secret list"), "shows the others")?;
    Ok(Exit::Done)
}

async fn order(running: &Running, order: serde_json::Value) -> Result<Changed, Failure> {
    let body = serde_json::to_vec(&order).map_err(|_| Failure::new("the order cannot be written"))?;
    read(&Api::of(running).succeed(Ask::post("/v1/secrets", body)).await?)
}

/// A value does not travel in clear text.
fn may_send_value(running: &Running) -> Result<(), Failure> {
    match &running.remote {
        Some(remote) if !remote.is_local() => Err(Failure::usage("a secret is not sent in clear text")
            .at(&remote.url)
            .because("the console has no TLS, and this address is not this machine's own")
            .fix("set it on the machine itself, or through a tunnel: ssh -L 9400:127.0.0.1:9400 HOST")),
        _ => Ok(()),
    }
}

fn say_set(name: &str, stack: &str, replaced: bool, context: &Context) -> Result<(), Failure> {
    if context.json {
        return Ok(());
    }
    let how = if replaced { "has another value now" } else { "is kept, encrypted" };
    context.line(format!("the secret `{name}` of the stack `{stack}` {how}"))
}

/// A short value cannot be told from other text.
fn say_short(value: &Secret, context: &Context) -> Result<(), Failure> {
    if context.json || value.expose().len() >= SHORTEST_MASKED {
        return Ok(());
    }
    context
        .line(format!("  it is shorter than {SHORTEST_MASKED} bytes, so instances that print it show it in their logs"))
}

fn say_replaced(changed: &Changed, context: &Context) -> Result<(), Failure> {
    if changed.services.is_empty() {
        return Ok(());
    }
    context.line(format!("  instances that use it are replaced one by one: {}", changed.services.join(", ")))
}

/// Once in a stack's life: where the key lies.
fn say_key(new_key: Option<&std::path::Path>, context: &Context) -> Result<(), Failure> {
    let Some(path) = new_key.filter(|_| !context.json) else { return Ok(()) };
    context.line(format!("  its key was made: {}", path.display()))?;
    context.line("  back that file up, apart from the state directory: without it nobody can read the secrets")
}
