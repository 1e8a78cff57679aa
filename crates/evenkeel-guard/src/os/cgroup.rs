//! A cgroup for each process that is started, where the system permits (cgroups(7)).
//!
//! On version 2, also where it is mounted beside version 1, the group serves to kill all of a process's descendants
//! at once (`cgroup.kill`) and, where the controller was delegated, to bound its memory. Where only version 1 has
//! the memory controller, a second group there bounds the memory. Nothing is assumed: what cannot be made is left
//! out, and the tree in `/proc` serves instead.
//!
//! A group is named after its stub, so the guard finds it without being told, and after a crash an empty one is
//! recognised by the number of a process that is no more.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use super::proctree;

/// What a group's name begins with; the stub's number follows.
const PREFIX: &str = "keel-";

/// Where the guard itself goes on version 2, as a group with controllers may hold no processes of its own.
const GUARD: &str = "keel-guard";

/// Where groups can be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Base {
    unified: Option<PathBuf>,
    memory: Option<PathBuf>,
}

/// The group of one process, or those parts of it that exist.
#[derive(Debug, Default)]
pub(crate) struct Group {
    unified: Option<PathBuf>,
    memory: Option<PathBuf>,
}

/// Opened files by which a process enters its group, by writing `0`.
#[derive(Debug, Default)]
pub(crate) struct Entrances {
    /// Version 2.
    pub(crate) unified: Option<File>,
    /// The memory controller of version 1.
    pub(crate) memory: Option<File>,
}

impl Base {
    /// The groups in which this process is.
    pub(crate) fn discover() -> Self {
        Self::of("self")
    }

    /// The groups in which the stub with this number is. It may have been started by a guard in other groups than ours.
    pub(crate) fn of_stub(stub: u32) -> Self {
        Self::of(&stub.to_string())
    }

    fn of(process: &str) -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let groups = fs::read_to_string(format!("/proc/{process}/cgroup")).unwrap_or_default();
        Self::parse(&mounts, &groups)
    }

    /// Once, at the guard's start: lets groups bound memory where all of our own group was left to us, and removes
    /// what a former guard left behind.
    pub(crate) fn prepare(&self) {
        if let Some(unified) = &self.unified {
            delegate_memory(unified);
        }
        for base in [&self.unified, &self.memory].into_iter().flatten() {
            remove_stale(base);
        }
    }

    /// The group of the process below the stub with this number, whether it exists or not.
    pub(crate) fn group(&self, stub: u32) -> Group {
        let name = format!("{PREFIX}{stub}");
        Group {
            unified: self.unified.as_ref().map(|base| base.join(&name)),
            memory: self.memory.as_ref().map(|base| base.join(&name)),
        }
    }

    fn parse(mounts: &str, own: &str) -> Self {
        let mut base = Self::default();
        for line in mounts.lines() {
            let Some((path, kind)) = mounted_group(line, own) else {
                continue;
            };
            match kind {
                Kind::Unified => base.unified = Some(path),
                Kind::Memory => base.memory = Some(path),
            }
        }
        // The guard moved itself into a group of its own below the one that holds the others.
        if let Some(unified) = base.unified.take_if(|path| path.ends_with(GUARD)) {
            base.unified = unified.parent().map(Path::to_owned);
        }
        base
    }
}

impl Group {
    /// Makes what can be made of it.
    pub(crate) fn create(mut self, memory_bytes: Option<u64>) -> Self {
        self.unified = self.unified.filter(|path| fs::create_dir(path).is_ok());
        let Some(bytes) = memory_bytes else {
            self.memory = None;
            return self;
        };
        if self.unified.as_ref().is_some_and(|path| write(&path.join("memory.max"), &bytes.to_string())) {
            self.memory = None;
        } else {
            self.memory = self.memory.filter(|path| fs::create_dir(path).is_ok());
            if let Some(path) = &self.memory {
                write(&path.join("memory.limit_in_bytes"), &bytes.to_string());
            }
        }
        self
    }

