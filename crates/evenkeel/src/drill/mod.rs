//! `keel drill`: rehearses failures on the running stack while clients read and write, and gives a verdict.
//!
//! Which instance is harmed, what counts as detection and recovery, and what passes is decided in core's `drill`;
//! this folder does it: clients, harm, watching, ledger, output. A run owns its clients and its harm, and takes
//! both back however it ends. It never changes the stack in another way, and it never repeats a client's request.
//!
//! | file | concern |
//! | --- | --- |
//! | `run` | the order of a run, and its interruption |
//! | `client`, `load`, `series` | what clients send and see |
//! | `fault/`, `freezer`, `processes` | the harm, one file for each |
//! | `ledger` | what became of the writes |
//! | `control` | what is asked of the stack |
//! | `list`, `show` | output |

mod client;
mod control;
mod fault;
mod freezer;
mod ledger;
mod list;
mod load;
mod processes;
mod run;
mod series;
mod show;

#[cfg(test)]
mod tests;

use std::{process::ExitCode, time::Duration};

use evenkeel_core::drill;

use crate::{
    context::Context,
    failure::{Exit, Failure},
    words,
};

/// Options of `keel drill`.
#[derive(Debug, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the drills there are, and how each ended last
    List,
    /// Run a drill: harm one instance, watch what clients see, give a verdict
    #[command(after_help = AFTER_HELP)]
    Run(RunArgs),
    /// Freeze a process until standard input ends
    #[command(hide = true)]
    Freezer(freezer::Args),
}

const AFTER_HELP: &str = "\
Exit codes:
  0    the drill passed
  1    the drill failed, or was interrupted by an error
  2    the arguments are wrong
  3    nothing is running
  4    there is no such drill or service
  5    refused: the stack is not well enough to be harmed
  130  interrupted; whatever was frozen goes on";

/// Options of `keel drill run`.
#[derive(Debug, clap::Args)]
struct RunArgs {
    /// Which drill, as `kill-instance`; see `keel drill list`
    #[arg(value_name = "DRILL")]
    name: String,
    /// The service to harm [default: the only one, or the one that `[drills] read` leads to]
    #[arg(long, value_name = "SERVICE")]
    service: Option<String>,
    /// How long a frozen instance stays frozen at most, as `5s`
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    lasts: Option<Duration>,
}

/// Runs the command that was given.
pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    match args.command {
        Command::List => list::run(context).map(ExitCode::from),
        Command::Run(args) => {
            context.needs_this_machine("drill run")?;
            let drill = find(&args.name)?;
            let for_ms = args.lasts.map(|lasts| u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX));
            let wish = drill::Wish { service: args.service, for_ms };
            run::run(drill, &wish, context)
        }
        Command::Freezer(args) => match freezer::run(&args) {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(error) => Err(Failure::new("cannot freeze").at(format!("process {}", args.pid)).because(error)),
        },
    }
}

fn find(name: &str) -> Result<&'static dyn drill::Drill, Failure> {
    drill::find(name).ok_or_else(|| {
        let names: Vec<&str> = drill::ALL.iter().map(|drill| drill.name()).collect();
        let near = evenkeel_core::stack::nearest(name, names.iter().copied());
        let fix =
            near.map_or_else(|| format!("one of: {}", names.join(", ")), |near| format!("did you mean `{near}`?"));
        Failure::new(format!("there is no drill `{name}`")).exit(Exit::Unknown).fix(fix)
    })
}

/// A duration as the stack file has it, from 1 s to 60 s: a shorter freeze is over before anybody must notice it,
/// a longer one gives no further insight.
fn duration(text: &str) -> Result<Duration, String> {
    let duration = words::duration(text)?;
    let sensible = Duration::from_secs(1)..=Duration::from_mins(1);
    if sensible.contains(&duration) { Ok(duration) } else { Err("from 1s to 60s".to_owned()) }
}
