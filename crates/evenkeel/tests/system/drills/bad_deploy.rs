//! `bad-deploy`: a release that fails every request is rolled back by itself, and by the drill where nothing does so.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
};

use evenkeel_core::status::Status;

use super::{run, shop};
use crate::rig::{Rig, all_healthy, command};

/// No instance of a release is on trial, and whatever fails stays in service.
const UNGUARDED: &str = "deploy = { watch = \"0ms\", max_errors_percent = 100 }\n\
                         eject = { consecutive = 0, percent = 0, max_percent = 0 }\n";

/// Nothing is under way, and what the stack file says is in force.
fn as_before(status: &Status) -> bool {
    let service = &status.services[0];
    all_healthy(status) && service.deploy.is_none() && service.release.is_none() && service.instances.len() == 3
}

fn is_taken_back(rig: &Rig) {
    rig.wait_until("the release is gone", as_before);
}

#[test]
fn a_bad_release_is_rolled_back_by_itself() {
    let (rig, _database) = shop("", "");
    let (code, report) = run(&rig, &["bad-deploy"]);
    assert_eq!((code, &report["verdict"]), (Some(0), &"pass".into()), "{report:#}");
    assert_eq!(report["errors"], 0, "{report:#}");
    let events = String::from_utf8(rig.keel(&["events"]).stdout).unwrap();
    assert!(events.contains("rolled back"), "{events}");
    assert!(as_before(&rig.status()));
}

#[test]
fn where_any_error_is_allowed_the_drill_fails_and_takes_the_release_back() {
    let (rig, _database) =
        shop(UNGUARDED, "abort = { errors = 30, after = \"500ms\" }\nobjectives = { recovery = \"6s\" }\n");
    let (code, report) = run(&rig, &["bad-deploy"]);
    assert_eq!((code, &report["verdict"]), (Some(1), &"fail".into()), "{report:#}");
    assert!(report["errors"].as_u64().unwrap() > 0, "{report:#}");
    let reasons = report["reasons"].as_array().unwrap();
    let told = |words: &str| reasons.iter().any(|reason| reason["text"].as_str().unwrap().contains(words));
    assert!(told("nobody rolled the release back"), "{report:#}");
    is_taken_back(&rig);
}

#[test]
fn a_drill_that_is_killed_leaves_no_bad_release_behind() {
    let (rig, _database) = shop(UNGUARDED, "");
    let mut drill = command(rig.folder.path(), &["drill", "run", "bad-deploy"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(drill.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("is being deployed, which fails every request")), "it began");
    drill.kill().unwrap();
    drill.wait().unwrap();
    is_taken_back(&rig);
}
