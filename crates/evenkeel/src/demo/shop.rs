//! The reference shop as a process of this binary: `keel` starts itself as an instance.

use std::{path::PathBuf, process::ExitCode};

use evenkeel_shop::Config;

/// Is one instance of the shop, on the port in `PORT` and with the database in `SHOP_DATABASE`.
pub(crate) fn shop() -> ExitCode {
    // Its log is what an instance prints, so it says what a person would look for there.
    let filter = tracing_subscriber::EnvFilter::try_from_default_env();
    let filter = filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().compact().with_target(false).with_ansi(false).with_env_filter(filter).init();
    let mut config = Config::default();
    if let Some(port) = std::env::var("PORT").ok().and_then(|port| port.parse().ok()) {
        config.port = port;
    }
    if let Some(database) = std::env::var_os("SHOP_DATABASE") {
        config.database = PathBuf::from(database);
    }
    match evenkeel_shop::run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the shop cannot run");
            ExitCode::FAILURE
        }
    }
}
