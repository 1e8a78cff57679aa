//! The load: `wrk` (Debian's package), one thread on its own core.
//!
//! A script that `wrk` runs at the end writes the numbers on one line; what it would say for people is not read. The
//! script changes nothing between requests, so that they cost `wrk` no more than without one.

use std::{fmt::Write as _, fs, path::Path, process::Command};

use serde::{Deserialize, Serialize};

use crate::cases::Case;

/// What one run of the load saw.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Load {
    pub requests: u64,
    pub seconds: f64,
    /// Everything that was read, heads included.
    pub received_bytes: u64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
    pub errors: Errors,
}

/// What went wrong, by `wrk`'s kinds: of the socket, answers of 400 and more, and answers after ten seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Errors {
    pub connect: u64,
    pub read: u64,
    pub write: u64,
    pub status: u64,
    pub timeout: u64,
}

impl Load {
    /// What makes the run void, if anything does.
    pub fn wrong(&self, case: &Case) -> Option<String> {
        // More than any of the contenders writes, and less than a body of the wrong length would amount to.
        const HEAD_BYTES: std::ops::Range<u64> = 60..600;
        if self.errors != Errors::default() {
            return Some(format!("{:?}", self.errors));
        }
        if self.requests == 0 {
            return Some("not one answer".to_owned());
        }
        let least = self.requests * (case.answer_bytes + HEAD_BYTES.start);
        // What was under way at the end was read, but is not counted as a request.
        let most = (self.requests + u64::from(case.connections)) * (case.answer_bytes + HEAD_BYTES.end);
        (!(least..=most).contains(&self.received_bytes)).then(|| {
            let (bytes, requests) = (self.received_bytes, self.requests);
            format!("{bytes} bytes for {requests} answers of {} bytes", case.answer_bytes)
        })
    }
}

/// Keeps the case's connections busy for so many seconds.
pub fn run(case: &Case, port: u16, seconds: u64, core: usize, folder: &Path) -> Result<Load, String> {
    let script = folder.join("wrk.lua");
    fs::write(&script, self::script(case)).map_err(|error| format!("{}: {error}", script.display()))?;
    let output = Command::new("taskset")
        .args(["-c", &core.to_string(), "wrk", "-t1", "--timeout", "10s", "--latency"])
        .arg(format!("-c{}", case.connections))
        .arg(format!("-d{seconds}s"))
        .arg("-s")
        .arg(&script)
        .arg(format!("http://127.0.0.1:{port}{}", case.path()))
        .output()
        .map_err(|error| format!("cannot run wrk (`cargo xtask setup --bench` installs it): {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    parse(&text).ok_or_else(|| format!("wrk said: {text}{}", String::from_utf8_lossy(&output.stderr)))
}

fn script(case: &Case) -> String {
    let mut script = String::new();
    if case.close {
        script.push_str("wrk.headers[\"Connection\"] = \"close\"\n");
    }
    if let Some(bytes) = case.body_bytes {
        let _ = writeln!(script, "wrk.method = \"POST\"\nwrk.body = string.rep(\"x\", {bytes})");
    }
    script.push_str(
        "done = function(summary, latency)
  local e = summary.errors
  local numbers = { summary.requests, summary.duration, summary.bytes, latency:percentile(50), latency:percentile(99),
    latency:percentile(99.9), latency.max, e.connect, e.read, e.write, e.status, e.timeout }
  for at, number in ipairs(numbers) do numbers[at] = string.format(\"%.0f\", number) end
  print(\"measured \" .. table.concat(numbers, \" \"))
end
",
    );
    script
}

fn parse(text: &str) -> Option<Load> {
    let line = text.lines().find_map(|line| line.strip_prefix("measured "))?;
    let numbers: Vec<u64> = line.split(' ').map(str::parse).collect::<Result<_, _>>().ok()?;
    let [requests, duration_us, received_bytes, p50, p99, p999, max, connect, read, write, status, timeout] =
        numbers[..]
    else {
        return None;
    };
    Some(Load {
        requests,
        seconds: duration_us as f64 / 1e6,
        received_bytes,
        p50_us: p50 as f64,
        p99_us: p99 as f64,
        p999_us: p999 as f64,
        max_us: max as f64,
        errors: Errors { connect, read, write, status, timeout },
    })
}
