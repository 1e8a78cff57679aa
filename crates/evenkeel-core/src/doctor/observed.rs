//! What was read of a machine and a stack. Values, no judgement; `None` and empty lists where nothing could be read.

use crate::{stack::Stack, status::Status};

/// Everything at once.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The machine.
    pub machine: Machine,
    /// The state directory, where one is known.
    pub state: Option<StateDir>,
    /// The stack file in force, or the one that would be started.
    pub stack: Option<Stack>,
    /// The stack that runs.
    pub running: Option<Running>,
    /// Units of systemd that start `keel up`.
    pub units: Vec<Unit>,
    /// Instances whose guard is gone.
    pub orphans: Vec<Orphan>,
}

/// What may be done by a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// It may.
    Yes,
    /// It may not.
    No,
}

/// The machine, as a process of this user sees it.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// Largest number of open files that a process may set for itself (`getrlimit(2)`).
    pub open_files: Option<u64>,
    /// `net.core.somaxconn` (listen(2)).
    pub somaxconn: Option<u64>,
    /// Whether the kernel considers its clock synchronised (`adjtimex(2)`).
    pub clock_synchronised: Option<bool>,
    /// Whether memory of a process can be bounded: a control group with that controller left to us.
    pub memory_bounds: Option<Capability>,
    /// What was found about control groups, in words.
    pub cgroup: String,
    /// First port that anybody may bind (`net.ipv4.ip_unprivileged_port_start`).
    pub unprivileged_port_start: Option<u16>,
    /// Whether ports below that may be bound (`CAP_NET_BIND_SERVICE`, capabilities(7)).
    pub low_ports: Option<Capability>,
    /// Memory in total and available without swapping, in bytes (`proc_meminfo(5)`).
    pub memory_bytes: Option<(u64, u64)>,
    /// Swap in total and free, in bytes.
    pub swap_bytes: Option<(u64, u64)>,
    /// `vm.overcommit_memory` (`proc_sys_vm(5)`).
    pub overcommit: Option<u8>,
    /// Zombies whose parent is process 1, and that process's name.
    pub unreaped: Option<(u32, String)>,
}

/// A state directory.
#[derive(Clone, Debug, Default)]
pub struct StateDir {
    /// Where.
    pub path: String,
    /// Its owner.
    pub owner: u32,
    /// Who `keel` runs as, or would.
    pub user: u32,
    /// Its mode's permission bits.
    pub mode: u32,
    /// The file system's name where it lies in memory (`tmpfs`, `ramfs`).
    pub in_memory: Option<String>,
    /// Room of its file system: total and free for this user, in bytes.
    pub room_bytes: Option<(u64, u64)>,
    /// Free and total inodes, where the file system counts them.
    pub inodes: Option<(u64, u64)>,
    /// What `VERSION` says.
    pub version: Option<String>,
    /// The format that this `keel` knows.
    pub known_version: u32,
    /// Files and folders that were set aside because they were damaged.
    pub set_aside: Vec<String>,
    /// Releases on disk, by service.
    pub releases: Vec<ReleaseFolder>,
    /// Secrets in the store, and whether their key was exported; `None` without a store.
    pub secrets: Option<(u64, bool)>,
    /// The folder of the sockets.
    pub runtime: Option<RuntimeDir>,
}

/// Releases of one service.
#[derive(Clone, Debug, Default)]
pub struct ReleaseFolder {
    /// The service.
    pub service: String,
    /// How many there are.
    pub count: u64,
    /// What they take together.
    pub size_bytes: u64,
}

/// The folder of the sockets.
#[derive(Clone, Debug, Default)]
pub struct RuntimeDir {
    /// Where.
    pub path: String,
    /// Its owner; `None` where it does not exist.
    pub owner: Option<u32>,
    /// Its mode's permission bits.
    pub mode: u32,
}

/// A stack that runs.
#[derive(Clone, Debug)]
pub struct Running {
    /// What it answers; `None` where its node process does not.
    pub status: Option<Status>,
    /// Why it does not.
    pub silent: Option<String>,
    /// Version of the `keel` that asks.
    pub our_version: String,
    /// Its own processes.
    pub processes: Vec<OwnProcess>,
    /// Instances that have a process here.
    pub instances: Vec<Instance>,
    /// Whether an API for the network is served with tokens.
    pub tokens: Option<u64>,
}

/// A process of `keel`.
#[derive(Clone, Debug, Default)]
pub struct OwnProcess {
    /// `guard`, `node` or `edge`.
    pub name: &'static str,
    /// Its number.
    pub pid: u32,
    /// Whether the file that it was started from was replaced or removed (`/proc/PID/exe`).
    pub replaced: bool,
    /// Its limit of open files and how many it has (`/proc/PID/limits`, `/proc/PID/fd`).
    pub open_files: Option<(u64, u64)>,
    /// How readily the kernel ends it when memory is short, from -1000 to 1000 (`proc_pid_oom_score_adj(5)`).
    pub oom_score_adj: Option<i32>,
}

/// An instance's process.
#[derive(Clone, Debug, Default)]
pub struct Instance {
    /// `shop/1`.
    pub name: String,
    /// How readily the kernel ends it.
    pub oom_score_adj: Option<i32>,
    /// Resident memory in bytes (`proc_pid_status(5)`).
    pub resident_bytes: Option<u64>,
}

/// An instance that outlived its guard.
#[derive(Clone, Debug, Default)]
pub struct Orphan {
    /// The process that holds it, below `keel`'s own name.
    pub pid: u32,
    /// What can be told of it.
    pub what: String,
}

/// A unit of systemd that starts `keel up`.
#[derive(Clone, Debug, Default)]
pub struct Unit {
    /// Its file.
    pub path: String,
    /// Settings that would harm.
    pub settings: Vec<UnitSetting>,
}

/// A setting of a unit.
#[derive(Clone, Debug, Default)]
pub struct UnitSetting {
    /// `KillMode`.
    pub key: String,
    /// What it is.
    pub is: String,
    /// What it should be.
    pub should: String,
    /// What would happen otherwise.
    pub why: String,
}
