//! The load: `wrk` (Debian's package), one thread on its own core.

use std::{error::Error, fmt, process::Command, time::Duration};

/// What one run of the load saw.
pub struct Load {
    pub requests: u64,
    pub per_second: f64,
    pub p50: String,
    pub p99: String,
    /// Socket errors, timeouts and answers other than 2xx and 3xx.
    pub errors: u64,
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:7.0}/s  p50 {:>8}  p99 {:>8}  errors {}", self.per_second, self.p50, self.p99, self.errors)
    }
}

/// Keeps `connections` busy with `GET /` for as long.
pub fn run(port: u16, connections: u32, time: Duration, core: usize) -> Result<Load, Box<dyn Error>> {
    let output = Command::new("taskset")
        .args(["-c", &core.to_string(), "wrk", "-t1", "--latency"])
        .arg(format!("-c{connections}"))
        .arg(format!("-d{}s", time.as_secs()))
        .arg(format!("http://127.0.0.1:{port}/"))
        .output()
        .map_err(|error| format!("cannot run wrk (`cargo xtask setup --bench` installs it): {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    parse(&text).ok_or_else(|| format!("wrk said: {text}{}", String::from_utf8_lossy(&output.stderr)).into())
}

fn parse(text: &str) -> Option<Load> {
    let word = |lead: &str| text.lines().find_map(|line| line.trim().strip_prefix(lead)?.split_whitespace().next());
    let requests = text.lines().find_map(|line| line.trim().split_once(" requests in"))?.0.parse().ok()?;
    let numbers = |line: &str| -> u64 {
        line.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse::<u64>().ok()).sum()
    };
    let errors = text
        .lines()
        .filter_map(|line| {
            line.trim().strip_prefix("Socket errors:").or_else(|| line.trim().strip_prefix("Non-2xx or 3xx responses:"))
        })
        .map(numbers)
        .sum();
    Some(Load {
        requests,
        per_second: word("Requests/sec:")?.parse().ok()?,
        p50: word("50%")?.to_owned(),
        p99: word("99%")?.to_owned(),
        errors,
    })
}
