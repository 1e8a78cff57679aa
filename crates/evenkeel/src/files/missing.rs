//! Folders that a stack file names and the machine does not have: said before anything is started.
//!
//! The core reads a file without looking at the machine; this looks, and points at the place in the file.

use std::path::Path;

use evenkeel_core::stack::{Diagnostics, Severity, Stack};

/// Adds what is wrong with the folders of `files` in a stack file that lies in the folder `beside`.
pub(crate) fn missing(beside: &Path, stack: &Stack, found: &mut Diagnostics) {
    for (name, service) in &stack.services {
        let Some(files) = &service.files else { continue };
        let folder = beside.join(service.dir.as_deref().unwrap_or_default()).join(&files.dir);
        let (what, help) = match std::fs::read_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                ("does not exist".to_owned(), "create it, or name the folder that has the pages")
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
                ("is no folder".to_owned(), "name the folder that the file lies in")
            }
            // The service's own user may read what we may not.
            Err(_) => continue,
            Ok(_) => match &files.fallback {
                Some(fallback) if !folder.join(fallback).is_file() => {
                    (format!("has no `{fallback}`, which is to answer for paths without a file"), "correct `fallback`")
                }
                _ => continue,
            },
        };
        let message = format!("the folder `{}` of service `{name}` {what}", folder.display());
        found.add(Severity::Error, &["services", name, "files"], message, help);
    }
}
