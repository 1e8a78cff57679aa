//! `keel completions`: what a shell needs to complete our arguments.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::{
    cli::Cli,
    context::Context,
    failure::{Exit, Failure},
};

/// Options of `keel completions`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell
    shell: Shell,
}

/// Prints the script.
pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "keel", &mut script);
    context.line(String::from_utf8_lossy(&script).trim_end())?;
    Ok(Exit::Done)
}
