//! One example under test: a copy of its folder, the shell that a reader would have, and what it left running.

use std::{
    fs,
    io::Read,
    net::TcpListener,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use evenkeel_core::{
    stack::{self, Stack},
    status::{Health, InstanceStatus, Status},
};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::ports::free_port;

use crate::readme;

/// Longest wait for anything that should happen soon. Generous: test machines are busy, and a JVM is slow.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Something that an example runs and that must be installed.
pub(crate) struct Need {
    /// A program in the search path, or a path with one `*` in its last part.
    pub(crate) file: &'static str,
    /// Debian's package.
    pub(crate) package: &'static str,
}

/// A running example.
pub(crate) struct Example {
    root: tempfile::TempDir,
    name: String,
    blocks: Vec<String>,
    stack: Stack,
    shell: Child,
    _turn: MutexGuard<'static, ()>,
}

/// One example at a time.
static TURN: Mutex<()> = Mutex::new(());

/// The folder of the examples.
pub(crate) fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

impl Example {
    /// Pastes the first block of the README, which starts everything, and waits until all of it is healthy.
    pub(crate) fn start(name: &str, needs: &[Need]) -> Self {
        Self::started(name, needs, |_, blocks| blocks[0].clone())
    }

    /// The same with the stack file that `keel init` writes, on free ports.
    pub(crate) fn of_init(name: &str, needs: &[Need]) -> Self {
        Self::started(name, needs, |root, blocks| {
            let folder = root.join("examples").join(name);
            fs::remove_file(folder.join("keel.toml")).unwrap();
            // What is built has to be there before `keel init` looks.
            let build = blocks[0].replace("keel up\n", "keel init\n");
            must(&shell(root, &build).output().unwrap(), &build);
            let file = folder.join("keel.toml");
            let text = fs::read_to_string(&file).unwrap();
            let web = format!("127.0.0.1:{}", free_port());
            let text =
                format!("{}\n[console]\nbind = \"127.0.0.1:{}\"\n", text.replace("127.0.0.1:8080", &web), free_port());
            fs::write(file, text).unwrap();
            format!("cd examples/{name}\nkeel validate\nkeel up\n")
        })
    }

    fn started(name: &str, needs: &[Need], script: impl FnOnce(&Path, &[String]) -> String) -> Self {
        needs.iter().for_each(Need::must_be_there);
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        // Servers that give up root's rights must be able to read it, as they can a clone.
        let root = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir().unwrap();
        let folder = root.path().join("examples").join(name);
        copy(&examples().join(name), &folder);
        let blocks = readme::blocks(&fs::read_to_string(folder.join("README.md")).unwrap());
        let script = script(root.path(), &blocks);
        let stack = stack::parse(&fs::read_to_string(folder.join("keel.toml")).unwrap(), "keel.toml").unwrap();
        let addresses = stack.listeners.values().map(|listener| listener.bind).chain([stack.console.bind]);
        for address in addresses {
            if let Err(error) = TcpListener::bind(address) {
                panic!("the example `{name}` listens on {address}, which something else has: {error}");
            }
        }
        let log = fs::File::create(root.path().join("log")).unwrap();
        let mut shell = shell(root.path(), &script);
        // A group of its own, so that what it leaves running can be found and ended.
        let shell = shell.process_group(0).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let example = Self { root, name: name.to_owned(), blocks, stack, shell, _turn: turn };
        example.wait_until_well();
        example
    }

    /// The port where its clients connect.
    pub(crate) fn port(&self) -> u16 {
        self.stack.listeners.values().next().unwrap().bind.port()
    }

    /// Pastes another block into another terminal, and returns what it printed.
    pub(crate) fn paste(&self, block: usize) -> String {
        let script = &self.blocks[block];
        let output = shell(self.root.path(), script).output().unwrap();
        must(&output, &format!("{script}{}", self.log()))
    }

    /// `keel ARGUMENTS…`, which must succeed.
    pub(crate) fn keel(&self, arguments: &[&str]) -> String {
        let output = self.try_keel(arguments);
        must(&output, &format!("keel {}\n{}", arguments.join(" "), self.log()))
    }

    fn try_keel(&self, arguments: &[&str]) -> Output {
        keel(self.root.path()).args(arguments).output().unwrap()
    }

    /// What a client gets at this path.
    pub(crate) fn get(&self, path: &str) -> String {
        let url = format!("http://127.0.0.1:{}{path}", self.port());
        must(&Command::new("curl").args(["-sS", &url]).output().unwrap(), &url)
    }

    fn try_status(&self) -> Option<Status> {
        let output = self.try_keel(&["status", "--json"]);
        output.status.success().then(|| serde_json::from_slice(&output.stdout).expect("status --json is a Status"))
    }

    /// Waits until every instance that should be there is healthy, and none is on its way out.
    pub(crate) fn wait_until_well(&self) {
        let start = Instant::now();
        let mut last = None;
        while start.elapsed() < PATIENCE {
            last = self.try_status();
            if last.as_ref().is_some_and(is_well) {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("the example `{}` does not get well: {last:#?}\nlog: {}", self.name, self.log());
    }

    /// Waits until something came to pass.
    pub(crate) fn wait_until(&self, what: &str, is: impl Fn() -> bool) {
        let start = Instant::now();
        while !is() {
            assert!(start.elapsed() < PATIENCE, "`{}`: it never came to pass that {what}: {}", self.name, self.log());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Kills an instance as the kernel would, and waits until another one took its place.
    pub(crate) fn kill_one_of(&self, service: &str) {
        let victim = || self.instances(service).into_iter().find_map(|instance| Some((instance.name, instance.pid?)));
        let (name, pid) = victim().expect("an instance that runs");
        kill_process(of(pid), Signal::KILL).unwrap();
        let start = Instant::now();
        while self.instances(service).iter().any(|i| i.name == name && i.pid.is_none_or(|other| other == pid)) {
            assert!(start.elapsed() < PATIENCE, "{name} stays dead: {}", self.log());
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn instances(&self, service: &str) -> Vec<InstanceStatus> {
        let status = self.try_status().expect("the stack answers");
        let found = status.services.into_iter().find(|found| found.name == service);
        found.expect("it has that service").instances
    }

    /// Kills the server on this port, which the shell started, and returns its process id.
    pub(crate) fn kill_server(&self, port: &str) -> u32 {
        let arguments = format!("server.py\0{port}\0");
        let found =
            |pid: &u32| fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|l| l.ends_with(&arguments));
        let pid = self.left().into_iter().find(found).expect("the server runs");
        kill_process(of(pid), Signal::KILL).unwrap();
        pid
    }

    /// Starts a server as the README does, in the group of the first shell, so that it ends with that.
    pub(crate) fn start_server(&self, port: &str) {
        let script = format!("cd examples/{}\npython3 server.py {port} >/dev/null 2>&1 &\n", self.name);
        let group = i32::try_from(self.shell.id()).unwrap();
        assert!(shell(self.root.path(), &script).process_group(group).status().unwrap().success());
    }

    /// Asks `keel` to end, as a service manager does: in time, in order, and nothing of its own stays behind.
    pub(crate) fn stop(mut self) {
        kill_process(of(self.guard().expect("the guard's process id")), Signal::TERM).unwrap();
        let code = self.ended().unwrap_or_else(|| panic!("`{}` does not end: {}", self.name, self.log()));
        assert_eq!(code, 0, "log: {}", self.log());
        self.end_group();
        let start = Instant::now();
        while !self.left().is_empty() {
            let shown: Vec<String> = self.left().into_iter().map(shown).collect();
            assert!(start.elapsed() < PATIENCE, "`{}` left running: {shown:#?}", self.name);
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn ended(&mut self) -> Option<i32> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.shell.try_wait().unwrap() {
                return Some(status.code().unwrap_or(-1));
            }
            thread::sleep(Duration::from_millis(20));
        }
        None
    }

    /// What somebody else started is for the reader to end: the group of the shell's own jobs.
    fn end_group(&self) {
        let _ = kill_process_group(of(self.shell.id()), Signal::KILL);
    }

    fn guard(&self) -> Option<u32> {
        let lock = fs::read(self.root.path().join("state/lock")).ok()?;
        let holder: serde_json::Value = serde_json::from_slice(&lock).ok()?;
        u32::try_from(holder["pid"].as_u64()?).ok()
    }

    /// Every process that has the copy's path in its arguments, its environment or as its working directory.
    fn left(&self) -> Vec<u32> {
        let needle = self.root.path().to_str().unwrap();
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let has = |pid: &u32| {
            let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            let text = [read("cmdline"), read("environ")].concat();
            let cwd = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
            cwd.starts_with(needle) || text.windows(needle.len()).any(|window| window == needle.as_bytes())
        };
        pids.filter(has).collect()
    }

    fn log(&self) -> String {
        let mut text = String::new();
        if let Ok(mut file) = fs::File::open(self.root.path().join("log")) {
            let _ = file.read_to_string(&mut text);
        }
        text
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let runs = self.shell.try_wait().is_ok_and(|ended| ended.is_none());
        if let Some(guard) = self.guard().filter(|_| runs) {
            let _ = kill_process(of(guard), Signal::TERM);
            let _ = self.ended();
        }
        self.end_group();
        let _ = self.shell.wait();
    }
}

impl Need {
    fn must_be_there(&self) {
        let (folder, name) = self.file.rsplit_once('/').unwrap_or(("", self.file));
        let path = std::env::var("PATH").unwrap_or_default();
        let folders: Vec<&str> =
            if folder.is_empty() { path.split(':').chain(["/usr/sbin"]).collect() } else { vec![folder] };
        let (before, after) = name.split_once('*').unwrap_or((name, ""));
        let fits = |found: &str| {
            if name.contains('*') { found.starts_with(before) && found.ends_with(after) } else { found == name }
        };
        let there = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
        let found = there.filter_map(|entry| entry.file_name().into_string().ok()).any(|found| fits(&found));
        assert!(found, "`{}` is not there: apt-get install {}, or cargo xtask setup", self.file, self.package);
    }
}

fn is_well(status: &Status) -> bool {
    !status.services.is_empty()
        && status.services.iter().all(|service| {
            service.instances.len() == service.replicas as usize
                && service.instances.iter().all(|instance| instance.health == Health::Healthy)
        })
}

/// `keel` as the shell would find it.
fn keel(root: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keel"));
    surroundings(&mut command, root);
    command
}

/// A shell that ends at the first command that fails.
fn shell(root: &Path, script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-ec", script]);
    surroundings(&mut command, root);
    command
}

fn surroundings(command: &mut Command, root: &Path) {
    let folder = Path::new(env!("CARGO_BIN_EXE_keel")).parent().unwrap();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default());
    command.current_dir(root).env("PATH", path).env("KEEL_STATE_DIR", root.join("state")).stdin(Stdio::null());
}

/// Standard output of what must have succeeded.
fn must(output: &Output, what: &str) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{what}\nended with {}\n{out}\n{err}", output.status);
    out.into_owned()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy(&source, &target);
        } else {
            fs::copy(&source, &target).unwrap();
        }
    }
}

fn of(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
}

fn shown(pid: u32) -> String {
    let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    format!("{pid} {}", line.replace('\0', " "))
}
