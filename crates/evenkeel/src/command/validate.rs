//! `keel validate`: checks a stack file without touching anything.

use std::path::{Path, PathBuf};

use evenkeel_core::stack::{self, Stack};
use serde::Serialize;

use crate::{
    context::{Context, shell_word},
    failure::{Exit, Failure},
    stack_file::{self, Fault, Purpose},
};

/// Options of `keel validate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The stack file
    #[arg(default_value = "keel.toml")]
    file: PathBuf,
}

/// The answer under `--json`.
#[derive(Serialize)]
struct Report<'a> {
    file: &'a Path,
    valid: bool,
    diagnostics: Vec<Fault>,
}

/// Checks the file.
pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let text = read(&args.file)?;
    let report = |valid, found| Report { file: &args.file, valid, diagnostics: stack_file::faults(found) };
    let (stack, warnings) = match stack_file::understand(&args.file, &text, Purpose::Here) {
        Ok(understood) => understood,
        Err(found) if context.json => {
            context.json(&report(false, &found))?;
            return Ok(Exit::Usage);
        }
        Err(found) => return Err(Failure::bad_file(found)),
    };
    if context.json {
        context.json(&report(true, &warnings))?;
        return Ok(Exit::Done);
    }
    stack_file::warn(&warnings, context);
    context.line(format!("{} is valid: {}", args.file.display(), summary(&stack)))?;
    let stored = stored_secrets(&stack);
    if !stored.is_empty() {
        // Whether they are kept can be told only where the stack runs.
        context.line(format!("it needs from the store, by `keel secret set NAME`: {}", stored.join(", ")))?;
    }
    context.next(&format!("keel up {}", shell_word(&args.file.display().to_string())), "runs it")?;
    Ok(Exit::Done)
}

/// A stack file's text.
pub(crate) fn read(file: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(file).map_err(|error| {
        let failure = Failure::usage("the stack file cannot be read").at_path(file).because(&error);
        match error.kind() {
            std::io::ErrorKind::NotFound => failure
                .fix("name the file, write one with `keel init`, or run a command without a file: keel up -- COMMAND"),
            std::io::ErrorKind::InvalidData => failure.fix("save it as UTF-8"),
            _ => failure.fix("name a file that you may read"),
        }
    })
}

/// Secrets that the file gives no source for.
fn stored_secrets(stack: &Stack) -> Vec<String> {
    stack::secrets_used(stack).into_keys().filter(|name| !stack.secrets.contains_key(name)).collect()
}

/// What a stack has, in one clause.
fn summary(stack: &Stack) -> String {
    let several = |n: usize, what: &str| {
        if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
    };
    let runs = |service: &&stack::Service| service.is_run();
    let run: u32 = stack.services.values().filter(runs).map(|service| service.replicas.min()).sum();
    let fixed: usize = stack.services.values().map(|service| service.fixed().len()).sum();
    let listeners: Vec<String> = stack.listeners.values().map(|listener| listener.bind.to_string()).collect();
    format!(
        "stack `{}`, {} with {}, {} on {}",
        stack.stack.name,
        several(stack.services.len(), "service"),
        several(run as usize + fixed, "instance"),
        several(stack.routes.len(), "route"),
        listeners.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRONG: &str = "[stack]\nname = \"shop\"\n\n[services.web]\nrun = [\"node\", \"server.js\"]\nreplcas = 3\n";

    #[test]
    fn a_wrong_file_is_shown_in_place() {
        let found = stack::parse(WRONG, "keel.toml").unwrap_err();
        assert_eq!(serde_json::to_value(stack_file::faults(&found)).unwrap()[0]["line"], 6);
        let failure = Failure::bad_file(found);
        assert_eq!(failure.exit, Exit::Usage);
        insta::assert_snapshot!(failure.render(crate::style::Paint::plain()), @r"
        error: unknown key `replcas` in `services.web`
          --> keel.toml:6:1
          |
        6 | replcas = 3
          | ^^^^^^^
          = help: did you mean `replicas`?
        ");
    }

    #[test]
    fn a_valid_file_is_summed_up() {
        let stack = stack::parse(&WRONG.replace("replcas", "replicas"), "keel.toml").unwrap();
        assert_eq!(summary(&stack), "stack `shop`, 1 service with 3 instances, 1 route on 127.0.0.1:8080");
    }
}
