//! Which processes are drills of this stack, by what `/proc` shows (proc(5)).
//!
//! A drill that the node process starts may kill that node process: it becomes a child of the guard then and must go on,
//! to its verdict and to take back what it did; so must the helpers that undo its harm. Each of them has the folder of
//! this stack's sockets open, whose lock keeps drills apart, from before it does any harm until nothing is left to undo.
//! That is what they are known by, beside their user and their program: whoever has it not has done no harm.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

/// Whether this process carries out a drill of the stack whose sockets lie in this folder, or takes its harm back.
pub(crate) fn is_drill(pid: i32, sockets: &Path) -> bool {
    let process = format!("/proc/{pid}");
    let same = |of: &str| {
        let file = |process: &str| identity(&Path::new(process).join(of));
        file(&process).is_some_and(|theirs| file("/proc/self") == Some(theirs))
    };
    let user = |process: &str| fs::metadata(process).map(|meta| meta.uid()).ok();
    same("exe")
        && user(&process).is_some_and(|theirs| user("/proc/self") == Some(theirs))
        && fs::read(format!("{process}/cmdline")).is_ok_and(|words| says_drill(&words))
        && has_open(&process, sockets)
}

fn says_drill(words: &[u8]) -> bool {
    words.split(|byte| *byte == 0).nth(1) == Some(b"drill")
}

/// Whether a process has this folder open.
fn has_open(process: &str, folder: &Path) -> bool {
    let Some(folder) = identity(folder) else { return false };
    let descriptors = fs::read_dir(format!("{process}/fd")).into_iter().flatten().flatten();
    descriptors.into_iter().any(|entry| identity(&entry.path()) == Some(folder))
}

/// What tells a file from any other: its device and number.
fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok()
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        process::{Child, Command, Stdio},
    };

    use super::*;

    #[test]
    fn only_the_command_itself_counts() {
        assert!(says_drill(b"/proc/self/exe\0drill\0run\0kill-node-process\0"));
        assert!(!says_drill(b"keel\0__shop\0drill\0") && !says_drill(b"keel\0") && !says_drill(b""));
        assert!(!is_drill(std::process::id().cast_signed(), Path::new("/")), "a test is none");
        assert!(!is_drill(i32::MAX, Path::new("/")));
    }

    struct Ended(Child);

    impl Drop for Ended {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn only_who_has_the_folder_of_this_stack_open_counts() {
        let folder = std::env::temp_dir();
        // The same program with `drill` as its first argument, which the harness of tests takes for a filter; it waits
        // for the end of its standard input in the test below.
        let start = |open: &Path| {
            let mut again = Command::new("/proc/self/exe");
            again.args(["drill", "waits_as_a_drill_would", "--include-ignored", "--nocapture"]);
            again.env(WAITS, "1").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(File::open(open).unwrap());
            Ended(again.spawn().unwrap())
        };
        let is = |child: &Ended| is_drill(child.0.id().cast_signed(), &folder);
        let (own, other) = (start(&folder), start(Path::new("/")));
        // A child has its own program once exec(2) is through.
        let begun = std::time::Instant::now();
        while !is(&own) && begun.elapsed() < std::time::Duration::from_secs(20) {
            std::thread::yield_now();
        }
        assert!(is(&own));
        assert!(!is(&other), "somebody else's drill");
    }

    /// Set for a child that is to wait.
    const WAITS: &str = "KEEL_TEST_WAITS";

    #[test]
    fn waits_as_a_drill_would() {
        if std::env::var_os(WAITS).is_some() {
            let read = std::io::Read::read_to_end(&mut std::io::stdin(), &mut Vec::new());
            assert!(read.is_ok());
        }
    }
}
