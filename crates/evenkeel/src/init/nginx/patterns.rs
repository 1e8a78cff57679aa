//! Where a location is: which paths it takes, as far as routes can say that.
//!
//! A route takes a path and what lies below it. nginx takes every path that begins so, also within a name, and has
//! patterns; those are never matched here, but bounded: the smallest places that cover whatever a pattern could match.
//! It reads no more than the arguments of a location.

use super::syntax::Directive;

/// The paths of a location.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Spot {
    /// This path and everything that begins so; unless `firm`, patterns come before it.
    Prefix { path: String, firm: bool },
    /// This path alone.
    Exact(String),
    /// A pattern that matches nothing outside of these.
    Pattern(Vec<String>),
    /// Reached from within the file only.
    Named,
    /// A path that no route could have.
    Odd,
}

/// More alternatives than this are not told apart.
const MOST: usize = 32;

/// Where a location is.
pub(super) fn spot(location: &Directive) -> Spot {
    let path = |text: &str| {
        let path = text.trim_end_matches('/');
        if path.is_empty() { "/".to_owned() } else { path.to_owned() }
    };
    let fits = |text: &str| text.starts_with('/') && (path(text) == "/" || is_normal(&path(text)));
    match &location.args[..] {
        [name] if name.starts_with('@') => Spot::Named,
        [text] if fits(text) => Spot::Prefix { path: path(text), firm: false },
        [prefix, text] if prefix == "^~" && fits(text) => Spot::Prefix { path: path(text), firm: true },
        [equal, text] if equal == "=" && fits(text) => Spot::Exact(path(text)),
        [kind, pattern] if kind == "~" || kind == "~*" => Spot::Pattern(covers(pattern)),
        // nginx also takes the sign and its pattern as one word.
        [text] if text.starts_with('~') => Spot::Pattern(covers(text.trim_start_matches(['~', '*']))),
        _ => Spot::Odd,
    }
}

/// Whether a route can have this path, which does not end in a slash, and would find requests by it.
pub(in crate::init) fn is_normal(path: &str) -> bool {
    let fits = |part: &str| !["", ".", ".."].contains(&part);
    path.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#%\\".contains(&byte)) && path.split('/').skip(1).all(fits)
}

