//! `go.mod`: a Go program, as `go build` leaves it in this folder.
//!
//! A module without `main.go` here or a folder below `cmd/` is a library and not found. Nothing is built.

use super::found::{Folder, Found, Service};

const SOURCE: &str = "go.mod";

/// Looks for it.
pub(super) fn find(folder: &Folder) -> Option<Found> {
    let text = folder.read(SOURCE)?;
    let module = text.lines().find_map(|line| line.trim().strip_prefix("module "))?.trim().trim_matches('"');
    let name = program(module)?;
    let package = if folder.has("main.go") {
        ".".to_owned()
    } else if folder.has(&format!("cmd/{name}")) {
        format!("./cmd/{name}")
    } else {
        return None;
    };
    let service =
        Service::run("web", [format!("./{name}")]).comment(format!("Built by `go build -o {name} {package}`."));
    Some(Found {
        source: SOURCE.to_owned(),
        what: format!("the Go program {name}"),
        services: vec![service],
        notes: vec!["The program must listen on the port in the environment variable PORT.".to_owned()],
        ..Found::default()
    })
}

/// The last part of a module's path that is not a major version (<https://go.dev/ref/mod#major-version-suffixes>).
fn program(module: &str) -> Option<&str> {
    let version =
        |part: &&str| part.strip_prefix('v').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    module.split('/').rev().find(|part| !part.is_empty() && !version(part))
}
