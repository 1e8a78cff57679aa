//! What a section does with requests, in the order in which HAProxy does it: refusals and answers of `http-request`,
//! then `redirect`, then `use_backend`, then what goes without a condition.
//!
//! Only rules that decide where a request ends are here; those that change it are left to whoever asked. It owns
//! nothing.

use evenkeel_core::snapshot::Redirect;

use super::{
    super::{found::Page, toml::string},
    conditions::{Acls, Condition},
    syntax::{Line, Section},
};

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// It is refused with this status.
    Refuse(u16),
    /// No further rule of `http-request` is asked.
    Allow,
    /// The client is sent elsewhere: the value of `redirect`.
    Redirect(String),
    /// The edge answers.
    Answer(Page),
    /// A group of this name gets it.
    Lead(String),
}

/// A rule.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) act: Act,
    pub(super) condition: Condition,
    pub(super) line: Line,
    /// Belongs to `http-request`, which `Allow` ends.
    pub(super) of_request: bool,
}

/// The rules of a section, and the lines that have no counterpart, each with what to look at.
pub(super) fn of(section: &Section, has_tls: bool) -> (Vec<Rule>, Vec<(Line, String)>) {
    let acls = Acls::of(section);
    let mut left_out = Vec::new();
    let mut groups: [Vec<Rule>; 4] = Default::default();
    for line in section.all() {
        let (condition, end) = acls.condition(line);
        let words: Vec<&str> = line.words[..end].iter().map(String::as_str).collect();
        let (place, act) = match act(&words, has_tls) {
            Some(Ok(found)) => found,
            Some(Err(why)) => {
                left_out.push((line.clone(), why.to_owned()));
                continue;
            }
            None => continue,
        };
        let condition = match words[0] {
            "monitor-uri" => Condition::at_path(words[1]),
            // Their pattern is about whole lines of a request's head, which routes do not know (HAProxy up to 2.0).
            "reqdeny" | "reqideny" | "reqtarpit" | "reqitarpit" => Condition::unknown(),
            _ => condition,
        };
        groups[place].push(Rule { act, condition, line: line.clone(), of_request: place == 1 });
    }
    let mut rules: Vec<Rule> = groups.into_iter().flatten().collect();
    // What goes without a condition comes last, and the last of several counts.
    if let Some(line) = section.last(&["default_backend"]) {
        let condition = Condition::always();
        rules.push(Rule { act: Act::Lead(line.word(1).to_owned()), condition, line: line.clone(), of_request: false });
    }
    (rules, left_out)
}

/// Whether a line is a rule in the sense of this module, understood or not.
pub(super) fn is_rule(line: &Line) -> bool {
    line.word(0) == "default_backend"
        || act(&line.words.iter().map(String::as_str).collect::<Vec<_>>(), false).is_some()
}

type Found = Option<Result<(usize, Act), &'static str>>;

/// A rule's place in the order and what it does; `None`: it does not decide where a request ends.
fn act(words: &[&str], has_tls: bool) -> Found {
    let status = |words: &[&str], name: &str, default: u16| {
        let at = words.iter().position(|word| *word == name);
        let status = at.and_then(|at| words.get(at + 1)?.parse().ok());
        status.filter(|status| (400..=599).contains(status)).unwrap_or(default)
    };
    Some(Ok(match words {
        ["monitor-uri", path, ..] if path.starts_with('/') => {
            (0, Act::Answer(Page { status: 200, text: "OK\n".to_owned(), content_type: None }))
        }
        ["tcp-request", "connection" | "content" | "session", "reject" | "silent-drop", ..] => (0, Act::Refuse(403)),
        ["http-request", "deny" | "tarpit", rest @ ..] => {
            (1, Act::Refuse(status(rest, "deny_status", status(rest, "status", 403))))
        }
        ["http-request", "reject" | "silent-drop" | "auth" | "use-service", ..]
        | ["block" | "reqdeny" | "reqideny" | "reqtarpit" | "reqitarpit", ..] => (1, Act::Refuse(403)),
        ["http-request", "allow", ..] => (1, Act::Allow),
        ["http-request", "return", rest @ ..] => return Some(answer(rest).map(|act| (1, act))),
        ["http-request", "redirect", rest @ ..] => return Some(redirect(rest, has_tls).map(|act| (1, act))),
        ["redirect", rest @ ..] => return Some(redirect(rest, has_tls).map(|act| (2, act))),
        ["use_backend", name, ..] if !name.contains(['%', '$']) => (3, Act::Lead((*name).to_owned())),
        ["use_backend", ..] => return Some(Err("its name is made up for each request")),
        _ => return None,
    }))
}

/// The word after this one.
fn after<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
    words.get(words.iter().position(|word| *word == name)? + 1).copied()
}

fn answer(words: &[&str]) -> Result<Act, &'static str> {
    let status: u16 = after(words, "status").map_or(Ok(200), str::parse).map_err(|_| "its status is no number")?;
    let text = after(words, "string").or_else(|| after(words, "lf-string")).unwrap_or_default();
    let known = !text.contains("%[") && after(words, "file").is_none() && after(words, "lf-file").is_none();
    if status >= 400 && !known || !(200..=599).contains(&status) {
        return Ok(Act::Refuse(if (400..=599).contains(&status) { status } else { 403 }));
    }
    if !known {
        // An answer of unknown text still leads to no instance.
        return Ok(Act::Answer(Page {
            status: 503,
            text: "The text of this answer was not imported.\n".to_owned(),
            content_type: None,
        }));
    }
    let kind = after(words, "content-type").filter(|kind| kind.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
    // A page has a body, which these have not.
    let status = if [204, 205, 304].contains(&status) { 200 } else { status };
    Ok(Act::Answer(Page { status, text: text.to_owned(), content_type: kind.map(str::to_owned) }))
}

fn redirect(words: &[&str], has_tls: bool) -> Result<Act, &'static str> {
    let status = after(words, "code").map_or(Ok(302), str::parse).map_err(|_| "its status is no number")?;
    let to = match words {
        ["scheme", "https", ..] if has_tls => return Err("whatever has TLS for now must do this too"),
        ["scheme", scheme @ ("http" | "https"), ..] => format!("{scheme}://{{host}}{{uri}}"),
        ["location", to, ..] => (*to).to_owned(),
        ["prefix", to, ..] => format!("{}{{uri}}", to.trim_end_matches('/')),
        _ => return Err("no such redirect in a route"),
    };
    let to = to
        .replace("%[hdr(host)]", "{host}")
        .replace("%[req.hdr(host)]", "{host}")
        .replace("%[capture.req.uri]", "{uri}")
        .replace("%[pathq]", "{uri}")
        .replace("%[path]", "{path}");
    let redirect = Redirect { to, status };
    if redirect.to.contains('%') || redirect.parts().is_err() {
        return Ok(Act::Refuse(403));
    }
    Ok(Act::Redirect(format!("{{ to = {}, status = {status} }}", string(&redirect.to))))
}
