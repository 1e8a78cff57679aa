//! A stack under test: started as a user would, stopped and cleaned up whatever happens.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use evenkeel_core::status::{Health, InstanceStatus, Status};
use rustix::process::{Pid, Signal, kill_process};

pub(crate) use crate::ports::free_port;

/// Longest wait for anything that should happen soon. Generous: test machines are busy.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A running `keel` and the folder it keeps its state in.
pub(crate) struct Rig {
    pub(crate) folder: tempfile::TempDir,
    /// Port of its only listener.
    pub(crate) port: u16,
    child: Child,
}

impl Rig {
    /// `keel up FILE` with this stack; `{listen}` in it stands for a free address and `{console}` for another.
    pub(crate) fn up(stack: &str) -> Self {
        Self::up_with(stack, |_| {})
    }

    /// The same with files beside the stack file, which `prepared` writes.
    pub(crate) fn up_with(stack: &str, prepared: impl FnOnce(&Path)) -> Self {
        let (folder, port) = prepare(stack);
        prepared(folder.path());
        let child = start(folder.path(), &["up", "keel.toml", "--ends-with", &std::process::id().to_string()]);
        Self { folder, port, child }
    }

    /// A service `app` of one instance of the shop, healthy.
    pub(crate) fn shop() -> Self {
        let rig = Self::up(&format!(
            "[listeners.web]\nbind = \"{{listen}}\"\n[services.app]\nrun = [\"{}\", \"__shop\"]\nreplicas = 1\n\
             check = {{ http = \"/readyz\", interval = \"200ms\" }}\n",
            env!("CARGO_BIN_EXE_keel")
        ));
        rig.wait_until("it is healthy", |status| all_healthy(status) && !instances(status).is_empty());
        rig
    }

    /// `keel demo` without its own traffic.
    pub(crate) fn demo() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (port, console) = (free_port(), free_port());
        let (port_text, console) = (port.to_string(), format!("127.0.0.1:{console}"));
        let arguments = ["demo", "--no-traffic", "--port", &port_text, "--console", &console];
        let child = start(folder.path(), &arguments);
        let rig = Self { folder, port, child };
        rig.wait_until("all instances are healthy", |status| all_healthy(status) && !status.services.is_empty());
        // The demo waits for the same, and only from then on starts a guard again that is killed.
        let began = Instant::now();
        while !rig.log().contains(&format!("http://127.0.0.1:{port}")) {
            assert!(began.elapsed() < PATIENCE, "it never said where the shop is: {}", rig.log());
            thread::sleep(Duration::from_millis(5));
        }
        rig
    }

    /// `keel up -- COMMAND…`, run in this folder.
    pub(crate) fn own_program(folder: tempfile::TempDir, port: &str, program: &[&str]) -> Self {
        let log = fs::File::create(folder.path().join("keel.log")).unwrap();
        let mut keel = command(folder.path(), &["up", "--port", port]);
        let child = keel.arg("--").args(program).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        Self { folder, port: port.parse().unwrap(), child }
    }

    /// A stack that somebody else started in this folder.
    pub(crate) fn around(folder: tempfile::TempDir, port: u16, child: Child) -> Self {
        Self { folder, port, child }
    }

    /// The process that was started, to be killed, awaited or replaced.
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// `keel ARGUMENTS…` against this stack.
    pub(crate) fn keel(&self, arguments: &[&str]) -> Output {
        command(self.folder.path(), arguments).output().unwrap()
    }

    /// `keel status --json`, if it answers.
    pub(crate) fn try_status(&self) -> Option<Status> {
        let output = self.keel(&["status", "--json"]);
        output.status.success().then(|| serde_json::from_slice(&output.stdout).expect("status --json is a Status"))
    }

    /// `keel status --json`.
    pub(crate) fn status(&self) -> Status {
        self.try_status().expect("the stack answers")
    }

    /// Waits until the status is as described, and returns it and how long that took.
    pub(crate) fn wait_until(&self, what: &str, is: impl Fn(&Status) -> bool) -> (Status, Duration) {
        let start = Instant::now();
        let mut last = None;
        while start.elapsed() < PATIENCE {
            last = self.try_status();
            if let Some(status) = last.as_ref().filter(|status| is(status)) {
                return (status.clone(), start.elapsed());
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("it never came to pass that {what}; last status: {last:#?}\nlog: {}", self.log());
    }

    /// What `keel` itself wrote.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("keel.log")).unwrap_or_default()
    }

    /// Asks it to end, as Ctrl-C does, and returns its exit code.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        signal(self.child.id(), Signal::INT);
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("it does not end; log: {}", self.log());
    }

    /// `keel up` with the same folder, after an end.
    pub(crate) fn start_again(&mut self) {
        let guarded_by = std::process::id().to_string();
        self.child = start(self.folder.path(), &["up", "keel.toml", "--ends-with", &guarded_by]);
    }

    /// Removes the folder of the sockets, which a guard that was killed leaves for its next start to use again.
    fn remove_sockets(&self) {
        let lock = fs::read(self.folder.path().join("state/lock")).unwrap_or_default();
        let holder = serde_json::from_slice::<serde_json::Value>(&lock).unwrap_or_default();
        if let Some(folder) = holder["runtime_dir"].as_str() {
            // An ordinary end has removed it already.
            let _ = fs::remove_dir_all(folder);
        }
    }

    /// Waits for an end that it comes to by itself.
    pub(crate) fn ended(&mut self) -> i32 {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().expect("it ends by itself, not by a signal");
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("it goes on; log: {}", self.log());
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("log of keel:\n{}", self.log());
            let events = command(self.folder.path(), &["events"]).output();
            eprintln!(
                "events:\n{}",
                events.map(|told| String::from_utf8_lossy(&told.stdout).into_owned()).unwrap_or_default()
            );
        }
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            signal(self.child.id(), Signal::TERM);
            let start = Instant::now();
            while start.elapsed() < PATIENCE && self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
                thread::sleep(Duration::from_millis(20));
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        self.remove_sockets();
    }
}

