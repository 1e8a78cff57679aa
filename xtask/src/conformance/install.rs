//! Suites that are no Debian packages, installed once into folders of their own.
//!
//! Versions are fixed, so that two runs judge by the same cases. What is there is not installed again.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The scanner of crates.io.
const SMUGGLEX: &str = "0.4.0";
/// The rules of accessibility of npm's registry.
const AXE: &str = "4.14.1";
/// Autobahn's test suite and the library that it tests with, of the Python registry. They need Python 2.7.
const AUTOBAHN: [&str; 2] = ["autobahntestsuite==25.10.1", "autobahn==0.10.9"];

/// The scanner, installed if it is missing.
pub(super) fn smugglex(home: &Path) -> Result<PathBuf, String> {
    let folder = home.join(format!("smugglex-{SMUGGLEX}"));
    let program = folder.join("bin/smugglex");
    if !program.is_file() {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(["install", "smugglex", "--locked", "--version", SMUGGLEX, "--root"]).arg(&folder);
        succeed(&mut command)?;
    }
    Ok(program)
}

/// The script of axe-core, installed if it is missing.
pub(super) fn axe(home: &Path) -> Result<PathBuf, String> {
    let folder = home.join(format!("axe-core-{AXE}"));
    let script = folder.join("node_modules/axe-core/axe.min.js");
    if !script.is_file() {
        std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let mut command = Command::new("npm");
        command.args(["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"]);
        succeed(command.arg(&folder).arg(format!("axe-core@{AXE}")))?;
    }
    Ok(script)
}

/// Python 2.7 and the folder with Autobahn's test suite, installed if it is missing.
pub(super) fn autobahn(home: &Path) -> Result<(PathBuf, PathBuf), String> {
    let python = python2().ok_or(
        "Autobahn's test suite runs on Python 2.7 only, and there is none: no `python2.7` on \
        the search path, none in ~/.pyenv/versions; `pyenv install 2.7.18` brings it",
    )?;
    let folder = home.join("autobahn");
    if !folder.join("autobahntestsuite").is_dir() {
        let mut command = Command::new(&python);
        command.args(["-m", "pip", "install", "--quiet", "--target"]).arg(&folder).args(AUTOBAHN);
        succeed(&mut command)?;
    }
    Ok((python, folder))
}

fn python2() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join("python2.7"));
    let pyenv = std::env::var_os("PYENV_ROOT").map(PathBuf::from);
    let pyenv = pyenv.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".pyenv")));
    let versions = pyenv.and_then(|folder| std::fs::read_dir(folder.join("versions")).ok());
    let of_pyenv = versions.into_iter().flatten().flatten().map(|entry| entry.path().join("bin/python2.7"));
    // A shim of pyenv is on the search path also where the version it stands for is not chosen.
    on_path.chain(of_pyenv).find(|python| {
        let version = Command::new(python).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        version.is_ok_and(|status| status.success())
    })
}

fn succeed(command: &mut Command) -> Result<(), String> {
    let shown = format!("{command:?}");
    match command.stdin(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{status} of {shown}")),
        Err(error) => Err(format!("{error} at {shown}")),
    }
}
