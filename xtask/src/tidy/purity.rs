//! Core is pure: no clock, sockets, files, threads, processes, environment, randomness or async.
//!
//! The list of its dependencies (rule `direction`) leaves the standard library, which this rule reads core's
//! tokens for. Every `use` is taken apart, however it is grouped. A module that holds something banned may
//! not be taken in whole (`use std::time;`, `use std::net::*;`), and neither may `std` under another name, so
//! no alias can hide what a path leads to. Types that only describe (`Duration`, `IpAddr`) are fine.

use super::lexer::{Kind, Token, closing, lex};
use super::{File, Finding, Tree};

const CORE: &str = "crates/evenkeel-core/src/";

/// What core may not name, and what that would bring in.
const BANNED_PATHS: [(&str, &str); 21] = [
    ("std::time::Instant", "a clock"),
    ("std::time::SystemTime", "a clock"),
    ("std::time::UNIX_EPOCH", "a clock"),
    ("std::net::TcpStream", "a socket"),
    ("std::net::TcpListener", "a socket"),
    ("std::net::UdpSocket", "a socket"),
    ("std::net::ToSocketAddrs", "name resolution"),
    ("std::os", "the operating system"),
    ("std::fs", "files"),
    ("std::io", "input and output"),
    ("std::thread", "threads"),
    ("std::process", "processes"),
    ("std::env", "the environment"),
    ("std::future", "async"),
    ("std::task", "async"),
    ("std::arch", "the processor, which has clocks and randomness"),
    ("std::random", "randomness"),
    ("std::hash::RandomState", "randomness"),
    ("std::collections::hash_map", "an order that differs in every run: use a BTreeMap"),
    ("std::collections::HashMap", "an order that differs in every run: use a BTreeMap"),
    ("std::collections::HashSet", "an order that differs in every run: use a BTreeSet"),
];

/// Keywords that bring in async, foreign code, or a way around the type system.
const BANNED_WORDS: [&str; 4] = ["async", "await", "unsafe", "extern"];

const BANNED_MACROS: [&str; 6] = ["print", "println", "eprint", "eprintln", "dbg", "thread_local"];

/// Methods of types that only describe, which ask the operating system all the same.
const BANNED_METHODS: [&str; 9] = [
    "canonicalize",
    "exists",
    "is_dir",
    "is_file",
    "read_dir",
    "read_link",
    "symlink_metadata",
    "to_socket_addrs",
    "try_exists",
];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let core = tree.files.iter().filter(|file| file.path.starts_with(CORE) && file.is_rust());
    core.flat_map(check_file).collect()
}

fn check_file(file: &File) -> Vec<Finding> {
    let tokens = lex(&file.text);
    let mut findings = Vec::new();
    let mut index = 0;
    while index < tokens.len() {
        let token = tokens[index];
        if let Some(message) = word(&tokens, index) {
            findings.push(file.at(token.line, message));
        }
        if token.is("use") && !tokens.get(index + 1).is_some_and(|next| next.is("<")) {
            let mut imports = Imports { tokens: &tokens, at: index + 1, found: Vec::new() };
            imports.tree(&[]);
            index = imports.at.max(index + 1);
            let messages = imports.found.iter().filter_map(|import| Some((import.line, import.refused()?)));
            findings.extend(messages.map(|(line, message)| file.at(line, message)));
            continue;
        }
        let (path, next) = path(&tokens, index);
        if let Some((banned, why)) = banned(&path) {
            findings.push(file.at(token.line, format!("core is pure: `{banned}` is {why}")));
        }
        index = next.max(index + 1);
    }
    findings
}

/// What is wrong with a keyword, macro or method by itself.
fn word(tokens: &[Token<'_>], index: usize) -> Option<String> {
    let token = tokens[index];
    let next_is = |text: &str| tokens.get(index + 1).is_some_and(|next| next.is(text));
    let after_point = index > 0 && tokens[index - 1].is(".");
    if token.kind != Kind::Word {
        return None;
    }
    if BANNED_WORDS.contains(&token.text) {
        return Some(format!("core is pure: no `{}`", token.text));
    }
    if BANNED_MACROS.contains(&token.text) && next_is("!") {
        return Some(format!("core is pure: no `{}!`", token.text));
    }
    if BANNED_METHODS.contains(&token.text) && next_is("(") && after_point {
        return Some(format!("core is pure: `.{}()` asks the operating system", token.text));
    }
    None
}

/// The path of words joined by `::` that begins at `index`, and the index after it.
fn path<'a>(tokens: &[Token<'a>], index: usize) -> (Vec<&'a str>, usize) {
    let mut path = Vec::new();
    let mut at = index;
    while let Some(token) = tokens.get(at).filter(|token| token.kind == Kind::Word) {
        path.push(token.text);
        at += 1;
        if !tokens.get(at).is_some_and(|token| token.is("::")) {
            break;
        }
        at += 1;
    }
    (path, at)
}

fn banned(path: &[&str]) -> Option<(&'static str, &'static str)> {
    BANNED_PATHS.into_iter().find(|(banned, _)| begins_with(path, &segments(banned)))
}

fn segments(path: &str) -> Vec<&str> {
    path.split("::").collect()
}

fn begins_with(path: &[&str], prefix: &[&str]) -> bool {
    path.len() >= prefix.len() && path[..prefix.len()] == *prefix
}

/// One name that a `use` takes in.
struct Import<'a> {
    path: Vec<&'a str>,
    line: usize,
}

