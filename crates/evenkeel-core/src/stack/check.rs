//! Checks of a service: which instances get requests, and which are restarted.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::units::Duration;

/// `check = { http = "/healthz" }` or `check = { tcp = true }`: decides whether an instance gets requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// `GET` this path; a status from 200 to 399 passes unless `status` says otherwise.
    #[serde(default)]
    pub http: Option<String>,
    /// Connecting passes.
    #[serde(default)]
    pub tcp: bool,
    /// `Host` header of the probe. Default: the instance's address.
    #[serde(default)]
    pub host: Option<String>,
    /// Lowest and highest status that passes. Default: `[200, 399]`.
    #[serde(default)]
    pub status: Option<(u16, u16)>,
    /// Time between the starts of two probes.
    #[serde(default = "Check::default_interval")]
    pub interval: Duration,
    /// A probe that takes longer has failed.
    #[serde(default = "Check::default_timeout")]
    pub timeout: Duration,
    /// Probes in a row that must pass before an unhealthy instance gets requests again. A new one needs one.
    #[serde(default = "Check::default_rise")]
    #[schemars(range(min = 1, max = 1000))]
    pub rise: u16,
    /// Probes in a row that must fail before an instance gets no more requests.
    #[serde(default = "Check::default_fall")]
    #[schemars(range(min = 1, max = 1000))]
    pub fall: u16,
}

impl Check {
    /// `check = { http = PATH }` and nothing else.
    pub(super) fn of_path(path: &str) -> Self {
        Self {
            http: Some(path.to_owned()),
            tcp: false,
            host: None,
            status: None,
            interval: Self::default_interval(),
            timeout: Self::default_timeout(),
            rise: Self::default_rise(),
            fall: Self::default_fall(),
        }
    }

    const fn default_interval() -> Duration {
        Duration::s(1)
    }

    const fn default_timeout() -> Duration {
        Duration::s(1)
    }

    const fn default_rise() -> u16 {
        2
    }

    const fn default_fall() -> u16 {
        3
    }
}

/// `liveness = { http = "/healthz", after = "10s" }`: an instance that fails it for `after` is killed and
/// started again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Liveness {
    /// `GET` this path; any answer below 500 passes.
    #[serde(default)]
    pub http: Option<String>,
    /// Connecting passes.
    #[serde(default)]
    pub tcp: bool,
    /// Time between the starts of two probes.
    #[serde(default = "Check::default_interval")]
    pub interval: Duration,
    /// A probe that takes longer has failed.
    #[serde(default = "Check::default_timeout")]
    pub timeout: Duration,
    /// How long it must fail without a pass in between.
    #[serde(default = "Liveness::default_after")]
    pub after: Duration,
}

impl Liveness {
    const fn default_after() -> Duration {
        Duration::s(10)
    }
}
