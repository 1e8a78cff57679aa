//! Each drill twice: on a stack that is protected against its fault, and on one that is not.

mod bad_deploy;
mod brake;
mod capacity;
mod crash_loop;
mod hang_instance;
mod processes;
mod runs;
mod slow_dependency;
mod slow_instance;
mod surroundings;
mod traffic_spike;

use serde_json::Value;

use crate::rig::{Rig, all_healthy};

/// A stack like the demo's: three instances of the shop, with these keys beside, and these in `[drills]`. Its database
/// lies in the folder.
fn shop(service: &str, drills: &str) -> (Rig, tempfile::TempDir) {
    let check = "check = { http = \"/readyz\", interval = \"200ms\" }\n";
    shop_with(&format!("{check}{service}"), drills)
}

/// The same without its check.
fn shop_with(service: &str, drills: &str) -> (Rig, tempfile::TempDir) {
    let database = tempfile::tempdir().unwrap();
    let rig = Rig::up(&format!(
        "[listeners.web]\nbind = \"{{listen}}\"\n[[routes]]\nservice = \"shop\"\nidempotency_key = true\n\
         [drills]\nread = \"/api/products\"\n{drills}[drills.write]\npost = \"/api/orders\"\n\
         body = '{{\"items\":[{{\"product\":1,\"quantity\":1}}],\"email\":\"drill@example.com\"}}'\n\
         verify = \"/api/orders?key={{key}}\"\n[services.shop]\nrun = [\"{}\", \"__shop\"]\nreplicas = 3\n\
         env = {{ SHOP_DATABASE = \"{}\" }}\n{service}",
        env!("CARGO_BIN_EXE_keel"),
        database.path().join("shop.db").display()
    ));
    rig.wait_until("all is well", |status| !status.services.is_empty() && all_healthy(status));
    (rig, database)
}

/// Runs a drill once all is well; its exit code and its report.
fn run(rig: &Rig, arguments: &[&str]) -> (Option<i32>, Value) {
    rig.wait_until("all is well", |status| !status.services.is_empty() && all_healthy(status));
    let run = rig.keel(&[&["drill", "run"], arguments, &["--json"]].concat());
    let report =
        serde_json::from_slice(&run.stdout).unwrap_or_else(|error| panic!("one JSON object, {error}: {run:?}"));
    (run.status.code(), report)
}

/// A drill that goes on, and what it says.
struct Running {
    child: std::process::Child,
    lines: std::io::Lines<std::io::BufReader<std::process::ChildStdout>>,
}

impl Running {
    fn start(rig: &Rig, arguments: &[&str]) -> Self {
        use std::io::BufRead;
        let mut drill = crate::rig::command(rig.folder.path(), &[&["drill", "run"], arguments].concat());
        let mut child = drill.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped()).spawn().unwrap();
        let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Reads until it says so.
    fn says(&mut self, words: &str) -> &mut Self {
        assert!(self.lines.any(|line| line.unwrap().contains(words)), "it never said `{words}`");
        self
    }

    /// SIGKILL.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Reads to its end; its exit code.
    fn ends(&mut self) -> Option<i32> {
        for line in self.lines.by_ref() {
            line.unwrap();
        }
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The report of the newest run.
fn newest_report(rig: &Rig) -> Value {
    let shown = rig.keel(&["drill", "history", "--json"]);
    let runs: Value = serde_json::from_slice(&shown.stdout).unwrap();
    let run = runs.pointer("/0/run").or_else(|| runs.pointer("/runs/0/run")).and_then(Value::as_str);
    let run = run.unwrap_or_else(|| panic!("there is a run: {runs:#}")).to_owned();
    let report = std::fs::read(rig.folder.path().join("state/drills").join(run).join("report.json")).unwrap();
    serde_json::from_slice(&report).unwrap()
}

/// The process of a helper of drills of this stack: it has the folder of the sockets open as its standard error.
fn helper(rig: &Rig, name: &str) -> Option<u32> {
    let sockets = sockets(rig);
    let pids =
        std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    pids.into_iter().find(|pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).nth(2) == Some(name.as_bytes())
            && std::fs::read_link(format!("/proc/{pid}/fd/2")).is_ok_and(|file| file == sockets)
    })
}

/// The folder of the sockets of a stack.
fn sockets(rig: &Rig) -> std::path::PathBuf {
    let lock = std::fs::read(rig.folder.path().join("state/lock")).unwrap();
    let holder: Value = serde_json::from_slice(&lock).unwrap();
    std::fs::canonicalize(holder["runtime_dir"].as_str().unwrap()).unwrap()
}

/// Waits until no drill of this stack goes on and nothing that it did is being taken back.
fn wait_until_undone(rig: &Rig) {
    let folder = std::fs::File::open(sockets(rig)).unwrap();
    let start = std::time::Instant::now();
    let alone = rustix::fs::FlockOperation::NonBlockingLockExclusive;
    while rustix::fs::flock(&folder, alone).is_err() {
        assert!(start.elapsed() < crate::rig::PATIENCE, "its harm is never taken back");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// Whether a report tells of a stage with these words.
fn has_stage(report: &Value, name: &str, words: &str) -> bool {
    let stages = report["stages"].as_array().unwrap();
    stages.iter().any(|stage| stage["name"] == name && stage["detail"].as_str().unwrap().contains(words))
}
