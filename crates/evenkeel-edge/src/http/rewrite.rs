//! Rewriting: another target and other fields for the instance, other fields for the client.
//!
//! Worked out once for each request, where its head is understood, and only where its route has such actions. A path
//! that names one thing before and another after a prefix was taken away or put in front is refused, so that nothing gets
//! out of the space that its route was given. What the stack file says was validated there; what comes from the client
//! was parsed strictly and has no control bytes in it, so no value can end its line.

use std::{borrow::Cow, sync::Arc};

use evenkeel_core::{
    path::{self, without_query},
    snapshot::{
        FieldChanges, Rewrite,
        template::{Part, parts},
    },
};

use super::{
    fields::put,
    head_request::{Forwarding, Reject, RequestHead},
};
use crate::routes::RouteView;

/// How the head for the instance differs from the client's.
#[derive(Debug)]
pub(crate) struct HeadChanges<'a> {
    /// Path and query.
    pub(crate) target: Cow<'a, [u8]>,
    /// In place of the client's `Host`.
    pub(crate) host: Option<&'a [u8]>,
    fields: &'a FieldChanges,
    /// `X-Forwarded-Prefix` is among the lines.
    stripped: bool,
    /// Whole lines that are appended.
    pub(crate) lines: Vec<u8>,
}

impl HeadChanges<'_> {
    /// Whether the client's field of this name does not reach the instance, nor what the edge would say in it.
    pub(crate) fn drops(&self, name: &[u8]) -> bool {
        drops_spelled(self.fields, name) || self.stripped && name.eq_ignore_ascii_case(b"x-forwarded-prefix")
    }
}

/// How the route changes a request's head; `None`: it does not. Kept apart from the way of requests whose route has no
/// actions, which is short so that it stays in the processor's caches.
#[cold]
pub(crate) fn of_request<'a>(
    route: &'a RouteView,
    head: &RequestHead<'a, '_>,
    forwarding: &Forwarding<'_>,
) -> Result<Option<HeadChanges<'a>>, Reject> {
    let Some(actions) = &route.actions else {
        return Ok(None);
    };
    let (rewrite, fields) = (&actions.config.rewrite, &actions.config.request_fields);
    if *rewrite == Rewrite::default() && fields.is_empty() {
        return Ok(None);
    }
    let (target, stripped) = self::target(rewrite, head.method, head.path)?;
    let mut lines = Vec::new();
    write_lines(&mut lines, fields, head, forwarding);
    let said_otherwise = drops(fields, b"x-forwarded-prefix");
    if let Some(prefix) = rewrite.strip_prefix.as_ref().filter(|_| stripped && !said_otherwise) {
        // Where a trusted peer has taken away a prefix too, the client's path began with both.
        let before = head.passes_on(b"x-forwarded-prefix").filter(|_| forwarding.trusted);
        let before = before.filter(|before| before.starts_with(b"/")).unwrap_or_default();
        let before = before.strip_suffix(b"/").unwrap_or(before);
        put(&mut lines, b"X-Forwarded-Prefix", &[before, prefix.as_bytes()].concat());
    }
    // The target of CONNECT names the host too, and both must be the same.
    let host = rewrite.host.as_ref().map(String::as_bytes).filter(|_| head.method != b"CONNECT");
    Ok(Some(HeadChanges { target, host, fields, stripped, lines }))
}

/// How the fields of an answer differ from the instance's. Kept with the request until its answer comes.
#[derive(Debug)]
pub(crate) struct AnswerFields {
    route: Arc<RouteView>,
    /// Whole lines that are appended.
    pub(crate) lines: Box<[u8]>,
}

impl AnswerFields {
    /// What the route says; `None`: nothing.
    pub(crate) fn of(route: &Arc<RouteView>, head: &RequestHead<'_, '_>, forwarding: &Forwarding<'_>) -> Option<Self> {
        let fields = &route.actions.as_ref()?.config.response_fields;
        if fields.is_empty() {
            return None;
        }
        let mut lines = Vec::new();
        write_lines(&mut lines, fields, head, forwarding);
        Some(Self { route: Arc::clone(route), lines: lines.into() })
    }

    /// Whether the instance's field of this name does not reach the client.
    pub(crate) fn drops(&self, name: &[u8]) -> bool {
        self.route.actions.as_ref().is_some_and(|actions| drops(&actions.config.response_fields, name))
    }
}

