//! The tables of this folder, read as `README.md` says.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)] // Each test uses its part of it.

use std::path::{Path, PathBuf};

/// One request, or what comes instead of one.
pub struct Case {
    /// File and name.
    pub name: String,
    pub sent: Vec<u8>,
    pub strict: Outcome,
    /// What holds where ambiguous requests are reported instead of refused.
    pub report: Outcome,
}

/// What becomes of what was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The status of a refusal.
    pub refused: Option<u16>,
    /// What the instance sees.
    pub sees: Vec<Sight>,
    /// The statuses that the client gets, where they are not 200 for each request; empty: whatever.
    pub answers: Option<Vec<u16>>,
}

/// One request as an instance must see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    pub method: String,
    pub target: String,
    pub body: Vec<u8>,
    pub with: Vec<(String, String)>,
    pub without: Vec<String>,
}

/// One answer of an instance.
#[derive(Default)]
pub struct AnswerCase {
    pub name: String,
    pub sent: Vec<u8>,
    /// The instance closes behind it.
    pub ends: bool,
    pub status: u16,
    pub body: Vec<u8>,
    pub with: Vec<(String, String)>,
    pub without: Vec<String>,
    /// Statuses of interim answers that pass; `None`: whatever.
    pub interim: Option<Vec<u16>>,
    /// Whether the connection to the instance is used again, where that is said.
    pub kept: Option<bool>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/strict")
}

/// Name and lines of every case of a file.
fn blocks(path: &Path) -> Vec<(String, Vec<String>)> {
    let text = std::fs::read_to_string(path).unwrap();
    let file = path.file_stem().unwrap().to_string_lossy().into_owned();
    let mut blocks: Vec<(String, Vec<String>)> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.strip_prefix("case ") {
            Some(name) => blocks.push((format!("{file}: {name}"), Vec::new())),
            None => blocks.last_mut().unwrap().1.push(line.to_owned()),
        }
    }
    blocks
}

/// All cases of requests.
pub fn requests() -> Vec<Case> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "txt") && path.file_stem().unwrap() != "responses");
    paths.sort();
    paths.iter().flat_map(|path| blocks(path)).map(|(name, lines)| case(name, &lines)).collect()
}

fn case(name: String, lines: &[String]) -> Case {
    let sent = lines.iter().filter_map(|line| line.strip_prefix('|')).flat_map(sent_line).collect();
    let mut parts = lines.split(|line| line == "report");
    let strict = outcome(&name, parts.next().unwrap());
    let report = parts.next().map_or_else(|| strict.clone(), |lines| outcome(&name, lines));
    Case { name, sent, strict, report }
}

fn outcome(name: &str, lines: &[String]) -> Outcome {
    let mut outcome = Outcome::default();
    for line in lines.iter().filter(|line| !line.starts_with('|')) {
        let (word, rest) = line.split_once(' ').unwrap();
        match word {
            "refused" => outcome.refused = Some(rest.parse().unwrap()),
            "answers" if rest == "any" => outcome.answers = Some(Vec::new()),
            "answers" => outcome.answers = Some(rest.split(' ').map(|status| status.parse().unwrap()).collect()),
            "sees" => {
                let (start, body) = rest.split_once(" = ").unwrap_or((rest, ""));
                let (method, target) = start.split_once(' ').unwrap();
                let target = String::from_utf8(unescape(target)).unwrap();
                let sight = Sight { method: method.into(), target, body: unescape(body), ..Sight::default() };
                outcome.sees.push(sight);
            }
            "with" => outcome.sees.last_mut().unwrap().with.push(field(rest)),
            "without" => outcome.sees.last_mut().unwrap().without.push(rest.to_owned()),
            _ => panic!("{name}: what is `{line}`?"),
        }
    }
    assert_eq!(outcome.refused.is_some(), outcome.sees.is_empty(), "{name}: refused or seen?");
    outcome
}

/// All cases of answers.
pub fn answers() -> Vec<AnswerCase> {
    blocks(&folder().join("responses.txt")).into_iter().map(|(name, lines)| answer_case(name, &lines)).collect()
}

fn answer_case(name: String, lines: &[String]) -> AnswerCase {
    let mut case = AnswerCase { name, interim: Some(Vec::new()), ..AnswerCase::default() };
    for line in lines {
        if let Some(rest) = line.strip_prefix('|') {
            case.sent.extend(sent_line(rest));
            continue;
        }
        match line.split_once(' ').unwrap_or((line, "")) {
            ("end", "") => case.ends = true,
            ("kept", "") => case.kept = Some(true),
            ("closed", "") => case.kept = Some(false),
            ("interim", "any") => case.interim = None,
            ("interim", status) => case.interim.as_mut().unwrap().push(status.parse().unwrap()),
            ("becomes", rest) => {
                let (status, body) = rest.split_once(" = ").unwrap_or((rest, ""));
                (case.status, case.body) = (status.parse().unwrap(), unescape(body));
            }
            ("with", rest) => case.with.push(field(rest)),
            ("without", name) => case.without.push(name.to_owned()),
            _ => panic!("{}: what is `{line}`?", case.name),
        }
    }
    assert!(case.status > 0, "{}: what becomes of it?", case.name);
    case
}

fn field(text: &str) -> (String, String) {
    let (name, value) = text.split_once(':').unwrap();
    (name.to_owned(), value.trim().to_owned())
}

/// What a line behind its bar stands for.
fn sent_line(line: &str) -> Vec<u8> {
    let line = line.strip_prefix(' ').unwrap_or(line);
    match line.strip_suffix('\\').filter(|line| !line.ends_with('\\')) {
        Some(unended) => unescape(unended),
        None => [unescape(line), b"\r\n".to_vec()].concat(),
    }
}

fn unescape(text: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), text);
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let escaped = &rest[at + 1..];
        let mut taken = 1;
        match escaped.as_bytes()[0] {
            b'n' => bytes.push(b'\n'),
            b'r' => bytes.push(b'\r'),
            b't' => bytes.push(b'\t'),
            b'0' => bytes.push(0),
            b'\\' => bytes.push(b'\\'),
            b'x' => {
                bytes.push(u8::from_str_radix(&escaped[1..3], 16).unwrap());
                taken = 3;
            }
            b'{' => {
                let end = escaped.find('}').unwrap();
                let (count, what) = escaped[1..end].split_once('*').unwrap();
                bytes.extend(unescape(what).repeat(count.parse().unwrap()));
                taken = end + 1;
            }
            other => panic!("what is \\{}?", char::from(other)),
        }
        rest = &escaped[taken..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}
