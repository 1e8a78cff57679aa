//! Secrets of a stack that does not run: kept directly in its state directory, under its lock.

use std::path::{Path, PathBuf};

use evenkeel_core::stack::{self, SecretSource, Stack, secrets_used};
use evenkeel_node::{SecretError, SecretStore, key_path};

use super::{Listed, say_key, say_set, say_short, value};
use crate::{
    command::validate,
    context::{Context, shell_word},
    failure::{Exit, Failure},
    lock::{Holder, Lock},
};

/// Keeps a value for the first start.
pub(super) fn set(name: &str, file: &Path, context: &Context) -> Result<Exit, Failure> {
    let (stack, state_dir) = stack_of(file, context)?;
    if let Some(source) = stack.secrets.get(name) {
        let cause = format!("`[secrets.{name}]` says that it comes from its {}", source.describe());
        return Err(Failure::usage(format!("the secret `{name}` has a source of its own")).because(cause));
    }
    let state_dir = context.places.make_state_dir(&state_dir)?;
    let holder = Holder {
        pid: std::process::id(),
        stack: stack.stack.name.clone(),
        runtime_dir: context.places.runtime_dir(&state_dir),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let _lock = Lock::take(&state_dir, &holder).map_err(|error| {
        Failure::new("the stack is just being started").at_path(&state_dir).because(error).fix("try again in a second")
    })?;
    let value = value::ask(name, context)?;
    let store = SecretStore::new(&stack.stack.name, &state_dir, key_path(&stack.stack.name));
    let stored = store.set(name, &value).map_err(|error| failure(&error))?;
    if context.json {
        context.json(&serde_json::json!({
            "services": secrets_used(&stack).remove(name).unwrap_or_default(),
            "replaced": stored.replaced,
            "new_key": stored.new_key,
        }))?;
        return Ok(Exit::Done);
    }
    say_set(name, &stack.stack.name, stored.replaced, context)?;
    say_short(&value, context)?;
    say_key(stored.new_key.as_deref(), context)?;
    context.next(&command("up", file, context), "starts the stack with it")?;
    Ok(Exit::Done)
}

/// What the stack file and the state directory tell, without a value.
pub(super) fn list(file: &Path, context: &Context) -> Result<Vec<Listed>, Failure> {
    let (stack, state_dir) = stack_of(file, context)?;
    let store = SecretStore::new(&stack.stack.name, &state_dir, key_path(&stack.stack.name));
    let kept = store.names().map_err(|error| failure(&error))?;
    let mut used = secrets_used(&stack);
    let mut names: Vec<String> = kept.iter().map(|(name, _)| name.clone()).collect();
    names.extend(stack.secrets.keys().chain(used.keys()).cloned());
    names.sort();
    names.dedup();
    let listed = names.into_iter().map(|name| {
        let source = stack.secrets.get(&name).map(SecretSource::describe);
        let set = kept.iter().find(|(known, _)| *known == name).map(|(_, at)| *at).filter(|_| source.is_none());
        let problem = (source.is_none() && set.is_none()).then(|| "no value is kept".to_owned());
        let store = || if set.is_some() { "store" } else { "nowhere" }.to_owned();
        let services = used.remove(&name).unwrap_or_default();
        Listed { source: source.unwrap_or_else(store), set, services, problem, name }
    });
    Ok(listed.collect())
}

/// `keel ARGS FILE` for the stack of this file, which does not run.
pub(super) fn command(args: &str, file: &Path, context: &Context) -> String {
    let word = |path: &Path| shell_word(&path.display().to_string());
    let state_dir = context.state_dir.as_deref().map(|dir| format!(" --state-dir {}", word(dir))).unwrap_or_default();
    format!("keel {args} {}{state_dir}", word(file))
}

/// The stack of a file, and where its state lies or will lie.
fn stack_of(file: &Path, context: &Context) -> Result<(Stack, PathBuf), Failure> {
    let text = validate::read(file)
        .map_err(|failure| failure.fix("no stack runs: name the stack file of the one that is meant by --file"))?;
    let read = stack::parse_leniently(&text, &file.display().to_string());
    let (stack, _) = read.map_err(Failure::bad_file)?;
    let state_dir = context.state_dir.clone().unwrap_or_else(|| context.places.state_dir(&stack.stack.name));
    let state_dir = std::path::absolute(&state_dir).unwrap_or(state_dir);
    Ok((stack, state_dir))
}

fn failure(error: &SecretError) -> Failure {
    let (what, fix) = error.split();
    Failure::new(what).fix(fix)
}
