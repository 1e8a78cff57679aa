//! Hidden commands: the processes that `keel` starts from its own binary. Nobody types these.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use evenkeel_node::{NodeConfig, StackSource};

use crate::{
    context::{Context, block_on},
    drill,
    failure::{Exit, Failure},
    files, logging,
    running::Running,
    start::{COMMAND_FILE, announce},
};

/// The processes of `keel`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// The node process
    #[command(name = "__node", hide = true)]
    Node(Node),
    /// The edge
    #[command(name = "__edge", hide = true)]
    Edge,
    /// The parent of one instance
    #[command(name = "__stub", hide = true)]
    Stub,
    /// The process that says when a stack is up
    #[command(name = "__announce", hide = true)]
    Announce(Announce),
    /// An instance that serves a folder of files
    #[command(name = "__files", hide = true)]
    Files(files::Args),
    /// An instance that fails every request
    #[command(name = "__failing", hide = true)]
    Failing(drill::FailingArgs),
    /// The reference shop
    #[cfg(feature = "demo")]
    #[command(name = "__shop", hide = true)]
    Shop,
}

/// Options of the node process; its state directory is the global one.
#[derive(Debug, clap::Args)]
pub(crate) struct Node {
    #[arg(long)]
    runtime_dir: PathBuf,
    #[arg(long)]
    file: Option<PathBuf>,
    /// Where the command was typed whose stack lies in the state directory.
    #[arg(long)]
    command_dir: Option<PathBuf>,
}

/// Options of the announcing process.
#[derive(Debug, clap::Args)]
pub(crate) struct Announce {
    #[arg(long)]
    parent: u32,
}

/// Is that process.
pub(crate) fn run(command: Command, context: &Context) -> Result<ExitCode, Failure> {
    match command {
        Command::Node(args) => node(args, context),
        Command::Edge => {
            evenkeel_guard::outlive_file_limits();
            logging::start();
            Ok(evenkeel_edge::run())
        }
        Command::Stub => Ok(ExitCode::from(evenkeel_guard::stub())),
        Command::Announce(args) => announce(&args, context),
        Command::Files(args) => files::run(&args),
        Command::Failing(args) => drill::run_failing(args),
        #[cfg(feature = "demo")]
        Command::Shop => Ok(crate::demo::shop()),
    }
}

fn state_dir(context: &Context) -> Result<&Path, Failure> {
    context.state_dir.as_deref().ok_or_else(|| Failure::usage("this command needs --state-dir"))
}

fn node(args: Node, context: &Context) -> Result<ExitCode, Failure> {
    evenkeel_guard::outlive_file_limits();
    logging::start();
    crate::drill::clock::enter(&args.runtime_dir);
    let state_dir = state_dir(context)?.to_owned();
    let stack = match (args.file, args.command_dir) {
        (Some(file), _) => StackSource::File(file),
        (None, Some(dir)) => {
            let file = state_dir.join(COMMAND_FILE);
            let text = std::fs::read_to_string(&file)
                .map_err(|error| Failure::new("cannot read the stack of the command").at_path(&file).because(error))?;
            StackSource::Text { text, label: "the command line".to_owned(), dir }
        }
        (None, None) => return Err(Failure::usage("the node process needs --file or --command-dir")),
    };
    let config = NodeConfig { state_dir, runtime_dir: args.runtime_dir, stack, metrics_bind: None };
    // What is wrong has been said, and the guard has been told.
    Ok(evenkeel_node::run(config).map_or_else(|error| ExitCode::from(error.exit_code()), ExitCode::from))
}

fn announce(args: &Announce, context: &Context) -> Result<ExitCode, Failure> {
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};
    // Where the guard is gone nobody waits for the announcement.
    let bound = set_parent_process_death_signal(Some(Signal::KILL));
    let parent = getppid().map(|parent| parent.as_raw_nonzero().get().cast_unsigned());
    if bound.is_err() || parent != Some(args.parent) {
        return Ok(Exit::Failed.into());
    }
    let Some(running) = Running::in_dir(state_dir(context)?) else {
        return Ok(Exit::Failed.into());
    };
    block_on(announce::run(&running, context))?;
    Ok(Exit::Done.into())
}
