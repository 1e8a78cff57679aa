//! The contenders: how each is configured and started, with one worker and no more features than its defaults
//! and the client's address in a header. `keel` runs as `keel up` with everything on that is on by default.

mod haproxy;
mod keel;
mod nginx;

use std::{
    error::Error,
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::PROXY_CORE;

/// A contender that runs.
pub struct Peer {
    pub name: &'static str,
    pub version: String,
    pub configuration: String,
    pub port: u16,
    child: Child,
}

impl Peer {
    /// The process whose tree is measured.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Starts `program` on the contender's core and waits until it answers.
    fn start(
        name: &'static str,
        version: String,
        configuration: String,
        port: u16,
        program: &Path,
        arguments: &[&str],
    ) -> Result<Self, Box<dyn Error>> {
        let child = Command::new("taskset")
            .args(["-c", &PROXY_CORE.to_string()])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| format!("cannot start {name} (`cargo xtask setup --bench` installs it): {error}"))?;
        let mut peer = Self { name, version, configuration, port, child };
        let patience = Instant::now() + Duration::from_secs(20);
        while !answers(port) {
            if Instant::now() > patience || peer.child.try_wait()?.is_some() {
                return Err(format!("{name} does not answer on port {port}").into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(peer)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        if rustix::process::kill_process(pid, rustix::process::Signal::TERM).is_ok() {
            let _ = self.child.wait();
        }
    }
}

fn answers(port: u16) -> bool {
    use std::io::{Read, Write};
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let asked = stream
        .set_read_timeout(Some(Duration::from_secs(2)))
        .and_then(|()| stream.write_all(b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"));
    let mut head = [0; 12];
    asked.and_then(|()| stream.read_exact(&mut head)).is_ok() && &head == b"HTTP/1.1 200"
}

/// A port that was free a moment ago.
fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// The first line that says a version.
fn version(program: &str, flag: &str) -> String {
    let Ok(output) = Command::new(program).arg(flag).output() else { return "not installed".to_owned() };
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned()
}
