//! What an operator orders of a running stack: scale, restart, drain, resume, pause. Clients notice none of it.

use std::{fs, net::TcpStream, process::Output};

use evenkeel_core::status::{Health, Phase, Status};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    instance,
    load::Load,
    rig::{self, Rig, all_healthy, instances},
};

/// The shop as somebody's own application.
struct App {
    rig: Rig,
    _database: tempfile::TempDir,
}

impl App {
    fn up(replicas: u32) -> Self {
        let database = tempfile::tempdir().unwrap();
        let rig = Rig::up(&format!(
            "[listeners.web]\nbind = \"{{listen}}\"\n[services.app]\nrun = [\"{}\", \"__shop\"]\n\
             env = {{ SHOP_DATABASE = \"{}\" }}\nreplicas = {replicas}\n\
             check = {{ http = \"/readyz\", interval = \"200ms\" }}\n",
            env!("CARGO_BIN_EXE_keel"),
            database.path().join("shop.db").display()
        ));
        rig.wait_until("all instances are healthy", |status| all_healthy(status) && !instances(status).is_empty());
        Self { rig, _database: database }
    }

    /// `keel ARGUMENTS…`, which must succeed; what it printed.
    fn keel(&self, arguments: &[&str]) -> String {
        let output = self.rig.keel(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// `keel ARGUMENTS…`, which must fail; what it said.
    fn refused(&self, arguments: &[&str]) -> String {
        let output = self.rig.keel(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// Replaces a part of the stack file.
    fn rewrite(&self, from: &str, to: &str) {
        let path = self.rig.folder.path().join("keel.toml");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from} is not in\n{text}");
        fs::write(path, text.replacen(from, to, 1)).unwrap();
    }

    fn kinds(&self, subject: &str) -> Vec<String> {
        let entries = self.keel(&["events", "--json", "--subject", subject]);
        let kind = |line: &str| serde_json::from_str::<Value>(line).unwrap()["kind"].as_str().unwrap().to_owned();
        entries.lines().map(kind).collect()
    }
}

fn pids(status: &Status) -> Vec<Option<u32>> {
    instances(status).iter().map(|instance| instance.pid).collect()
}

fn of(status: &Status, name: &str) -> evenkeel_core::status::InstanceStatus {
    instances(status).into_iter().find(|instance| instance.name == name).unwrap_or_default()
}

fn waits(status: &Status, name: &str) -> bool {
    of(status, name).phase == Some(Phase::Waiting)
}

fn paused(status: &Status) -> bool {
    status.problems.iter().any(|problem| problem.contains("PAUSED"))
}

fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn scaling_up_and_down_costs_nobody_anything() {
    let app = App::up(2);
    let load = Load::start(app.rig.port, "/api/products", 8);
    load.wait_for(100);
    let said = app.keel(&["scale", "app", "5"]);
    assert!(said.contains("2 → 5 instances") && said.contains("as ordered after"), "{said}");
    let status = app.rig.status();
    assert!(instances(&status).len() == 5 && all_healthy(&status), "it returns once it is done: {status:#?}");
    assert!(status.overrides[0].contains("app: 5 instances by `keel scale`; the file says 2"), "{status:#?}");
    assert!(app.keel(&["status"]).contains("the file says 2"), "people see it too");
    let why = app.keel(&["why", "app"]);
    let top: Vec<&str> = why.lines().take(2).collect();
    assert!(top.join("\n").contains("5 instances by `keel scale`"), "{why}");
    assert!(why.contains("app was scaled to 5 by hand") && why.contains("by "), "{why}");

    app.keel(&["scale", "app", "2"]);
    app.rig.wait_until("two are left", |status| instances(status).len() == 2 && all_healthy(status));
    app.keel(&["scale", "app", "auto"]);
    assert!(app.rig.status().overrides.is_empty());
    load.wait_for(200);
    load.finish().assert_clean();

    let unknown = app.rig.keel(&["scale", "apo", "3"]);
    assert_eq!(unknown.status.code(), Some(4), "{unknown:?}");
    assert!(error(&unknown).contains("did you mean `app`?"), "{unknown:?}");
    let none = app.keel(&["scale", "app", "0", "--no-wait"]);
    assert!(none.contains("held for 10 s, then answered 503"), "{none}");
    app.rig.wait_until("none is left", |status| instances(status).is_empty());
}

#[test]
fn a_restart_replaces_every_process_and_costs_nobody_anything() {
    let app = App::up(3);
    let before = pids(&app.rig.status());
    let load = Load::start(app.rig.port, "/api/products", 8);
    load.wait_for(100);
    app.keel(&["restart", "app"]);
    let (after, _) = app.rig.wait_until("three are there", |status| instances(status).len() == 3);
    assert!(all_healthy(&after) && pids(&after).iter().all(|pid| !before.contains(pid)), "{after:#?}");
    assert_eq!(after.revision, 1, "a restart changes no revision");

    let (one, others) = (instances(&after)[0].clone(), pids(&after)[1..].to_vec());
    app.keel(&["restart", &one.name]);
    let (last, _) = app.rig.wait_until("three are there", |status| instances(status).len() == 3);
    assert!(others.iter().all(|pid| pids(&last).contains(pid)), "the others were left alone: {last:#?}");
    assert!(!pids(&last).contains(&one.pid), "{} has gone: {last:#?}", one.name);
    load.wait_for(200);
    load.finish().assert_clean();
    assert!(app.keel(&["why", &one.name]).contains("a restart was ordered by"));
}

#[test]
fn a_drained_instance_gets_nothing_new_until_it_is_resumed() {
    let app = App::up(2);
    let load = Load::start(app.rig.port, "/api/products", 8);
    load.wait_for(100);
    let said = app.keel(&["drain", "app/1", "--reason", "a look at its memory"]);
    assert!(said.contains("nothing in flight any more"), "{said}");
    let status = app.rig.status();
    let drained = of(&status, "app/1");
    assert_eq!((drained.health, drained.phase, drained.in_flight), (Health::Draining, Some(Phase::Running), 0));
    assert!(app.keel(&["why", "app/1"]).contains("a look at its memory"));

    let refused = app.refused(&["drain", "app/2"]);
    assert!(refused.contains("the last healthy instance") && refused.contains("--force"), "{refused}");

    // Its process dies: the next one gets no requests either, and is not taken for one that does not get ready.
    rig::signal(drained.pid.unwrap(), Signal::KILL);
    app.rig.wait_until("it has a new process", |status| {
        let now = of(status, "app/1");
        now.pid.is_some() && now.pid != drained.pid && now.health == Health::Draining
    });
    // A restart of the node process does not lose it.
    rig::signal(status.node.pid, Signal::KILL);
    app.rig.wait_until("the node process is back", |now| now.node.pid != status.node.pid);
    assert!(of(&app.rig.status(), "app/1").drained.is_some());
    load.wait_for(200);
    app.keel(&["resume", "app/1"]);
    app.rig.wait_until("both serve", all_healthy);
    load.wait_for(200);
    load.finish().assert_clean();
    assert!(app.rig.status().overrides.is_empty());
}

#[test]
fn a_fixed_instance_can_be_drained_but_not_scaled() {
    let answer = |_: &instance::Received, stream: &mut TcpStream| {
        use std::io::Write;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    };
    let (one, got_one) = instance::serve(answer);
    let (two, got_two) = instance::serve(answer);
    let rig = Rig::up(&format!(
        "[listeners.web]\nbind = \"{{listen}}\"\n[services.app]\ninstances = [\"127.0.0.1:{one}\", \"127.0.0.1:{two}\"]\n\
         check = {{ http = \"/healthz\", interval = \"200ms\" }}\n"
    ));
    rig.wait_until("both are healthy", |status| all_healthy(status) && instances(status).len() == 2);
    let scaled = rig.keel(&["scale", "app", "3"]);
    assert!(error(&scaled).contains("no processes of keel"), "{scaled:?}");
    let name = format!("app/127.0.0.1:{one}");
    let drained = rig.keel(&["drain", &name]);
    assert!(drained.status.success(), "{drained:?}");
    let load = Load::start(rig.port, "/", 4);
    load.wait_for(100);
    load.finish().assert_clean();
    assert!(got_one.try_iter().count() == 0 && got_two.try_iter().count() >= 100);
    assert!(rig.keel(&["resume", &name]).status.success());
    rig.wait_until("both are healthy again", all_healthy);
    let load = Load::start(rig.port, "/", 4);
    load.wait_for(100);
    load.finish().assert_clean();
    assert!(got_one.try_iter().count() > 0);
}

#[test]
fn a_pause_holds_a_restart_until_it_ends() {
    let app = App::up(2);
    let before = app.rig.status();
    let pause = ["pause", "app", "--for", "1h", "--reason", "a look at a core dump"];
    let said = app.keel(&pause);
    assert!(said.contains("PAUSED") && said.contains("keel resume app"), "{said}");
    rig::signal(of(&before, "app/1").pid.unwrap(), Signal::KILL);
    app.rig.wait_until("it is noticed", |status| waits(status, "app/1"));
    rig::signal(before.node.pid, Signal::KILL);
    let (after, _) = app.rig.wait_until("the node process is back", |status| status.node.pid != before.node.pid);
    assert!(paused(&after) && waits(&after, "app/1"), "still paused: {after:#?}");
    let why = app.keel(&["why", "app"]);
    let top: Vec<&str> = why.lines().take(3).collect();
    assert!(top.join("\n").contains("PAUSED") && top.join("\n").contains("a look at a core dump"), "{why}");
    assert!(app.keel(&["why", "app/1"]).contains("not started again during the pause"));

    // What is ordered is done in a pause too.
    app.keel(&["scale", "app", "3", "--no-wait"]);
    app.rig.wait_until("the third one runs", |status| of(status, "app/3").health == Health::Healthy);
    assert!(waits(&app.rig.status(), "app/1"));

    app.keel(&["resume", "app"]);
    let (after, _) = app.rig.wait_until("everybody is back", all_healthy);
    assert!(!paused(&after));

    app.keel(&["pause", "stack", "--for", "2s", "--reason", "short"]);
    rig::signal(of(&after, "app/2").pid.unwrap(), Signal::KILL);
    app.rig.wait_until("the pause is over by itself", |status| all_healthy(status) && !paused(status));
    assert!(app.kinds("stack").iter().any(|kind| kind == "resumed"));
}

#[test]
fn observing_writes_down_what_would_be_done() {
    let app = App::up(2);
    app.rewrite("name = \"test\"", "name = \"test\"\nmode = \"observe\"");
    let said = app.keel(&["apply", "keel.toml"]);
    assert!(said.contains("mode: act → observe"), "{said}");
    let before = app.rig.status();
    assert!(before.problems.iter().any(|problem| problem.contains("observe")), "{before:#?}");
    rig::signal(of(&before, "app/1").pid.unwrap(), Signal::KILL);
    app.rig.wait_until("it is noticed", |status| waits(status, "app/1"));
    let why = app.keel(&["why", "app/1"]);
    assert!(why.contains("would start it again at once"), "{why}");
    assert_eq!(app.kinds("app/1").iter().filter(|kind| *kind == "would-restart").count(), 1);
    // An order is carried out, for the one that is dead as well.
    app.keel(&["restart", "app"]);
    let (after, _) = app.rig.wait_until("both are new", |now| instances(now).len() == 2 && all_healthy(now));
    let next = instances(&after)[0].clone();
    rig::signal(next.pid.unwrap(), Signal::KILL);
    app.rig.wait_until("it is noticed too", |status| waits(status, &next.name));
    app.rewrite("mode = \"observe\"", "mode = \"act\"");
    app.keel(&["apply", "keel.toml"]);
    app.rig.wait_until("everybody is back", all_healthy);
}

#[test]
fn overrides_outlive_everything_but_a_file_that_changes_them() {
    let mut app = App::up(2);
    app.keel(&["scale", "app", "3"]);
    rig::signal(app.rig.status().node.pid, Signal::KILL);
    app.rig.wait_until("the node process is back", |status| status.node.restarts == 1);
    assert_eq!(app.rig.status().services[0].replicas, 3);
    assert_eq!(app.rig.stop(), Some(0));
    app.rig.start_again();
    let three = |status: &Status| instances(status).len() == 3 && all_healthy(status);
    let (status, _) = app.rig.wait_until("three are there again", three);
    assert_eq!(status.revision, 2, "the same file and the same overrides");

    let unchanged = app.rig.keel(&["apply", "keel.toml", "--diff"]);
    assert_eq!(unchanged.status.code(), Some(0), "{unchanged:?}");
    app.rewrite("replicas = 2", "replicas = 2\nstart_timeout = \"50s\"");
    let kept = app.keel(&["apply", "keel.toml"]);
    assert!(kept.contains("override kept") && kept.contains("the file says 2"), "{kept}");
    assert_eq!(app.rig.status().services[0].replicas, 3);

    app.rewrite("replicas = 2", "replicas = 1");
    app.rewrite("env = { ", "env = { SECRET = \"hunter2\", ");
    let diff = app.rig.keel(&["apply", "keel.toml", "--diff"]);
    let text = String::from_utf8_lossy(&diff.stdout);
    assert_eq!(diff.status.code(), Some(1), "{diff:?}");
    assert!(text.contains("services.app.replicas: 3 → 1") && text.contains("override dropped"), "{text}");
    assert!(text.contains("services.app.env.SECRET: new") && !text.contains("hunter2"), "{text}");
    assert_eq!(app.rig.status().services[0].replicas, 3, "nothing was changed");
    let dropped = app.keel(&["apply", "keel.toml"]);
    assert!(dropped.contains("override dropped"), "{dropped}");
    let (status, _) = app.rig.wait_until("one is left", |status| instances(status).len() == 1 && all_healthy(status));
    assert!(status.overrides.is_empty());

    // A start with another file says what it takes the place of, too.
    app.keel(&["scale", "app", "3"]);
    assert_eq!(app.rig.stop(), Some(0));
    app.rewrite("replicas = 1", "replicas = 2");
    app.rig.start_again();
    app.rig.wait_until("two are there", |status| instances(status).len() == 2 && all_healthy(status));
    assert!(app.keel(&["events", "--subject", "stack", "--json"]).contains("takes the place of: app: 3 instances"));
    app.rewrite("replicas = 2", "replicas = 1");

    app.keel(&["scale", "app", "2"]);
    let reset = app.keel(&["apply", "keel.toml", "--reset"]);
    assert!(reset.contains("override dropped"), "{reset}");
    app.rig.wait_until("one is left again", |status| instances(status).len() == 1 && all_healthy(status));
}

#[test]
fn a_file_does_not_undo_a_release() {
    let mut app = App::up(1);
    assert_eq!(app.rig.stop(), Some(0));
    // As a deploy leaves it: the revision in force has a release laid over its file.
    let origin = app.rig.folder.path().join("state/revisions/1.json");
    let mut revision: Value = serde_json::from_slice(&fs::read(&origin).unwrap()).unwrap();
    let release =
        json!({ "number": 3, "digest": "", "dir": null, "run": null, "env": { "RELEASE": "3" }, "deployed": 0 });
    revision["overrides"] = json!({ "services": { "app": { "release": release } } });
    fs::write(&origin, revision.to_string()).unwrap();
    app.rig.start_again();
    app.rig.wait_until("it runs", |status| all_healthy(status) && !instances(status).is_empty());

    app.rewrite("replicas = 1", "replicas = 2");
    let kept = app.keel(&["apply", "keel.toml"]);
    assert!(kept.contains("override kept") && kept.contains("release 3"), "{kept}");
    app.rewrite("env = { ", "env = { OTHER = \"1\", ");
    let refused = app.refused(&["apply", "keel.toml"]);
    assert!(refused.contains("would undo release 3") && refused.contains("--reset"), "{refused}");
    let diff = app.rig.keel(&["apply", "keel.toml", "--diff"]);
    assert!(String::from_utf8_lossy(&diff.stdout).contains("refused this file"), "{diff:?}");

    // A start does not undo it either, and says so.
    assert_eq!(app.rig.stop(), Some(0));
    app.rig.start_again();
    let (status, _) = app.rig.wait_until("both run", |status| all_healthy(status) && instances(status).len() == 2);
    assert!(status.overrides[0].contains("release 3"), "{status:#?}");
    assert!(status.problems.iter().any(|problem| problem.contains("that release stays")), "{status:#?}");
    app.keel(&["apply", "keel.toml", "--reset"]);
    let status = app.rig.status();
    assert!(status.overrides.is_empty() && status.problems.is_empty(), "{status:#?}");
}
