//! Autobahn's fuzzing client of WebSockets (RFC 6455), to its echo server through the edge and directly.
//!
//! A case passes as OK, NON-STRICT (right, but later than possible) or INFORMATIONAL. Which of these it is depends on
//! timing also without anything in between, so that is not compared; a case that passes directly and not through the
//! edge is a finding.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Verdict, install, stand::Stand};

/// Runs Autobahn's program from its folder. Its echo server takes any port for its own, as behind a proxy it must.
const PROGRAM: &str = "import site, sys
site.addsitedir(sys.argv.pop(1))
from autobahntestsuite import echo
begin = echo.EchoServerFactory.__init__
def anywhere(self, url, debug=False):
    begin(self, url, debug)
    self.externalPort = None
echo.EchoServerFactory.__init__ = anywhere
from autobahntestsuite.wstest import run
run()
";

/// How long the echo server may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn run(stand: &Stand, home: &Path) -> Verdict {
    let (python, folder) = install::autobahn(home)?;
    let place = home.join("autobahn-reports");
    let failed = |error: std::io::Error| format!("{}: {error}", place.display());
    let _ = std::fs::remove_dir_all(&place);
    std::fs::create_dir_all(&place).map_err(failed)?;
    std::fs::write(place.join("run.py"), PROGRAM).map_err(failed)?;
    let server = |agent: &str, address| json!({ "agent": agent, "url": format!("ws://{address}") });
    let spec = json!({
        "outdir": "reports", "servers": [server("direct", stand.echo), server("edge", stand.sockets)],
        "cases": ["*"], "exclude-cases": [], "exclude-agent-cases": {},
    });
    std::fs::write(place.join("spec.json"), spec.to_string()).map_err(failed)?;
    let command = |arguments: &[&str], log: &str| {
        let log = std::fs::File::create(place.join(log))?;
        let mut command = Command::new(&python);
        command.arg("run.py").arg(&folder).args(arguments).current_dir(&place);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()
    };
    let url = format!("ws://{}", stand.echo);
    let _echo = Ended(command(&["-m", "echoserver", "-w", &url, "-u", "0"], "echo.log").map_err(failed)?);
    let start = Instant::now();
    while std::net::TcpStream::connect(stand.echo).is_err() {
        if start.elapsed() > PATIENCE {
            return Err(format!("the echo server does not listen: see {}", place.join("echo.log").display()));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    // Until a probe has passed the edge holds the first case, which is as good as an answer.
    let mut client = Ended(command(&["-m", "fuzzingclient", "-s", "spec.json"], "client.log").map_err(failed)?);
    client.0.wait().map_err(failed)?;
    let report = std::fs::read_to_string(place.join("reports/index.json")).map_err(failed)?;
    let report: Value = serde_json::from_str(&report).map_err(|error| format!("index.json: {error}"))?;
    judge(&report)
}

/// A process that does not outlive this.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn judge(report: &Value) -> Verdict {
    let cases = |agent: &str| report[agent].as_object().ok_or(format!("nothing about `{agent}` in the report"));
    let (direct, edge) = (cases("direct")?, cases("edge")?);
    if direct.is_empty() || direct.len() != edge.len() {
        return Err(format!("{} cases directly, {} through the edge", direct.len(), edge.len()));
    }
    let worse = direct.iter().filter(|(case, directly)| {
        ["behavior", "behaviorClose"].iter().any(|part| passes(&directly[part]) && !passes(&edge[*case][part]))
    });
    let worse: Vec<String> = worse.map(|(case, _)| format!("{case}: {}", edge[case]["behavior"])).collect();
    let count =
        |cases: &serde_json::Map<String, Value>| cases.values().filter(|case| passes(&case["behavior"])).count();
    let left_out = direct.values().filter(|case| case["behavior"] == "UNIMPLEMENTED").count();
    let found = format!(
        "of {} cases {} pass directly and {} through the edge ({left_out} need compression, which the echo server lacks)",
        direct.len(),
        count(direct),
        count(edge)
    );
    if worse.is_empty() { Ok(found) } else { Err(format!("{found}; only directly:\n{}", worse.join("\n"))) }
}

fn passes(behavior: &Value) -> bool {
    matches!(behavior.as_str(), Some("OK" | "NON-STRICT" | "INFORMATIONAL"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worse_than_directly_is_a_finding() {
        let case = |behavior: &str| json!({ "behavior": behavior, "behaviorClose": "OK" });
        let report = |edge: &str| json!({ "direct": { "1": case("OK") }, "edge": { "1": case(edge) } });
        assert!(judge(&report("OK")).is_ok() && judge(&report("NON-STRICT")).is_ok());
        assert!(judge(&report("FAILED")).is_err_and(|found| found.ends_with("1: \"FAILED\"")));
        let both = json!({ "direct": { "1": case("FAILED") }, "edge": { "1": case("FAILED") } });
        assert!(judge(&both).is_ok(), "what the echo server does wrong itself");
        assert!(judge(&json!({ "direct": { "1": case("OK") }, "edge": {} })).is_err());
    }
}
