//! `Procfile`: one line for each kind of process, as `web: gunicorn app:app --bind 0.0.0.0:$PORT`.
//!
//! `web` becomes the service that clients reach. The other lines become services without routes, commented out:
//! an instance counts as started when it accepts a connection on its port, which a worker mostly never does.
//! `release` is a step before a start, not a process that stays, and becomes a note.

use super::{
    found::{self, Folder, Found, Service},
    shell,
};

const SOURCE: &str = "Procfile";

/// Looks for it.
pub(super) fn find(folder: &Folder) -> Option<Found> {
    let text = folder.read(SOURCE)?;
    let lines: Vec<(&str, &str)> = text.lines().filter_map(line).collect();
    let mut found = Found { source: SOURCE.to_owned(), ..Found::default() };
    let mut names = Vec::new();
    for (kind, command) in &lines {
        if *kind == "release" {
            found.notes.push(format!("`release` is not a process that stays; run it before `keel up`: {command}"));
            continue;
        }
        let Some(service) = service(kind, command, &mut found.notes) else {
            continue;
        };
        if names.contains(&service.name) {
            found.notes.push(format!("`{kind}` has the name of another line and was left out"));
            continue;
        }
        names.push(service.name.clone());
        // The one for clients stands first, wherever its line is.
        let at = if *kind == "web" { 0 } else { found.services.len() };
        found.services.insert(at, service);
    }
    if found.services.first()?.name != "web" {
        // Nothing here says that it serves clients: the first line is as good as any.
        found.services[0].asleep = false;
        found.notes.push("There is no `web` line; the first one gets the requests.".to_owned());
    }
    found.what = format!("what it calls {}", names.join(", "));
    Some(found)
}

/// `name: command`; the name has letters, digits, hyphens and underscores.
fn line(line: &str) -> Option<(&str, &str)> {
    let (kind, command) = line.split_once(':')?;
    let kind = kind.trim();
    let fits = !kind.is_empty() && kind.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    (fits && !command.trim().is_empty()).then_some((kind, command.trim()))
}

/// Replaces every address by loopback where it stands before the port, as in `0.0.0.0:{port}`. Elsewhere it may mean
/// something else.
fn stay_inside(words: &mut [String]) -> bool {
    let mut found = false;
    for word in words {
        for port in [":{port}", ":$PORT", ":${PORT"] {
            for everywhere in ["0.0.0.0", "[::]"] {
                let wide = format!("{everywhere}{port}");
                if word.contains(&wide) {
                    *word = word.replace(&wide, &format!("127.0.0.1{port}"));
                    found = true;
                }
            }
        }
    }
    found
}

fn service(kind: &str, line: &str, notes: &mut Vec<String>) -> Option<Service> {
    let mut command = shell::command(line)?;
    if stay_inside(&mut command.words) {
        notes.push(format!(
            "`{kind}` bound every address; here it binds 127.0.0.1, since clients are to reach it through the edge"
        ));
    }
    if command.shell_stays {
        notes.push(format!(
            "`{kind}` needs a shell that stays: signals reach it first, so `stop` may take its whole grace"
        ));
    }
    let mut service = Service::run(&found::name(kind, "process"), command.words);
    service.env = command.env;
    service = service.comment(format!("{kind}: {line}"));
    if kind != "web" {
        service.asleep = true;
        service = service
            .comment("No route leads here. Take the comments away if it listens on PORT: an instance counts as started")
            .comment("once it accepts a connection there.");
    }
    Some(service)
}
