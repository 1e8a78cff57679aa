//! What processes of `keel` write about themselves: compact lines on standard error.
//!
//! `KEEL_LOG` says what is shown, in the form `info,evenkeel_node=debug`; without it warnings and worse. The shop
//! inside the binary writes JSON lines, as it does when it runs alone.

use std::io::{self, IsTerminal};

use tracing_subscriber::{EnvFilter, fmt};

/// Starts logging for one of `keel`'s processes.
pub(crate) fn start() {
    let filter = EnvFilter::try_from_env("KEEL_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    // Where a line cannot be written, as on a full disk, there is nowhere to say so, and trying would end the process.
    let subscriber = fmt()
        .compact()
        .with_target(false)
        .log_internal_errors(false)
        .with_ansi(colours)
        .with_env_filter(filter)
        .with_writer(io::stderr);
    // A second start in one process keeps the first subscriber.
    let _ = subscriber.try_init();
}
