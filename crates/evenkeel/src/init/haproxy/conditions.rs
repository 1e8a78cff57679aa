//! `acl`, `if` and `unless`: which requests a rule is for, as far as routes can tell requests apart.
//!
//! A condition is asked at a cell: all requests for one host, at or below one path, as `table` lays them out. It holds
//! there, does not, holds for certain methods and header values, or cannot be known. Nothing here decides what follows
//! from that. Names of fetches and flags are those of HAProxy's manual, chapter 7.

use std::collections::{BTreeMap, BTreeSet};

use super::syntax::{Line, Section};

/// Requests for one host, at or below one path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cell<'a> {
    /// A name, or `*.` and its end; `None` for all others.
    pub(super) host: Option<&'a str>,
    pub(super) path: &'a str,
}

/// What a route can ask for beside host and path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ask {
    Methods(Vec<String>),
    Header(String, String),
}

/// Why something cannot be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Unknown {
    /// Where a request came in, as by TLS or not.
    Place,
    /// Who sent it, or anything else.
    Any,
    /// How often somebody asked before.
    Limit,
}

/// Whether a condition holds at a cell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Holds {
    /// It holds for requests that fulfil all of one of these; an empty one: for every request.
    pub(super) when: Vec<Vec<Ask>>,
    /// It may hold for requests that fulfil all of one of these, and nobody here can know.
    pub(super) maybe: Vec<(Vec<Ask>, Unknown)>,
    /// A path that was meant alone, without what lies below, has decided this.
    pub(super) exact: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Term {
    Below(Vec<String>),
    Exact(Vec<String>),
    Host(Vec<String>),
    Asks(Vec<Ask>),
    Always(bool),
    Unknown(Unknown),
}

/// A name or its opposite: any of the terms.
type Literal = (bool, Vec<Term>);

/// A condition: any of some lines whose literals all hold, or the opposite of that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Condition {
    opposite: bool,
    any: Vec<Vec<Literal>>,
}

/// The named conditions of a section.
pub(super) struct Acls(BTreeMap<String, Vec<Term>>);

impl Acls {
    /// Those of a section and its defaults.
    pub(super) fn of(section: &Section) -> Self {
        let mut all: BTreeMap<String, Vec<Term>> = BTreeMap::new();
        for line in section.all().filter(|line| line.word(0) == "acl" && line.words.len() > 2) {
            all.entry(line.word(1).to_owned()).or_default().push(term(&line.words[2..]));
        }
        Self(all)
    }

    /// The condition at the end of a line, and where it begins; always true where there is none.
    pub(super) fn condition(&self, line: &Line) -> (Condition, usize) {
        let Some(at) = line.words.iter().position(|word| word == "if" || word == "unless") else {
            return (Condition::always(), line.words.len());
        };
        let mut any = vec![Vec::new()];
        let mut opposite = false;
        let mut words = line.words[at + 1..].iter();
        while let Some(word) = words.next() {
            let (denied, name) = word.strip_prefix('!').map_or((false, word.as_str()), |name| (true, name));
            match name {
                "or" | "||" => any.push(Vec::new()),
                "" => opposite = !opposite,
                _ => {
                    let terms = if name == "{" {
                        let inside: Vec<String> = words.by_ref().take_while(|word| *word != "}").cloned().collect();
                        vec![term(&inside)]
                    } else {
                        self.0.get(name).cloned().unwrap_or_else(|| vec![predefined(name)])
                    };
                    any.last_mut().expect("there is always one").push((denied != opposite, terms));
                    opposite = false;
                }
            }
        }
        (Condition { opposite: line.words[at] == "unless", any }, at)
    }
}

impl Condition {
    /// A condition that always holds.
    pub(super) fn always() -> Self {
        Self { opposite: false, any: vec![Vec::new()] }
    }

    /// A condition of which nobody here knows.
    pub(super) fn unknown() -> Self {
        Self { opposite: false, any: vec![vec![(false, vec![Term::Unknown(Unknown::Any)])]] }
    }

    /// A condition that holds for one path and nothing below it.
    pub(super) fn at_path(path: &str) -> Self {
        Self { opposite: false, any: vec![vec![(false, vec![Term::Exact(vec![path.to_owned()])])]] }
    }

    /// Adds the hosts and paths that it tells apart.
    pub(super) fn cells(&self, hosts: &mut BTreeSet<String>, paths: &mut BTreeSet<String>) {
        for term in self.any.iter().flatten().flat_map(|(_, terms)| terms) {
            match term {
                Term::Below(all) | Term::Exact(all) => paths.extend(all.iter().cloned()),
                Term::Host(all) => hosts.extend(all.iter().cloned()),
                Term::Asks(_) | Term::Always(_) | Term::Unknown(_) => {}
            }
        }
    }

