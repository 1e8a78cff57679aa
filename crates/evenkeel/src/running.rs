//! Finding the stack that a command is about.
//!
//! The option `--state-dir` or the variable `KEEL_STATE_DIR` names it; without them it is the only stack that
//! runs in a default place. A stack runs where the lock of its state directory is held.

use std::path::{Path, PathBuf};

use crate::{
    context::shell_word,
    failure::{Exit, Failure},
    http::{Connection, HttpError},
    lock::{self, Holder},
    paths::Places,
    process,
    remote::Remote,
    start::STUBS,
};

/// A stack that runs here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Running {
    /// Its state directory, absolute.
    pub(crate) state_dir: PathBuf,
    /// Who holds the lock.
    pub(crate) holder: Holder,
    /// Where it runs, if not here: then there is no state directory and no holder to speak of.
    pub(crate) remote: Option<Remote>,
}

impl Running {
    /// The stack that runs in this state directory.
    pub(crate) fn in_dir(dir: &Path) -> Option<Self> {
        let holder = lock::holder(dir)?;
        Some(Self { state_dir: std::fs::canonicalize(dir).ok()?, holder, remote: None })
    }

    /// The stack behind a console's address.
    pub(crate) fn elsewhere(remote: Remote) -> Self {
        let holder = Holder { pid: 0, stack: remote.url.clone(), runtime_dir: PathBuf::new(), version: String::new() };
        Self { state_dir: PathBuf::new(), holder, remote: Some(remote) }
    }

    /// A connection to its API, here or elsewhere.
    pub(crate) async fn connect(&self) -> Result<Connection, HttpError> {
        match &self.remote {
            Some(remote) => Connection::with_token(&remote.authority, &remote.token).await,
            None => Connection::unix(&self.socket()).await,
        }
    }

    /// The socket of its API.
    pub(crate) fn socket(&self) -> PathBuf {
        self.holder.runtime_dir.join("control.sock")
    }
}

/// The stack in `named`, or else the only one that runs in a default place.
pub(crate) fn find(named: Option<&Path>, places: &Places) -> Result<Running, Failure> {
    if let Some(dir) = named {
        return Running::in_dir(dir).ok_or_else(|| nothing_in(dir, places));
    }
    let candidates = places.candidates();
    let mut found: Vec<Running> = candidates.iter().filter_map(|dir| Running::in_dir(dir)).collect();
    found.dedup_by(|a, b| a.state_dir == b.state_dir);
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(nothing_by_default(&candidates, places)),
        _ => Err(several(&found)),
    }
}

fn nothing_by_default(candidates: &[PathBuf], places: &Places) -> Failure {
    let failure = Failure::new("nothing is running here").exit(Exit::NothingRuns);
    let left = candidates.iter().filter_map(|dir| Some((dir, left_alone(dir, places)?)));
    let left: Vec<String> = left.map(|(dir, left)| format!("{left} ({})", dir.display())).collect();
    if left.is_empty() {
        return failure
            .because("no stack of this user runs in a default place")
            .fix("start one with `keel up FILE` or `keel demo`; one that runs elsewhere is found by --state-dir DIR");
    }
    failure.because(left.join("\n")).fix("`keel up FILE` with the same stack adopts them: they keep their processes")
}

