//! What is frozen is noticed, and what is slow is not touched, by instances that serve one request at a time.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    thread,
};

use evenkeel_core::status::Health;
use rustix::process::Signal;

use crate::{
    load::Load,
    rig::{self, PATIENCE, Rig, all_healthy, instances},
};

/// One thread for everything. `/slow` takes more than a second and is written down.
const SOURCE: &str = "
import os, time
from http.server import BaseHTTPRequestHandler, HTTPServer
log = os.open(os.environ['SLOW'], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path.startswith('/slow'):
            os.write(log, (self.path + '\\n').encode())
            time.sleep(1.2)
        self.wfile.write(b'HTTP/1.0 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok')
class Server(HTTPServer):
    request_queue_size = 128
Server(('127.0.0.1', int(os.environ['PORT'])), Handler).serve_forever()
";

fn stack(slow: &Path) -> String {
    format!(
        "[listeners.web]\nbind = \"{{listen}}\"\n[services.app]\nrun = [\"python3\", \"-c\", \"\"\"{source}\"\"\"]\n\
         replicas = 3\ncheck = {{ http = \"/\" }}\nenv = {{ SLOW = \"{slow}\" }}\n",
        source = SOURCE.replace('\\', "\\\\"),
        slow = slow.display()
    )
}

fn get(port: u16, path: &str) -> u16 {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap_or_else(|| panic!("no answer: {answer:?}")).parse().unwrap()
}

#[test]
fn a_busy_instance_is_left_alone_and_a_frozen_one_is_not() {
    let kept = tempfile::tempdir().unwrap();
    let slow = kept.path().join("slow");
    let rig = Rig::up(&stack(&slow));
    let (status, _) =
        rig.wait_until("all three are healthy", |status| instances(status).len() == 3 && all_healthy(status));
    // First without any other requests, then beside them.
    for number in 0..2 {
        assert_eq!(get(rig.port, &format!("/slow/quiet-{number}")), 200);
    }
    let load = Load::start(rig.port, "/", 4);
    load.wait_for(2_000);
    let port = rig.port;
    let under_load: Vec<_> =
        (0..2).map(|number| thread::spawn(move || get(port, &format!("/slow/busy-{number}")))).collect();
    assert!(under_load.into_iter().all(|request| request.join().unwrap() == 200));
    let mut executed: Vec<_> = fs::read_to_string(&slow).unwrap().lines().map(str::to_owned).collect();
    executed.sort();
    assert_eq!(executed, ["/slow/busy-0", "/slow/busy-1", "/slow/quiet-0", "/slow/quiet-1"], "each of them once");
    let told = String::from_utf8(rig.keel(&["events"]).stdout).unwrap();
    assert!(!told.contains("silent") && !told.contains("moved"), "{told}");

    let pid = instances(&status)[0].pid.unwrap();
    let name = instances(&status)[0].name.clone();
    rig::freeze(pid);
    rig.wait_until("the frozen one is silent", |status| {
        instances(status).iter().any(|instance| instance.name == name && instance.health == Health::Silent)
    });
    let why = String::from_utf8(rig.keel(&["why", &name]).stdout).unwrap();
    assert!(why.contains(&format!("its process {pid} is stopped, as by SIGSTOP")), "{why}");
    rig::signal(pid, Signal::CONT);
    rig.wait_until("it is back", all_healthy);
    load.finish().assert_clean();
}
