//! slowhttptest: clients that send heads, bodies or take answers as slowly as they can, a thousand at once.
//!
//! Beside them it asks for a page on a connection of its own and notes each second whether that was answered. One second
//! in which it was not within five seconds is a finding.

use std::path::Path;
use std::process::{Command, Stdio};

use super::{Verdict, stand::Stand};

const MODES: [(&str, &str, &[&str]); 4] = [
    ("slow heads", "/", &["-H", "-i", "2", "-t", "GET", "-x", "24"]),
    ("slow bodies", "/", &["-B", "-i", "2", "-s", "8192", "-x", "10"]),
    ("ranges", "/large.bin", &["-R", "-t", "HEAD", "-a", "10", "-b", "3000"]),
    ("slow reading", "/large.bin", &["-X", "-w", "10", "-y", "20", "-n", "2", "-z", "32", "-k", "3"]),
];

pub(super) fn run(stand: &Stand, home: &Path) -> Verdict {
    let place = home.join("slowhttptest");
    std::fs::create_dir_all(&place).map_err(|error| format!("{}: {error}", place.display()))?;
    let mut seconds = 0;
    for (mode, path, arguments) in MODES {
        let file = mode.replace(' ', "-");
        let (url, common) = (format!("http://{}{path}", stand.files), ["-c", "1000", "-r", "400", "-l", "20"]);
        let status = Command::new("slowhttptest")
            .args(arguments)
            .args(common)
            .args(["-g", "-o", &file, "-u", &url])
            .current_dir(&place)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if !status.is_ok_and(|status| status.success()) {
            return Err(format!("{mode}: slowhttptest failed"));
        }
        let path = place.join(format!("{file}.csv"));
        let report = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        seconds += judge(&report).map_err(|found| format!("{mode}: {found}"))?;
    }
    Ok(format!("{} modes of 1000 connections: it answered in each of {seconds} seconds", MODES.len()))
}

/// How many seconds were watched; `Err`: when it did not answer. The last column says whether it did.
fn judge(report: &str) -> Result<usize, String> {
    let mut lines = report.lines();
    if !lines.next().is_some_and(|head| head.ends_with(",Service Available")) {
        return Err(format!("not the report of slowhttptest: {report:?}"));
    }
    let rows: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    let silent: Vec<&str> = rows.iter().filter(|row| row.ends_with(",0")).copied().collect();
    // Where nothing can be drawn out it is soon over.
    if rows.is_empty() {
        return Err("it watched nothing".to_owned());
    }
    if silent.is_empty() { Ok(rows.len()) } else { Err(format!("no answer in time: {}", silent.join("; "))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_without_an_answer_is_a_finding() {
        let head = "Seconds,Closed,Pending,Connected,Service Available\n";
        let good = "3,0,0,500,1000\n".repeat(6);
        assert_eq!(judge(&format!("{head}{good}")), Ok(6));
        assert!(judge(&format!("{head}{good}6,0,0,500,0\n")).is_err());
        assert!(judge(head).is_err() && judge("").is_err());
    }
}
