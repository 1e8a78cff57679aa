//! Deploys in whose middle something is killed: whoever watches, a process of keel, or all of them. They go on or are
//! rolled back, and are never half.

use std::{fs, process::Stdio, time::Duration};

use evenkeel_core::status::{Health, Status};
use rustix::process::Signal;

use super::app::{App, body, keel_up, pids, text};
use crate::{
    load::Load,
    rig::{all_healthy, command, instances, signal},
};

#[test]
fn a_deploy_outlives_whoever_watches_it() {
    let app = App::up("");
    let from = app.version("well");
    let mut watching = command(app.rig.folder.path(), &["deploy", "app", "--from", &from, "--watch", "3s"]);
    let watching = watching.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    app.rig.wait_until("it is under way", |status| status.services[0].deploy.is_some());
    signal(watching.id(), Signal::INT);
    let output = watching.wait_with_output().unwrap();
    let said = text(&output);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("the deploy goes on without this command"), "{said}");
    assert_eq!(app.ended()["phase"], "done");
    assert_eq!(body(app.rig.port), "1");
}

#[test]
fn a_deploy_goes_on_when_node_edge_or_instance_are_killed() {
    let app = App::up("before = [\"python3\", \"migrate.py\"]");
    let wait = app.folder.path().join("ran.wait");
    fs::write(&wait, "").unwrap();
    let load = Load::start(app.rig.port, "/", 2);
    let begun = app.deploy("well", &["--no-wait", "--watch", "4s"]);
    assert!(begun.status.success(), "{}", text(&begun));
    let node = |app: &App| app.rig.status().node.pid;
    let killed = |pid: u32| {
        signal(pid, Signal::KILL);
        app.rig.wait_until("another node process is there", |status| status.node.pid != pid);
    };
    // While the step before it runs: it goes on, and is awaited.
    while app.ran() == 0 {
        std::thread::sleep(Duration::from_millis(10));
    }
    killed(node(&app));
    assert_eq!(app.rig.status().services[0].deploy.as_ref().unwrap().phase, "before");
    fs::remove_file(&wait).unwrap();
    // While an instance is on trial.
    let on_trial = |status: &Status| {
        let deploy = status.services[0].deploy.as_ref();
        deploy.is_some_and(|deploy| deploy.message.contains("is on trial"))
    };
    let (status, _) = app.rig.wait_until("one is on trial", on_trial);
    killed(status.node.pid);
    let (status, _) = app.rig.wait_until("the trial is found again", on_trial);
    load.finish().assert_clean();
    signal(status.edge.as_ref().unwrap().pid, Signal::KILL);
    let new = instances(&status).into_iter().max_by_key(|instance| instance.revision).unwrap();
    signal(new.pid.unwrap(), Signal::KILL);
    assert_eq!(app.ended()["phase"], "done", "{:#}", app.history());
    assert_eq!(app.ran(), 1, "the step ran once");
    app.rig.wait_until("all are of the release", |status| all_healthy(status) && status.services[0].release == Some(1));
    assert_eq!(body(app.rig.port), "1");
}

#[test]
fn a_deploy_whose_whole_world_died_is_never_half() {
    // In a trial: the former release comes back.
    let mut app = App::up("before = [\"python3\", \"migrate.py\"]");
    let on_trial = |status: &Status| {
        let deploy = status.services[0].deploy.as_ref();
        deploy.is_some_and(|deploy| deploy.message.contains("is on trial"))
    };
    let begun = app.deploy("well", &["--no-wait", "--watch", "1h"]);
    assert!(begun.status.success(), "{}", text(&begun));
    let (status, _) = app.rig.wait_until("one is on trial", on_trial);
    kill_everything(&mut app, &status);
    let end = app.ended();
    assert_eq!(end["phase"], "rolled-back", "{end:#}");
    app.rig
        .wait_until("the former release serves", |status| all_healthy(status) && status.services[0].release.is_none());
    assert_eq!((body(app.rig.port), app.ran()), ("0".to_owned(), 1));
    assert!(app.why().contains("ended in the middle of it"), "{}", app.why());

    // In the step before it: nobody knows whether it did its work, so it is not done again.
    fs::write(app.folder.path().join("ran.wait"), "").unwrap();
    let begun = app.deploy("well", &["--no-wait"]);
    assert!(begun.status.success(), "{}", text(&begun));
    while app.ran() == 1 {
        std::thread::sleep(Duration::from_millis(10));
    }
    let status = app.rig.status();
    kill_everything(&mut app, &status);
    let end = app.ended();
    assert_eq!(end["phase"], "failed", "{end:#}");
    assert!(end["message"].as_str().unwrap().contains("how `python3` ended is not known"), "{end:#}");
    assert_eq!((body(app.rig.port), app.ran()), ("0".to_owned(), 2));
}

#[test]
fn a_deploy_is_found_again_by_the_next_keel_up() {
    let mut app = App::up_alone("before = [\"python3\", \"migrate.py\"]");
    let wait = app.folder.path().join("ran.wait");
    fs::write(&wait, "").unwrap();
    let before = pids(&app.rig.status());
    let begun = app.deploy("well", &["--no-wait", "--watch", "6s"]);
    assert!(begun.status.success(), "{}", text(&begun));
    while app.ran() == 0 {
        std::thread::sleep(Duration::from_millis(10));
    }
    let again = |app: &mut App, status: &Status| {
        for pid in [status.guard.pid, status.node.pid, status.edge.as_ref().unwrap().pid] {
            signal(pid, Signal::KILL);
        }
        app.rig.child().wait().unwrap();
        *app.rig.child() = keel_up(app.rig.folder.path());
        app.rig.wait_until("it is up again", |now| now.guard.pid != status.guard.pid && now.edge.is_some()).0
    };
    let status = app.rig.status();
    let status = again(&mut app, &status);
    assert_eq!(status.services[0].deploy.as_ref().unwrap().phase, "before", "the step runs on: {status:#?}");
    assert_eq!(pids(&status), before);
    fs::remove_file(&wait).unwrap();
    let on_trial = |status: &Status| {
        let deploy = status.services[0].deploy.as_ref();
        deploy.is_some_and(|deploy| deploy.message.contains("is on trial"))
    };
    let (status, _) = app.rig.wait_until("one is on trial", on_trial);
    let three = pids(&status);
    let status = again(&mut app, &status);
    assert_eq!((pids(&status), three.len()), (three, 3), "all of them went on");
    assert_eq!(app.ended()["phase"], "done", "{:#}", app.history());
    assert_eq!((app.ran(), body(app.rig.port)), (1, "1".to_owned()));
}

/// Everything that `keel` and the stack run, and then `keel up` again.
fn kill_everything(app: &mut App, status: &Status) {
    signal(status.guard.pid, Signal::KILL);
    signal(status.node.pid, Signal::KILL);
    signal(status.edge.as_ref().unwrap().pid, Signal::KILL);
    app.rig.child().wait().unwrap();
    app.rig.start_again();
    app.rig.wait_until("it is up again", |status| instances(status).iter().any(|i| i.health == Health::Healthy));
}
