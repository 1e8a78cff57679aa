//! Where things lie by default, by the XDG base directory specification.
//!
//! State of a stack: `/var/lib/keel/STACK` for root, else `$XDG_STATE_HOME/keel/STACK`. State of the demo:
//! `$XDG_DATA_HOME/keel/demo`. Sockets: a short path made from a hash of the state directory, since names of
//! sockets are limited to 108 bytes (unix(7)). Nothing is created here, except by [`private_dir`].

use std::{
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use crate::failure::Failure;

/// The folders from which everything else follows.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    uid: u32,
    state_base: PathBuf,
    data_base: PathBuf,
    runtime_base: PathBuf,
}

impl Places {
    /// From this process's user and environment.
    pub(crate) fn from_env() -> Self {
        Self::new(rustix::process::geteuid().as_raw(), |name| std::env::var_os(name).map(PathBuf::from))
    }

    /// For a user and an environment. Relative paths count as unset, as the specification asks.
    fn new(uid: u32, env: impl Fn(&str) -> Option<PathBuf>) -> Self {
        let absolute = |name| env(name).filter(|path| path.is_absolute());
        let home = absolute("HOME").unwrap_or_else(|| PathBuf::from(if uid == 0 { "/root" } else { "/" }));
        let state_base = match (uid, absolute("XDG_STATE_HOME")) {
            (0, _) => PathBuf::from("/var/lib"),
            (_, Some(dir)) => dir,
            (_, None) => home.join(".local/state"),
        };
        let runtime_base = match (uid, absolute("XDG_RUNTIME_DIR")) {
            (0, _) => PathBuf::from("/run/keel"),
            (_, Some(dir)) => dir.join("keel"),
            (_, None) => PathBuf::from(format!("/tmp/keel-{uid}")),
        };
        Self {
            uid,
            state_base: state_base.join("keel"),
            data_base: absolute("XDG_DATA_HOME").unwrap_or_else(|| home.join(".local/share")).join("keel"),
            runtime_base,
        }
    }

    /// For an ordinary user with this home, whoever runs the tests.
    #[cfg(test)]
    pub(crate) fn in_home(home: &Path) -> Self {
        let home = std::fs::canonicalize(home).expect("the home exists");
        let places = Self::new(1000, |name| (name == "HOME").then(|| home.clone()));
        Self { uid: rustix::process::geteuid().as_raw(), ..places }
    }

    /// Where the stack of this name keeps its state.
    pub(crate) fn state_dir(&self, stack: &str) -> PathBuf {
        self.state_base.join(stack)
    }

    /// Where `keel demo` keeps its state.
    pub(crate) fn demo_dir(&self) -> PathBuf {
        self.data_base.join("demo")
    }

    /// Every place where a stack of this user may have its state by default.
    pub(crate) fn candidates(&self) -> Vec<PathBuf> {
        let mut found = vec![self.demo_dir()];
        let entries = std::fs::read_dir(&self.state_base).into_iter().flatten().flatten();
        let mut dirs: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
        dirs.sort();
        found.extend(dirs);
        found
    }

    /// The folder for the sockets of the stack in `state_dir`, which must be absolute.
    pub(crate) fn runtime_dir(&self, state_dir: &Path) -> PathBuf {
        self.runtime_base.join(format!("{:012x}", hash(state_dir) & 0xffff_ffff_ffff))
    }

    /// Makes the runtime folder and what lies above it, for this user alone.
    pub(crate) fn make_runtime_dir(&self, state_dir: &Path) -> Result<PathBuf, Failure> {
        let dir = self.runtime_dir(state_dir);
        private_dir(&self.runtime_base, self.uid)?;
        private_dir(&dir, self.uid)?;
        Ok(dir)
    }

    /// Makes the state directory, for this user alone, and returns its absolute path. A folder that has other
    /// things in it is refused: its mode would be changed, and what lies there would be mixed with ours.
    pub(crate) fn make_state_dir(&self, dir: &Path) -> Result<PathBuf, Failure> {
        let ours = |name: &str| dir.join(name).exists();
        let empty = std::fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_none());
        if !empty && !ours("lock") && !ours("VERSION") {
            return Err(Failure::usage("this folder has other things in it")
                .at_path(dir)
                .because("it is not empty, and keel has kept no state there before")
                .fix("name a new or empty folder with --state-dir"));
        }
        private_dir(dir, self.uid)?;
        let opened = std::fs::OpenOptions::new().append(true).create(true).open(dir.join("lock"));
        opened.map_err(|error| cannot_make(dir, &error))?;
        std::fs::canonicalize(dir).map_err(|error| cannot_make(dir, &error))
    }
}

