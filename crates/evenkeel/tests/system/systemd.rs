//! An actor who plays systemd: does with a process what a unit file says, as far as it matters for adoption.
//!
//! It reads the unit files that the project ships: `ExecStart`, `Type`, `KillMode`, `Restart`, `RestartSec`,
//! `WatchdogSec`, `FileDescriptorStoreMax`, `RuntimeDirectoryPreserve`, `Environment`, and the socket unit's
//! `ListenStream` and `FileDescriptorName`. It hands over sockets (`sd_listen_fds(3)`), takes notifications and stored descriptors
//! (`sd_notify(3)`), and starts the main process again when it ends. It has no control groups of its own: the
//! processes of the unit are those below the main process at the time when that ends.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    io::IoSliceMut,
    mem::MaybeUninit,
    net::TcpListener,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::{net::UnixDatagram, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg},
    process::Signal,
};

use crate::rig::{self, PATIENCE};

/// What one file says, by section and key, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unit(Vec<(String, String, String)>);

impl Unit {
    /// A unit file of the project.
    pub(crate) fn shipped(name: &str) -> Self {
        Self::parse(&fs::read_to_string(shipped(name)).unwrap())
    }

    fn parse(text: &str) -> Self {
        let (mut section, mut settings) = (String::new(), Vec::new());
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(name) = line.strip_prefix('[') {
                name.trim_end_matches(']').clone_into(&mut section);
            } else {
                let (key, value) = line.split_once('=').expect("a setting");
                settings.push((section.clone(), key.to_owned(), value.to_owned()));
            }
        }
        Self(settings)
    }

    /// The same with another value, as a drop-in would have it.
    pub(crate) fn with(mut self, section: &str, key: &str, value: &str) -> Self {
        self.0.push((section.to_owned(), key.to_owned(), value.to_owned()));
        self
    }

    fn all<'a>(&'a self, section: &str, key: &str) -> Vec<&'a str> {
        let named = self.0.iter().filter(|(in_section, of, _)| in_section == section && of == key);
        named.map(|(_, _, value)| value.as_str()).collect()
    }

    /// The value of a setting in `[Service]`; the last one counts.
    pub(crate) fn service(&self, key: &str) -> Option<&str> {
        self.all("Service", key).last().copied()
    }

    fn span(&self, key: &str) -> Duration {
        let text = self.service(key).unwrap_or_else(|| panic!("{key} is set"));
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let number: u64 = digits.parse().unwrap();
        match &text[digits.len()..] {
            "ms" => Duration::from_millis(number),
            "" | "s" => Duration::from_secs(number),
            "min" => Duration::from_secs(60 * number),
            unit => panic!("{unit} is no unit of time"),
        }
    }
}

/// A unit file of the project.
pub(crate) fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/systemd").join(name)
}

/// What the main process has told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) ready: u32,
    pub(crate) stopping: bool,
    pub(crate) extended: bool,
    pub(crate) alive: u32,
    pub(crate) status: String,
    /// Stored descriptors by name, in the order in which they came.
    pub(crate) store: Vec<(String, OwnedFd)>,
}

/// The actor.
pub(crate) struct Systemd {
    unit: Unit,
    folder: PathBuf,
    /// Listening sockets with their name.
    sockets: Vec<(String, OwnedFd)>,
    told: Arc<Mutex<Told>>,
}