    /// Whether it holds there.
    pub(super) fn holds(&self, cell: Cell<'_>) -> Holds {
        let mut all = Holds::default();
        for literals in &self.any {
            let one = conjunction(literals, cell);
            all.exact |= one.exact;
            all.when.extend(one.when);
            all.maybe.extend(one.maybe);
        }
        if !self.opposite {
            return all;
        }
        let always = all.when.iter().any(Vec::is_empty);
        let never = all.when.is_empty() && all.maybe.is_empty();
        let why = all.maybe.iter().map(|(_, why)| *why).max().unwrap_or(Unknown::Any);
        Holds {
            when: if never { vec![Vec::new()] } else { Vec::new() },
            maybe: if always || never { Vec::new() } else { vec![(Vec::new(), why)] },
            exact: all.exact,
        }
    }
}

fn conjunction(literals: &[Literal], cell: Cell<'_>) -> Holds {
    let mut all = Holds { when: vec![Vec::new()], ..Holds::default() };
    for (denied, terms) in literals {
        let one = disjunction(terms, *denied, cell);
        let both = |a: &Vec<Ask>, b: &Vec<Ask>| a.iter().chain(b).cloned().collect::<Vec<_>>();
        let mut maybe = Vec::new();
        for (a, why) in &all.maybe {
            maybe.extend(one.when.iter().map(|b| (both(a, b), *why)));
            maybe.extend(one.maybe.iter().map(|(b, other)| (both(a, b), (*why).max(*other))));
        }
        for a in &all.when {
            maybe.extend(one.maybe.iter().map(|(b, why)| (both(a, b), *why)));
        }
        let when = all.when.iter().flat_map(|a| one.when.iter().map(move |b| both(a, b))).collect();
        all = Holds { when, maybe, exact: all.exact || one.exact };
        // More than this is not written by people, and every alternative would be a route.
        if all.when.len() > 64 || all.maybe.len() > 64 {
            return Holds { when: Vec::new(), maybe: vec![(Vec::new(), Unknown::Any)], exact: all.exact };
        }
    }
    all
}

fn disjunction(terms: &[Term], denied: bool, cell: Cell<'_>) -> Holds {
    let mut all = Holds::default();
    for term in terms {
        match term {
            Term::Below(paths) if paths.iter().any(|path| is_below(cell.path, path)) => all.when.push(Vec::new()),
            Term::Exact(paths) if paths.iter().any(|path| path == cell.path) => {
                all.exact = true;
                all.when.push(Vec::new());
            }
            Term::Host(hosts) if hosts.iter().any(|host| has_host(cell.host, host)) => all.when.push(Vec::new()),
            Term::Always(true) => all.when.push(Vec::new()),
            Term::Asks(asks) => all.when.extend(asks.iter().map(|ask| vec![ask.clone()])),
            Term::Unknown(why) => all.maybe.push((Vec::new(), *why)),
            Term::Below(_) | Term::Exact(_) | Term::Host(_) | Term::Always(false) => {}
        }
    }
    let always = all.when.iter().any(Vec::is_empty);
    if always {
        all = Holds { when: vec![Vec::new()], maybe: Vec::new(), exact: all.exact };
    }
    if !denied {
        return all;
    }
    match (always, all.when.is_empty() && all.maybe.is_empty()) {
        (true, _) => Holds { exact: all.exact, ..Holds::default() },
        (_, true) => Holds { when: vec![Vec::new()], ..Holds::default() },
        _ => {
            let why = all.maybe.iter().map(|(_, why)| *why).max().unwrap_or(Unknown::Any);
            Holds { maybe: vec![(Vec::new(), why)], ..Holds::default() }
        }
    }
}

