//! `hang-instance` where nothing but the drill ends the freeze: what health counts, and what is said of it.

use super::{has_stage, run};
use crate::rig::{Rig, all_healthy, instances};

/// Answers everything at once. After it has stood still its health is good for a second and bad for the next one and a
/// half.
const RELAPSES: &str = "
import os, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
woke = [-1000.0]
def watch():
    last = time.monotonic()
    while True:
        time.sleep(0.02)
        now = time.monotonic()
        if now - last > 1:
            woke[0] = now
        last = now
class Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        ill = self.path == '/healthz' and 1 < time.monotonic() - woke[0] < 2.5
        self.send_response(503 if ill else 200)
        self.send_header('Content-Length', '0')
        self.end_headers()
    def log_message(self, *what):
        pass
class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
threading.Thread(target=watch, daemon=True).start()
Server(('127.0.0.1', int(os.environ['PORT'])), Handler).serve_forever()
";

#[test]
fn health_that_is_lost_again_is_no_recovery_and_liveness_is_missed() {
    let rig = Rig::up(&format!(
        "[listeners.web]\nbind = \"{{listen}}\"\n[services.app]\nrun = [\"python3\", \"-c\", \"\"\"{RELAPSES}\"\"\"]\n\
         replicas = 2\ncheck = {{ http = \"/healthz\", interval = \"100ms\", timeout = \"3s\" }}\n\
         [[drills.schedule]]\ndrill = \"hang-instance\"\nat = \"Tue 03:00\"\n"
    ));
    let (code, report) = run(&rig, &["hang-instance", "--for", "2s"]);
    assert_eq!((code, &report["verdict"]), (Some(0), &"pass".into()), "{report:#}");
    assert!(has_stage(&report, "relapsed", "unhealthy"), "{report:#}");
    let at = |name: &str| {
        let stages = report["stages"].as_array().unwrap().iter().rev();
        stages.filter(|stage| stage["name"] == name).map(|stage| stage["at_ms"].as_u64().unwrap()).next().unwrap()
    };
    assert!(at("recovered") > at("relapsed"), "{report:#}");
    let harm = report["fault_at_ms"].as_u64().unwrap();
    assert_eq!(report["recovery_ms"].as_u64().unwrap(), at("recovered") - harm, "the health that lasts: {report:#}");
    assert!(all_healthy(&rig.status()), "it said that all is well: {:?}", instances(&rig.status()));
    let caution = report["warnings"][0].as_str().unwrap();
    assert!(caution.contains("nobody but this drill brought app/") && caution.contains("`liveness`"), "{caution}");

    let shown = String::from_utf8(rig.keel(&["drill", "show", "hang-instance"]).stdout).unwrap();
    assert!(shown.contains("ill again") && shown.contains("once the drill had thawed it"), "{shown}");
    assert!(shown.contains("liveness = { http") && !shown.contains("[[drills.schedule]]"), "{shown}");
    let never = rig.keel(&["drill", "show", "kill-instance"]);
    let said = String::from_utf8_lossy(&never.stderr).into_owned();
    assert!(never.status.code() == Some(4) && said.contains("`kill-instance` was not run yet"), "{said}");
}

/// Two services, the second of which this route leads to; its files are none.
fn shop_and_till(route: &str) -> Rig {
    let server = "run = [\"python3\", \"-m\", \"http.server\", \"{port}\", \"--bind\", \"127.0.0.1\"]\nreplicas = 2\n\
                  check = { http = \"/\", interval = \"200ms\" }\n";
    let rig = Rig::up(&format!(
        "[listeners.web]\nbind = \"{{listen}}\"\n[drills]\nread = \"/keel.toml\"\n[[routes]]\nservice = \"shop\"\n\
         [[routes]]\n{route}\nservice = \"till\"\n[services.shop]\n{server}[services.till]\ndir = \"/\"\n{server}"
    ));
    rig.wait_until("all is well", |status| status.services.len() == 2 && all_healthy(status));
    rig
}

#[test]
fn a_service_whose_route_is_no_page_is_refused_before_anything_is_asked_of_the_user() {
    for (route, asked) in [("path = \"/till\"", "/till"), ("host = \"till\"", "/keel.toml at till")] {
        refused(route, asked);
    }
}

fn refused(route: &str, asked: &str) {
    let rig = shop_and_till(route);
    let refused = rig.keel(&["drill", "run", "hang-instance", "--service", "till", "--yes", "--json"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(5), "{said}");
    let answers = format!("`till`, asked for {asked}, answers with status 404");
    for part in ["(/keel.toml) leads to `shop`", &answers, "set `[drills] read`"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let runs = rig.keel(&["drill", "history", "--json"]);
    assert_eq!(String::from_utf8(runs.stdout).unwrap().trim(), "[]", "there was no run");
    assert_eq!(run(&rig, &["kill-instance"]).0, Some(0), "the shop is asked as before");
}
