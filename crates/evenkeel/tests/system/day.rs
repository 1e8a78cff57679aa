//! An operator's day under load: deploys, scaling, a restart, a deploy that answers 500, routes that come and go.
//!
//! Clients that forgive nothing ask all the while, and no answer may fail. How long answers take is compared with a quiet
//! stretch before it, as percentiles; what was measured is printed, not asserted, since test machines are noisy:
//! `KEEL_DAY_PAUSE_MS=5000 cargo test -p evenkeel --test system day -- --nocapture` makes a minute of it.

use std::{fs, path::Path, process::Output, thread, time::Duration};

use evenkeel_core::status::Status;

use crate::{
    load::Load,
    rig::{Rig, all_healthy, instances},
};

/// How many clients ask at once.
const CONNECTIONS: usize = 32;

const STACK: &str = r#"
[listeners.web]
bind = "{listen}"

[[routes]]
service = "app"

[services.app]
run = ["python3", "app.py"]
replicas = 2
check = { http = "/healthz", interval = "200ms" }
deploy = { watch = "2s" }
"#;

/// An ordinary application: says its version, is ready at once, and ends when it is told to.
const APP: &str = r#"
import http.server, os

class App(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_GET(self):
        status = 200 if self.path == "/healthz" else {status}
        body = b"version {version}\n"
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128

Server(("127.0.0.1", int(os.environ["PORT"])), App).serve_forever()
"#;

/// Writes the application into a folder of its own.
fn application(folder: &Path, version: &str, status: u16) -> String {
    fs::create_dir_all(folder).unwrap();
    let text = APP.replace("{version}", version).replace("{status}", &status.to_string());
    fs::write(folder.join("app.py"), text).unwrap();
    folder.display().to_string()
}

fn succeeds(output: &Output) {
    assert!(output.status.success(), "{output:?}");
}

/// Gives the file another route, or takes it away again.
fn rewrite(rig: &Rig, change: impl Fn(String) -> String) {
    let path = rig.folder.path().join("keel.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, change(text)).unwrap();
    succeeds(&rig.keel(&["apply", "keel.toml"]));
}

/// Some time in which nothing is ordered.
fn a_while() {
    let pause_ms = std::env::var("KEEL_DAY_PAUSE_MS").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    thread::sleep(Duration::from_millis(pause_ms));
}

fn count(status: &Status) -> usize {
    instances(status).len()
}

#[test]
fn an_operators_day_costs_no_client_anything() {
    let rig = Rig::up_with(STACK, |folder| {
        application(folder, "0", 200);
    });
    rig.wait_until("both instances are healthy", all_healthy);
    let release = |name: &str, status| application(&rig.folder.path().join(name), name, status);

    let quiet = Load::start(rig.port, "/", CONNECTIONS);
    thread::sleep(Duration::from_secs(5));
    let quiet = quiet.finish();
    quiet.assert_clean();

    let load = Load::start(rig.port, "/", CONNECTIONS);
    load.wait_for(500);
    succeeds(&rig.keel(&["deploy", "app", "--from", &release("one", 200)]));
    a_while();
    succeeds(&rig.keel(&["scale", "app", "5"]));
    rig.wait_until("there are five", |status| count(status) == 5 && all_healthy(status));

    a_while();
    let bad = rig.keel(&["deploy", "app", "--from", &release("bad", 500)]);
    assert_eq!(bad.status.code(), Some(1), "a deploy that answers 500 is rolled back: {bad:?}");
    let why = rig.keel(&["why", "app"]);
    let why = String::from_utf8_lossy(&why.stdout).into_owned();
    let top = why.lines().take(3).collect::<Vec<_>>().join("\n");
    assert!(top.contains("it answered 5"), "its cause stands at the top of\n{why}");

    rewrite(&rig, |text| format!("{text}\n[[routes]]\npath = \"/admin\"\nservice = \"app\"\n"));
    a_while();
    succeeds(&rig.keel(&["restart", "app"]));
    a_while();
    succeeds(&rig.keel(&["scale", "app", "2"]));
    rewrite(&rig, |text| text.replace("\n[[routes]]\npath = \"/admin\"\nservice = \"app\"\n", ""));
    a_while();
    succeeds(&rig.keel(&["deploy", "app", "--from", &release("two", 200)]));
    rig.wait_until("two are left", |status| count(status) == 2 && all_healthy(status));
    load.wait_for(500);

    let seen = load.finish();
    seen.assert_clean();
    for (name, seen) in [("quiet", &quiet), ("during the day", &seen)] {
        let at = |share| seen.percentile(share);
        eprintln!("{name}: p50 {:?}, p99 {:?}, p99.9 {:?}", at(0.5), at(0.99), at(0.999));
    }
}
