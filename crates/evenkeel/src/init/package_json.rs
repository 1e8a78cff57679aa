//! `package.json`: a Node.js application, by its start script or its main file.
//!
//! A start script that is one plain command is run itself, without the package manager in between: one process
//! less, and signals reach it directly. Folders that only build assets (no start script, no main file) are not
//! an application. Nothing is installed or run.

use serde_json::Value;

use super::{
    found::{Folder, Found, Service},
    shell,
};

const SOURCE: &str = "package.json";

/// Looks for it.
pub(super) fn find(folder: &Folder) -> Option<Found> {
    let package: Value = serde_json::from_str(&folder.read(SOURCE)?).ok()?;
    let script = |name: &str| package["scripts"][name].as_str().filter(|script| !script.trim().is_empty());
    let mut notes = Vec::new();
    let service = if let Some(start) = script("start") {
        from_script(start, script("prestart").or(script("poststart")).is_some(), package_manager(folder), &mut notes)
    } else {
        let main = package["main"].as_str().filter(|main| folder.has(main));
        let main = main.or_else(|| ["server.js", "index.js", "app.js"].into_iter().find(|file| folder.has(file)))?;
        Service::run("web", ["node", main]).comment(format!("{SOURCE} has no start script; {main} is its main file."))
    };
    if script("build").is_some() {
        notes.push(format!(
            "{SOURCE} has a build script: run `{} run build` before `keel up`.",
            package_manager(folder)
        ));
    }
    notes.push("The server must listen on process.env.PORT: each instance gets another one.".to_owned());
    let what = match package["name"].as_str() {
        Some(name) => format!("the Node.js application {name}"),
        None => "a Node.js application".to_owned(),
    };
    Some(Found {
        source: SOURCE.to_owned(),
        what,
        services: vec![service.env("NODE_ENV", "production")],
        notes,
        ..Found::default()
    })
}

fn from_script(start: &str, has_hooks: bool, manager: &str, notes: &mut Vec<String>) -> Service {
    let comment = format!("The start script of {SOURCE}: {start}");
    let direct = shell::command(start).filter(|command| !has_hooks && command.words[0] == "node");
    let service = match direct {
        Some(command) => {
            let mut service = Service::run("web", command.words);
            service.env = command.env;
            service
        }
        None => Service::run("web", [manager, "start"]),
    };
    let fixed = |word: &str| word == "-p" || word == "--port" || word.starts_with("--port=");
    if start.split_ascii_whitespace().any(fixed) && !start.contains("PORT") {
        notes.push(
            "The start script names a port of its own; let it use PORT, or three instances want the same.".into(),
        );
    }
    service.comment(comment)
}

/// By the lock file that lies there.
fn package_manager(folder: &Folder) -> &'static str {
    match () {
        () if folder.has("pnpm-lock.yaml") => "pnpm",
        () if folder.has("yarn.lock") => "yarn",
        () => "npm",
    }
}