/// Whether `path` is `cover` or lies below it.
pub(super) fn is_below(path: &str, cover: &str) -> bool {
    cover == "/" || path.strip_prefix(cover).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Paths below which everything lies that a pattern could match, but names that only begin like one of them.
fn covers(pattern: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for part in alternatives(pattern) {
        let Some(rest) = part.strip_prefix('^').filter(|rest| rest.starts_with('/') || rest.starts_with("\\/")) else {
            return vec!["/".to_owned()];
        };
        for (literal, rest) in literals(rest) {
            all.push(cover(&literal, rest));
        }
    }
    if all.is_empty() || all.len() > MOST || all.iter().any(|path| path == "/") {
        return vec!["/".to_owned()];
    }
    all.sort();
    all.dedup();
    let outer = all.clone();
    all.retain(|path| !outer.iter().any(|other| other != path && is_below(path, other)));
    all
}

/// The place of a literal beginning that is followed by `rest`.
fn cover(literal: &str, rest: &str) -> String {
    const ENDS: [&str; 11] = ["", "$", "/?$", "/?", "(/|$)", "(?:/|$)", "(/.*)?$", "(/.*)?", "(?:/.*)?$", ".*", ".*$"];
    let whole = literal.ends_with('/') || ENDS.contains(&rest);
    let place = if whole { literal } else { literal.rsplit_once('/').map_or("", |(folder, _)| folder) };
    let place = place.trim_end_matches('/');
    if place.is_empty() || !is_normal(place) { "/".to_owned() } else { place.to_owned() }
}

/// The parts of a pattern between the bars that stand outside of every group.
fn alternatives(pattern: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut class, mut escaped, mut begin) = (Vec::new(), 0usize, false, false, 0);
    for (at, c) in pattern.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '[' => class = true,
            ']' => class = false,
            _ if class => {}
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            '|' if depth == 0 => {
                parts.push(&pattern[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&pattern[begin..]);
    parts
}

/// Literal beginnings, each with what follows it; a group of literals is several of them.
fn literals(pattern: &str) -> Vec<(String, &str)> {
    let mut found = vec![String::new()];
    let mut rest = pattern;
    loop {
        if let Some((group, after)) = group(rest).filter(|(group, _)| found.len() * group.len() <= MOST) {
            found = found.iter().flat_map(|one| group.iter().map(move |other| format!("{one}{other}"))).collect();
            rest = after;
            continue;
        }
        match literal(rest) {
            Some((c, after)) => {
                for one in &mut found {
                    one.push(c);
                }
                rest = after;
            }
            None => return found.into_iter().map(|one| (one, rest)).collect(),
        }
    }
}

/// One character that stands for itself, and once.
fn literal(rest: &str) -> Option<(char, &str)> {
    let mut chars = rest.chars();
    let c = match chars.next()? {
        // A backslash before a letter or digit stands for a class.
        '\\' => chars.next().filter(|c| !c.is_ascii_alphanumeric())?,
        c if "^$.|?*+()[]{}".contains(c) => return None,
        c => c,
    };
    let after = chars.as_str();
    (!after.starts_with(['?', '*', '+', '{'])).then_some((c, after))
}

/// `(a|b)`, where each of them is literal and the group is there once.
fn group(rest: &str) -> Option<(Vec<String>, &str)> {
    let inside = rest.strip_prefix("(?:").or_else(|| rest.strip_prefix('('))?;
    let (inside, after) = inside.split_once(')')?;
    if after.starts_with(['?', '*', '+', '{']) {
        return None;
    }
    let whole = |part: &str| {
        let (mut text, mut rest) = (String::new(), part);
        while let Some((c, after)) = literal(rest) {
            text.push(c);
            rest = after;
        }
        (rest.is_empty() && !text.is_empty()).then_some(text)
    };
    inside.split('|').map(whole).collect::<Option<Vec<String>>>().map(|all| (all, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_covered_by_the_smallest_places() {
        for (pattern, places) in [
            ("^/admin", &["/admin"][..]),
            ("^/admin/", &["/admin"]),
            ("^/(admin|private)/", &["/admin", "/private"]),
            ("^/(?:admin|private)(/|$)", &["/admin", "/private"]),
            ("^/a/(b|c)/(d|e)/.*\\.key$", &["/a/b/d", "/a/b/e", "/a/c/d", "/a/c/e"]),
            ("^/admins?/", &["/"]),
            ("^/files/.*\\.key$", &["/files"]),
            ("^/files/v[0-9]+", &["/files"]),
            ("^/wp-login\\.php$", &["/wp-login.php"]),
            ("^/a|^/a/b", &["/a"]),
            ("^/a|\\.php$", &["/"]),
            ("/\\.", &["/"]),
            ("\\.(bak|sql)$", &["/"]),
            ("^/", &["/"]),
            ("^/\\d+/x", &["/"]),
            ("^\\/x\\/", &["/x"]),
            ("^/(a|b)?/c", &["/"]),
            ("^/x y/", &["/"]),
            ("^/(a|(b|c))/", &["/"]),
            ("", &["/"]),
            ("^/(((", &["/"]),
            ("^/[a|b]/c", &["/"]),
        ] {
            assert_eq!(covers(pattern), places, "{pattern}");
        }
    }

    #[test]
    fn below_means_at_a_slash() {
        assert!(is_below("/a/b", "/a") && is_below("/a", "/a") && is_below("/a", "/"));
        assert!(!is_below("/ab", "/a") && !is_below("/", "/a"));
    }
}