impl Systemd {
    /// With these units. The socket unit's addresses are replaced by `ports`, as many as there are.
    pub(crate) fn new(unit: Unit, socket: Option<&Unit>, folder: &Path, ports: &[u16]) -> Self {
        let name =
            |unit: &Unit| unit.all("Socket", "FileDescriptorName").last().copied().unwrap_or("keel.socket").to_owned();
        let listen = |socket: &Unit| {
            assert!(socket.all("Socket", "ListenStream").len() >= ports.len());
            let bind = |port: &u16| (name(socket), OwnedFd::from(TcpListener::bind(("127.0.0.1", *port)).unwrap()));
            ports.iter().map(bind).collect()
        };
        let sockets = socket.map(listen).unwrap_or_default();
        let told = Arc::new(Mutex::new(Told::default()));
        let notify = UnixDatagram::bind(folder.join("notify")).unwrap();
        let most: usize = unit.service("FileDescriptorStoreMax").unwrap_or("0").parse().unwrap();
        assert_eq!(unit.service("Type"), Some("notify"));
        let teller = Arc::clone(&told);
        // Ends with the process: the socket has no other owner, and nobody waits for it.
        thread::spawn(move || while hear(&notify, &teller, most) {});
        Self { unit, folder: folder.to_owned(), sockets, told }
    }

