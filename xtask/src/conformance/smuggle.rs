//! smugglex, a scanner for request smuggling, with every check it has for HTTP/1.
//!
//! It judges by time, and some of its messages declare a byte of body that it never sends: any server that waits for
//! what was declared looks suspicious then. So each suspicion is tried again with the missing bytes and a plain request
//! behind them. Where that gets its answers at once and no other ones, waiting was all there was; else it is a finding.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{
    Verdict, install,
    stand::{Stand, exchange},
};

const CHECKS: &str = "cl-te,te-cl,te-te,h2c,h2,cl-edge,cl-0,0-cl,parser-discrepancy";
/// Sooner than any bound of the edge.
const AT_ONCE: Duration = Duration::from_secs(2);

pub(super) fn run(stand: &Stand, home: &Path) -> Verdict {
    let program = install::smugglex(home)?;
    let mut checks = 0;
    let mut refuted = Vec::new();
    for address in [stand.files, stand.origin] {
        let output = Command::new(&program)
            .args(["--json", "--timeout", "3", "--fuzz", "--checks", CHECKS])
            .arg(format!("http://{address}/"))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .map_err(|error| format!("smugglex: {error}"))?;
        let report: Value = serde_json::from_slice(&output.stdout).map_err(|error| format!("its report: {error}"))?;
        let (count, suspicions) = read(&report)?;
        checks += count;
        for (check, payload) in suspicions {
            refute(address, &payload).map_err(|found| format!("{check}: {found}\n{payload:?}"))?;
            refuted.push(check);
        }
    }
    refuted.sort_unstable();
    refuted.dedup();
    let aside = match refuted.as_slice() {
        [] => String::new(),
        some => format!("; where it suspected ({}) the edge only waited for a declared byte", some.join(", ")),
    };
    Ok(format!("{checks} checks without a finding{aside}"))
}

/// How many checks it made, and what it suspects: the check and the message.
fn read(report: &Value) -> Result<(usize, Vec<(String, String)>), String> {
    let results = report["results"].as_array().ok_or("no results in its report")?;
    let checks: Vec<&Value> = results.iter().filter_map(|result| result["checks"].as_array()).flatten().collect();
    if checks.is_empty() {
        return Err("it made no checks".to_owned());
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let suspected = checks.iter().filter(|check| check["vulnerable"] != Value::Bool(false));
    let suspicions = suspected.map(|check| (text(&check["check_type"]), text(&check["payload"]))).collect();
    Ok((checks.len(), suspicions))
}

/// `Err`: the message, once complete, does not get exactly the answers it should, at once.
fn refute(address: SocketAddr, payload: &str) -> Result<(), String> {
    let (head, body) = payload.split_once("\r\n\r\n").ok_or("suspected by a message without an end")?;
    let mut lengths = head.lines().filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok()).flatten()
    });
    let missing = match (lengths.next(), lengths.next()) {
        (Some(length), None) if length > body.len() => length - body.len(),
        _ => return Err("vulnerable".to_owned()),
    };
    let next = "GET /behind HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let start = Instant::now();
    let answers = exchange(address, format!("{payload}{}{next}", "x".repeat(missing)).as_bytes(), AT_ONCE)?;
    let count = answers.matches("HTTP/1.1 ").count();
    let last = count == 1 && answers.to_ascii_lowercase().contains("\r\nconnection: close\r\n");
    let quick = start.elapsed() < AT_ONCE;
    if quick && (last || count == 2) { Ok(()) } else { Err(format!("complete, it got {answers:?}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suspicions_are_read_from_the_report() {
        let text = r#"{"results":[{"checks":[
            {"check_type":"cl-te","vulnerable":false},{"check_type":"h2","vulnerable":true,"payload":"POST"}]}]}"#;
        let report = serde_json::from_str(text).expect("it is JSON");
        assert_eq!(read(&report), Ok((2, vec![("h2".to_owned(), "POST".to_owned())])));
        assert!(read(&Value::Null).is_err());
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
        let complete = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx";
        assert_eq!(refute(nowhere, complete), Err("vulnerable".to_owned()), "nothing of it is missing");
    }
}
