//! The stack that suites run against: static files, an instance that says what it got, and an address for WebSockets.
//!
//! One listener for each, since suites choose no `Host`. It lives in `target/conformance/stand` and is stopped in order
//! when this is dropped.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long the stack may take to come up, and to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of the large file.
const LARGE: usize = 4 << 20;

/// The running stack.
pub(super) struct Stand {
    keel: Child,
    folder: PathBuf,
    /// Static files: `/` and `/large.bin`.
    pub(super) files: SocketAddr,
    /// The instance that says what it got.
    pub(super) origin: SocketAddr,
    /// Leads to [`Self::echo`].
    pub(super) sockets: SocketAddr,
    /// Where an echo server of WebSockets is expected.
    pub(super) echo: SocketAddr,
}

impl Stand {
    /// Starts it with this program.
    pub(super) fn start(program: &Path, home: &Path) -> Result<Self, String> {
        let folder = home.join("stand");
        let _ = std::fs::remove_dir_all(&folder);
        let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
        std::fs::create_dir_all(folder.join("public")).map_err(failed)?;
        std::fs::write(folder.join("public/index.html"), "hello\n").map_err(failed)?;
        std::fs::write(folder.join("public/large.bin"), large()).map_err(failed)?;
        std::fs::write(folder.join("origin.py"), include_str!("origin.py")).map_err(failed)?;
        let [files, origin, sockets, echo, console] = free()?;
        std::fs::write(folder.join("keel.toml"), stack(files, origin, sockets, echo, console)).map_err(failed)?;
        let log = std::fs::File::create(folder.join("log")).map_err(failed)?;
        let keel = Command::new(program)
            .args(["up", "keel.toml", "--state-dir", "state"])
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            .spawn()
            .map_err(failed)?;
        let stand = Self { keel, folder, files, origin, sockets, echo };
        let start = Instant::now();
        while let Err(problem) = stand.still_answers() {
            if start.elapsed() > PATIENCE {
                let log = std::fs::read_to_string(stand.folder.join("log")).unwrap_or_default();
                return Err(format!("{problem}\n{log}"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(stand)
    }

    /// Whether both services answer a plain request with 200.
    pub(super) fn still_answers(&self) -> Result<(), String> {
        [self.files, self.origin].into_iter().try_for_each(|address| {
            let answer = exchange(address, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", PATIENCE)?;
            if answer.starts_with("HTTP/1.1 200 ") { Ok(()) } else { Err(format!("{address} answered {answer:?}")) }
        })
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        // Killed, it would leave its instances behind for the next one to adopt.
        let _ = Command::new("kill").arg(self.keel.id().to_string()).status();
        let start = Instant::now();
        while matches!(self.keel.try_wait(), Ok(None)) && start.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.keel.kill();
        let _ = self.keel.wait();
    }
}

/// Sends these bytes and returns everything that comes until the connection ends, or so far once `patience` is over.
pub(super) fn exchange(address: SocketAddr, bytes: &[u8], patience: Duration) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("{address}: {error}");
    let mut stream = TcpStream::connect(address).map_err(failed)?;
    stream.set_read_timeout(Some(patience)).map_err(failed)?;
    stream.write_all(bytes).map_err(failed)?;
    let (mut answer, mut part) = (Vec::new(), [0; 8192]);
    while let Ok(count @ 1..) = stream.read(&mut part) {
        answer.extend_from_slice(&part[..count]);
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// What `/large.bin` contains.
pub(super) fn large() -> Vec<u8> {
    (0..LARGE).map(|at| (at * 31 + at / 257).to_le_bytes()[0]).collect()
}

fn free<const N: usize>() -> Result<[SocketAddr; N], String> {
    let listeners = [(); N].map(|()| {
        TcpListener::bind("127.0.0.1:0").and_then(|listener| {
            let address = listener.local_addr()?;
            Ok((listener, address))
        })
    });
    let mut addresses = [SocketAddr::from(([127, 0, 0, 1], 0)); N];
    for (place, bound) in addresses.iter_mut().zip(&listeners) {
        *place = bound.as_ref().map_err(|error| format!("no free port: {error}"))?.1;
    }
    Ok(addresses)
}

fn stack(files: SocketAddr, origin: SocketAddr, sockets: SocketAddr, echo: SocketAddr, console: SocketAddr) -> String {
    let mut text = format!("[stack]\nname = \"conformance\"\n[console]\nbind = \"{console}\"\n");
    for (name, address) in [("files", files), ("origin", origin), ("sockets", sockets)] {
        let _ = write!(
            text,
            "[listeners.{name}]\nbind = \"{address}\"\nlimits = {{ connections = 8000 }}\n\
             [[routes]]\nlistener = \"{name}\"\nservice = \"{name}\"\n"
        );
    }
    let _ = write!(
        text,
        "[services.files]\nfiles = \"public\"\n\
         [services.origin]\nrun = [\"python3\", \"origin.py\", \"{{port}}\"]\n\
         [services.sockets]\ninstances = [\"{echo}\"]\ncheck = {{ tcp = true, interval = \"200ms\" }}\n"
    );
    text
}
