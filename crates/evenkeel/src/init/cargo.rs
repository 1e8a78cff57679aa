//! `Cargo.toml`: a Rust program, as `cargo build --release` leaves it.
//!
//! Only the package's name and whether it has a program are looked at; nothing is built.

use super::found::{Folder, Found, Service};

const SOURCE: &str = "Cargo.toml";

/// Looks for it.
pub(super) fn find(folder: &Folder) -> Option<Found> {
    let manifest = folder.read(SOURCE)?;
    let name = value(&manifest, "[[bin]]", "name")
        .or_else(|| folder.has("src/main.rs").then(|| value(&manifest, "[package]", "name")).flatten())?;
    let service = Service::run("web", [format!("target/release/{name}")]).comment("Built by `cargo build --release`.");
    Some(Found {
        source: SOURCE.to_owned(),
        what: format!("the Rust program {name}"),
        services: vec![service],
        notes: vec!["The program must listen on the port in the environment variable PORT.".to_owned()],
        ..Found::default()
    })
}

/// The text of `key = "…"` in the first table with this head.
fn value(manifest: &str, head: &str, key: &str) -> Option<String> {
    let inside = manifest.lines().map(str::trim).skip_while(|line| *line != head).skip(1);
    let mut inside = inside.take_while(|line| !line.starts_with('['));
    let text = inside.find_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix('='))?;
    let text = text.trim().strip_prefix('"')?.split('"').next()?;
    (!text.is_empty()).then(|| text.to_owned())
}