    /// What was told until now.
    pub(crate) fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().unwrap()
    }

    /// Waits until it has told so.
    pub(crate) fn wait_until(&self, what: &str, is: impl Fn(&Told) -> bool) {
        let start = Instant::now();
        while !is(&self.told()) {
            assert!(start.elapsed() < PATIENCE, "it never said that {what}: {:?}", self.told());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Starts the main process and waits until it is ready.
    pub(crate) fn start(&self) -> Child {
        let before = self.told().ready;
        let child = self.spawn();
        self.wait_until("it is ready", |told| told.ready > before);
        child
    }

    fn spawn(&self) -> Child {
        let words = self.unit.service("ExecStart").unwrap().replace("%i", "test");
        let local = |word: &str| match word {
            "/etc/keel/test.toml" => self.folder.join("keel.toml"),
            "/var/lib/keel/test" => self.folder.join("state"),
            other => other.into(),
        };
        let mut words = words.split(' ');
        assert_eq!(words.next(), Some("/usr/local/bin/keel"));
        let told = self.told();
        let handed: Vec<(&str, BorrowedFd<'_>)> =
            self.sockets.iter().chain(&told.store).map(|(name, socket)| (name.as_str(), socket.as_fd())).collect();
        let names: Vec<&str> = handed.iter().map(|(name, _)| *name).collect();
        let numbers: Vec<i32> = handed.iter().map(|(_, socket)| socket.as_raw_fd()).collect();
        let log = fs::OpenOptions::new().create(true).append(true).open(self.folder.join("keel.log")).unwrap();
        let mut command = Command::new("sh");
        // The shell becomes the main process, once it has written down its own number.
        command
            .args(["-c", "export LISTEN_PID=$$ WATCHDOG_PID=$$; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_keel")])
            .args(words.map(local))
            .envs(self.unit.all("Service", "Environment").iter().filter_map(|setting| setting.split_once('=')))
            .env("LISTEN_FDS", handed.len().to_string())
            .env("LISTEN_FDNAMES", names.join(":"))
            .env("NOTIFY_SOCKET", self.folder.join("notify"))
            .env("WATCHDOG_USEC", self.unit.span("WatchdogSec").as_micros().to_string())
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        // SAFETY: only system calls are made between fork and exec.
        unsafe {
            command.pre_exec(move || hand_over(&numbers));
        }
        command.spawn().unwrap()
    }

    /// What follows the end of the main process, when it was killed: the rest of the unit is treated as `KillMode`
    /// says, and it is started again as `Restart` says.
    pub(crate) fn killed(&self, mut main: Child, runtime_dir: &Path) -> Child {
        let rest = below(main.id());
        rig::signal(main.id(), Signal::KILL);
        main.wait().unwrap();
        match self.unit.service("KillMode").unwrap_or("control-group") {
            "process" => {}
            "control-group" | "mixed" => {
                for pid in &rest {
                    rig::signal(*pid, Signal::KILL);
                }
                let start = Instant::now();
                while rest.iter().any(|pid| rig::alive(*pid)) {
                    assert!(start.elapsed() < PATIENCE, "what was killed lives on");
                    thread::sleep(Duration::from_millis(5));
                }
            }
            other => panic!("KillMode={other}"),
        }
        if self.unit.service("RuntimeDirectoryPreserve").unwrap_or("no") == "no" {
            fs::remove_dir_all(runtime_dir).unwrap();
        }
        assert_eq!(self.unit.service("Restart"), Some("always"));
        thread::sleep(self.unit.span("RestartSec"));
        self.start()
    }

    /// Waits until the main process has given no sign of life for as long as the unit permits.
    pub(crate) fn wait_for_silence(&self) {
        let within = self.unit.span("WatchdogSec");
        let (start, mut last, mut since) = (Instant::now(), self.told().alive, Instant::now());
        while since.elapsed() < within {
            assert!(start.elapsed() < PATIENCE, "it goes on giving signs of life");
            thread::sleep(Duration::from_millis(10));
            let alive = self.told().alive;
            if alive != last {
                (last, since) = (alive, Instant::now());
            }
        }
    }

    /// How long the main process may take to end when it was told to.
    pub(crate) fn patience_at_the_end(&self) -> Duration {
        self.unit.span("TimeoutStopSec")
    }
}

/// Puts these descriptors from 3 on, in order, and lets them be inherited.
fn hand_over(numbers: &[i32]) -> std::io::Result<()> {
    // Out of the way first, so that none is overwritten before its turn.
    let mut safe = [-1; 64];
    for (place, number) in safe.iter_mut().zip(numbers) {
        // SAFETY: borrowed for one call; they are open in the parent, whose copy this is.
        let moved = rustix::io::fcntl_dupfd_cloexec(unsafe { BorrowedFd::borrow_raw(*number) }, 100)?;
        *place = std::os::fd::IntoRawFd::into_raw_fd(moved);
    }
    for (place, from) in (3..).zip(safe.iter().take(numbers.len())) {
        // SAFETY: it was opened above, and the number it is put at belongs to nobody in this new process.
        let (from, mut to) = unsafe {
            use std::os::fd::FromRawFd;
            (BorrowedFd::borrow_raw(*from), std::mem::ManuallyDrop::new(OwnedFd::from_raw_fd(place)))
        };
        rustix::io::dup2(from, &mut to)?;
    }
    Ok(())
}

/// Takes one notification; false when nobody can send one any more.
fn hear(notify: &UnixDatagram, told: &Mutex<Told>, most: usize) -> bool {
    let mut bytes = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let Ok(got) = recvmsg(notify, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC) else {
        return false;
    };
    let mut descriptors = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let descriptor = descriptors.next().and_then(|mut descriptors| descriptors.next());
    let text = String::from_utf8(bytes[..got.bytes].to_vec()).unwrap();
    let fields: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
    let mut told = told.lock().unwrap();
    let name = fields.get("FDNAME").map(|name| (*name).to_owned()).unwrap_or_default();
    for (key, value) in fields {
        match key {
            "READY" => told.ready += 1,
            "STOPPING" => told.stopping = true,
            "EXTEND_TIMEOUT_USEC" => told.extended = true,
            "WATCHDOG" => told.alive += 1,
            "STATUS" => value.clone_into(&mut told.status),
            "FDSTORE" if told.store.len() < most => {}
            "FDSTOREREMOVE" => told.store.retain(|(stored, _)| *stored != name),
            "FDNAME" => {}
            other => panic!("nobody understands {other}"),
        }
    }
    if let Some(descriptor) = descriptor {
        told.store.push((name, descriptor));
    }
    true
}

/// Every process below this one.
fn below(root: u32) -> HashSet<u32> {
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            Some((pid, stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?))
        })
        .collect();
    let mut found = HashSet::from([root]);
    while parents.iter().any(|(pid, parent)| found.contains(parent) && found.insert(*pid)) {}
    found.remove(&root);
    found
}
