//! Installs what tests and benches need and the machine lacks: Debian packages and Rust components.
//!
//! Nothing is touched where everything is present: apt is not even asked. Installing starts no service,
//! because `policy-rc.d` answers 101 ("action forbidden") meanwhile; one that the machine already has is
//! left as it is. Everything privileged is one short shell script, so that it needs one `sudo`, can be shown
//! to whoever has to run it by hand, and cleans up after itself also when interrupted.
//!
//! Source: `invoke-rc.d(8)` and `policy-rc.d` in Debian's `init-system-helpers`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::steps::{Steps, cargo};

/// What the packages are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// `cargo xtask test`.
    Tests,
    /// `cargo xtask bench`, on top of what tests need.
    Benches,
    /// `cargo xtask conformance`, and nothing else.
    Conformance,
}

/// A program that something here runs, and the Debian package that brings it.
struct Tool {
    /// Its name; `*` in it stands for a version.
    program: &'static str,
    package: &'static str,
    need: Need,
}

const TOOLS: [Tool; 23] = [
    // `tidy`, the last step of the tests, asks it for the list of files.
    Tool { program: "git", package: "git", need: Need::Tests },
    Tool { program: "curl", package: "curl", need: Need::Tests },
    // What the examples run. Java comes without a desktop's libraries; PHP as Apache's module, which brings Apache's
    // program but not Debian's service.
    Tool { program: "node", package: "nodejs", need: Need::Tests },
    // It says whether the units are right; nothing of it is started.
    Tool { program: "systemd-analyze", package: "systemd", need: Need::Tests },
    Tool { program: "python3", package: "python3", need: Need::Tests },
    Tool { program: "javac", package: "default-jdk-headless", need: Need::Tests },
    Tool { program: "libphp*.so", package: "libapache2-mod-php", need: Need::Tests },
    Tool { program: "php-fpm*", package: "php-fpm", need: Need::Tests },
    Tool { program: "cygrpc*.so", package: "python3-grpcio", need: Need::Tests },
    // What the edge forwards has to mean the same to them.
    Tool { program: "haproxy", package: "haproxy", need: Need::Tests },
    Tool { program: "nginx", package: "nginx-light", need: Need::Tests },
    // The console is used in it as by a person.
    Tool { program: "chromium", package: "chromium", need: Need::Tests },
    // It counts the instructions of a request.
    Tool { program: "valgrind", package: "valgrind", need: Need::Tests },
    Tool { program: "wrk", package: "wrk", need: Need::Benches },
    // It counts the system calls of a request.
    Tool { program: "strace", package: "strace", need: Need::Benches },
    Tool { program: "curl", package: "curl", need: Need::Conformance },
    Tool { program: "wrk", package: "wrk", need: Need::Conformance },
    Tool { program: "hey", package: "hey", need: Need::Conformance },
    Tool { program: "h2load", package: "nghttp2-client", need: Need::Conformance },
    Tool { program: "slowhttptest", package: "slowhttptest", need: Need::Conformance },
    Tool { program: "python3", package: "python3", need: Need::Conformance },
    // It looks at the console by rules that npm brings.
    Tool { program: "chromium", package: "chromium", need: Need::Conformance },
    Tool { program: "npm", package: "npm", need: Need::Conformance },
];

/// Daemons and their modules are installed here, which the search path of an ordinary user often leaves out.
const FURTHER_FOLDERS: [&str; 4] =
    ["/usr/sbin", "/usr/local/sbin", "/usr/lib/apache2/modules", "/usr/lib/python3/dist-packages/grpc/_cython"];

