//! `keel`: the command line of Evenkeel.
//!
//! One binary holds everything: the commands that people type, the three processes of a node (guard, node
//! process, edge), the stubs below the guard, and the reference applications that `keel demo` shows. This crate
//! parses arguments, finds the stack that runs here, asks it over its socket and prints answers. It decides
//! nothing about instances: that is the node process's work, by the rules of the core.

mod api;
mod cli;
mod command;
mod context;
#[cfg(feature = "demo")]
mod demo;
mod doctor;
mod drill;
mod failure;
mod files;
mod http;
mod init;
mod lock;
mod logging;
mod moment;
mod paths;
mod port;
mod process;
mod progress;
mod remote;
mod running;
mod scrub;
mod stack_file;
mod start;
mod style;
mod table;
mod top;
mod unit;
mod words;

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let (outcome, json) = match cli::Cli::try_parse() {
        Ok(cli) => {
            let json = cli.global.json;
            (cli::dispatch(cli), json)
        }
        Err(error) => {
            let error = cli::without_hidden(error);
            let arguments: Vec<_> = std::env::args_os().skip(1).collect();
            match (cli::forgotten_dashes(&error, &arguments), cli::refusal(&error, arguments.iter().cloned())) {
                (Some(failure), refusal) => (Err(failure), refusal.is_some()),
                (None, Some(failure)) => (Err(failure), true),
                (None, None) => error.exit(),
            }
        }
    };
    outcome.unwrap_or_else(|failure| {
        failure.print(json);
        failure.exit.into()
    })
}
