//! The log: one JSON object per line on standard error.
//!
//! By default an instance says when it starts and stops and what fails. `RUST_LOG=info,evenkeel_shop::request=debug`
//! adds a line for each request, with its `X-Request-Id`.

use tracing_subscriber::EnvFilter;

/// Starts logging for this process, unless something else has.
pub(crate) fn start() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_env_filter(filter)
        // Whoever read the log may be gone. To complain of it on the same closed pipe would end the process.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    // A second start in one process keeps the first subscriber.
    let _ = subscriber.try_init();
}
