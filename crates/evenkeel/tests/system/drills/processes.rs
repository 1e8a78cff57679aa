//! Drills that harm the processes of keel themselves: what must not be noticed is not, and what nobody protects fails.

use std::{
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use evenkeel_core::status::Status;
use rustix::process::Signal;
use serde_json::Value;

use crate::rig::{self, PATIENCE, Rig, all_healthy, command, instances};

/// So many shops; `drills` goes into `[drills]`. A key makes a write the same one.
fn shop(run: &str, replicas: u32, drills: &str) -> String {
    format!(
        "[edge]\nthreads = 2\n[listeners.web]\nbind = \"{{listen}}\"\n[drills]\nread = \"/api/products\"\n\
         write = {{ post = \"/api/orders\", body = '{{\"items\":[{{\"product\":1,\"quantity\":1}}],\"email\":\"drill@example.com\"}}', \
         verify = \"/api/orders?key={{key}}\" }}\n{drills}[[routes]]\nservice = \"app\"\nidempotency_key = true\n\
         [services.app]\nrun = {run}\nreplicas = {replicas}\nenv = {{ SHOP_DATABASE = \"{{folder}}/shop.db\" }}\n\
         check = {{ http = \"/readyz\", interval = \"100ms\" }}\n"
    )
}

fn plain() -> String {
    format!("[{:?}, \"__shop\"]", env!("CARGO_BIN_EXE_keel"))
}

/// `keel up` of such a stack, without anybody who would start it again.
fn up(stack: &str, ends_with_test: bool) -> Rig {
    let (folder, port) = rig::prepare(stack);
    let file = folder.path().join("keel.toml");
    let text = std::fs::read_to_string(&file).unwrap().replace("{folder}", &folder.path().display().to_string());
    std::fs::write(&file, text).unwrap();
    let rig = Rig::around(folder, port, start(&file, ends_with_test));
    rig.wait_until("all is well", |status| all_healthy(status) && !status.services.is_empty());
    rig
}

fn start(file: &std::path::Path, ends_with_test: bool) -> Child {
    let folder = file.parent().unwrap();
    let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.join("keel.log")).unwrap();
    let mut keel: Command = command(folder, &["up", "keel.toml"]);
    if ends_with_test {
        keel.args(["--ends-with", &std::process::id().to_string()]);
    }
    keel.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

/// Ends what a drill started itself: it is no child of ours.
fn stop_what_the_drill_started(rig: &Rig) {
    let status = rig.status();
    let mut all: Vec<u32> = instances(&status).iter().filter_map(|instance| instance.pid).collect();
    all.push(status.guard.pid);
    rig::signal(status.guard.pid, Signal::TERM);
    let start = Instant::now();
    while all.iter().any(|pid| rig::alive(*pid)) {
        assert!(start.elapsed() < PATIENCE, "it does not end");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Runs a drill; its exit code and report.
fn drill(rig: &Rig, name: &str) -> (Option<i32>, Value) {
    let run = rig.keel(&["drill", "run", name, "--json"]);
    let report =
        serde_json::from_slice(&run.stdout).unwrap_or_else(|error| panic!("one JSON object, {error}: {run:?}"));
    (run.status.code(), report)
}

/// What failed.
fn why(report: &Value) -> String {
    let reasons = report["reasons"].as_array().unwrap();
    reasons.iter().map(|reason| reason["text"].as_str().unwrap()).collect::<Vec<_>>().join("; ")
}

fn assert_passes(rig: &Rig, name: &str) -> Value {
    let (code, report) = drill(rig, name);
    assert_eq!((code, &report["verdict"]), (Some(0), &"pass".into()), "{report:#}\n{}", rig.log());
    assert_eq!((&report["lost_writes"], &report["doubled_writes"]), (&0.into(), &0.into()), "{report:#}");
    rig.wait_until("all is well again", all_healthy);
    report
}

fn pids(status: &Status) -> Vec<Option<u32>> {
    instances(status).iter().map(|instance| instance.pid).collect()
}

#[test]
fn deaths_of_keels_own_processes_pass_on_the_demo() {
    let rig = Rig::demo();
    let before = pids(&rig.status());
    let report = assert_passes(&rig, "kill-node-process");
    assert_eq!(report["errors"], 0, "no client notices: {report:#}");
    for name in ["kill-edge", "kill-guard"] {
        let report = assert_passes(&rig, name);
        // Ten clients have a connection each, and nobody was refused.
        assert_eq!(report["errors"], report["unavoidable_errors"], "{report:#}");
        assert!(report["errors"].as_u64().unwrap() <= 10, "{report:#}");
    }
    assert_eq!(pids(&rig.status()), before, "no instance was started again for any of this");
    let report = assert_passes(&rig, "reboot");
    assert!(pids(&rig.status()).iter().all(|pid| !before.contains(pid)), "everything is new: {report:#}");
}

#[test]
fn a_node_process_that_is_back_too_late_fails() {
    // The guard starts it again in any case, and no stack can tell it not to: so the objective is what cannot be met.
    let rig = up(&shop(&plain(), 2, "objectives = { recovery = \"1ms\" }\n"), true);
    for name in ["kill-node-process", "kill-edge"] {
        let (code, report) = drill(&rig, name);
        assert_eq!((code, &report["verdict"]), (Some(1), &"fail".into()), "{report:#}");
        assert!(why(&report).contains("not every instance of app was healthy again within 1 ms"), "{report:#}");
        rig.wait_until("all is well again", all_healthy);
    }
}

#[test]
fn a_guard_that_nobody_watches_over_is_started_by_the_drill_which_fails() {
    let quickly = "abort = { errors = 50, after = \"1s\" }\n";
    let mut rig = up(&shop(&plain(), 2, quickly), false);
    let before = rig.status();
    // Whoever started it reaps it, as a shell would.
    let guard = rig.child().id();
    let (code, report) = drill(&rig, "kill-guard");
    assert_eq!((code, &report["verdict"]), (Some(1), &"fail".into()), "{report:#}");
    assert!(why(&report).contains("nobody started `keel up` again"), "{report:#}");
    assert!(report["stages"].as_array().unwrap().iter().any(|stage| stage["name"] == "started"), "{report:#}");
    let _ = rig.child().wait();
    let (after, _) = rig.wait_until("the drill has left it as it was", all_healthy);
    assert_ne!(after.guard.pid, guard);
    assert_eq!(pids(&after), pids(&before), "instances went on and were adopted");
    stop_what_the_drill_started(&rig);
}

#[test]
fn a_reboot_is_started_by_the_drill_where_nobody_else_does() {
    let mut rig = up(&shop(&plain(), 2, ""), false);
    let report = assert_passes(&rig, "reboot");
    assert!(report["unavoidable_errors"].as_u64().unwrap() > 0, "nobody was there to serve: {report:#}");
    let _ = rig.child().wait();
    stop_what_the_drill_started(&rig);
}

#[test]
fn a_reboot_that_loses_acknowledged_writes_fails() {
    // What the application keeps does not survive its start.
    let forgets = format!("[\"sh\", \"-c\", \"rm -f $SHOP_DATABASE*; exec {} __shop\"]", env!("CARGO_BIN_EXE_keel"));
    let mut rig = up(&shop(&forgets, 1, ""), false);
    let (code, report) = drill(&rig, "reboot");
    assert_eq!((code, &report["verdict"]), (Some(1), &"fail".into()), "{report:#}");
    assert!(why(&report).contains("acknowledged writes are lost"), "{report:#}");
    let _ = rig.child().wait();
    stop_what_the_drill_started(&rig);
}
