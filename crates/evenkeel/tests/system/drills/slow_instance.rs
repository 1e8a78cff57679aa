//! `slow-instance`: what stands still again and again gets no requests meanwhile, unless nobody looks.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Stdio},
};

use rustix::process::Signal;

use super::{Running, has_stage, helper, newest_report, run, shop, wait_until_undone};
use crate::rig::{command, instances, signal};

fn state(pid: u32) -> char {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.chars().next().unwrap()
}

#[test]
fn a_slow_instance_is_noticed() {
    let (rig, _database) = shop("", "");
    let (code, report) = run(&rig, &["slow-instance"]);
    assert_eq!((code, &report["verdict"]), (Some(0), &"pass".into()), "{report:#}");
    assert_eq!(report["errors"], 0, "{report:#}");
    let (detected, released) = (report["detection_ms"].as_u64().unwrap(), report["released_at_ms"].as_u64().unwrap());
    assert!(detected <= released, "{report:#}");
}

#[test]
fn a_slow_instance_is_not_noticed_where_nobody_looks_for_silence() {
    let (rig, _database) = shop("limits = { silent_after = \"0ms\" }\n", "");
    let (code, report) = run(&rig, &["slow-instance", "--for", "2s"]);
    assert_eq!((code, &report["verdict"]), (Some(1), &"fail".into()), "{report:#}");
    let first = report["reasons"][0]["text"].as_str().unwrap();
    assert!(first.contains("was not noticed") && first.contains("it got requests as before"), "{report:#}");
}

#[test]
fn what_a_dead_freezer_leaves_frozen_is_thawed_by_the_drill() {
    let (rig, _database) = shop("limits = { silent_after = \"0ms\" }\n", "");
    let mut drill = Running::start(&rig, &["slow-instance", "--for", "3s"]);
    drill.says("SIGSTOP and SIGCONT by turns to process");
    let freezer = helper(&rig, "freezer").expect("there is a freezer");
    // Killed at a moment at which an instance stands still.
    let all: Vec<u32> = instances(&rig.status()).iter().filter_map(|instance| instance.pid).collect();
    while all.iter().all(|pid| state(*pid) != 'T') {
        std::thread::yield_now();
    }
    signal(freezer, Signal::KILL);
    drill.ends();
    assert!(all.iter().all(|pid| state(*pid) != 'T'), "one stands still after the drill");
    let report = newest_report(&rig);
    assert!(has_stage(&report, "undone", "the freezer has ended with signal: 9"), "{report:#}");
}

#[test]
fn whoever_interrupts_twice_does_not_wait_and_the_harm_is_taken_back_all_the_same() {
    let (rig, _database) = shop("", "");
    let arguments = ["drill", "run", "slow-instance", "--for", "10s"];
    let mut drill = command(rig.folder.path(), &arguments);
    let drill = drill.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut drill = Ended(drill);
    let mut told = BufReader::new(drill.0.stdout.take().unwrap()).lines();
    let mut said = BufReader::new(drill.0.stderr.take().unwrap()).lines();
    assert!(told.any(|line| line.unwrap().contains("SIGSTOP and SIGCONT by turns to process")));
    let freezer = helper(&rig, "freezer").expect("there is a freezer");
    signal(freezer, Signal::STOP);
    signal(drill.0.id(), Signal::INT);
    assert!(said.any(|line| line.unwrap().contains("the harm is being taken back, which may take up to 20.0 s")));
    signal(drill.0.id(), Signal::INT);
    assert_eq!(drill.0.wait().unwrap().code(), Some(130));
    signal(freezer, Signal::CONT);
    wait_until_undone(&rig);
    assert!(instances(&rig.status()).iter().filter_map(|one| one.pid).all(|pid| state(pid) != 'T'));
    let events = String::from_utf8(rig.keel(&["events"]).stdout).unwrap();
    assert!(events.contains("nobody waited until the harm was taken back"), "{events}");
}

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_next_drill_waits_for_the_helpers_of_one_that_was_killed() {
    let (rig, _database) = shop("", "");
    let mut drill = Running::start(&rig, &["slow-instance", "--for", "10s"]);
    drill.says("SIGSTOP and SIGCONT by turns to process");
    let freezer = helper(&rig, "freezer").expect("there is a freezer");
    signal(freezer, Signal::STOP);
    drill.kill();
    let refused = rig.keel(&["drill", "run", "kill-instance", "--json"]);
    signal(freezer, Signal::CONT);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(5) && said.contains("its harm is being taken back still"), "{said}");
    wait_until_undone(&rig);
    let (code, report) = run(&rig, &["kill-instance"]);
    assert_eq!(code, Some(0), "{report:#}");
}
