//! The arguments of `keel`: every command, its help and where it leads.
//!
//! A command's options stand beside its code, in a file of its own below `command`. The processes of a node are
//! hidden commands, since nobody but `keel` starts them.

use std::{ffi::OsString, path::Path, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::{
    command::{
        apply, completions, console, deploy, doctor, drain, events, internal, logs, pause, restart, resume, rollback,
        scale, secret, status, token, top, up, validate, why,
    },
    context::{Context, Global, shell_word},
    drill,
    failure::Failure,
    init,
};

const AFTER_HELP: &str = "\
Exit codes:
  0    done
  1    not done: also a drill that did not pass and a deploy that was rolled back; and
       `apply --diff` found a difference, or `doctor` something to mend
  2    the arguments or the stack file are wrong; nothing was changed
  3    nothing is running
  4    the stack has nothing of that name
  5    a drill was refused: the stack is not well enough to be harmed
  130  a drill, or watching a deploy, was interrupted

Environment:
  KEEL_STATE_DIR    the same as --state-dir
  KEEL_TOKEN        what is shown to the console of --url
  KEEL_SECRETS_KEY  file of the key of the secrets [default: /etc/keel/STACK.key for root]
  KEEL_LOG          what the processes of keel say on standard error, as `info` [default: warn]
  NO_COLOR          no colour, also on a terminal

Begin with `keel demo`, or in the folder of an application with `keel init` and `keel up`.";

/// High availability for web applications: balances, supervises and rehearses failures.
#[derive(Debug, Parser)]
#[command(
    name = "keel",
    version,
    about = "Keeps a web application up: balances it over its instances, supervises them, rehearses their failures",
    after_help = AFTER_HELP,
    max_term_width = 100,
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show everything at once: a shop in three instances behind the edge, with visitors
    #[cfg(feature = "demo")]
    Demo(crate::command::demo::Args),
    /// Write a stack file from what lies in an application's folder
    Init(init::Args),
    /// Run a stack, or three copies of a command
    Up(up::Args),
    /// Check a stack file and say what it means
    Validate(validate::Args),
    /// Change the running stack to what the file says now
    Apply(apply::Args),
    /// Put another release of a service in force, proven instance by instance
    Deploy(deploy::Args),
    /// Put a former release of a service in force again, or end the deploy under way
    Rollback(rollback::Args),
    /// Change the number of a service's instances
    Scale(scale::Args),
    /// Replace a service's processes by new ones, one by one
    Restart(restart::Args),
    /// Give an instance no new requests, and let it run
    Drain(drain::Args),
    /// End a drain or a pause, or let a service return from its fallback
    Resume(resume::Args),
    /// Decide nothing without an order, for a time
    Pause(pause::Args),
    /// Show services, instances and problems
    Status(status::Args),
    /// Show what instances print
    Logs(logs::Args),
    /// Show what happened and what was decided
    Events(events::Args),
    /// Explain how a service or an instance came to be as it is
    Why(why::Args),
    /// Watch services and instances on a terminal
    Top(top::Args),
    /// Look for what is wrong with the machine and the stack, with evidence and the way out
    Doctor(doctor::Args),
    /// Print a link that opens the console in a browser
    Console(console::Args),
    /// Keep values that stand in no stack file
    Secret(secret::Args),
    /// Let programs and people elsewhere use the API
    Token(token::Args),
    /// Rehearse a failure on the running stack and give a verdict
    Drill(drill::Args),
    /// Print completions for a shell
    Completions(completions::Args),
    #[command(flatten)]
    Internal(internal::Command),
}

/// Runs the command that was given.
pub(crate) fn dispatch(cli: Cli) -> Result<ExitCode, Failure> {
    let context = Context::new(cli.global);
    let done = match cli.command {
        #[cfg(feature = "demo")]
        Command::Demo(args) => crate::command::demo::run(&args, &context)?,
        Command::Init(args) => init::run(&args, &context)?,
        Command::Up(args) => return up::run(&args, &context),
        Command::Validate(args) => validate::run(&args, &context)?,
        Command::Apply(args) => apply::run(&args, &context)?,
        Command::Deploy(args) => return deploy::run(&args, &context),
        Command::Rollback(args) => return rollback::run(&args, &context),
        Command::Scale(args) => scale::run(&args, &context)?,
        Command::Restart(args) => restart::run(&args, &context)?,
        Command::Drain(args) => drain::run(&args, &context)?,
        Command::Resume(args) => resume::run(&args, &context)?,
        Command::Pause(args) => pause::run(&args, &context)?,
        Command::Status(args) => status::run(&args, &context)?,
        Command::Logs(args) => logs::run(&args, &context)?,
        Command::Events(args) => events::run(&args, &context)?,
        Command::Why(args) => why::run(&args, &context)?,
        Command::Top(args) => top::run(&args, &context)?,
        Command::Doctor(args) => doctor::run(&args, &context)?,
        Command::Console(args) => console::run(&args, &context)?,
        Command::Secret(args) => secret::run(&args, &context)?,
        Command::Token(args) => token::run(&args, &context)?,
        Command::Drill(args) => return drill::run(args, &context),
        Command::Completions(args) => completions::run(&args, &context)?,
        Command::Internal(command) => return internal::run(command, &context),
    };
    Ok(done.into())
}

/// The same error without hidden commands among the suggestions.
pub(crate) fn without_hidden(mut error: clap::Error) -> clap::Error {
    use clap::error::{ContextKind, ContextValue};
    if let Some(ContextValue::Strings(near)) = error.remove(ContextKind::SuggestedSubcommand) {
        let near: Vec<String> = near.into_iter().filter(|name| !name.starts_with("__")).collect();
        if !near.is_empty() {
            error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(near));
        }
    }
    error
}