/// Makes a folder with mode 0700 (and what lies above it) or makes sure that the one there is ours. Somebody
/// else's folder is refused, since whoever owns it could swap our sockets; so is a symbolic link in `/tmp`.
fn private_dir(dir: &Path, uid: u32) -> Result<(), Failure> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|error| cannot_make(dir, &error))?;
    let found = if dir.starts_with("/tmp") && dir.components().count() <= 3 {
        std::fs::symlink_metadata(dir)
    } else {
        std::fs::metadata(dir)
    };
    let found = found.map_err(|error| cannot_make(dir, &error))?;
    if !found.is_dir() || found.uid() != uid {
        return Err(Failure::new("this folder belongs to somebody else")
            .at_path(dir)
            .because(format!("it belongs to user {}, and keel runs as user {uid}", found.uid()))
            .fix("remove it, run keel as its owner, or choose another place with --state-dir"));
    }
    if found.mode() & 0o077 != 0 {
        let private = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(dir, private).map_err(|error| cannot_make(dir, &error))?;
    }
    Ok(())
}

fn cannot_make(dir: &Path, error: &io::Error) -> Failure {
    let fix = match error.kind() {
        io::ErrorKind::PermissionDenied => "choose a place that you may write to with --state-dir",
        io::ErrorKind::ReadOnlyFilesystem => "choose a place on a file system that can be written with --state-dir",
        io::ErrorKind::StorageFull => "free some space, or choose another place with --state-dir",
        _ => "choose another place with --state-dir",
    };
    Failure::new("cannot make a folder").at_path(dir).because(error).fix(fix)
}

/// FNV-1a over the path's bytes, in 64 bits: short names that do not change between versions.
fn hash(path: &Path) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    path.as_os_str().as_encoded_bytes().iter().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(uid: u32, env: &[(&str, &str)]) -> Places {
        Places::new(uid, |name| env.iter().find(|(known, _)| *known == name).map(|(_, value)| PathBuf::from(value)))
    }

    #[test]
    fn root_and_others_have_their_places() {
        let root = places(0, &[("HOME", "/root"), ("XDG_STATE_HOME", "/x")]);
        assert_eq!(root.state_dir("shop"), Path::new("/var/lib/keel/shop"));
        assert_eq!(root.demo_dir(), Path::new("/root/.local/share/keel/demo"));
        assert!(root.runtime_dir(Path::new("/a")).starts_with("/run/keel"));
        let user = places(1000, &[("HOME", "/home/u")]);
        assert_eq!(user.state_dir("shop"), Path::new("/home/u/.local/state/keel/shop"));
        assert!(user.runtime_dir(Path::new("/a")).starts_with("/tmp/keel-1000"));
        let set = places(1000, &[("HOME", "/home/u"), ("XDG_STATE_HOME", "/s"), ("XDG_RUNTIME_DIR", "/run/user/1000")]);
        assert_eq!(set.state_dir("shop"), Path::new("/s/keel/shop"));
        assert!(set.runtime_dir(Path::new("/a")).starts_with("/run/user/1000/keel"));
        assert_eq!(
            places(7, &[("HOME", "/h"), ("XDG_STATE_HOME", "rel")]).state_dir("a"),
            Path::new("/h/.local/state/keel/a")
        );
    }

    #[test]
    fn socket_paths_are_short_and_differ() {
        let places = places(4_294_967_294, &[]);
        let dir = places.runtime_dir(Path::new("/a/very/long/path/that/goes/on/and/on/and/on/for/ever"));
        assert!(dir.join("control.sock").as_os_str().len() < 60, "{}", dir.display());
        assert_ne!(dir, places.runtime_dir(Path::new("/a/very/long/path/that/goes/on/and/on/and/on/for/eve")));
        assert_eq!(hash(Path::new("a")), 0xaf63_dc4c_8601_ec8c, "the published test vector of FNV-1a");
    }

    #[test]
    fn a_folder_of_other_things_is_left_alone() {
        let temp = tempfile::tempdir().unwrap();
        let uid = std::fs::metadata(temp.path()).unwrap().uid();
        let places = places(uid, &[]);
        let (fresh, other) = (temp.path().join("fresh"), temp.path().join("other"));
        std::fs::create_dir(&other).unwrap();
        std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::write(other.join("thesis.txt"), "x").unwrap();
        assert_eq!(places.make_state_dir(&other).unwrap_err().exit, crate::failure::Exit::Usage);
        assert_eq!(std::fs::metadata(&other).unwrap().mode() & 0o777, 0o755);
        assert_eq!(places.make_state_dir(&fresh).unwrap(), fresh.canonicalize().unwrap());
        std::fs::write(fresh.join("keel.toml"), "x").unwrap();
        assert!(places.make_state_dir(&fresh).is_ok(), "a second start finds what the first one left");
    }

    #[test]
    fn folders_are_private() {
        let temp = tempfile::tempdir().unwrap();
        let uid = std::fs::metadata(temp.path()).unwrap().uid();
        let dir = temp.path().join("a/b");
        private_dir(&dir, uid).unwrap();
        assert_eq!(std::fs::metadata(&dir).unwrap().mode() & 0o777, 0o700);
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
        private_dir(&dir, uid).unwrap();
        assert_eq!(std::fs::metadata(&dir).unwrap().mode() & 0o777, 0o700);
        let refused = private_dir(&dir, uid + 1).unwrap_err();
        assert!(refused.render(crate::style::Paint::plain()).contains("belongs to somebody else"));
    }
}
