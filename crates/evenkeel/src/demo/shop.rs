//! The reference shop as a process of this binary: `keel` starts itself as an instance.

use std::{path::PathBuf, process::ExitCode};

use evenkeel_shop::{Config, Role};

/// Is one instance of the shop or, by `SHOP_ROLE`, of its till, on the port in `PORT`, with the database in
/// `SHOP_DATABASE` and the till at `SHOP_TILL`.
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
    config.till = std::env::var("SHOP_TILL").ok().and_then(|till| till.parse().ok());
    config.role = std::env::var("SHOP_ROLE").ok().and_then(|role| Role::parse(&role)).unwrap_or_default();
    match evenkeel_shop::run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the shop cannot run");
            ExitCode::FAILURE
        }
    }
}
