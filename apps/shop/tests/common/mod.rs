//! What the tests of the running program share: real instances as child processes, and a small HTTP client that
//! is not the shop's own code.

// Each test program uses its own part of this.
#![allow(dead_code)]

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Far more than anything takes that is not broken.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A running `shop`.
pub(crate) struct Instance {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Instance {
    /// Starts an instance on a free port and waits until it says that it listens.
    pub(crate) fn start(database: &Path) -> Self {
        Self::start_with(database, &[])
    }

    pub(crate) fn start_with(database: &Path, environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shop"));
        command.env_remove("RUST_LOG").envs(environment.iter().copied());
        Self::spawn(command, database)
    }

    /// Starts what `command` begins with: the program itself, or something that ends in it.
    pub(crate) fn spawn(command: Command, database: &Path) -> Self {
        let (instance, mut log) = Self::spawn_with_log(command, database);
        // The pipe is emptied for as long as the instance lives.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        instance
    }

    /// The same with the rest of its log.
    pub(crate) fn spawn_with_log(mut command: Command, database: &Path) -> (Self, BufReader<ChildStderr>) {
        let mut child =
            command.args(["--port", "0", "--database"]).arg(database).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        let address = loop {
            let mut line = String::new();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "the shop ended at start: {said}");
            said.push_str(&line);
            let entry: Value = serde_json::from_str(&line).unwrap();
            if entry["message"] == "listening" {
                break entry["address"].as_str().unwrap().parse().unwrap();
            }
        };
        (Self { child, address }, log)
    }

    /// SIGKILL, as by a crash.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the process to end by itself.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "the shop does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An instance on a new database, with an administrator's token and an account that may publish.
pub(crate) fn shop() -> (tempfile::TempDir, Instance) {
    let folder = tempfile::tempdir().unwrap();
    let environment = [
        ("SHOP_ADMIN_TOKEN", "a-token-for-the-tests"),
        ("SHOP_STAFF_EMAIL", "keeper@example.com"),
        ("SHOP_STAFF_PASSWORD", "plenty of rope"),
    ];
    let instance = Instance::start_with(&folder.path().join("shop.db"), &environment);
    (folder, instance)
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The `name=value` part of a cookie that was set.
    pub(crate) fn cookie(&self, name: &str) -> Option<String> {
        let starts = format!("{name}=");
        let set = self.headers.iter().filter(|(known, _)| known == "set-cookie");
        set.map(|(_, value)| value.split(';').next().unwrap().to_owned()).find(|pair| pair.starts_with(&starts))
    }
}

/// One request on a connection of its own. An error is an answer that did not arrive whole.
pub(crate) fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    write!(head, "Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    stream.write_all(head.as_bytes())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let text = String::from_utf8(bytes).unwrap();
    let cut_off = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(cut_off)?;
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: Vec<_> = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let answer = Answer { status, headers, body: body.to_owned() };
    let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
    if answer.body.len() < length { Err(cut_off()) } else { Ok(answer) }
}

pub(crate) fn get(address: SocketAddr, path: &str) -> Answer {
    request(address, "GET", path, &[], "").unwrap()
}

pub(crate) fn send_json(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &Value,
) -> Answer {
    let mut all = vec![("Content-Type", "application/json")];
    all.extend_from_slice(headers);
    request(address, method, path, &all, &body.to_string()).unwrap()
}

/// Sends a form as a browser would.
pub(crate) fn send_form(address: SocketAddr, path: &str, cookies: &str, fields: &[(&str, &str)]) -> Answer {
    let escape = |text: &str| text.bytes().fold(String::new(), |escaped, byte| format!("{escaped}%{byte:02X}"));
    let body: Vec<_> = fields.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect();
    let headers = [("Content-Type", "application/x-www-form-urlencoded"), ("Cookie", cookies)];
    request(address, "POST", path, &headers, &body.join("&")).unwrap()
}

/// The value of the first hidden field `name` in a page.
pub(crate) fn hidden(page: &str, name: &str) -> String {
    let mark = format!("name=\"{name}\" value=\"");
    let (_, rest) = page.split_once(&mark).unwrap_or_else(|| panic!("no field {name} in {page}"));
    rest.split('"').next().unwrap().to_owned()
}

/// Asks `what` again and again until it answers something.
pub(crate) fn eventually<T>(named: &str, mut what: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = what() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "it never came about: {named}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
