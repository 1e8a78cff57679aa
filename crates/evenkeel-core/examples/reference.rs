//! Writes `docs/reference.md` and `docs/keel.schema.json`, or with `--check` says whether they are current.

use std::{fs, path::Path, process::ExitCode};

use evenkeel_core::stack::reference;

fn main() -> ExitCode {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let check = std::env::args().any(|argument| argument == "--check");
    let mut stale = false;
    for (name, text) in [("reference.md", reference::markdown()), ("keel.schema.json", reference::schema_json())] {
        let path = docs.join(name);
        if check && fs::read_to_string(&path).is_ok_and(|current| current == text) {
            continue;
        }
        if check {
            eprintln!("docs/{name} is not what the fields' documentation says: run `cargo xtask docs`");
            stale = true;
        } else if let Err(error) = fs::write(&path, text) {
            eprintln!("cannot write docs/{name}: {error}");
            stale = true;
        }
    }
    ExitCode::from(u8::from(stale))
}
