//! Drills that take something from the processes of keel that they stand on: the disk, the clocks.
//!
//! No stack can switch off that a full disk or another clock is got over. So it is an objective that fails here, one that
//! no run can meet.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Stdio},
};

use evenkeel_core::status::DrainStatus;
use rustix::process::Signal;
use serde_json::Value;

use super::{Running, has_stage, helper, newest_report};
use crate::rig::{Rig, all_healthy, command, instances, signal};

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
fn what_is_limited_may_write_again_although_the_limiter_has_died() {
    let rig = Rig::demo();
    let limits = |pid: u32| fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let status = rig.status();
    let all = [status.node.pid, status.edge.unwrap().pid];
    let before = all.map(limits);
    let mut drill = Running::start(&rig, &["full-disk", "--for", "2s"]);
    drill.says("can write no byte to files any more");
    signal(helper(&rig, "limiter").expect("there is a limiter"), Signal::KILL);
    drill.ends();
    assert_eq!(all.map(limits), before, "what was allowed before is allowed again");
    let report = newest_report(&rig);
    assert!(has_stage(&report, "undone", "the limiter has ended with signal: 9"), "{report:#}");
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

#[test]
fn the_clocks_are_right_again_although_nobody_saw_to_it_but_the_drill() {
    let rig = Rig::demo();
    let mut drill = Running::start(&rig, &["clock-step", "--for", "4s"]);
    drill.says("is in a time namespace of its own");
    signal(helper(&rig, "clock").expect("there is a clock"), Signal::KILL);
    drill.ends();
    let report = newest_report(&rig);
    assert!(has_stage(&report, "undone", "the clock has ended with signal: 9"), "{report:#}");
    let space = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/time")).unwrap();
    assert_eq!(space(&rig.status().node.pid.to_string()), space("self"));
    assert!(!super::sockets(&rig).join("clock").exists());
}

/// A helper of drills by itself.
struct Alone {
    child: Child,
    orders: Option<ChildStdin>,
    words: BufReader<ChildStdout>,
}

impl Alone {
    fn start(rig: &Rig, arguments: &[&str]) -> Self {
        let mut keel = command(rig.folder.path(), &[&["drill"], arguments].concat());
        let mut child = keel.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let words = BufReader::new(child.stdout.take().unwrap());
        let mut alone = Self { orders: child.stdin.take(), child, words };
        assert_eq!(alone.word(), "ready\n");
        alone
    }

    fn order(&mut self, order: &str) -> String {
        self.orders.as_mut().unwrap().write_all(format!("{order}\n").as_bytes()).unwrap();
        self.word()
    }

    fn word(&mut self) -> String {
        let mut line = String::new();
        self.words.read_line(&mut line).unwrap();
        line
    }

    /// Ends its standard input; its exit code.
    fn ends(&mut self) -> Option<i32> {
        self.orders = None;
        self.child.wait().unwrap().code()
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn first_drained(rig: &Rig) -> Option<DrainStatus> {
    instances(&rig.status())[0].drained.clone()
}

#[test]
fn the_drain_of_an_operator_is_never_ended_by_a_drill() {
    let (database, stack) = strict();
    let rig = Rig::up(&stack);
    rig.wait_until("all is well", all_healthy);
    let mut drainer = Alone::start(&rig, &["drainer", "app/1", "60000"]);
    assert_eq!(drainer.order("drain"), "drained\n");
    assert_eq!(drainer.ends(), Some(0));
    assert_eq!(first_drained(&rig), None, "its own drain is over");

    let mut drainer = Alone::start(&rig, &["drainer", "app/1", "60000"]);
    assert_eq!(drainer.order("drain"), "drained\n");
    assert!(rig.keel(&["drain", "app/1", "--reason", "a broken disk"]).status.success());
    assert_eq!(drainer.ends(), Some(0));
    let kept = first_drained(&rig).expect("what was ordered meanwhile stays");
    assert_eq!(kept.reason, "a broken disk");

    let mut drainer = Alone::start(&rig, &["drainer", "app/1", "60000"]);
    assert!(drainer.order("drain").contains("is drained already"));
    drainer.ends();
    assert_eq!(first_drained(&rig), Some(kept), "and so does what was drained before");
    drop((rig, database));
}

#[test]
fn what_was_stopped_in_an_orderly_way_is_not_started_again() {
    let (database, stack) = strict();
    let mut rig = Rig::up(&stack);
    rig.wait_until("all is well", all_healthy);
    let (guard, state) = (rig.status().guard.pid.to_string(), rig.folder.path().join("state"));
    let folder = super::sockets(&rig);
    let arguments = ["starter", &guard, state.to_str().unwrap(), folder.to_str().unwrap()];
    let mut starter = Alone::start(&rig, &arguments);
    assert_eq!(rig.stop(), Some(0));
    assert_eq!(starter.order("start"), "stopped\n");
    assert_eq!(starter.ends(), Some(0));
    assert!(rig.try_status().is_none(), "nothing runs");
    drop((rig, database));
}
