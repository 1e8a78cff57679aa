//! Deploys of releases that work, and of releases that fail in every way that releases fail, under load.
//!
//! The application is a small program whose release says how it behaves, so that one and the same deploy can go well or
//! wrong. Whatever it does, clients must not notice.

mod app;
mod interrupted;

use std::{
    fs,
    process::{Command, Stdio},
    time::Duration,
};

use evenkeel_core::status::Status;
use hyper::Method;
use rustix::process::Signal;
use serde_json::Value;

use crate::{
    load::Load,
    rig::{all_healthy, command, instances, signal},
};

use self::app::{App, body, pids, text};

#[test]
fn releases_come_and_go_and_nobody_notices() {
    let app = App::up("");
    let (gets, posts) = app.load();
    gets.wait_for(50);

    let deployed = app.deploy("well", &[]);
    assert!(deployed.status.success(), "{}", text(&deployed));
    let said = text(&deployed);
    assert!(
        said.contains("app: the deploy of release 1 is done") && said.contains("no request was affected"),
        "{said}"
    );
    let status = app.rig.status();
    assert_eq!(status.services[0].release, Some(1));
    // The last of the former ones may still be finishing what it has.
    app.rig.wait_until("only the new ones are left", |status| all_healthy(status) && instances(status).len() == 2);
    assert_eq!(body(app.rig.port), "1");

    // An archive, gzipped, with another command, of which only the first instance is on trial.
    let archive = app.folder.path().join("app.tar.gz").display().to_string();
    let packed = Command::new("tar").args(["czf", &archive, "-C", &app.version("well"), "."]).status().unwrap();
    assert!(packed.success());
    let arguments = ["deploy", "app", "--from", &archive, "--canary", "20%", "--env", "A=b", "--json"];
    let mut keel = command(app.rig.folder.path(), &arguments);
    let deployed = keel.args(["--", "python3", "-u", "app.py"]).output().unwrap();
    let report: Value = serde_json::from_slice(&deployed.stdout).unwrap();
    assert_eq!((report["release"].as_u64(), report["phase"].as_str()), (Some(2), Some("done")), "{report:#}");
    assert_eq!(body(app.rig.port), "2");

    let back = app.rig.keel(&["rollback", "app"]);
    assert!(back.status.success(), "{}", text(&back));
    assert_eq!((app.rig.status().services[0].release, body(app.rig.port)), (Some(1), "1".to_owned()));
    // Once more: what was just rolled back comes again only where it is named.
    let back = app.rig.keel(&["rollback", "app"]);
    assert!(back.status.success(), "{}", text(&back));
    assert_eq!((app.rig.status().services[0].release, body(app.rig.port)), (None, "0".to_owned()));
    let list = text(&app.rig.keel(&["rollback", "app", "--list"]));
    assert!(list.contains("python3 -u app.py") && list.contains("the rollback to release 1 is done"), "{list}");
    let unknown = app.rig.keel(&["rollback", "app", "--to", "9"]);
    assert!(text(&unknown).contains("release 9 of app is not kept"), "{}", text(&unknown));

    gets.wait_for(50);
    gets.finish().assert_clean();
    posts.finish().assert_clean();
}

#[test]
fn a_release_that_answers_500_costs_no_client_anything() {
    let app = App::up("");
    let before = pids(&app.rig.status());
    let (gets, posts) = app.load();
    gets.wait_for(50);
    // Long enough that traffic decides.
    let deployed = app.deploy("500", &["--watch", "30s"]);
    let said = text(&deployed);
    assert_eq!(deployed.status.code(), Some(1), "{said}");
    assert!(said.contains("the deploy of release 1 was rolled back to what the stack file says"), "{said}");
    assert!(said.contains("the cause: KeyError"), "with what it printed last: {said}");
    assert!(said.contains("no client got an error") && said.contains("went to other instances"), "{said}");
    let why = app.why();
    assert!(why.contains("rolled back") && why.contains("app/3"), "{why}");
    let status = app.rig.status();
    assert_eq!((pids(&status), status.services[0].release), (before, None), "the former instances went on");
    gets.wait_for(50);
    gets.finish().assert_clean();
    posts.finish().assert_clean();
}

#[test]
fn a_release_that_fails_only_what_cannot_be_repeated_is_rolled_back_too() {
    let app = App::up("");
    let before = pids(&app.rig.status());
    let posts = Load::asking(Method::POST, app.rig.port, "/", 4);
    posts.wait_for(50);
    let deployed = app.deploy("500-to-posts", &["--watch", "6s"]);
    let said = text(&deployed);
    assert_eq!(deployed.status.code(), Some(1), "{said}");
    assert!(said.contains("was ejected by what its traffic showed") || said.contains("answers worse"), "{said}");
    assert!(said.contains("got an error"), "it says what that cost: {said}");
    app.rig.wait_until("only the former instances are left", |status| pids(status) == before);
    posts.finish();
}

