//! `slow-dependency`: who asks something slow is slow, and must not be restarted for that.

use super::run;
use crate::rig::{Rig, all_healthy};

/// Asks the other service for everything but `/alive`.
const ASKING: &str = "
import os
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
def ask():
    host, port = os.environ['OTHER'].split(':')
    other = HTTPConnection(host, int(port))
    other.request('GET', '/', headers={'Host': 'other'})
    return other.getresponse().read()
class Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        body = b'alive' if self.path == '/alive' or not 'OTHER' in os.environ else ask()
        head = 'HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n' % len(body)
        self.wfile.write(head.encode() + body)
class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
Server(('127.0.0.1', int(os.environ['PORT'])), Handler).serve_forever()
";

fn stack(liveness: &str, drills: &str) -> String {
    let source = ASKING.replace('\\', "\\\\");
    let run = format!("run = [\"python3\", \"-c\", \"\"\"{source}\"\"\"]\n");
    format!(
        "[listeners.web]\nbind = \"{{listen}}\"\n[[routes]]\nservice = \"app\"\n[[routes]]\nhost = \"other\"\n\
         service = \"other\"\n[services.app]\n{run}replicas = 2\nenv = {{ OTHER = \"{{listen}}\" }}\n\
         check = {{ http = \"/alive\" }}\nliveness = {{ {liveness} }}\n[services.other]\n{run}\
         check = {{ http = \"/alive\" }}\n[drills]\n{drills}"
    )
}

fn rehearse(liveness: &str) -> (Option<i32>, serde_json::Value) {
    let rig = Rig::up(&stack(liveness, "dependency = \"other\"\n"));
    rig.wait_until("all is well", all_healthy);
    run(&rig, &["slow-dependency", "--service", "app", "--for", "2s"])
}

#[test]
fn who_asks_something_slow_waits_and_nothing_else() {
    let (code, report) = rehearse("http = \"/alive\"");
    assert_eq!((code, &report["verdict"]), (Some(0), &"pass".into()), "{report:#}");
    assert_eq!(report["errors"], 0, "{report:#}");
    let (before, worst) = (report["worst_before_ms"].as_u64().unwrap(), report["worst_ms"].as_u64().unwrap());
    assert!(worst > before && worst > 300, "clients waited for it: {report:#}");
}

#[test]
fn a_liveness_check_that_asks_the_dependency_makes_an_outage_of_it() {
    let (code, report) = rehearse("http = \"/\", interval = \"100ms\", timeout = \"200ms\", after = \"300ms\"");
    assert_eq!((code, &report["verdict"]), (Some(1), &"fail".into()), "{report:#}");
    let reasons = report["reasons"].as_array().unwrap();
    let told = |words: &str| reasons.iter().any(|reason| reason["text"].as_str().unwrap().contains(words));
    assert!(told("was restarted although only its dependency was slow"), "{report:#}");
}

#[test]
fn where_nobody_asks_the_dependency_nothing_is_shown() {
    let rig = Rig::up(&stack("http = \"/alive\"", "dependency = \"other\"\nread = \"/alive\"\n"));
    rig.wait_until("all is well", all_healthy);
    let (code, report) = run(&rig, &["slow-dependency", "--service", "app", "--for", "3s"]);
    assert_eq!((code, &report["verdict"]), (Some(1), &"fail".into()), "{report:#}");
    assert!(report["reasons"][0]["text"].as_str().unwrap().contains("nobody asked the dependency"), "{report:#}");
}

#[test]
fn a_stack_without_a_dependency_says_so() {
    let rig = Rig::up(&stack("http = \"/alive\"", ""));
    rig.wait_until("all is well", all_healthy);
    let refused = rig.keel(&["drill", "run", "slow-dependency", "--service", "app", "--json"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("`dependency` in [drills]"), "{said}");
}
