//! `keel up`: runs a stack in the foreground until it is told to stop. This process becomes the guard.
//!
//! When it is killed instead, instances go on, and the next `keel up` of the same state directory adopts them.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use evenkeel_core::stack::{Diagnostics, Stack};
use evenkeel_guard::Activation;

use crate::{
    context::{Context, shell_word},
    failure::Failure,
    port, stack_file,
    start::{Inline, Life, Source, Start},
};

/// Options of `keel up`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The stack file [default: keel.toml]
    file: Option<PathBuf>,
    /// Port on 127.0.0.1 that leads to COMMAND [default: 8080, or the next free one]
    #[arg(long, requires = "command", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// How many copies of COMMAND
    #[arg(long, requires = "command", default_value_t = 3, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..))]
    replicas: u32,
    /// Environment of COMMAND; without a value the present one is passed on
    #[arg(short, long, requires = "command", value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// End when this process ends
    #[arg(long, hide = true, value_name = "PID")]
    ends_with: Option<u32>,
    /// Instances go on when this process is killed, although it ends with another one
    #[arg(long, hide = true, requires = "ends_with")]
    outlived: bool,
    /// Say nothing when the stack is up
    #[arg(long, hide = true)]
    quiet: bool,
    /// A program to run instead of a file: it listens on the port in PORT or in place of {port}
    #[arg(last = true, conflicts_with = "file")]
    command: Vec<String>,
}

/// Checks, locks, and becomes the guard.
pub(crate) fn run(args: &Args, context: &Context) -> Result<ExitCode, Failure> {
    context.needs_this_machine("up")?;
    if let Some(pid) = args.ends_with {
        end_with(pid)?;
    }
    let (source, stack, warnings) = find(args, context)?;
    crate::scrub::hide(&stack)?;
    // Not before this program became itself again, or it would say so twice.
    if !args.quiet {
        stack_file::warn(&warnings, context);
    }
    // Before anything opens a descriptor that stays, and not before this program became itself again: what is taken is
    // lost to whoever comes by exec.
    let activation = if args.ends_with.is_some() { Activation::take_from_parent() } else { Activation::take() };
    let start = Start::prepare(source, stack, context)?;
    // Whoever ends with another process leaves nothing behind when it is killed, unless that one starts it again.
    let life = Life { activation, outlived: args.outlived || args.ends_with.is_none() };
    start.run(context, !args.quiet, life).map(ExitCode::from)
}

fn find(args: &Args, context: &Context) -> Result<(Source, Stack, Diagnostics), Failure> {
    if args.command.is_empty() {
        let file = args.file.clone().unwrap_or_else(|| PathBuf::from("keel.toml"));
        if is_stack_file(&file) {
            return Source::from_file(&file);
        }
        let port = args.port.map(|port| format!("--port {port} ")).unwrap_or_default();
        let word = shell_word(&file.display().to_string());
        return Err(Failure::usage("there is no stack file of this name")
            .at_path(&file)
            .because("what is to be run comes after `--`")
            .fix(format!("did you mean `keel up {port}-- {word}`?")));
    }
    let port = port::choose(args.port, 8080, "stop it, or choose another port: keel up --port N -- COMMAND")?;
    let console_port = port::choose(None, 9400, "free a port from 9400 on")?;
    if !context.json && args.port.is_none() && port != 8080 {
        context.line(format!("port 8080 is taken, so this listens on {port} (--port chooses another one)"))?;
    }
    let env = args.env.iter().map(|setting| variable(setting)).collect::<Result<_, _>>()?;
    Source::from_command(&Inline { command: args.command.clone(), env, replicas: args.replicas, port, console_port })
}

/// Whether this is, or was meant as, a stack file rather than a program.
pub(crate) fn is_stack_file(file: &Path) -> bool {
    let text = || std::fs::read(file).is_ok_and(|bytes| std::str::from_utf8(&bytes).is_ok());
    file.extension().is_some_and(|extension| extension == "toml") || text()
}

fn variable(setting: &str) -> Result<(String, String), Failure> {
    if let Some((name, value)) = setting.split_once('=') {
        return Ok((name.to_owned(), value.to_owned()));
    }
    let value = std::env::var(setting).map_err(|error| {
        Failure::usage(format!("--env {setting} has no value to pass on"))
            .because(error)
            .fix(format!("give it one: --env {setting}=VALUE"))
    })?;
    Ok((setting.to_owned(), value))
}

/// Has the kernel send us SIGTERM when the process that started us ends, however it ends
/// (`PR_SET_PDEATHSIG`, prctl(2)).
fn end_with(pid: u32) -> Result<(), Failure> {
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};
    set_parent_process_death_signal(Some(Signal::TERM))
        .map_err(|error| Failure::new("cannot bind this process to its parent").because(error))?;
    // It may have ended before that took effect.
    let parent = getppid().map(|parent| parent.as_raw_nonzero().get().cast_unsigned());
    if parent == Some(pid) { Ok(()) } else { Err(Failure::new("the process that started this one has ended")) }
}
