//! Folders that a stack file names and the machine does not have: said before anything is started.
//!
//! The core reads a file without looking at the machine; this looks, and points at the place in the file.

use std::path::Path;

use evenkeel_core::stack::{Diagnostics, Stack};

/// What is wrong with the folders of `files` in the stack file `file`, whose text and meaning are known.
pub(crate) fn missing(file: &Path, text: &str, stack: &Stack) -> Result<(), Diagnostics> {
    let beside = file.parent().unwrap_or(Path::new(""));
    let mut found: Option<Diagnostics> = None;
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
        let path = ["services", name, "files"];
        let fault = Diagnostics::at(&file.display().to_string(), text, &path, message, help);
        match &mut found {
            Some(found) => found.faults.extend(fault.faults),
            None => found = Some(fault),
        }
    }
    found.map_or(Ok(()), Err)
}
