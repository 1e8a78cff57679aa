//! The instances: processes of their own, which can be stopped and killed, and which write down what must not happen
//! twice.

use std::{
    collections::HashMap,
    error::Error,
    fs::{self, OpenOptions},
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// How long a slow request takes.
pub const SLOW: Duration = Duration::from_secs(1);

/// Answers on this port for ever. `POST`s and slow requests are written down before they are answered, by one write
/// each, so that a killed process loses nothing.
pub fn serve(port: u16, log: &Path) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    for stream in listener.incoming() {
        let (stream, log) = (stream?, OpenOptions::new().append(true).create(true).open(log)?);
        thread::spawn(move || connection(stream, log));
    }
    Ok(())
}

fn connection(mut stream: TcpStream, mut log: fs::File) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let answer = format!(
        "HTTP/1.1 200 OK\r\nDate: Fri, 20 Nov 2026 12:00:00 GMT\r\nContent-Length: 1024\r\n\r\n{}",
        "x".repeat(1024)
    );
    let mut input = Vec::new();
    let mut piece = [0; 4096];
    loop {
        while let Some(end) = input.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8(input.drain(..end + 4).collect()).ok()?;
            let target = head.split(' ').nth(1)?;
            if target != "/" {
                log.write_all(format!("{target}\n").as_bytes()).ok()?;
            }
            if target.starts_with("/slow/") {
                thread::sleep(SLOW);
            }
            stream.write_all(answer.as_bytes()).ok()?;
        }
        let read = stream.read(&mut piece).ok().filter(|&read| read > 0)?;
        input.extend_from_slice(&piece[..read]);
    }
}

/// The instances of one run.
pub struct Instances {
    all: Vec<One>,
}

struct One {
    port: u16,
    log: PathBuf,
    child: Child,
}

impl Instances {
    pub fn start(count: usize, folder: &Path) -> Result<Self, Box<dyn Error>> {
        let mut instances = Self { all: Vec::new() };
        for number in 0..count {
            let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            let log = folder.join(format!("instance-{number}"));
            let child = start(port, &log)?;
            instances.all.push(One { port, log, child });
        }
        Ok(instances)
    }

    pub fn ports(&self) -> Vec<u16> {
        self.all.iter().map(|one| one.port).collect()
    }

    /// To the first one.
    pub fn signal(&self, signal: Signal) -> Result<(), Box<dyn Error>> {
        Ok(kill_process(Pid::from_child(&self.all[0].child), signal)?)
    }

    /// The first one, which was killed, comes again on the same port.
    pub fn start_again(&mut self) -> Result<(), Box<dyn Error>> {
        let first = &mut self.all[0];
        first.child.wait()?;
        first.child = start(first.port, &first.log)?;
        Ok(())
    }

    /// How often each `POST` and each slow request was begun, and whether the first instance had it.
    pub fn begun(&self) -> std::io::Result<HashMap<String, (usize, bool)>> {
        let mut begun: HashMap<String, (usize, bool)> = HashMap::new();
        for (number, one) in self.all.iter().enumerate() {
            for line in fs::read_to_string(&one.log).unwrap_or_default().lines() {
                let entry = begun.entry(line.to_owned()).or_default();
                entry.0 += 1;
                entry.1 |= number == 0;
            }
        }
        Ok(begun)
    }
}

impl Drop for Instances {
    fn drop(&mut self) {
        for one in &mut self.all {
            let _ = one.child.kill();
            let _ = one.child.wait();
        }
    }
}

fn start(port: u16, log: &Path) -> Result<Child, Box<dyn Error>> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--instance", &port.to_string()]).arg(log).stdin(Stdio::null());
    let child = command.spawn()?;
    let patience = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if Instant::now() > patience {
            return Err(format!("an instance does not listen on {port}").into());
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(child)
}
