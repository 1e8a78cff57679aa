//! `crash-loop`: starts come ever later, and the last one holds; else the drill says what was missing.

use super::{Running, run, shop, wait_until_undone};
use crate::rig::all_healthy;

#[test]
fn each_start_comes_later_and_the_last_one_holds() {
    let (rig, _database) = shop("", "");
    let (code, report) = run(&rig, &["crash-loop"]);
    assert_eq!((code, &report["verdict"]), (Some(0), &"pass".into()), "{report:#}");
    assert_eq!(report["errors"], 0, "{report:#}");
    let stages = report["stages"].as_array().unwrap();
    let count = |name: &str| stages.iter().filter(|stage| stage["name"] == name).count();
    assert_eq!((count("killed"), count("start")), (4, 5), "after the first death: {report:#}");
}

#[test]
fn without_a_delay_nothing_slows_the_loop_down() {
    let (rig, _database) = shop("restart = { delay = \"0ms\" }\n", "");
    let (code, report) = run(&rig, &["crash-loop"]);
    assert_eq!((code, &report["verdict"]), (Some(1), &"fail".into()), "{report:#}");
    let first = report["reasons"][0]["text"].as_str().unwrap();
    assert!(first.contains("nothing slowed the loop of crashes down"), "{report:#}");
}

#[test]
fn what_is_given_up_fails_and_is_started_again() {
    let (rig, _database) = shop("restart = { attempts = 2 }\n", "objectives = { recovery = \"3s\" }\n");
    let (code, report) = run(&rig, &["crash-loop"]);
    assert_eq!((code, &report["verdict"]), (Some(1), &"fail".into()), "{report:#}");
    let reasons = report["reasons"].as_array().unwrap();
    assert!(reasons.iter().any(|reason| reason["text"].as_str().unwrap().contains("was given up")), "{report:#}");
    rig.wait_until("it was started again", all_healthy);
}

#[test]
fn what_was_given_up_is_started_again_although_the_drill_was_killed() {
    let (rig, _database) = shop("restart = { attempts = 2 }\n", "");
    let mut drill = Running::start(&rig, &["crash-loop"]);
    drill.says("it is not started any more").kill();
    wait_until_undone(&rig);
    rig.wait_until("it was started again", all_healthy);
}
