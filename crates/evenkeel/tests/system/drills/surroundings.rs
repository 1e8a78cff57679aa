//! Drills that take something from the processes of keel that they stand on: the disk, the clocks.
//!
//! No stack can switch off that a full disk or another clock is got over. So it is an objective that fails here, one that
//! no run can meet.

use std::fs;

use serde_json::Value;

use crate::rig::{Rig, all_healthy, instances};

/// A shop with an objective that is not met: no request at all takes less than a millisecond.
fn strict() -> (tempfile::TempDir, String) {
    let database = tempfile::tempdir().unwrap();
    let stack = format!(
        "[listeners.web]\nbind = \"{{listen}}\"\n[drills]\nread = \"/api/products\"\nobjectives = {{ worst = \"1ms\" }}\n\
         [services.app]\nrun = [\"{}\", \"__shop\"]\nreplicas = 2\nenv = {{ SHOP_DATABASE = \"{}\" }}\n\
         check = {{ http = \"/readyz\", interval = \"100ms\" }}\n",
        env!("CARGO_BIN_EXE_keel"),
        database.path().join("shop.db").display()
    );
    (database, stack)
}

/// Runs a drill; its exit code and report.
fn drill(rig: &Rig, name: &str) -> (Option<i32>, Value) {
    let run = rig.keel(&["drill", "run", name, "--for", "2s", "--json"]);
    let report =
        serde_json::from_slice(&run.stdout).unwrap_or_else(|error| panic!("one JSON object, {error}: {run:?}"));
    (run.status.code(), report)
}

fn assert_passes(rig: &Rig, name: &str) -> Value {
    let before: Vec<_> = instances(&rig.status()).iter().map(|instance| instance.pid).collect();
    let (code, report) = drill(rig, name);
    assert_eq!((code, &report["verdict"]), (Some(0), &"pass".into()), "{report:#}\n{}", rig.log());
    assert_eq!(report["errors"], 0, "{report:#}");
    let (after, _) = rig.wait_until("all is well again", all_healthy);
    let after: Vec<_> = instances(&after).iter().map(|instance| instance.pid).collect();
    assert_eq!(before, after, "no instance was started again");
    report
}

#[test]
fn a_full_disk_is_said_and_got_over() {
    let rig = Rig::demo();
    let limits = |pid: u32| fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let status = rig.status();
    let all = [status.node.pid, status.edge.unwrap().pid];
    let before = all.map(limits);
    assert_passes(&rig, "full-disk");
    assert_eq!(all.map(limits), before, "what was allowed before is allowed again");
    let note = rig.keel(&["why", "node"]);
    assert!(String::from_utf8_lossy(&note.stdout).contains("the journal could not be written"), "{note:?}");
    let (database, stack) = strict();
    let rig = Rig::up(&stack);
    rig.wait_until("all is well", all_healthy);
    let (code, report) = drill(&rig, "full-disk");
    assert_eq!((code, &report["verdict"]), (Some(1), &"fail".into()), "{report:#}");
    assert!(report["reasons"][0]["text"].as_str().unwrap().contains("the slowest request took"), "{report:#}");
    drop((rig, database));
}

#[test]
fn other_clocks_disturb_nothing() {
    let rig = Rig::demo();
    let report = assert_passes(&rig, "clock-step");
    assert!(report["stages"].as_array().unwrap().iter().any(|stage| stage["name"] == "shifted"), "{report:#}");
    let space = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/time")).unwrap();
    assert_eq!(space(&rig.status().node.pid.to_string()), space("self"), "it has the clocks of everybody again");
    let (database, stack) = strict();
    let rig = Rig::up(&stack);
    rig.wait_until("all is well", all_healthy);
    let (code, report) = drill(&rig, "clock-step");
    assert_eq!((code, &report["verdict"]), (Some(1), &"fail".into()), "{report:#}");
    assert!(report["reasons"][0]["text"].as_str().unwrap().contains("the slowest request took"), "{report:#}");
    drop((rig, database));
}
