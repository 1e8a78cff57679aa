//! The application that deploys are tried with: a small program whose release says how it behaves, so that one and the
//! same deploy can go well or wrong, and a stack that runs its first release.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output},
};

use evenkeel_core::status::Status;
use hyper::Method;
use serde_json::Value;

use crate::{
    load::Load,
    rig::{Rig, command, instances, prepare},
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
pub(super) struct App {
    pub(super) folder: tempfile::TempDir,
    pub(super) rig: Rig,
}

impl App {
    pub(super) fn up(extra: &str) -> Self {
        Self::with_start("20s", extra)
    }

    pub(super) fn with_start(start: &str, extra: &str) -> Self {
        Self::by(start, extra, Rig::up)
    }

    /// As somebody types it: what it runs outlives a killed `keel up`.
    pub(super) fn up_alone(extra: &str) -> Self {
        Self::by("20s", extra, |stack| {
            let (folder, port) = prepare(stack);
            let child = keel_up(folder.path());
            Rig::around(folder, port, child)
        })
    }

    pub(super) fn by(start: &str, extra: &str, up: impl FnOnce(&str) -> Rig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        version(folder.path(), "first", "well");
        let dir = folder.path().display().to_string();
        let rig = up(&STACK.replace("{dir}", &dir).replace("{start}", start).replace("{extra}", extra));
        rig.wait_until("both instances are healthy", |status| status.services[0].healthy == 2);
        Self { folder, rig }
    }

    /// A folder to deploy that behaves so.
    pub(super) fn version(&self, mode: &str) -> String {
        version(self.folder.path(), mode, mode).display().to_string()
    }

    /// `keel deploy app --from` a folder that behaves so.
    pub(super) fn deploy(&self, mode: &str, options: &[&str]) -> Output {
        let from = self.version(mode);
        self.rig.keel(&[&["deploy", "app", "--from", &from], options].concat())
    }

    /// What `keel why app` says first.
    pub(super) fn why(&self) -> String {
        let why: Value = serde_json::from_slice(&self.rig.keel(&["why", "app", "--json"]).stdout).unwrap();
        why["now"].as_str().unwrap().to_owned()
    }

    pub(super) fn history(&self) -> Value {
        serde_json::from_slice(&self.rig.keel(&["rollback", "app", "--list", "--json"]).stdout).unwrap()
    }

    /// Waits for the end of the newest deploy and returns how it ended.
    pub(super) fn ended(&self) -> Value {
        self.rig.wait_until("the deploy is over", |status| status.services[0].deploy.is_none());
        self.history()["deploys"].as_array().unwrap().last().unwrap().clone()
    }

    pub(super) fn ran(&self) -> usize {
        fs::read_to_string(self.folder.path().join("ran")).unwrap_or_default().lines().count()
    }

    /// Both kinds of requests: those that may be repeated and those that may not.
    pub(super) fn load(&self) -> (Load, Load) {
        (Load::start(self.rig.port, "/", 4), Load::asking(Method::POST, self.rig.port, "/", 2))
    }
}

pub(super) fn version(folder: &Path, name: &str, mode: &str) -> PathBuf {
    let path = folder.join(name);
    fs::create_dir_all(&path).unwrap();
    for (file, text) in [("app.py", APP), ("migrate.py", MIGRATE), ("mode", mode)] {
        fs::write(path.join(file), text).unwrap();
    }
    path
}

pub(super) fn pids(status: &Status) -> Vec<Option<u32>> {
    instances(status).iter().map(|instance| instance.pid).collect()
}

pub(super) fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

pub(super) fn body(port: u16) -> String {
    let page = Command::new("curl").args(["-sS", "--fail", &format!("http://127.0.0.1:{port}/")]).output().unwrap();
    assert!(page.status.success(), "{page:?}");
    String::from_utf8(page.stdout).unwrap()
}

/// `keel up` as somebody types it.
pub(super) fn keel_up(folder: &Path) -> Child {
    let log = fs::File::create(folder.join("keel.log")).unwrap();
    let mut keel = command(folder, &["up", "keel.toml"]);
    keel.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}
