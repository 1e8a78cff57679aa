//! `keel completions`: what a shell needs to complete our arguments.

use clap::{Command, CommandFactory};
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

/// The commands without those that nobody types: clap would complete hidden ones too.
fn offered() -> Command {
    fn without_hidden(command: &Command) -> Command {
        let shown = command.get_subcommands().filter(|one| !one.is_hide_set()).map(without_hidden);
        // clap wants names that live as long as the process, which ends once the script is printed.
        let name: &'static str = command.get_name().to_owned().leak();
        let bare = Command::new(name).about(command.get_about().cloned().unwrap_or_default());
        bare.args(command.get_arguments().filter(|argument| !argument.is_hide_set())).subcommands(shown)
    }
    without_hidden(&Cli::command())
}

/// Prints the script.
pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut offered(), "keel", &mut script);
    context.line(String::from_utf8_lossy(&script).trim_end())?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_people_type_is_completed() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut offered(), "keel", &mut script);
            let script = String::from_utf8(script).unwrap();
            for typed in ["status", "state-dir", "rotate", "canary"] {
                assert!(script.contains(typed), "{typed} in {shell}");
            }
            for hidden in ["__node", "freezer", "ends-with"] {
                assert!(!script.contains(hidden), "{hidden} in {shell}");
            }
        }
    }
}
