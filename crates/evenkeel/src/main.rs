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
mod drill;
mod failure;
mod http;
mod init;
mod lock;
mod logging;
mod paths;
mod port;
mod running;
mod start;
mod style;
mod table;
mod words;

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let json = cli.global.json;
    match cli::dispatch(cli) {
        Ok(code) => code,
        Err(failure) => {
            failure.print(json);
            failure.exit.into()
        }
    }
}