#[test]
fn who_only_observes_is_told_what_would_be_rolled_back() {
    let app = App::up("");
    let file = app.rig.folder.path().join("keel.toml");
    let stack = fs::read_to_string(&file).unwrap();
    fs::write(&file, stack.replace("name = \"test\"", "name = \"test\"\nmode = \"observe\"")).unwrap();
    let applied = app.rig.keel(&["apply", "keel.toml"]);
    assert!(applied.status.success(), "{}", text(&applied));
    let before = pids(&app.rig.status());
    let load = Load::start(app.rig.port, "/", 4);
    let said = text(&app.deploy("500", &["--watch", "30s"]));
    assert!(said.contains("goes no further") && said.contains("it would be rolled back"), "{said}");
    assert!(said.contains("rollback app"), "and what to do: {said}");
    assert!(app.why().contains("would be rolled back"), "{}", app.why());
    let status = app.rig.status();
    assert_eq!((status.services[0].release, pids(&status).len()), (Some(1), 3), "nothing was done");
    let back = app.rig.keel(&["rollback", "app"]);
    assert!(text(&back).contains("an operator asked for it"), "{}", text(&back));
    app.rig.wait_until("only the former instances are left", |status| pids(status) == before);
    load.finish().assert_clean();
}

#[test]
fn a_former_release_that_does_not_come_back_keeps_no_better_one_out() {
    let app = App::up("");
    let deployed = app.deploy("well", &[]);
    assert!(deployed.status.success(), "{}", text(&deployed));
    let former = pids(&app.rig.status());
    let begun = app.deploy("well", &["--no-wait", "--watch", "1h"]);
    assert!(begun.status.success(), "{}", text(&begun));
    app.rig.wait_until("one is on trial", |status| {
        let deploy = status.services[0].deploy.as_ref();
        deploy.is_some_and(|deploy| deploy.message.contains("is on trial"))
    });
    fs::remove_file(app.rig.folder.path().join("state/releases/app/1/app.py")).unwrap();
    former.iter().flatten().for_each(|pid| signal(*pid, Signal::KILL));
    app.rig.wait_until("the former ones do not come up again", |status| status.services[0].healthy == 1);
    let back = app.rig.keel(&["rollback", "app", "--no-wait"]);
    assert!(back.status.success(), "{}", text(&back));
    app.rig.wait_until("the former release is in force", |status| status.services[0].release == Some(1));
    let deployed = app.deploy("well", &[]);
    assert!(deployed.status.success(), "{}", text(&deployed));
    assert_eq!(body(app.rig.port), "3");
}