const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Installs the Debian packages that are missing. Returns whether everything is there at the end.
pub(crate) fn packages(steps: &mut Steps, need: Need) -> bool {
    let missing = missing(need, &search_path());
    if missing.is_empty() {
        return steps.check("packages", || Ok("nothing is missing".to_owned()));
    }
    let script = install_script(&missing, Path::new(POLICY));
    let root = is_root();
    if !on_path("apt-get", &search_path()) || !(root || on_path("sudo", &search_path())) {
        let problem = by_hand(&missing, on_path("apt-get", &search_path()));
        return steps.check("packages", || Err(problem));
    }
    println!("missing: {}", missing.join(" "));
    let mut command = if root { Command::new("sh") } else { Command::new("sudo") };
    if !root {
        command.arg("sh");
    }
    if !steps.run("packages", command.args(["-c", &script]).stdin(Stdio::inherit())) {
        eprintln!("{}", by_hand(&missing, true));
        return false;
    }
    let still = self::missing(need, &search_path());
    steps.check("packages are there", || {
        if still.is_empty() { Ok(String::new()) } else { Err(format!("installed, but not found: {}", still.join(" "))) }
    })
}

/// Adds rustfmt and clippy through rustup where they are missing. Returns whether both are there at the end.
pub(crate) fn components(steps: &mut Steps, root: &Path) -> bool {
    let absent = |(subcommand, _): &(&str, &str)| !answers(cargo(root).args([*subcommand, "--version"]));
    let missing: Vec<&str> =
        [("fmt", "rustfmt"), ("clippy", "clippy")].into_iter().filter(absent).map(|(_, name)| name).collect();
    if missing.is_empty() {
        return steps.check("components", || Ok("rustfmt and clippy are there".to_owned()));
    }
    if !on_path("rustup", &search_path()) {
        let names = missing.join(" and ");
        return steps.check("components", || {
            Err(format!("{names} are missing and there is no rustup: install them as you installed cargo"))
        });
    }
    steps.run("components", Command::new("rustup").args(["component", "add"]).args(&missing).current_dir(root))
}

/// Whether a command can be run and succeeds; what it prints is nobody's business.
pub(crate) fn answers(command: &mut Command) -> bool {
    let silent = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    silent.status().is_ok_and(|status| status.success())
}

fn missing(need: Need, folders: &[PathBuf]) -> Vec<&'static str> {
    let wanted = TOOLS.iter().filter(|tool| tool.need == need || tool.need == Need::Tests && need == Need::Benches);
    wanted.filter(|tool| !on_path(tool.program, folders)).map(|tool| tool.package).collect()
}

fn on_path(program: &str, folders: &[PathBuf]) -> bool {
    let Some((before, after)) = program.split_once('*') else {
        return folders.iter().any(|folder| folder.join(program).is_file());
    };
    let names = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
    let fits = |name: &str| name.starts_with(before) && name.ends_with(after);
    names.map(|entry| entry.file_name()).any(|name| name.to_str().is_some_and(fits))
}

fn search_path() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain(FURTHER_FOLDERS.map(PathBuf::from)).collect()
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// The privileged part. `set -C` makes the redirection refuse a file that appeared in the meantime; the
/// traps turn a signal into an exit, and the exit removes the file, but only where this script wrote it.
fn install_script(packages: &[&str], policy: &Path) -> String {
    let policy = policy.display();
    let packages = packages.join(" ");
    format!(
        "set -eu
trap 'exit 130' INT
trap 'exit 143' TERM HUP
if [ ! -e {policy} ]; then
  (set -C; printf '#!/bin/sh\\nexit 101\\n' > {policy})
  trap 'rm -f {policy}' EXIT
  chmod 755 {policy}
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update
apt-get install --yes --no-install-recommends {packages}
"
    )
}