impl Import<'_> {
    fn refused(&self) -> Option<String> {
        if let Some((banned, why)) = banned(&self.path) {
            return Some(format!("core is pure: `{banned}` is {why}"));
        }
        // The module above something banned: whoever has it has the banned thing under another name.
        let above = BANNED_PATHS.into_iter().find(|(banned, _)| begins_with(&segments(banned), &self.path));
        above.filter(|_| !self.path.is_empty()).map(|(banned, _)| {
            let module = self.path.join("::");
            format!("core is pure: `{module}` holds `{banned}`; take in by name what is needed of it")
        })
    }
}

struct Imports<'a, 'b> {
    tokens: &'b [Token<'a>],
    at: usize,
    found: Vec<Import<'a>>,
}

impl<'a> Imports<'a, '_> {
    /// Reads one tree (`a::b`, `a::{b, c as d}`, `a::*`) below `above` and stops after it.
    fn tree(&mut self, above: &[&'a str]) {
        let mut path = above.to_vec();
        let line = self.tokens.get(self.at).map_or(0, |token| token.line);
        while let Some(token) = self.tokens.get(self.at).copied() {
            if token.is("{") {
                return self.group(&path);
            } else if token.is("as") {
                self.at += 2;
                break;
            } else if token.is("::") || token.is("*") || token.is("self") {
                // `a::*` and `a::{self}` both take in all of `a`.
                self.at += 1;
            } else if token.kind == Kind::Word {
                path.push(token.text);
                self.at += 1;
            } else {
                break;
            }
        }
        self.found.push(Import { path, line });
    }

    fn group(&mut self, above: &[&'a str]) {
        let end = closing(self.tokens, self.at);
        self.at += 1;
        while self.at < end {
            let before = self.at;
            if !self.tokens[before].is(",") {
                self.tree(above);
            }
            // Past the comma, and past what no tree begins with, so that text that does not compile ends too.
            if self.at == before {
                self.at += 1;
            }
        }
        self.at = end + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::tree_of;
    use super::*;

    fn found(text: &str) -> Vec<Finding> {
        check(&tree_of("crates/evenkeel-core/src/health.rs", text))
    }

    #[test]
    fn clocks_sockets_and_the_rest_are_found_however_they_are_written() {
        for text in [
            "use std::time::Instant;",
            "use ::std::time::SystemTime;",
            "use std::time::{Duration, Instant};",
            "use std::{fmt, time::{Duration, Instant as Now}};",
            "use {std::fmt, std::time::Instant};",
            "use std::time::Instant as I;",
            "use std::time;",
            "use std::time::{self, Duration};",
            "use std::time::*;",
            "use std as s;",
            "use std::{self as s};",
            "use std::*;",
            "pub use std::net;",
            "use r#std::time::Instant;",
            "fn a() { let now = std::time::Instant::now(); }",
            "fn a() { ::std::thread::sleep(d) }",
            "fn a() -> std::io::Result<()> { b }",
            "use std::net::TcpStream;",
            "use std::net::{IpAddr, UdpSocket};",
            "use std::os::unix::net::UnixStream;",
            "use std::fs::File;",
            "use std::io::Read;",
            "use std::collections::HashMap;",
            "use std::collections::{BTreeMap, HashSet};",
            "async fn a() {}",
            "fn a() { b.await }",
            "extern crate std as other;",
            "fn a() { unsafe { b() } }",
            "fn a() { println!(\"x\") }",
            "fn a(p: &Path) -> bool { p.exists() }",
            "fn a() { let e = std::env::var(\"HOME\"); }",
            "fn a() { /* fine */ std::process::exit(1) }",
        ] {
            assert_eq!(found(text).len(), 1, "{text}: {:?}", found(text));
        }
    }

    #[test]
    fn what_only_describes_passes() {
        for text in [
            "use std::time::Duration;",
            "use std::net::{IpAddr, SocketAddr};",
            "use std::{collections::{BTreeMap, VecDeque}, fmt, net::Ipv4Addr, str::FromStr};",
            "use crate::time::{Instant, SystemTime};",
            "use super::*;",
            "use crate::process::Exit;",
            "fn a(limit: std::time::Duration) -> std::fmt::Result { b }",
            "// std::time::Instant, async, unsafe\n/* std::fs */ fn a() {}",
            "/// use std::fs;\nfn a() -> &'static str { \"std::net::TcpStream .await\" }",
            "fn a() -> impl Fn() + use<'_> { b }",
            "fn a(time: Time) { time.instant(); time::Instant::of(1); }",
            "fn exists() { exists() }",
        ] {
            assert_eq!(found(text), [], "{text}");
        }
    }

    #[test]
    fn the_line_is_named_also_inside_a_group() {
        let found =
            found("//! Doc.\nuse std::{\n    fmt,\n    time::{\n        Instant,\n    },\n};\nasync fn a() {}\n");
        let lines: Vec<_> = found.iter().map(|finding| finding.line).collect();
        assert_eq!(lines, [Some(5), Some(8)]);
    }

    #[test]
    fn only_core_is_held_to_this() {
        assert_eq!(check(&tree_of("crates/evenkeel-edge/src/lib.rs", "use std::time::Instant;")), []);
    }

    #[test]
    fn text_that_does_not_compile_ends() {
        for text in ["use", "use std::{", "use {,,}", "use std::{time::{Instant", "use a as", "use ;", "}}}"] {
            let _ = found(text);
        }
    }
}