#[test]
fn a_release_that_does_not_come_up_is_rolled_back_with_its_cause() {
    let app = App::with_start("6s", "");
    let before = pids(&app.rig.status());
    let (gets, posts) = app.load();
    let long = ["--watch", "30s"];
    for (mode, cause, printed) in [
        ("exit", "exit code 3", "the cause: no such table"),
        ("unready", "did not get ready", "starts"),
        ("die", "SIGKILL", "the cause: out of memory"),
    ] {
        let deployed = app.deploy(mode, &long);
        let said = text(&deployed);
        assert_eq!(deployed.status.code(), Some(1), "{mode}: {said}");
        assert!(said.contains(cause) && said.contains(printed), "{mode}: {said}");
        let why = app.why();
        assert!(why.contains("was rolled back to what the stack file says") && why.contains(cause), "{mode}: {why}");
    }
    let mut keel = command(app.rig.folder.path(), &["deploy", "app"]);
    let deployed = keel.args(["--", "no-such-program"]).output().unwrap();
    let said = text(&deployed);
    assert_eq!(deployed.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot run `no-such-program`"), "{said}");
    assert!(app.why().contains("cannot run `no-such-program`"), "{}", app.why());

    app.rig.wait_until("only the former instances are left", |status| pids(status) == before);
    gets.finish().assert_clean();
    posts.finish().assert_clean();
}

#[test]
fn the_step_before_runs_once_and_its_failure_changes_nothing() {
    let app = App::up("before = [\"python3\", \"migrate.py\"]");
    let before = pids(&app.rig.status());
    let deployed = app.deploy("migration-fails", &[]);
    let said = text(&deployed);
    assert_eq!(deployed.status.code(), Some(1), "{said}");
    assert!(said.contains("`python3` failed: exit code 7") && said.contains("the cause: column exists"), "{said}");
    assert!(app.why().contains("`python3` failed: exit code 7"), "{}", app.why());
    let status = app.rig.status();
    assert_eq!((pids(&status), status.revision, app.ran()), (before, 1, 1), "nothing was changed");
    let logs = text(&app.rig.keel(&["logs", "app/before"]));
    assert!(logs.contains("migrating for release 1"), "its output is kept: {logs}");

    let deployed = app.deploy("well", &[]);
    assert!(deployed.status.success(), "{}", text(&deployed));
    assert_eq!((app.ran(), body(app.rig.port)), (2, "2".to_owned()));
    let back = app.rig.keel(&["rollback", "app"]);
    assert!(back.status.success(), "{}", text(&back));
    assert_eq!(app.ran(), 2, "a rollback runs it not");
}

#[test]
fn a_second_deploy_is_refused_and_the_first_can_be_ended() {
    let app = App::up("");
    let begun = app.deploy("well", &["--no-wait", "--watch", "1h"]);
    assert!(begun.status.success(), "{}", text(&begun));
    let second = app.deploy("well", &[]);
    assert_eq!(second.status.code(), Some(1));
    assert!(text(&second).contains("release 1 of app is being deployed"), "{}", text(&second));
    app.rig.wait_until("one is on trial", |status| {
        let deploy = status.services[0].deploy.as_ref();
        deploy.is_some_and(|deploy| deploy.message.contains("is on trial"))
    });
    let ended = app.rig.keel(&["rollback", "app"]);
    assert!(text(&ended).contains("an operator asked for it"), "{}", text(&ended));
    assert!(ended.status.success(), "it was ended as ordered: {}", text(&ended));
    let status = app.rig.status();
    assert_eq!((status.services[0].release, app.ended()["phase"].as_str()), (None, Some("rolled-back")));
    let kept: Vec<_> = fs::read_dir(app.rig.folder.path().join("state/releases/app")).unwrap().collect();
    assert!(!kept.is_empty(), "what was deployed is kept for another try");
}

#[test]
fn a_deploy_that_is_ended_in_its_step_before_was_ended_as_ordered() {
    let app = App::up("before = [\"python3\", \"migrate.py\"]");
    fs::write(app.folder.path().join("ran.wait"), "").unwrap();
    let from = app.version("well");
    let mut watching = command(app.rig.folder.path(), &["deploy", "app", "--from", &from]);
    let watching = watching.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while app.ran() == 0 {
        std::thread::sleep(Duration::from_millis(10));
    }
    let ended = app.rig.keel(&["rollback", "app"]);
    let said = text(&ended);
    assert!(ended.status.success() && !said.contains("error"), "{said}");
    assert!(said.contains("the deploy of release 1 was ended as ordered"), "{said}");
    let output = watching.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "what was wanted there was not done: {}", text(&output));
    assert_eq!(app.rig.status().revision, 1);
}

#[test]
fn what_failed_is_not_recommended_and_keeps_no_good_release_out() {
    let app = App::up("");
    let list = || text(&app.rig.keel(&["rollback", "app", "--list"]));
    assert!(app.deploy("well", &[]).status.success());
    for _ in 0..3 {
        assert_eq!(app.deploy("exit", &[]).status.code(), Some(1));
    }
    let said = list();
    assert!(said.contains("rolled back: app/") && said.contains("rollback app --to 0"), "{said}");
    let deployed = app.deploy("well", &[]);
    assert!(deployed.status.success(), "{}", text(&deployed));
    assert!(list().contains("rollback app --to 1"), "{}", list());
    let history = app.history();
    let kept: Vec<_> = history["releases"].as_array().unwrap().iter().map(|kept| kept["number"].as_u64()).collect();
    assert_eq!(kept, [Some(1), Some(3), Some(4), Some(5)], "{history:#}");
}