/// The same for a field of a request. Many applications get names in a form in which `-` and `_` are one (RFC 3875 section
/// 4.1.18), so whoever spells a name otherwise must not get around what is said of it.
fn drops_spelled(fields: &FieldChanges, name: &[u8]) -> bool {
    drops(fields, name)
        || name.contains(&b'_') && {
            let spelled =
                |name: &[u8]| -> Vec<u8> { name.iter().map(|&byte| if byte == b'_' { b'-' } else { byte }).collect() };
            let name = spelled(name);
            let is = |other: &String| spelled(other.as_bytes()).eq_ignore_ascii_case(&name);
            fields.remove.iter().any(is) || fields.set.iter().any(|(other, _)| is(other))
        }
}

/// Whether fields of this name are taken away, or replaced.
fn drops(fields: &FieldChanges, name: &[u8]) -> bool {
    let is = |other: &String| other.as_bytes().eq_ignore_ascii_case(name);
    fields.remove.iter().any(is) || fields.set.iter().any(|(other, _)| is(other))
}

/// Appends the lines of the fields that are set and added.
fn write_lines(lines: &mut Vec<u8>, fields: &FieldChanges, head: &RequestHead<'_, '_>, forwarding: &Forwarding<'_>) {
    for (name, value) in fields.set.iter().chain(&fields.add) {
        let mut text = Vec::with_capacity(value.len());
        for part in parts(value) {
            text.extend_from_slice(match part {
                Part::Text(text) | Part::Unknown(text) => text.as_bytes(),
                Part::Client => forwarding.client,
                Part::Host => head.host(),
                Part::Path => without_query(head.path),
                Part::Id => forwarding.id,
            });
        }
        put(lines, name.as_bytes(), &text);
    }
}

/// The target for the instance, and whether a prefix was taken away. `target` was parsed strictly before: it has visible
/// ASCII in it and nothing else. Refused is what could mean another thing once it is rewritten.
pub fn target<'a>(rewrite: &Rewrite, method: &[u8], target: &'a [u8]) -> Result<(Cow<'a, [u8]>, bool), Reject> {
    // `*` and the target of CONNECT are no paths.
    if !target.starts_with(b"/") || method == b"CONNECT" {
        return Ok((Cow::Borrowed(target), false));
    }
    let path = without_query(target);
    let query = &target[path.len()..];
    if let Some(whole) = &rewrite.path {
        return Ok((Cow::Owned([whole.as_bytes(), query].concat()), false));
    }
    if rewrite.strip_prefix.is_none() && rewrite.add_prefix.is_none() {
        return Ok((Cow::Borrowed(target), false));
    }
    if is_ambiguous(path) {
        return Err(Reject::new(400, "a path with dot segments or backslashes cannot be rewritten"));
    }
    let strip = rewrite.strip_prefix.as_ref().map(String::as_bytes);
    let stripped = strip.and_then(|strip| path::strip_prefix(path, strip));
    let mut rest = stripped.unwrap_or(path);
    if stripped.is_some() {
        // A target that begins with two slashes could be read as one that names a host.
        while rest.starts_with(b"//") {
            rest = &rest[1..];
        }
    }
    let add = rewrite.add_prefix.as_ref().map(String::as_bytes).unwrap_or_default();
    let rest: &[u8] = if add.is_empty() && rest.is_empty() { b"/" } else { rest };
    Ok((Cow::Owned([add, rest, query].concat()), stripped.is_some()))
}