    /// Sets the bound of memory again where version 2 has the controller.
    pub(crate) fn bound_memory(&self, memory_bytes: Option<u64>) {
        if let (Some(path), Some(bytes)) = (&self.unified, memory_bytes) {
            write(&path.join("memory.max"), &bytes.to_string());
        }
    }

    /// The ways in.
    pub(crate) fn entrances(&self) -> Entrances {
        let open = |path: &Option<PathBuf>| {
            let path = path.as_ref()?.join("cgroup.procs");
            OpenOptions::new().write(true).open(path).ok()
        };
        Entrances { unified: open(&self.unified), memory: open(&self.memory) }
    }

    /// Takes back that groups beside it bound memory, since our service manager must be able to start the next guard in
    /// the group above them: the kernel lets no process into one that hands controllers down (cgroups(7)). The next
    /// guard hands it down again.
    pub(crate) fn take_memory_back(&self) {
        if let Some(base) = self.unified.as_deref().and_then(Path::parent).filter(|base| base.join(GUARD).exists()) {
            write(&base.join("cgroup.subtree_control"), "-memory");
        }
    }

    /// Kills everything in it at once, where that can be done.
    pub(crate) fn kill(&self) {
        if let Some(path) = &self.unified {
            write(&path.join("cgroup.kill"), "1");
        }
    }

    /// Removes it; says whether nothing of it is left.
    pub(crate) fn remove(&self) -> bool {
        [&self.unified, &self.memory]
            .into_iter()
            .flatten()
            .map(|path| fs::remove_dir(path).is_ok() || !path.exists())
            .filter(|gone| !gone)
            .count()
            == 0
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Unified,
    Memory,
}

/// The path of our own group in the hierarchy that a line of mountinfo (proc(5)) mounts, if it is of use here.
fn mounted_group(line: &str, own: &str) -> Option<(PathBuf, Kind)> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(3);
    let (root, point) = (mount.next()?, mount.next()?);
    let mut filesystem = filesystem.split(' ');
    let (kind, controller) = match filesystem.next()? {
        "cgroup2" => (Kind::Unified, ""),
        "cgroup" if filesystem.next_back()?.split(',').any(|option| option == "memory") => (Kind::Memory, "memory"),
        _ => return None,
    };
    let path = own.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        controllers.split(',').any(|each| each == controller).then_some(path)
    })?;
    // In a container the mount may show only a part of the hierarchy, while our group is named from its top.
    let below = Path::new(path).strip_prefix(root).or_else(|_| Path::new(path).strip_prefix("/")).ok()?;
    Some((Path::new(point).join(below), kind))
}

fn delegate_memory(base: &Path) {
    let has = |file: &str, word: &str| {
        fs::read_to_string(base.join(file)).is_ok_and(|text| text.split_whitespace().any(|each| each == word))
    };
    if !has("cgroup.controllers", "memory") || has("cgroup.subtree_control", "memory") {
        return;
    }
    let own = std::process::id().cast_signed();
    let inside = fs::read_to_string(base.join("cgroup.procs")).unwrap_or_default();
    let inside: Vec<i32> = inside.lines().filter_map(|pid| pid.trim().parse().ok()).collect();
    // Whoever ran us may have started something beside us before that, as what says when the stack is up.
    if !inside.iter().all(|pid| *pid == own || proctree::parent(*pid) == Some(own)) {
        return;
    }
    let leaf = base.join(GUARD);
    let _ = fs::create_dir(&leaf);
    let put = |into: &Path| {
        for pid in &inside {
            // One may have ended.
            write(&into.join("cgroup.procs"), &pid.to_string());
        }
    };
    put(&leaf);
    if !write(&base.join("cgroup.subtree_control"), "+memory") {
        put(base);
        let _ = fs::remove_dir(&leaf);
    }
}

fn remove_stale(base: &Path) {
    let Ok(entries) = fs::read_dir(base) else { return };
    for entry in entries.filter_map(Result::ok) {
        let stub = entry.file_name().to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse::<u32>().ok());
        if stub.is_some_and(|stub| !Path::new(&format!("/proc/{stub}")).exists()) {
            // Fails where something still lives in it, and then it is somebody else's.
            let _ = fs::remove_dir(entry.path());
        }
    }
}

