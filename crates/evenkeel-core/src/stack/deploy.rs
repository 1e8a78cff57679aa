//! `[services.NAME.deploy]`: how `keel deploy` replaces what a service runs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::units::{Duration, Size};

/// How a new release proves itself. Each new instance is on trial once it is ready: it gets a small share of the
/// requests, for the first two thirds only such as can be sent elsewhere should they fail, and its errors and latency
/// are compared with those of the former instances.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Deploy {
    /// How long a new instance is on trial. Ends after 3 s where it gave 200 good answers sooner; lasts up to three times
    /// as long where it is slow at first or more of its requests fail than formerly without proof of a fault.
    pub watch: Duration,
    /// Share of the requests that goes to an instance on trial, in percent.
    #[schemars(range(min = 1, max = 50))]
    pub share_percent: u8,
    /// How much larger the share of failed requests may be than that of the former instances, in percentage points.
    #[schemars(range(max = 100))]
    pub max_errors_percent: u8,
    /// Bound on the step `before`; then it is killed and the deploy has failed.
    pub before_timeout: Duration,
    /// How many releases are kept; those in use and the one to roll back to stay in any case.
    #[schemars(range(min = 2, max = 100))]
    pub keep: u8,
    /// Largest artefact, unpacked.
    pub max_size: Size,
}

impl Default for Deploy {
    fn default() -> Self {
        Self {
            watch: Duration::s(10),
            share_percent: 10,
            max_errors_percent: 1,
            before_timeout: Duration::s(600),
            keep: 5,
            max_size: Size::mib(2048),
        }
    }
}

impl Deploy {
    /// What is wrong: key and message.
    pub(super) fn faults(&self) -> Vec<(&'static str, &'static str)> {
        let mut faults = Vec::new();
        if !(1..=50).contains(&self.share_percent) {
            faults.push(("share_percent", "`share_percent` must be from 1 to 50"));
        }
        if self.max_errors_percent > 100 {
            faults.push(("max_errors_percent", "`max_errors_percent` may be at most 100"));
        }
        if !(2..=100).contains(&self.keep) {
            faults.push(("keep", "`keep` must be from 2 to 100: the release in force and one to go back to"));
        }
        if self.before_timeout.as_ms() == 0 {
            faults.push(("before_timeout", "`before_timeout` must be longer than nothing"));
        }
        if self.max_size.as_bytes() == 0 {
            faults.push(("max_size", "`max_size` must be more than nothing"));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use crate::stack::parse;

    fn faults(body: &str) -> String {
        let text = format!("[stack]\nname = \"t\"\n[services.a]\n{body}\n");
        parse(&text, "t.toml").map_or_else(|faults| faults.to_string(), |_| String::new())
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert_eq!(faults("run = [\"x\"]\nbefore = [\"./migrate\"]\ndeploy = { watch = \"0ms\", keep = 2 }"), "");
        for (body, fault) in [
            ("run = [\"x\"]\nbefore = []", "`before` names no program"),
            ("instances = [\"127.0.0.1:9\"]\nbefore = [\"x\"]", "nothing is deployed to this service"),
            ("run = [\"x\"]\ndeploy = { keep = 1 }", "`keep` must be from 2 to 100"),
            ("run = [\"x\"]\ndeploy = { share_percent = 0 }", "`share_percent` must be from 1 to 50"),
            ("run = [\"x\"]\ndeploy = { max_errors_percent = 101 }", "at most 100"),
            ("run = [\"x\"]\ndeploy = { max_size = \"0B\" }", "`max_size` must be more than nothing"),
            ("run = [\"x\"]\ndeploy = { before_timeout = \"0ms\" }", "longer than nothing"),
            ("run = [\"x\"]\ndeploy = { wach = \"1s\" }", "did you mean `watch`?"),
        ] {
            assert!(faults(body).contains(fault), "{body}: {}", faults(body));
        }
    }
}
