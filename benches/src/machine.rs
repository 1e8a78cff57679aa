//! Where and when something was measured.

use std::{fs, process::Command};

use serde::{Deserialize, Serialize};

/// What a reader has to know about the machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    pub processor: String,
    pub cores: usize,
    pub system: String,
    pub kernel: String,
    /// As `date` says it, in UTC.
    pub date: String,
}

impl Machine {
    pub fn this() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str, between: char| {
            let value =
                text.lines().find_map(|line| line.strip_prefix(name)?.split_once(between).map(|(_, value)| value));
            value.map_or_else(|| "unknown".to_owned(), |value| value.trim().trim_matches('"').to_owned())
        };
        let cpus = read("/proc/cpuinfo");
        let date = Command::new("date").args(["--utc", "+%Y-%m-%d"]).output();
        Self {
            processor: field(&cpus, "model name", ':'),
            cores: cpus.lines().filter(|line| line.starts_with("processor")).count(),
            system: field(&read("/etc/os-release"), "PRETTY_NAME", '='),
            kernel: format!("Linux {}", read("/proc/sys/kernel/osrelease").trim()),
            date: date.map_or_else(
                |_| "unknown".to_owned(),
                |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
            ),
        }
    }
}
