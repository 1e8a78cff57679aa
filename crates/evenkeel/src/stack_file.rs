//! A stack file as a command takes it: read, understood, and compared with this machine.
//!
//! The core reads a file without looking at the machine; this looks, and points at the place in the file. What is missing
//! and needed at once refuses the file; a program that is missing is only told of, since a deploy may bring it.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use evenkeel_core::stack::{self, Diagnostics, ErrorPage, Service, Severity, Stack};
use evenkeel_node::read_page;

use crate::{context::Context, files};

/// `PATH` of instances where `keel` has none itself.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a file is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To be put in force on this machine by somebody who is told what is wrong.
    Here,
    /// To be put in force on another machine.
    Elsewhere,
    /// To start with it, perhaps at boot and with nobody there: it is not refused for what the stack can do without.
    Start,
}

/// What the text of `file` means, and the warnings.
///
/// # Errors
/// Where something can never work, on this machine or anywhere.
pub(crate) fn understand(file: &Path, text: &str, purpose: Purpose) -> Result<(Stack, Diagnostics), Diagnostics> {
    let name = file.display().to_string();
    let read = if purpose == Purpose::Start { stack::parse_leniently } else { stack::parse_with_warnings };
    let (stack, warnings) = read(text, &name)?;
    if purpose == Purpose::Elsewhere {
        return Ok((stack, warnings));
    }
    let mut found = Diagnostics::none(&name, text);
    let beside = file.parent().unwrap_or(Path::new(""));
    files::missing(beside, &stack, &mut found);
    pages(beside, &stack, purpose, &mut found);
    for (name, service) in &stack.services {
        programs(beside, name, service, &mut found);
    }
    let found = warnings.and(found.faults);
    if found.has_errors() { Err(found) } else { Ok((stack, found)) }
}

/// Shows the warnings to a person, on standard error. Nothing under `--json`, where they are part of the answer.
pub(crate) fn warn(warnings: &Diagnostics, context: &Context) {
    if !context.json && !warnings.is_empty() {
        eprint!("{warnings}");
    }
}

/// One fault, for programs.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Fault {
    severity: Severity,
    message: String,
    help: Option<String>,
    line: Option<usize>,
    column: Option<usize>,
}

/// All of them, in the order of the file.
pub(crate) fn faults(found: &Diagnostics) -> Vec<Fault> {
    let each = |fault: &stack::Diagnostic| {
        let place = fault.span.as_ref().map(|span| found.position(span.start));
        Fault {
            severity: fault.severity,
            message: fault.message.clone(),
            help: fault.help.clone(),
            line: place.map(|(line, _)| line),
            column: place.map(|(_, column)| column),
        }
    };
    found.faults.iter().map(each).collect()
}

/// Pages whose file cannot be answered with: the stack would not be put in force. A start goes on with what the page had
/// before.
fn pages(beside: &Path, stack: &Stack, purpose: Purpose, found: &mut Diagnostics) {
    let severity = if purpose == Purpose::Start { Severity::Warning } else { Severity::Error };
    let mut look = |path: &[&str], file: Option<&String>| {
        let Some(file) = file.map(|file| beside.join(file)) else { return };
        // The node process may read what we may not.
        let hidden = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
        if fs::File::open(&file).err().as_ref().is_some_and(hidden) {
            return;
        }
        if let Err(why) = read_page(&file) {
            let message = format!("the page `{}` cannot be read: {why}", file.display());
            found.add(severity, path, message, "name a file that is there, or give `text` in place of `file`");
        }
    };
    let mut all = |kind: &str, name: &str, pages: &std::collections::BTreeMap<String, ErrorPage>| {
        for (key, page) in pages {
            look(&[kind, name, "error_pages", key, "file"], page.file.as_ref());
        }
    };
    for (name, listener) in &stack.listeners {
        all("listeners", name, &listener.error_pages);
    }
    for (name, service) in &stack.services {
        all("services", name, &service.error_pages);
    }
    for (name, service) in &stack.services {
        let file = service.page.as_ref().and_then(|page| page.file.as_ref());
        look(&["services", name, "page", "file"], file);
    }
}

