//! Deploys of releases that work, and of releases that fail in every way that releases fail, under load.
//!
//! The application is a small program whose release says how it behaves, so that one and the same deploy can go well or
//! wrong. Whatever it does, clients must not notice.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use evenkeel_core::status::{Health, Status};
use hyper::Method;
use rustix::process::Signal;
use serde_json::Value;

use crate::{
    load::Load,
    rig::{Rig, all_healthy, command, instances, prepare, signal},
};

/// Answers with the number of its release, or does as its file `mode` says.
const APP: &str = r#"
import os, signal, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

mode = open("mode").read().strip()
release = os.environ.get("KEEL_RELEASE", "0")
served = 0
print("release", release, "starts", flush=True)
if mode == "exit":
    print("the cause: no such table", flush=True)
    sys.exit(3)

class App(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def log_message(self, *_):
        pass

    def answer(self):
        global served
        status, text = 200, release
        if self.path == "/healthz":
            status = 503 if mode == "unready" else 200
        else:
            served += 1
            if mode == "500":
                status, text = 500, "broken"
                print("the cause: KeyError", flush=True)
            if mode == "500-to-posts" and self.command == "POST":
                status, text = 500, "broken"
            if mode == "die" and served > 5:
                print("the cause: out of memory", flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(status)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    do_GET = do_POST = answer

class Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True

Server(("127.0.0.1", int(os.environ["PORT"])), App).serve_forever()
"#;

/// Runs before a deploy: counts how often it ran, waits while it is told to, and fails where its file says so.
const MIGRATE: &str = r#"
import os, sys, time
with open(os.environ["RAN"], "a") as ran:
    ran.write("ran\n")
print("migrating for release", os.environ["KEEL_RELEASE"], flush=True)
while os.path.exists(os.environ["RAN"] + ".wait"):
    time.sleep(0.02)
if open("mode").read().strip() == "migration-fails":
    print("the cause: column exists", flush=True)
    sys.exit(7)
"#;

/// `{extra}` is for a test to fill in.
const STACK: &str = r#"
[listeners.web]
bind = "{listen}"

[services.app]
run = ["python3", "app.py"]
dir = "{dir}/first"
replicas = 2
check = { http = "/healthz", interval = "100ms" }
start_timeout = "{start}"
env = { RAN = "{dir}/ran" }
restart = { delay = "10ms", attempts = 3 }
deploy = { watch = "1s", keep = 2 }
stop = { drain = "10s", grace = "2s" }
{extra}
"#;

/// An application with its releases beside it, and a stack that runs its first one.
struct App {
    folder: tempfile::TempDir,
    rig: Rig,
}

impl App {
    fn up(extra: &str) -> Self {
        Self::with_start("20s", extra)
    }

    fn with_start(start: &str, extra: &str) -> Self {
        Self::by(start, extra, Rig::up)
    }

    /// As somebody types it: what it runs outlives a killed `keel up`.
    fn up_alone(extra: &str) -> Self {
        Self::by("20s", extra, |stack| {
            let (folder, port) = prepare(stack);
            let child = keel_up(folder.path());
            Rig::around(folder, port, child)
        })
    }

    fn by(start: &str, extra: &str, up: impl FnOnce(&str) -> Rig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        version(folder.path(), "first", "well");
        let dir = folder.path().display().to_string();
        let rig = up(&STACK.replace("{dir}", &dir).replace("{start}", start).replace("{extra}", extra));
        rig.wait_until("both instances are healthy", |status| status.services[0].healthy == 2);
        Self { folder, rig }
    }

    /// A folder to deploy that behaves so.
    fn version(&self, mode: &str) -> String {
        version(self.folder.path(), mode, mode).display().to_string()
    }

    /// `keel deploy app --from` a folder that behaves so.
    fn deploy(&self, mode: &str, options: &[&str]) -> Output {
        let from = self.version(mode);
        self.rig.keel(&[&["deploy", "app", "--from", &from], options].concat())
    }

    /// What `keel why app` says first.
    fn why(&self) -> String {
        let why: Value = serde_json::from_slice(&self.rig.keel(&["why", "app", "--json"]).stdout).unwrap();
        why["now"].as_str().unwrap().to_owned()
    }

    fn history(&self) -> Value {
        serde_json::from_slice(&self.rig.keel(&["rollback", "app", "--list", "--json"]).stdout).unwrap()
    }

    /// Waits for the end of the newest deploy and returns how it ended.
    fn ended(&self) -> Value {
        self.rig.wait_until("the deploy is over", |status| status.services[0].deploy.is_none());
        self.history()["deploys"].as_array().unwrap().last().unwrap().clone()
    }

    fn ran(&self) -> usize {
        fs::read_to_string(self.folder.path().join("ran")).unwrap_or_default().lines().count()
    }

    /// Both kinds of requests: those that may be repeated and those that may not.
    fn load(&self) -> (Load, Load) {
        (Load::start(self.rig.port, "/", 4), Load::asking(Method::POST, self.rig.port, "/", 2))
    }
}

fn version(folder: &Path, name: &str, mode: &str) -> PathBuf {
    let path = folder.join(name);
    fs::create_dir_all(&path).unwrap();
    for (file, text) in [("app.py", APP), ("migrate.py", MIGRATE), ("mode", mode)] {
        fs::write(path.join(file), text).unwrap();
    }
    path
}

fn pids(status: &Status) -> Vec<Option<u32>> {
    instances(status).iter().map(|instance| instance.pid).collect()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn body(port: u16) -> String {
    let page = Command::new("curl").args(["-sS", "--fail", &format!("http://127.0.0.1:{port}/")]).output().unwrap();
    assert!(page.status.success(), "{page:?}");
    String::from_utf8(page.stdout).unwrap()
}

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
    let begun = app.deploy("well", &["--no-wait", "--watch", "2s"]);
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
    let begun = app.deploy("well", &["--no-wait", "--watch", "3s"]);
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

/// `keel up` as somebody types it.
fn keel_up(folder: &Path) -> Child {
    let log = fs::File::create(folder.join("keel.log")).unwrap();
    let mut keel = command(folder, &["up", "keel.toml"]);
    keel.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
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