fn nothing_in(dir: &Path, places: &Places) -> Failure {
    let failure = Failure::new("nothing is running here").exit(Exit::NothingRuns).at_path(dir);
    let word = shell_word(&dir.display().to_string());
    match std::fs::metadata(dir) {
        Ok(meta) if !meta.is_dir() => failure.because("this is no folder").fix("name a state directory"),
        Ok(_) if is_hidden(&dir.join("lock")) => {
            failure.because("its lock cannot be read: it belongs to another user").fix("run this as that user")
        }
        Ok(_) => match left_alone(dir, places) {
            Some(left) => failure.because(left).fix(format!(
                "`keel up FILE --state-dir {word}` with the same stack adopts them: they keep their processes"
            )),
            None => failure
                .because("nobody holds the lock of this state directory")
                .fix(format!("start it with `keel up FILE --state-dir {word}`")),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => failure
            .because("there is no such folder")
            .fix(format!("name the state directory of a stack that runs, or `keel up FILE --state-dir {word}`")),
        Err(error) => failure.because(error).fix("name a state directory that you may read"),
    }
}

/// Which instances of a state directory go on without a guard; `None` where there are none or they cannot be seen.
/// Each has a stub, which waits at a socket of its own for the next guard.
fn left_alone(dir: &Path, places: &Places) -> Option<String> {
    let dir = std::fs::canonicalize(dir).ok()?;
    let entries = std::fs::read_dir(places.runtime_dir(&dir).join(STUBS)).ok()?.flatten();
    let stubs = entries.filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".sock")?.parse::<u32>().ok());
    let stubs: Vec<u32> = stubs.filter(|pid| process::is_stub(*pid)).collect();
    let parents = if stubs.is_empty() { Vec::new() } else { process::parents() };
    // One whose instance has ended keeps only how.
    match stubs.iter().filter(|pid| parents.contains(pid)).count() {
        0 => None,
        1 => Some("`keel up` was killed; 1 instance goes on and waits for the next one".to_owned()),
        n => Some(format!("`keel up` was killed; {n} instances go on and wait for the next one")),
    }
}

/// Whether this user may not look at a file, be it there or not.
fn is_hidden(file: &Path) -> bool {
    std::fs::File::open(file).is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
}

fn several(found: &[Running]) -> Failure {
    let line = |running: &Running| {
        let dir = shell_word(&running.state_dir.display().to_string());
        format!("--state-dir {dir}   ({}, process {})", running.holder.stack, running.holder.pid)
    };
    let lines: Vec<String> = found.iter().map(line).collect();
    Failure::usage(format!("{} stacks are running: say which one", found.len())).fix(lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{lock::Lock, style::Paint};

    fn start(dir: &Path, stack: &str) -> Lock {
        std::fs::create_dir_all(dir).unwrap();
        let holder =
            Holder { pid: 42, stack: stack.to_owned(), runtime_dir: "/run/keel/x".into(), version: "1".to_owned() };
        Lock::take(dir, &holder).unwrap()
    }

    #[test]
    fn the_only_one_is_found_and_several_are_listed() {
        let temp = tempfile::tempdir().unwrap();
        let places = Places::in_home(temp.path());
        assert_eq!(find(None, &places).unwrap_err().exit, Exit::NothingRuns);

        let _shop = start(&places.state_dir("shop"), "shop");
        let found = find(None, &places).unwrap();
        assert_eq!((found.holder.stack.as_str(), found.state_dir.ends_with("keel/shop")), ("shop", true));
        assert_eq!(found.socket(), Path::new("/run/keel/x/control.sock"));

        std::fs::create_dir_all(places.state_dir("stopped")).unwrap();
        assert!(find(None, &places).is_ok(), "a folder without a lock held is no stack that runs");

        let _demo = start(&places.demo_dir(), "demo");
        let failure = find(None, &places).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        let text = failure.render(Paint::plain()).replace(&temp.path().display().to_string(), "HOME");
        insta::assert_snapshot!(text, @r"
        error: 2 stacks are running: say which one
            fix: --state-dir HOME/.local/share/keel/demo   (demo, process 42)
                 --state-dir HOME/.local/state/keel/shop   (shop, process 42)
        ");
        assert_eq!(find(Some(&places.demo_dir()), &places).unwrap().holder.stack, "demo");
    }

    #[test]
    fn a_named_place_without_a_stack_says_why() {
        let temp = tempfile::tempdir().unwrap();
        let places = Places::in_home(temp.path());
        let text = |dir: &Path| {
            let failure = find(Some(dir), &places).unwrap_err();
            assert_eq!(failure.exit, Exit::NothingRuns);
            failure.render(Paint::plain()).replace(&temp.path().display().to_string(), "HOME")
        };
        insta::assert_snapshot!(text(temp.path()), @r"
        error: nothing is running here
          where: HOME
          cause: nobody holds the lock of this state directory
            fix: start it with `keel up FILE --state-dir HOME`
        ");
        insta::assert_snapshot!(text(&temp.path().join("nowhere")), @r"
        error: nothing is running here
          where: HOME/nowhere
          cause: there is no such folder
            fix: name the state directory of a stack that runs, or `keel up FILE --state-dir HOME/nowhere`
        ");
    }
}
