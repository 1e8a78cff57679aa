//! `keel init`: writes a commented `keel.toml` from what lies in an application's folder.
//!
//! Each file beside this one knows one kind of application and says what it found, as services, listeners, routes
//! and notes; `render` writes them down. Nothing is started, asked or guessed over the network, no file but
//! `keel.toml` is written, and one that is there is kept unless told otherwise. What is written always passes
//! the stack file's own validation: that is checked before it is written.

mod answers;
mod cargo;
mod composer;
mod found;
mod go;
mod haproxy;
mod jar;
mod nginx;
mod package_json;
mod pages;
mod procfile;
mod python;
mod render;
mod shell;
mod toml;

#[cfg(test)]
mod tests;

use std::{
    fs::OpenOptions,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

use evenkeel_core::stack;
use serde::Serialize;

use self::found::{Folder, Found};
use crate::{
    context::{Context, shell_word},
    failure::{Exit, Failure},
};

/// The name of the file that is written.
const FILE: &str = "keel.toml";

/// Options of `keel init`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The application's folder
    #[arg(default_value = ".", value_name = "DIR")]
    dir: PathBuf,
    /// Replace a keel.toml that is there
    #[arg(long)]
    force: bool,
    /// Print it and write nothing
    #[arg(long, conflicts_with = "force")]
    stdout: bool,
}

/// What was found and written, as JSON.
#[derive(Serialize)]
struct Summary<'a> {
    file: Option<&'a Path>,
    found: &'a [String],
    closed: &'a [String],
    text: &'a str,
}

/// What a folder leads to.
struct Made {
    /// The stack file.
    text: String,
    /// What was found, in words.
    found: Vec<String>,
    /// Places that nobody gets into until somebody decides.
    closed: Vec<String>,
}

/// Writes the file.
pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let dir = std::fs::canonicalize(&args.dir).map_err(|error| {
        Failure::usage("cannot read the folder").at_path(&args.dir).because(error).fix("name an application's folder")
    })?;
    if !dir.is_dir() {
        return Err(Failure::usage("this is no folder").at_path(&args.dir).fix("name an application's folder"));
    }
    let Made { text, found, closed } = make(&dir);
    stack::parse(&text, FILE).map_err(|faults| {
        Failure::new("what was found does not fit into a stack file")
            .at_path(&dir)
            .because(faults)
            .fix("please report this together with the files in the folder; meanwhile begin with `keel init` elsewhere")
    })?;
    let here = args.dir == Path::new(".");
    let file = if here { PathBuf::from(FILE) } else { args.dir.join(FILE) };
    if args.stdout {
        return if context.json {
            context.json(&Summary { file: None, found: &found, closed: &closed, text: &text })
        } else {
            context.line(text.trim_end())
        }
        .map(|()| Exit::Done);
    }
    write(&file, &text, args.force)?;
    if context.json {
        context.json(&Summary { file: Some(&file), found: &found, closed: &closed, text: &text })?;
        return Ok(Exit::Done);
    }
    for line in &found {
        context.line(format!("found  {line}"))?;
    }
    context.line(format!("wrote  {}", file.display()))?;
    for place in &closed {
        context.line(format!("closed {place}"))?;
    }
    if !closed.is_empty() {
        context.line("Nobody gets into closed places: the comments above their routes say what to decide.")?;
    }
    let word = shell_word(&file.display().to_string());
    context.next(&format!("keel validate {word}"), "says what the file means")?;
    context.next(&format!("keel up {word}"), "starts it")?;
    Ok(Exit::Done)
}

/// Looks through the folder. Whoever knows most about how an application is started comes first.
fn make(dir: &Path) -> Made {
    let folder = Folder::new(dir);
    let finders: [fn(&Folder) -> Option<Found>; 7] =
        [procfile::find, package_json::find, composer::find, jar::find, python::find, cargo::find, go::find];
    let mut all: Vec<Found> = finders.iter().filter_map(|find| find(&folder)).collect();
    // A reverse proxy's configuration says where clients connect, which no application does.
    all.splice(..0, [haproxy::find(&folder), nginx::find(&folder)].into_iter().flatten());
    if all.iter().all(|found| found.services.is_empty()) {
        all.extend(pages::find(&folder));
    }
    let mut words: Vec<String> = all.iter().map(|found| format!("{}: {}", found.source, found.what)).collect();
    // What runs or reaches nothing is no stack, but a reader must know what it said.
    let (all, idle): (Vec<Found>, Vec<Found>) = all.into_iter().partition(|found| !found.services.is_empty());
    if all.is_empty() {
        words.push("nothing that could be run: the file is a template, put your command into it".to_owned());
    }
    let notes: Vec<String> = idle.into_iter().flat_map(|found| found.notes).collect();
    let closed = all.first().map(|first| first.closed.clone()).unwrap_or_default();
    Made { text: render::render(&stack_name(dir), &all, &notes), found: words, closed }
}

/// The folder's name as the name of a stack.
fn stack_name(dir: &Path) -> String {
    let name = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    found::name(&name, "app")
}

fn write(file: &Path, text: &str, force: bool) -> Result<(), Failure> {
    let mut options = OpenOptions::new();
    options.write(true);
    if force {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    let written = options.open(file).and_then(|mut open| open.write_all(text.as_bytes()));
    written.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => Failure::usage("there is a keel.toml already, and it was left as it is")
            .at_path(file)
            .fix("look at the new one with `keel init --stdout`, or replace it with `keel init --force`"),
        _ => Failure::new("cannot write the file").at_path(file).because(error).fix("see it with `keel init --stdout`"),
    })
}