/// Whether every instance of every service is healthy.
pub(crate) fn all_healthy(status: &Status) -> bool {
    status.services.iter().all(|service| {
        service.instances.len() >= service.replicas as usize
            && service.instances.iter().all(|instance| instance.health == Health::Healthy)
    })
}

/// All instances of all services.
pub(crate) fn instances(status: &Status) -> Vec<InstanceStatus> {
    status.services.iter().flat_map(|service| service.instances.clone()).collect()
}

/// Sends a signal to one process.
pub(crate) fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let _ = kill_process(pid, signal);
}

/// Stops a process and waits until each of its threads stands still: until then one may still take a connection.
pub(crate) fn freeze(pid: u32) {
    signal(pid, Signal::STOP);
    let start = Instant::now();
    let stands = |thread: fs::DirEntry| {
        let line = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        line.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with('T'))
    };
    while !fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten().all(stands) {
        assert!(start.elapsed() < PATIENCE, "process {pid} does not stop");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Whether a process with this id is there and not a zombie.
pub(crate) fn alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

/// A folder with the stack file in it, and the port of `{listen}`.
pub(crate) fn prepare(stack: &str) -> (tempfile::TempDir, u16) {
    let folder = tempfile::tempdir().unwrap();
    let (port, console) = (free_port(), free_port());
    let text = format!("[stack]\nname = \"test\"\n[console]\nbind = \"127.0.0.1:{console}\"\n{stack}")
        .replace("{listen}", &format!("127.0.0.1:{port}"));
    fs::write(folder.path().join("keel.toml"), text).unwrap();
    (folder, port)
}

/// `keel` with its state in the folder.
pub(crate) fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keel"));
    command.current_dir(folder).args(arguments).arg("--state-dir").arg(folder.join("state")).stdin(Stdio::null());
    command
}

fn start(folder: &Path, arguments: &[&str]) -> Child {
    let log = fs::File::create(folder.join("keel.log")).unwrap();
    command(folder, arguments).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}