#[test]
fn a_deploy_under_a_pause_says_so_and_how_to_end_it() {
    let app = App::up("");
    let message = |status: &Status| status.services[0].deploy.as_ref().map(|deploy| deploy.message.clone());
    let pause = ["pause", "app", "--for", "5m", "--reason", "a look"];
    assert!(app.rig.keel(&pause).status.success());
    let said = text(&app.deploy("exit", &["--no-wait"]));
    for part in ["neither killed nor started again", "app is PAUSED until", "a look", "`keel resume app` ends it"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(app.why().contains("app is PAUSED until"), "{}", app.why());
    let ended = app.rig.keel(&["rollback", "app"]);
    assert!(ended.status.success(), "{}", text(&ended));
    assert!(app.rig.keel(&["resume", "app"]).status.success());

    assert!(app.deploy("well", &["--no-wait", "--watch", "1h"]).status.success());
    assert!(app.rig.keel(&pause).status.success());
    let is_held = |status: &Status| message(status).is_some_and(|message| message.contains("a pause holds it: app is"));
    app.rig.wait_until("it says what holds it", is_held);
    assert!(app.rig.keel(&["resume", "app"]).status.success());
    app.rig.wait_until("it goes on", |status| message(status).is_some_and(|message| !message.contains("PAUSED")));
}

#[test]
fn an_artefact_that_is_damaged_or_malicious_is_refused_and_leaves_nothing() {
    let app = App::up("");
    let folder = app.folder.path();
    let write = |name: &str, script: &str| {
        let path = folder.join(name).display().to_string();
        let made = Command::new("python3").args(["-c", script, &path]).status().unwrap();
        assert!(made.success());
        path
    };
    let add = "import io, sys, tarfile\nt = tarfile.open(sys.argv[1], 'w')\ni = tarfile.TarInfo(";
    let climbing =
        write("climbing.tar", &format!("{add}'../../evil')\ni.size = 4\nt.addfile(i, io.BytesIO(b'evil'))\nt.close()"));
    let linked = write(
        "linked.tar",
        &format!("{add}'l')\ni.type = tarfile.SYMTYPE\ni.linkname = '/etc'\nt.addfile(i)\nt.close()"),
    );
    let device = write("device.tar", &format!("{add}'d')\ni.type = tarfile.CHRTYPE\nt.addfile(i)\nt.close()"));
    let damaged = folder.join("damaged.tar.gz").display().to_string();
    let packed = Command::new("tar").args(["czf", &damaged, "-C", &app.version("well"), "."]).status().unwrap();
    assert!(packed.success());
    let bytes = fs::read(&damaged).unwrap();
    fs::write(&damaged, &bytes[..bytes.len() / 2]).unwrap();
    let nothing = folder.join("nothing.tar").display().to_string();
    fs::write(&nothing, "this is no archive").unwrap();
    for (artefact, why) in [
        (&climbing, "climbs out"),
        (&linked, "leads out of the archive"),
        (&device, "neither file, folder nor link"),
        (&damaged, "cannot be read"),
        (&nothing, "cannot be read"),
    ] {
        let refused = app.rig.keel(&["deploy", "app", "--from", artefact]);
        assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
        assert!(text(&refused).contains(why), "{}", text(&refused));
    }
    let releases = app.rig.folder.path().join("state/releases");
    let left: Vec<_> = fs::read_dir(releases.join("app")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.is_empty() && !releases.join("../evil").exists() && !releases.join("evil").exists(), "{left:?}");
    assert!(app.rig.status().services[0].deploy.is_none());
}

#[test]
fn what_cannot_be_deployed_to_says_so() {
    let app = App::up("[services.other]\ninstances = [\"127.0.0.1:9\"]\n[[routes]]\nservice = \"app\"");
    let fixed = app.rig.keel(&["deploy", "other", "--env", "A=b"]);
    assert!(text(&fixed).contains("other has no processes of keel"), "{}", text(&fixed));
    let unknown = app.rig.keel(&["deploy", "ap", "--env", "A=b"]);
    assert_eq!(unknown.status.code(), Some(4), "{}", text(&unknown));
    let nothing = app.rig.keel(&["deploy", "app"]);
    assert_eq!(nothing.status.code(), Some(2), "{}", text(&nothing));
    let missing = app.rig.keel(&["deploy", "app", "--from", "no-such-folder"]);
    assert!(text(&missing).contains("no-such-folder"), "{}", text(&missing));
    let back = app.rig.keel(&["rollback", "app"]);
    assert!(text(&back).contains("nothing was in force before"), "{}", text(&back));
}

#[test]
fn a_deploy_mends_a_rollout_that_is_stuck() {
    let app = App::up("");
    let load = Load::start(app.rig.port, "/", 2);
    let file = app.rig.folder.path().join("keel.toml");
    let good = fs::read_to_string(&file).unwrap();
    fs::write(&file, good.replace("\"app.py\"", "\"missing.py\"")).unwrap();
    let applied = app.rig.keel(&["apply", "keel.toml"]);
    assert_eq!(applied.status.code(), Some(1), "{}", text(&applied));
    let from = app.version("well");
    let mut keel = command(app.rig.folder.path(), &["deploy", "app", "--from", &from]);
    let deployed = keel.args(["--", "python3", "app.py"]).output().unwrap();
    assert!(deployed.status.success(), "{}", text(&deployed));
    app.rig.wait_until("all are of the release", |status| all_healthy(status) && instances(status).len() == 2);
    load.wait_for(50);
    load.finish().assert_clean();
    assert_eq!(body(app.rig.port), "1");
}
