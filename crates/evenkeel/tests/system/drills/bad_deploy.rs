//! `bad-deploy`: a release that fails every request is rolled back by itself, and by the drill where nothing does so.

use evenkeel_core::status::Status;

use super::{Running, run, shop, wait_until_undone};
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
    let mut drill = Running::start(&rig, &["bad-deploy"]);
    drill.says("is being deployed, which fails every request").kill();
    is_taken_back(&rig);
}

#[test]
fn what_an_operator_deployed_meanwhile_is_left_alone() {
    let (rig, _database) = shop(UNGUARDED, "abort = { errors = 100, after = \"1m\" }\n");
    let mut drill = Running::start(&rig, &["bad-deploy"]);
    drill.says("is being deployed, which fails every request");
    rig.wait_until("it is deployed", |status| {
        status.services[0].release == Some(1) && status.services[0].deploy.is_none()
    });
    let mut deploy = command(rig.folder.path(), &["deploy", "shop", "--no-wait"]);
    let deployed = deploy.args(["--", env!("CARGO_BIN_EXE_keel"), "__shop"]).output().unwrap();
    assert!(deployed.status.success(), "{deployed:?}");
    rig.wait_until("another release is deployed", |status| {
        status.services[0].release == Some(2) && status.services[0].deploy.is_none()
    });
    drill.kill();
    wait_until_undone(&rig);
    let status = rig.status();
    assert_eq!((status.services[0].release, &status.services[0].deploy), (Some(2), &None));
}

#[test]
fn a_release_that_no_request_reached_shows_nothing() {
    // The check asks for what only the shop has, so the bad release never gets a request.
    let asks = "check = { exec = [\"python3\", \"-c\", \"import sys, urllib.request as r; \
                r.urlopen('http://' + sys.argv[1] + '/api/products')\", \"{address}\"], interval = \"500ms\" }\nstart_timeout = \"5s\"\n";
    let (rig, _database) = super::shop_with(asks, "objectives = { recovery = \"1m\" }\n");
    let (code, report) = run(&rig, &["bad-deploy"]);
    assert_eq!((code, &report["verdict"]), (Some(1), &"fail".into()), "{report:#}");
    let reasons = report["reasons"].as_array().unwrap();
    let told = |words: &str| reasons.iter().any(|reason| reason["text"].as_str().unwrap().contains(words));
    assert!(told("no request ever reached it"), "{report:#}");
    assert_eq!(report["shows_nothing"], true, "{report:#}");
    assert!(!super::has_stage(&report, "tried", ""), "{report:#}");
    wait_until_undone(&rig);
    is_taken_back(&rig);
}