/// Arguments that cannot be understood, for a program: `None` where help was asked for or a person reads. What
/// follows `--` belongs to somebody else's command.
pub(crate) fn refusal(error: &clap::Error, arguments: impl Iterator<Item = OsString>) -> Option<Failure> {
    let json = arguments.take_while(|argument| argument != "--").any(|argument| argument == "--json");
    if !json || !error.use_stderr() {
        return None;
    }
    let text = error.to_string();
    let mut parts = text.trim_end().splitn(2, "\n\n");
    let what = parts.next().unwrap_or_default().trim_start_matches("error: ");
    let failure = Failure::usage(what.split_whitespace().collect::<Vec<_>>().join(" "));
    Some(match parts.next() {
        Some(rest) => failure.fix(rest.trim()),
        None => failure,
    })
}

/// `keel up node server.js`: a command without the `--` in front of it. `None` where it is something else.
pub(crate) fn forgotten_dashes(error: &clap::Error, arguments: &[OsString]) -> Option<Failure> {
    let words: Vec<&str> = arguments.iter().map(|word| word.to_str()).collect::<Option<_>>()?;
    let up = words.iter().position(|word| *word == "up")?;
    if error.kind() != clap::error::ErrorKind::UnknownArgument || words.contains(&"--") {
        return None;
    }
    let takes_value = |word: &str| ["--port", "--replicas", "--env", "-e", "--state-dir"].contains(&word);
    let mut at = up + 1;
    while words.get(at).is_some_and(|word| word.starts_with('-')) {
        at += if takes_value(words[at]) { 2 } else { 1 };
    }
    // What clap stumbled over must be a word of the command, not a misspelt option before it.
    let unexpected = error.get(clap::error::ContextKind::InvalidArg)?.to_string();
    let program = words.get(at).filter(|_| words[at..].iter().any(|word| word.starts_with(&unexpected)));
    let program = program.filter(|word| !up::is_stack_file(Path::new(word)))?;
    let quoted = |words: &[&str]| words.iter().map(|word| shell_word(word)).collect::<Vec<_>>().join(" ");
    let fix = format!("did you mean `keel {} -- {}`?", quoted(&words[..at]), quoted(&words[at..]));
    let what = format!("`{program}` stands where a stack file belongs");
    Some(Failure::usage(what).because("what is to be run comes after `--`").fix(fix))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help() {
        fn snapshot(of: &mut clap::Command, name: &str) {
            insta::assert_snapshot!(name.to_owned(), of.render_help());
            for command in of.get_subcommands_mut().filter(|command| !command.is_hide_set()) {
                let name = format!("{name}_{}", command.get_name());
                snapshot(command, &name);
            }
        }
        let mut keel = Cli::command().term_width(100);
        keel.build();
        snapshot(&mut keel, "help");
    }

    #[test]
    fn global_options_go_anywhere() {
        for args in [["keel", "--json", "status"], ["keel", "status", "--json"]] {
            assert!(Cli::try_parse_from(args).unwrap().global.json, "{args:?}");
        }
    }

    #[test]
    fn wrong_arguments_end_with_2() {
        assert_eq!(Cli::try_parse_from(["keel", "stauts"]).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn hidden_commands_are_not_suggested() {
        let error = |word: &str| without_hidden(Cli::try_parse_from(["keel", word]).unwrap_err()).to_string();
        let said = error("nope");
        assert!(said.contains("unrecognized subcommand 'nope'") && !said.contains("__"), "{said}");
        assert!(error("stauts").contains("'status'"));
    }

    #[test]
    fn a_command_without_dashes_is_understood() {
        let fix = |line: &str| {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            let error = Cli::try_parse_from(std::iter::once("keel".into()).chain(words.clone())).unwrap_err();
            forgotten_dashes(&error, &words).map(|failure| serde_json::to_value(&failure).unwrap()["hint"].to_string())
        };
        for (line, meant) in [
            ("up node server.js", "keel up -- node server.js"),
            ("up node --inspect server.js", "keel up -- node --inspect server.js"),
            ("up --port 8081 node x.js", "keel up --port 8081 -- node x.js"),
            ("--json up --replicas=2 ./serve -x", "keel --json up --replicas=2 -- ./serve -x"),
        ] {
            assert_eq!(fix(line), Some(format!("\"did you mean `{meant}`?\"")), "{line}");
        }
        for other in ["up shop.toml again", "up --prot 1", "up --port x -- node", "stauts node"] {
            assert_eq!(fix(other), None, "{other}");
        }
    }

    #[test]
    fn wrong_arguments_are_json_for_programs() {
        let refused = |arguments: &[&str]| {
            let error = Cli::try_parse_from([&["keel"], arguments].concat()).unwrap_err();
            refusal(&error, arguments.iter().map(OsString::from))
        };
        let failure = refused(&["stauts", "--json"]).unwrap();
        assert_eq!(failure.exit, crate::failure::Exit::Usage);
        let json = serde_json::to_value(&failure).unwrap();
        assert_eq!(json["error"], "unrecognized subcommand 'stauts'");
        assert!(json["hint"].as_str().unwrap().contains("'status'"), "{json}");
        assert!(refused(&["stauts"]).is_none(), "a person reads the usual text");
        assert!(refused(&["--help", "--json"]).is_none(), "help is no error");
        assert!(refused(&["up", "--prot", "1", "--", "x", "--json"]).is_none(), "that option is of the command");
    }
}
