//! `keel demo`: options of the demo.

use std::{net::SocketAddr, time::Duration};

use crate::{
    context::{Context, block_on},
    demo::{self, Wanted},
    failure::{Exit, Failure},
    words::duration,
};

/// Options of `keel demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Port of the shop on 127.0.0.1 [default: 8080]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Address of the console, where metrics are [default: 127.0.0.1:9400, or the next free port]
    #[arg(long, value_name = "ADDRESS")]
    console: Option<SocketAddr>,
    /// Send no visitors
    #[arg(long)]
    no_traffic: bool,
    /// Stop after this time, as 30s or 5m [default: at Ctrl-C]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    r#for: Option<Duration>,
}

/// Runs it.
pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    context.needs_this_machine("demo")?;
    let wanted = Wanted { port: args.port, console: args.console, traffic: !args.no_traffic, duration: args.r#for };
    block_on(demo::run(wanted, context))
}
