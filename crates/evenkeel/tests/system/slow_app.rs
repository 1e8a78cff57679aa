//! A small application that takes its time: `/slow` answers after a fifth of a second, `/busy` after two hundredths of
//! a second of work, everything else at once. Its answer is the name that it was started with.

use std::{
    net::TcpStream,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::rig::PATIENCE;

/// Its source.
const SOURCE: &str = "
import os, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        if self.path == '/slow':
            time.sleep(0.2)
        if self.path == '/busy':
            end = time.process_time() + 0.02
            while time.process_time() < end:
                pass
        body = os.environ['KEEL_INSTANCE'].encode()
        head = 'HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n' % len(body)
        self.wfile.write(head.encode() + body)
class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
Server(('127.0.0.1', int(os.environ['PORT'])), Handler).serve_forever()
";

/// The command as a stack file has it.
pub(crate) fn run() -> String {
    format!("[\"python3\", \"-c\", \"\"\"{}\"\"\"]", SOURCE.replace('\\', "\\\\"))
}

/// Run by the test itself, as instances that something else runs.
pub(crate) struct SlowApp {
    child: Child,
    port: u16,
}

impl SlowApp {
    /// Starts it on this port and waits until it accepts.
    pub(crate) fn start(name: &str, port: u16) -> Self {
        let child = Command::new("python3")
            .args(["-c", SOURCE])
            .env("PORT", port.to_string())
            .env("KEEL_INSTANCE", name)
            .stdout(Stdio::null())
            .spawn()
            .expect("python3 is installed: `apt-get install python3`");
        let mut app = Self { child, port };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(app.child.try_wait().unwrap().is_none(), "{name} has ended");
            assert!(start.elapsed() < PATIENCE, "{name} does not start");
            thread::sleep(Duration::from_millis(10));
        }
        app
    }

    /// `IP:port`.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for SlowApp {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