/// Programs of a service that are not there.
fn programs(beside: &Path, name: &str, service: &Service, found: &mut Diagnostics) {
    let check = service.check.as_ref().and_then(|check| check.exec.as_ref());
    let liveness = service.liveness.as_ref().and_then(|liveness| liveness.exec.as_ref());
    let commands: [(&[&str], Option<&Vec<String>>); 4] = [
        (&["run"], service.run.as_ref()),
        (&["before"], service.before.as_ref()),
        (&["check", "exec"], check),
        (&["liveness", "exec"], liveness),
    ];
    let dir = beside.join(service.dir.as_deref().unwrap_or_default());
    // Another user may see what we may not.
    let own = service.user.is_none();
    for (keys, command) in commands {
        let Some(program) = command.and_then(|command| command.first()) else { continue };
        let Some(message) = missing_program(program, &dir, service).filter(|_| own) else { continue };
        let path: Vec<&str> = ["services", name].into_iter().chain(keys.iter().copied()).chain(["0"]).collect();
        found.add(Severity::Warning, &path, message, "correct it, or put the program there before it is run");
    }
}

/// Why a program cannot be run from this folder; `None`: it can, as far as is known.
fn missing_program(program: &str, dir: &Path, service: &Service) -> Option<String> {
    if program.contains('{') {
        return None;
    }
    if program.contains('/') {
        let path = dir.join(program);
        return match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Some(format!("there is no program `{}`", path.display()))
            }
            Ok(found) if !runs(&found) => Some(format!("`{}` is no program: it may not be executed", path.display())),
            _ => None,
        };
    }
    let path = match service.env.get("PATH") {
        Some(own) if stack::secret_reference(own).is_some() => return None,
        Some(own) => own.into(),
        None => std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into()),
    };
    let mut places = std::env::split_paths(&path).map(|folder: PathBuf| dir.join(folder).join(program));
    let there = places.any(|path| fs::metadata(path).is_ok_and(|found| runs(&found)));
    (!there).then(|| format!("there is no program `{program}` in PATH"))
}

fn runs(found: &fs::Metadata) -> bool {
    found.is_file() && found.permissions().mode() & 0o111 != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(folder: &Path, rest: &str, purpose: Purpose) -> (bool, String) {
        let text = format!("[stack]\nname = \"t\"\n{rest}\n");
        let (accepted, found) = match understand(&folder.join("keel.toml"), &text, purpose) {
            Ok((_, warnings)) => (true, warnings),
            Err(faults) => (false, faults),
        };
        assert_eq!(faults(&found).len(), found.faults.len());
        (accepted, found.to_string().replace(folder.to_str().unwrap(), "DIR"))
    }

    #[test]
    fn what_this_machine_has_not() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("sorry.html"), "sorry").unwrap();
        fs::write(temp.path().join("text"), "no program").unwrap();
        let rest = r#"
[listeners.web]
bind = "127.0.0.1:8080"
error_pages = { "404" = { file = "404.html" }, "500" = { file = "sorry.html" } }

[services.shop]
run = ["no-such-program", "--port", "{port}"]
before = ["./text"]
check = { exec = ["bin/check"] }
"#;
        let (accepted, said) = found(temp.path(), rest, Purpose::Here);
        assert!(!accepted);
        let (accepted, told) = found(temp.path(), rest, Purpose::Start);
        assert!(accepted && told == said.replace("error: the page", "warning: the page"), "{told}");
        insta::assert_snapshot!(said);
        let (accepted, said) = found(temp.path(), rest, Purpose::Elsewhere);
        assert!(accepted && said.is_empty(), "{said}");
    }

    #[test]
    fn what_is_there_is_not_told_of() {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir_all(temp.path().join("app/bin")).unwrap();
        let program = temp.path().join("app/bin/shop");
        fs::write(&program, "").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(temp.path().join("sorry.html"), "sorry").unwrap();
        for service in [
            "run = [\"sh\"]",
            "run = [\"bin/shop\"]\ndir = \"app\"",
            "run = [\"bin/{port}\"]",
            "run = [\"sh\"]\nerror_pages = { \"500\" = { file = \"sorry.html\" } }",
            "page = { file = \"sorry.html\" }",
        ] {
            assert_eq!(
                found(temp.path(), &format!("[services.a]\n{service}"), Purpose::Here),
                (true, String::new()),
                "{service}"
            );
        }
        let own = format!("[services.a]\nrun = [\"shop\"]\nenv = {{ PATH = {:?} }}", program.parent().unwrap());
        assert_eq!(found(temp.path(), &own, Purpose::Here), (true, String::new()), "its own PATH counts");
        let (accepted, said) = found(temp.path(), "[services.a]\nrun = [\"./bin/shop\"]", Purpose::Here);
        assert!(accepted && said.starts_with("warning: there is no program `DIR/./bin/shop`"), "{said}");
    }
}
