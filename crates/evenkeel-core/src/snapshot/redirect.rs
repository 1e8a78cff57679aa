//! Where a redirect leads: a template that can only become a place of which its writer thought.
//!
//! Whatever a client sends as path or query, the scheme and everything up to the host's end come from the template
//! (and from `Host`, where the template says `{host}`), so that nobody can be led to a host of somebody else's choice
//! by a crafted path. It holds no state.

use super::Redirect;

/// A piece of a redirect's target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedirectPart {
    /// As it stands there.
    Text(String),
    /// The request's host, without port.
    Host,
    /// The request's path.
    Path,
    /// The request's path and query.
    Uri,
}

/// A template that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRedirect {
    /// Something in braces that is not known.
    #[error("only {{host}}, {{path}} and {{uri}} stand for something")]
    Placeholder,
    /// A byte that no `Location` may have.
    #[error("a target has visible ASCII characters only, without quotes, angle brackets and backslashes")]
    Character,
    /// Neither a whole address nor a path.
    #[error("a target begins with http://, https:// or / and a name")]
    Beginning,
    /// The client's path would say which host it is.
    #[error("a client could choose the host: between the scheme and {{path}} or {{uri}} there must be one")]
    Host,
    /// Not one of the five.
    #[error("the status of a redirect is 301, 302, 303, 307 or 308")]
    Status,
}

impl Redirect {
    /// The pieces of the target, in order.
    pub fn parts(&self) -> Result<Vec<RedirectPart>, BadRedirect> {
        if !matches!(self.status, 301 | 302 | 303 | 307 | 308) {
            return Err(BadRedirect::Status);
        }
        let allowed = |byte: u8| byte.is_ascii_graphic() && !b"\"<>\\^`|".contains(&byte);
        if !self.to.bytes().all(allowed) {
            return Err(BadRedirect::Character);
        }
        let parts = split(&self.to)?;
        let Some((RedirectPart::Text(first), rest)) = parts.split_first() else {
            return Err(BadRedirect::Beginning);
        };
        let after_scheme = first.strip_prefix("https://").or_else(|| first.strip_prefix("http://"));
        match (after_scheme, rest.first()) {
            (Some(""), Some(RedirectPart::Host)) => Ok(parts),
            (Some(""), _) => Err(BadRedirect::Host),
            (Some(host), _) if host.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[') => Ok(parts),
            // Two slashes at the beginning name a host (RFC 3986 section 4.2), and a path may bring the second one.
            (None, Some(_)) if first == "/" => Err(BadRedirect::Host),
            (None, _) if first.starts_with('/') && !first.starts_with("//") => Ok(parts),
            _ => Err(BadRedirect::Beginning),
        }
    }
}

fn split(to: &str) -> Result<Vec<RedirectPart>, BadRedirect> {
    let mut parts = Vec::new();
    let mut rest = to;
    while let Some(open) = rest.find(['{', '}']) {
        if open > 0 {
            parts.push(RedirectPart::Text(rest[..open].to_owned()));
        }
        let known = [("{host}", RedirectPart::Host), ("{path}", RedirectPart::Path), ("{uri}", RedirectPart::Uri)];
        let (name, part) =
            known.into_iter().find(|(name, _)| rest[open..].starts_with(name)).ok_or(BadRedirect::Placeholder)?;
        parts.push(part);
        rest = &rest[open + name.len()..];
    }
    if !rest.is_empty() {
        parts.push(RedirectPart::Text(rest.to_owned()));
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(to: &str) -> Result<Vec<RedirectPart>, BadRedirect> {
        Redirect { to: to.to_owned(), status: 308 }.parts()
    }

    #[test]
    fn what_a_template_may_say() {
        use RedirectPart::{Host, Path, Text, Uri};
        assert_eq!(parts("https://{host}{uri}"), Ok(vec![Text("https://".into()), Host, Uri]));
        assert_eq!(
            parts("https://www.{host}:8443/new{path}"),
            Ok(vec![Text("https://www.".into()), Host, Text(":8443/new".into()), Path])
        );
        for good in ["/", "/login", "/new{uri}", "https://example.com", "http://[::1]:80{path}", "/a?from={path}"] {
            assert!(parts(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn what_would_let_a_client_choose_the_host() {
        for bad in ["https://{path}", "https://{uri}", "/{path}", "/{uri}", "/{host}"] {
            assert_eq!(parts(bad), Err(BadRedirect::Host), "{bad}");
        }
        for bad in ["{uri}", "{host}/x", "//evil.example/", "ftp://a/", "", "login", "https:///x", "javascript:x"] {
            assert_eq!(parts(bad), Err(BadRedirect::Beginning), "{bad}");
        }
        for bad in ["https://{hots}{uri}", "https://{host", "/a}", "/a{}", "/{{host}}"] {
            assert_eq!(parts(bad), Err(BadRedirect::Placeholder), "{bad}");
        }
        for bad in ["/a b", "/a\r\nX: 1", "/é", "/a\\b", "/<a>"] {
            assert_eq!(parts(bad), Err(BadRedirect::Character), "{bad:?}");
        }
        assert_eq!(Redirect { to: "/a".into(), status: 200 }.parts(), Err(BadRedirect::Status));
    }
}