/// Whether `path` is `above` or lies below it.
pub(super) fn is_below(path: &str, above: &str) -> bool {
    above == "/" || path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether all requests for `host` are for `wanted`.
pub(super) fn has_host(host: Option<&str>, wanted: &str) -> bool {
    let Some(host) = host else { return false };
    let below = |end: &str| host.strip_suffix(end).is_some_and(|rest| rest.ends_with('.'));
    host == wanted || wanted.strip_prefix("*.").is_some_and(below)
}

/// Conditions that have a name everywhere.
fn predefined(name: &str) -> Term {
    let method = |all: &[&str]| Term::Asks(vec![Ask::Methods(all.iter().map(|&one| one.to_owned()).collect())]);
    match name {
        "TRUE" | "HTTP" => Term::Always(true),
        "FALSE" => Term::Always(false),
        // HAProxy's METH_GET is true for HEAD too.
        "METH_GET" => method(&["GET", "HEAD"]),
        _ => match name.strip_prefix("METH_") {
            Some(one) if one.bytes().all(|byte| byte.is_ascii_uppercase()) => method(&[one]),
            _ => Term::Unknown(Unknown::Any),
        },
    }
}

/// `FETCH [flags] [values]`.
fn term(words: &[String]) -> Term {
    let Some((fetch, rest)) = words.split_first() else { return Term::Unknown(Unknown::Any) };
    let (mut kind, mut ignores_case, mut values) = ("", false, Vec::new());
    let mut rest = rest.iter().map(String::as_str);
    while let Some(word) = rest.next() {
        match word {
            "-i" if values.is_empty() => ignores_case = true,
            "-m" if values.is_empty() => kind = rest.next().unwrap_or_default(),
            "--" if values.is_empty() => values.extend(rest.by_ref()),
            // Values in a file, and whatever else a flag may mean.
            flag if values.is_empty() && flag.starts_with('-') => return Term::Unknown(unknown(fetch)),
            value => values.push(value),
        }
    }
    let known = if values.iter().any(|value| value.contains("${") || value.starts_with('$')) {
        None
    } else {
        term_of(fetch, kind, ignores_case, &values)
    };
    known.unwrap_or(Term::Unknown(unknown(fetch)))
}

fn term_of(fetch: &str, kind: &str, ignores_case: bool, values: &[&str]) -> Option<Term> {
    let (name, converters) = fetch.split_once(',').unwrap_or((fetch, ""));
    let plain = converters.split(',').all(|one| ["", "lower", "host_only", "field(1", ":)"].contains(&one));
    if !plain || values.is_empty() {
        return match (name, kind, values) {
            ("always_true", ..) => Some(Term::Always(true)),
            ("always_false", ..) => Some(Term::Always(false)),
            _ => None,
        };
    }
    let paths = |values: &[&str]| values.iter().map(|value| path(value)).collect::<Option<Vec<_>>>();
    match (name, kind) {
        ("path_beg" | "url_beg", "") | ("path" | "url", "beg") => paths(values).map(Term::Below),
        ("path", "" | "str") => paths(values).map(Term::Exact),
        ("method", "" | "str") => {
            let methods: Vec<String> = values.iter().map(|&value| value.to_owned()).collect();
            let fits = |method: &String| method.bytes().all(|byte| byte.is_ascii_uppercase());
            methods.iter().all(fits).then(|| Term::Asks(vec![Ask::Methods(methods)]))
        }
        _ => {
            let (base, field) = name.strip_suffix(')')?.split_once('(')?;
            let base = base.strip_prefix("req.").unwrap_or(base);
            let (base, kind) = match base {
                "hdr_end" => ("hdr", "end"),
                "hdr_dom" => ("hdr", "dom"),
                other => (other, kind),
            };
            if base != "hdr" {
                return None;
            }
            if field.eq_ignore_ascii_case("host") {
                return hosts(kind, values).map(Term::Host);
            }
            let exact = ["", "str"].contains(&kind) && !ignores_case && converters.is_empty();
            let header = |value: &&str| Ask::Header(field.to_ascii_lowercase(), (*value).to_owned());
            exact.then(|| Term::Asks(values.iter().map(header).collect()))
        }
    }
}

/// A path as a route has it.
fn path(value: &str) -> Option<String> {
    let path = value.trim_end_matches('/');
    let fits = value.starts_with('/') && super::super::nginx::is_normal(path);
    fits.then(|| if path.is_empty() { "/".to_owned() } else { path.to_owned() })
}

/// Hosts as routes have them.
fn hosts(kind: &str, values: &[&str]) -> Option<Vec<String>> {
    let mut found = Vec::new();
    for value in values {
        let value = value.to_ascii_lowercase();
        let name = value.trim_start_matches('.');
        if !super::super::nginx::is_host(name) || name.is_empty() {
            return None;
        }
        match kind {
            "" | "str" if value == name => found.push(value),
            "end" if value.starts_with('.') => found.push(format!("*.{name}")),
            "dom" => found.extend([name.to_owned(), format!("*.{name}")]),
            _ => return None,
        }
    }
    Some(found)
}

/// Why a fetch cannot be known.
fn unknown(fetch: &str) -> Unknown {
    const LIMITS: [&str; 10] =
        ["sc_", "sc0_", "sc1_", "sc2_", "src_conn", "src_http", "src_get_gpc", "src_bytes", "fe_conn", "be_conn"];
    const PLACES: [&str; 6] = ["ssl_fc", "dst", "path", "url", "base", "hdr"];
    let fetch = fetch.to_ascii_lowercase();
    let name = fetch.split([',', '(']).next().unwrap_or_default();
    let bare = name.strip_prefix("req.").unwrap_or(name);
    let is = |one: &str| bare == one || bare.strip_prefix(one).is_some_and(|rest| rest.starts_with('_'));
    let of_place = PLACES.into_iter().any(is) && !bare.starts_with("ssl_fc_") && bare != "url_param";
    // Other fields than these say who somebody is.
    let of_host = fetch.contains("(host)") || fetch.contains("(x-forwarded-proto)");
    if LIMITS.iter().any(|one| name.starts_with(one)) {
        Unknown::Limit
    } else if of_place && (!is("hdr") || of_host) {
        Unknown::Place
    } else {
        Unknown::Any
    }
}
