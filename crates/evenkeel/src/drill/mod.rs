//! `keel drill`: rehearses failures on the running stack while clients read and write, and gives a verdict.
//!
//! Which instance is harmed, what counts as detection and recovery, and what passes is decided in core's `drill`;
//! this folder does it: clients, harm, watching, ledger, output. A run owns its clients and its harm, and takes
//! both back however it ends. It never changes the stack in another way, and it never repeats a client's request.
//!
//! | file | concern |
//! | --- | --- |
//! | `agreed`, `run`, `ending` | what is going to happen, the order of a run, and its interruption |
//! | `client`, `load`, `crowd`, `series` | what clients send and see |
//! | `fault/`, `processes` | the harm, one file for each |
//! | `freezer`, `drainer`, `limiter`, `clock`, `starter`, `withdraw`, `reviver` | processes that do it and take it back whatever happens to the drill |
//! | `ledger` | what became of the writes |
//! | `control` | what is asked of the stack |
//! | `folder`, `keep`, `html/`, `junit` | the run as it is kept: plan, progress, reports |
//! | `summary`, `outcome` | what a run amounts to, in sentences; the verdict on a terminal |
//! | `list`, `history`, `show`, `proofs` | output |

mod agreed;
mod client;
pub(crate) mod clock;
mod control;
mod crowd;
mod drainer;
mod ending;
mod failing;
mod fault;
mod folder;
mod freezer;
mod history;
mod html;
mod junit;
mod keep;
mod ledger;
mod limiter;
mod list;
mod load;
mod outcome;
mod processes;
pub(crate) mod proofs;
mod reviver;
mod run;
mod series;
mod show;
mod starter;
mod summary;
mod withdraw;

#[cfg(test)]
mod tests;

pub(crate) use self::failing::{Args as FailingArgs, run as run_failing};

use std::{io::IsTerminal, path::PathBuf, process::ExitCode, time::Duration};

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
    /// Run a drill: do the harm it is about, watch what test visitors see, give a verdict
    #[command(after_help = AFTER_HELP)]
    Run(RunArgs),
    /// List the runs there were, and compare them with each other
    History(history::Args),
    /// Show one run: what happened when, and where its report lies
    Show(history::OneArgs),
    /// Let processes write no byte to files until standard input ends
    #[command(hide = true)]
    Limiter(limiter::Args),
    /// Have the node process run with other clocks until standard input ends
    #[command(hide = true)]
    Clock(clock::Args),
    /// Start a killed guard again where nobody else does
    #[command(hide = true)]
    Starter(starter::Args),
    /// Freeze a process until standard input ends
    #[command(hide = true)]
    Freezer(freezer::Args),
    /// Drain an instance until standard input ends
    #[command(hide = true)]
    Drainer(drainer::Args),
    /// Take a bad release back when standard input ends
    #[command(hide = true)]
    Withdraw(withdraw::Args),
    /// Have an instance started again that was given up, when standard input ends
    #[command(hide = true)]
    Reviver(reviver::Args),
}

const AFTER_HELP: &str = "\
Exit codes:
  0    the drill passed
  1    the drill failed, or was interrupted by an error
  2    the arguments are wrong
  3    nothing is running
  4    there is no such drill or service
  5    refused: the stack is not well enough to be harmed
  130  interrupted; the harm was taken back";

/// Options of `keel drill run`.
#[derive(Debug, clap::Args)]
struct RunArgs {
    /// Which drill, as `kill-instance`; see `keel drill list`
    #[arg(value_name = "DRILL")]
    name: String,
    /// The service to harm [default: the only one, or the one that `[drills] read` leads to]
    #[arg(long, value_name = "SERVICE")]
    service: Option<String>,
    /// How long a harm lasts that does, as `5s`: a freeze at most, a spike; of `capacity` each step
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    lasts: Option<Duration>,
    /// Start without a question
    #[arg(short, long)]
    yes: bool,
    /// Start in a blackout of the stack file, too
    #[arg(long)]
    force: bool,
    /// Copy the report into this folder: report.html, report.json, junit.xml
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Write the verdict as `JUnit` XML into this file, for build servers
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Name of the run, for who started it and waits for it; in a session of its own
    #[arg(long, hide = true, value_name = "RUN", value_parser = run_name)]
    run: Option<String>,
    /// By its schedule: nobody watches
    #[arg(long, hide = true)]
    scheduled: bool,
}

impl Command {
    /// Whether it does harm for a drill and takes it back.
    const fn helps(&self) -> bool {
        !matches!(self, Self::List | Self::Run(_) | Self::History(_) | Self::Show(_))
    }
}

/// Runs the command that was given.
pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    if args.command.helps() {
        // In a session of its own (setsid(2)) neither Ctrl-C in a terminal, nor its end, nor that of the drill reaches it.
        let _ = rustix::process::setsid();
    }
    match args.command {
        Command::List => list::run(context).map(ExitCode::from),
        Command::Run(args) => {
            context.needs_this_machine("drill run")?;
            let drill = find(&args.name)?;
            let for_ms = args.lasts.map(|lasts| u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX));
            let wish = drill::Wish { service: args.service, for_ms, unattended: args.scheduled };
            if args.run.is_some() {
                // Whoever started it may end, and its terminal with it (setsid(2)); a leader of a group stays one.
                let _ = rustix::process::setsid();
            }
            let orders = run::Orders {
                wish,
                // Nobody is there to answer.
                yes: args.yes || context.json || !context.terminal || !std::io::stdin().is_terminal(),
                force: args.force,
                run: args.run,
                copies: keep::Copies { folder: args.report, junit: args.junit },
            };
            run::run(drill, &orders, context)
        }
        Command::History(args) => history::run(&args, context).map(ExitCode::from),
        Command::Show(args) => history::show(&args, context).map(ExitCode::from),
        Command::Limiter(args) => helped(limiter::run(&args), "limit what is written"),
        Command::Clock(args) => helped(clock::run(&args), "set other clocks"),
        Command::Starter(args) => helped(starter::run(&args), "start `keel up` again"),
        Command::Freezer(args) => match freezer::run(&args) {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(error) => Err(Failure::new("cannot freeze").at(format!("processes {:?}", args.pids)).because(error)),
        },
        Command::Drainer(args) => drainer::run(&args, context),
        Command::Withdraw(args) => withdraw::run(&args, context),
        Command::Reviver(args) => reviver::run(&args, context),
    }
}

/// How a process ends that does harm for a drill and takes it back.
fn helped(done: std::io::Result<()>, what: &str) -> Result<ExitCode, Failure> {
    done.map(|()| ExitCode::SUCCESS).map_err(|error| Failure::new(format!("cannot {what}")).because(error))
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

/// The name of a run of this drill.
fn run_name(text: &str) -> Result<String, String> {
    drill::parse_run_id(text).map(|_| text.to_owned()).ok_or_else(|| "no name of a run".to_owned())
}
