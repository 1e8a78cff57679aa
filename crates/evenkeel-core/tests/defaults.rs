//! `docs/defaults.md` says what every default of the edge and of services is, and is right about it.
//!
//! What is true comes from the reference, which is made from the fields themselves, and for keys whose default is filled
//! in later from what the compiler of the stack file makes of them.

use std::{collections::BTreeMap, fs, path::Path};

use evenkeel_core::{
    snapshot::{HashBy, Probe},
    stack::{Return, compile_service, parse, reference},
};

/// Parts of the stack file that the page is about.
const PARTS: [&str; 3] = ["listeners.NAME", "routes[]", "services.NAME"];

/// The page's table: each key with the default it names.
fn page() -> Vec<(String, String)> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/defaults.md");
    let text = fs::read_to_string(file).expect("docs/defaults.md is there");
    let sections = text.split("\n## ").skip(1);
    let keys = sections.flat_map(|section| {
        let part = section.split('`').nth(1).expect("a heading names its part");
        let keys = rows(section).filter(|(key, _)| key != "key");
        keys.map(move |(key, cells)| (format!("{part}.{}", plain(&key)), cells[0].clone())).collect::<Vec<_>>()
    });
    keys.collect()
}

/// The rows of every table: the first cell, and the others.
fn rows(text: &str) -> impl Iterator<Item = (String, Vec<String>)> {
    let lines = text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---"));
    lines.map(|line| {
        let line = line.trim_start_matches("| ").trim_end_matches(" |").replace("\\|", "\u{0}");
        let mut cells = line.split(" | ").map(|cell| cell.replace('\u{0}', "|"));
        (cells.next().unwrap_or_default(), cells.collect())
    })
}

fn plain(cell: &str) -> String {
    cell.trim_matches('`').to_owned()
}

/// Every key of those parts with its default, as the reference has it.
fn reference_keys() -> BTreeMap<String, String> {
    let mut keys = BTreeMap::new();
    for section in reference::markdown().split("\n## ").skip(1) {
        let part = plain(section.lines().next().unwrap_or_default());
        if !PARTS.iter().any(|about| part.starts_with(about)) {
            continue;
        }
        for (key, cells) in rows(section).filter(|(key, _)| key != "key") {
            keys.insert(format!("{part}.{}", plain(&key)), cells[1].clone());
        }
    }
    keys
}

/// Defaults that the reference cannot know, since the key is optional and its value is filled in where it is used.
fn filled_in() -> BTreeMap<&'static str, String> {
    let text =
        "[stack]\nname = \"t\"\n[services.a]\nrun = [\"a\"]\nbalance = \"consistent-hash\"\ncheck = { http = \"/\" }\n";
    let stack = parse(text, "keel.toml").expect("this file is right");
    let service = compile_service("a", &stack.services["a"], Vec::new());
    assert_eq!(service.choice.hash_by, HashBy::Address);
    let Some(Probe::Http { status, .. }) = service.check.map(|check| check.probe) else {
        panic!("it is a check by HTTP");
    };
    BTreeMap::from([
        ("routes[].connect", format!("`{}`", stack.routes[0].connect)),
        ("services.NAME.hash_by", "`\"address\"`".to_owned()),
        ("services.NAME.hash_bound", format!("`{}`", service.choice.hash_bound_percent)),
        ("services.NAME.check.status", format!("`[{}, {}]`", status.0, status.1)),
        ("services.NAME.return", format!("`{}`", serde_json::json!(Return::default()))),
    ])
}

#[test]
fn the_page_names_every_default_and_its_true_value() {
    let (truth, filled_in) = (reference_keys(), filled_in());
    let page = page();
    let mut faults = Vec::new();
    for (key, said) in &page {
        match (truth.get(key), filled_in.get(key.as_str())) {
            (None, _) => faults.push(format!("there is no key `{key}`")),
            (Some(_), Some(real)) if real != said => faults.push(format!("`{key}` is {real}, not {said}")),
            (Some(real), None) => {
                // A key that may be left out, and a part that is empty unless it is written down.
                let nothing = matches!(real.as_str(), "–" | "none" | "see below") && said == "none";
                if real != said && !nothing {
                    faults.push(format!("`{key}` is {real}, not {said}"));
                }
            }
            _ => {}
        }
    }
    let has = |key: &str| page.iter().filter(|(named, _)| named == key).count();
    let due = truth.iter().filter(|(_, value)| value.starts_with('`')).map(|(key, _)| key.as_str());
    for key in due.chain(filled_in.keys().copied()) {
        match has(key) {
            1 => {}
            0 => faults.push(format!("no row for `{key}`, which is {}", truth[key])),
            _ => faults.push(format!("more than one row for `{key}`")),
        }
    }
    assert!(faults.is_empty(), "docs/defaults.md:\n{}", faults.join("\n"));
}

#[test]
fn every_row_says_why() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/defaults.md");
    let text = fs::read_to_string(file).expect("docs/defaults.md is there");
    let mut count = 0;
    for (key, cells) in rows(&text) {
        assert_eq!(cells.len(), 4, "{key}: default, HAProxy, nginx, why");
        assert!(cells.iter().all(|cell| !cell.trim().is_empty()), "{key}: an empty cell");
        count += 1;
    }
    assert!(count > 50, "{count}");
}