fn by_hand(packages: &[&str], apt: bool) -> String {
    let packages = packages.join(" ");
    if apt {
        format!("run as root: apt-get update && apt-get install --no-install-recommends {packages}")
    } else {
        format!("there is no apt-get here: install what Debian calls {packages} by your system's own means")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    /// A folder with an `apt-get` that writes down its arguments and the policy's answer, then exits so.
    fn stage(status: u8) -> tempfile::TempDir {
        let stage = tempfile::tempdir().expect("a temporary folder");
        let folder = stage.path().display();
        let script = format!(
            "#!/bin/sh\nanswer=0\n{folder}/policy-rc.d || answer=$?\necho \"$* $answer\" >> {folder}/log\nexit {status}\n"
        );
        let program = stage.path().join("apt-get");
        std::fs::write(&program, script).expect("the folder is writable");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("the file is ours");
        stage
    }

    fn install(stage: &Path) -> bool {
        let path = format!("{}:/usr/bin:/bin", stage.display());
        let script = install_script(&["wrk", "curl"], &stage.join("policy-rc.d"));
        answers(Command::new("/bin/sh").args(["-c", &script]).env("PATH", path))
    }

    #[test]
    fn services_are_forbidden_while_installing_and_only_then() {
        let stage = stage(0);
        assert!(install(stage.path()));
        let log = std::fs::read_to_string(stage.path().join("log")).expect("apt-get was called");
        assert_eq!(log, "update 101\ninstall --yes --no-install-recommends wrk curl 101\n");
        assert!(!stage.path().join("policy-rc.d").exists());
    }

    #[test]
    fn a_failed_installation_leaves_no_policy_behind() {
        let stage = stage(1);
        assert!(!install(stage.path()));
        let log = std::fs::read_to_string(stage.path().join("log")).expect("apt-get was called");
        assert_eq!(log, "update 101\n");
        assert!(!stage.path().join("policy-rc.d").exists());
    }

    #[test]
    fn the_machines_own_policy_is_kept() {
        let stage = stage(0);
        let policy = stage.path().join("policy-rc.d");
        std::fs::write(&policy, "#!/bin/sh\nexit 104\n").expect("the folder is writable");
        std::fs::set_permissions(&policy, std::fs::Permissions::from_mode(0o755)).expect("the file is ours");
        assert!(install(stage.path()));
        let log = std::fs::read_to_string(stage.path().join("log")).expect("apt-get was called");
        assert!(log.starts_with("update 104\n"), "{log}");
        assert_eq!(std::fs::read_to_string(&policy).expect("still there"), "#!/bin/sh\nexit 104\n");
    }

    #[test]
    fn tests_need_less_than_benches_and_what_is_found_is_not_missing() {
        let empty = tempfile::tempdir().expect("a temporary folder");
        let folders = [empty.path().to_path_buf()];
        let tests = [
            "git",
            "curl",
            "nodejs",
            "systemd",
            "python3",
            "default-jdk-headless",
            "libapache2-mod-php",
            "php-fpm",
            "python3-grpcio",
        ]
        .as_slice();
        let servers = ["haproxy", "nginx-light", "chromium", "valgrind"].as_slice();
        assert_eq!(missing(Need::Tests, &folders), [tests, servers].concat());
        assert_eq!(missing(Need::Benches, &folders), [tests, servers, &["wrk", "strace"]].concat());
        let suites = ["curl", "wrk", "hey", "nghttp2-client", "slowhttptest", "python3", "chromium", "npm"];
        assert_eq!(missing(Need::Conformance, &folders), suites);
        for found in ["nginx", "libphp8.4.so"] {
            std::fs::write(empty.path().join(found), "").expect("the folder is writable");
        }
        assert_eq!(
            missing(Need::Tests, &folders),
            [&tests[..6], &tests[7..], &["haproxy", "chromium", "valgrind"]].concat()
        );
        assert_eq!(
            missing(Need::Benches, &folders),
            [&tests[..6], &tests[7..], &["haproxy", "chromium", "valgrind", "wrk", "strace"]].concat()
        );
    }

    #[test]
    fn where_nothing_can_be_installed_the_message_says_what_to_run() {
        assert!(by_hand(&["curl", "wrk"], true).ends_with("apt-get install --no-install-recommends curl wrk"));
        assert!(by_hand(&["curl"], false).contains("no apt-get"));
    }
}