fn write(path: &Path, text: &str) -> bool {
    OpenOptions::new().write(true).open(path).and_then(|mut file| file.write_all(text.as_bytes())).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate";
    const V1: &str = "31 23 0:27 / /sys/fs/cgroup/memory rw shared:5 - cgroup cgroup rw,memory";
    const HYBRID: &str = "32 23 0:28 / /sys/fs/cgroup/unified rw shared:6 - cgroup2 cgroup2 rw";

    #[test]
    fn version_2_alone() {
        let base = Base::parse(V2, "0::/system.slice/keel.service\n");
        assert_eq!(base.unified, Some("/sys/fs/cgroup/system.slice/keel.service".into()));
        assert_eq!(base.memory, None);
    }

    #[test]
    fn both_versions_side_by_side() {
        let base = Base::parse(&format!("{V1}\n{HYBRID}"), "4:memory:/a/b\n1:cpu,cpuacct:/\n0::/\n");
        assert_eq!(base.unified, Some("/sys/fs/cgroup/unified/".into()));
        assert_eq!(base.memory, Some("/sys/fs/cgroup/memory/a/b".into()));
    }

    #[test]
    fn a_mount_that_shows_only_our_part() {
        let mount = V2.replace("0:26 / ", "0:26 /docker/abc ");
        assert_eq!(Base::parse(&mount, "0::/docker/abc/x\n").unified, Some("/sys/fs/cgroup/x".into()));
    }

    #[test]
    fn the_guard_s_own_group_is_a_leaf() {
        let base = Base::parse(V2, "0::/system.slice/keel.service/keel-guard\n");
        assert_eq!(base.unified, Some("/sys/fs/cgroup/system.slice/keel.service".into()));
    }

    /// Files in place of a group of version 2 in which these processes are.
    fn group_with(processes: &str) -> tempfile::TempDir {
        let base = tempfile::tempdir().unwrap();
        let files = [
            ("cgroup.controllers", "cpu memory"),
            ("cgroup.subtree_control", ""),
            ("cgroup.procs", processes),
            ("keel-guard/cgroup.procs", ""),
        ];
        fs::create_dir(base.path().join(GUARD)).unwrap();
        for (file, text) in files {
            fs::write(base.path().join(file), text).unwrap();
        }
        base
    }

    #[test]
    fn memory_is_bounded_where_nobody_but_us_and_ours_is_in_the_group() {
        let handed_down = |base: &Path| fs::read_to_string(base.join("cgroup.subtree_control")).unwrap();
        let own = std::process::id();
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let base = group_with(&format!("{own}\n{}\n", child.id()));
        delegate_memory(base.path());
        assert_eq!(handed_down(base.path()), "+memory");
        assert_ne!(fs::read_to_string(base.path().join("keel-guard/cgroup.procs")).unwrap(), "");
        child.kill().unwrap();
        child.wait().unwrap();

        let shared = group_with(&format!("{own}\n{}\n", std::os::unix::process::parent_id()));
        delegate_memory(shared.path());
        assert_eq!(handed_down(shared.path()), "");
    }

    #[test]
    fn what_was_handed_down_is_taken_back_where_the_guard_handed_it_down() {
        let base = group_with("");
        let group = Base { unified: Some(base.path().to_owned()), memory: None }.group(7);
        let handed_down = || fs::read_to_string(base.path().join("cgroup.subtree_control")).unwrap();
        group.take_memory_back();
        assert_eq!(handed_down(), "-memory");
        fs::write(base.path().join("cgroup.subtree_control"), "").unwrap();
        fs::remove_dir_all(base.path().join(GUARD)).unwrap();
        group.take_memory_back();
        assert_eq!(handed_down(), "");
    }

    #[test]
    fn nothing_mounted_nothing_assumed() {
        assert_eq!(Base::parse("22 1 0:2 / /proc rw - proc proc rw", "0::/\n"), Base::default());
        assert!(Base::default().group(7).create(Some(1)).remove());
    }
}