/// Whether a path could leave the place that it seems to name: it has segments `.` or `..`, or what many servers take for
/// them. Those decode before they split (RFC 3986 section 6.2.2.3), take a backslash for a slash, or drop what follows a
/// semicolon.
fn is_ambiguous(path: &[u8]) -> bool {
    let mut plain = Vec::with_capacity(path.len());
    let mut at = 0;
    while let Some(&byte) = path.get(at) {
        let escape = path.get(at + 1..at + 3).filter(|_| byte == b'%');
        let decoded = escape.and_then(|digits| match (digits[0], digits[1].to_ascii_lowercase()) {
            (b'2', b'e') => Some(b'.'),
            (b'2', b'f') | (b'5', b'c') => Some(b'/'),
            (b'3', b'b') => Some(b';'),
            _ => None,
        });
        plain.push(decoded.unwrap_or(byte));
        at += if decoded.is_some() { 3 } else { 1 };
    }
    let dots = |segment: &[u8]| matches!(segment.split(|&byte| byte == b';').next(), Some(b"." | b".."));
    plain.contains(&b'\\') || plain.split(|&byte| byte == b'/').any(dots)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rewritten(rewrite: &Rewrite, from: &str) -> Result<String, u16> {
        let result = target(rewrite, b"GET", from.as_bytes());
        result.map(|(to, _)| String::from_utf8(to.into_owned()).unwrap()).map_err(|reject| reject.status)
    }

    fn strip() -> Rewrite {
        Rewrite { strip_prefix: Some("/api".into()), ..Rewrite::default() }
    }

    #[test]
    fn a_prefix_is_taken_away_at_a_boundary_only() {
        for (from, to) in [
            ("/api/orders?a=/api/../x", "/orders?a=/api/../x"),
            ("/api", "/"),
            ("/api/", "/"),
            ("/api?x=1", "/?x=1"),
            ("/apis/x", "/apis/x"),
            ("/api//evil.example/x", "/evil.example/x"),
            ("//api/x", "/x"),
            ("/%61p%69/%41", "/%41"),
            ("/api%2Fx", "/api%2Fx"),
            ("/api////", "/"),
            ("/API/x", "/API/x"),
            ("/api/a..b/...", "/a..b/..."),
            ("/api/%41;v=1", "/%41;v=1"),
            ("*", "*"),
        ] {
            assert_eq!(rewritten(&strip(), from), Ok(to.into()), "{from}");
        }
    }

    #[test]
    fn a_prefix_is_put_in_front() {
        let add = Rewrite { add_prefix: Some("/v2".into()), ..Rewrite::default() };
        assert_eq!(rewritten(&add, "/"), Ok("/v2/".into()));
        assert_eq!(rewritten(&add, "/a//b?c"), Ok("/v2/a//b?c".into()));
        let both = Rewrite { strip_prefix: Some("/api".into()), ..add };
        assert_eq!(rewritten(&both, "/api"), Ok("/v2".into()));
        assert_eq!(rewritten(&both, "/api//x"), Ok("/v2/x".into()));
        let path = Rewrite { path: Some("/index".into()), ..Rewrite::default() };
        assert_eq!(rewritten(&path, "/../a?b=c"), Ok("/index?b=c".into()));
    }

    #[test]
    fn what_could_leave_its_place_is_refused() {
        for bad in [
            "/api/../admin",
            "/api/..",
            "/api/.",
            "/api/./x",
            "/api/%2e%2E/admin",
            "/api/.%2e/admin",
            "/api/x/..%2fadmin",
            "/api/%2e%2e%2fadmin",
            "/api/..;a=b/admin",
            "/api/..%3Ba/admin",
            "/api/..%5Cadmin",
            "/api/..\\admin",
            "/api/\\evil.example",
        ] {
            assert_eq!(rewritten(&strip(), bad), Err(400), "{bad}");
        }
    }

    proptest! {
        /// Whatever comes: the result is a path, begins with one slash, keeps its query, and stays below what was put in
        /// front also after dots are resolved.
        #[test]
        fn nothing_escapes(segments in proptest::collection::vec("(\\.|\\.\\.|%2e|%2E%2e|%2f|;|a|api|\\\\|)", 0..8)) {
            let rewrite = Rewrite { add_prefix: Some("/in".into()), ..strip() };
            let from = format!("/api/{}?q=/../", segments.join("/"));
            if let Ok(to) = rewritten(&rewrite, &from) {
                let (path, query) = to.split_once('?').unwrap();
                prop_assert_eq!(query, "q=/../");
                prop_assert!(path.starts_with("/in/") && !path.starts_with("/in//"), "{}", path);
                let mut depth = 0_i32;
                for segment in path.to_lowercase().replace("%2e", ".").replace("%2f", "/").split(['/', '\\']).skip(1) {
                    depth += if segment == ".." { -1 } else { 1 };
                    prop_assert!(depth >= 1, "{}", to);
                }
            }
        }
    }
}
