//! Under which names the console answers, and whether a page of ours asks.
//!
//! A page elsewhere can let its own name lead to this machine (DNS rebinding) and then ask as if it came from here. So a
//! browser gets answers only where it calls us by an address, by `localhost`, or by a name of `[console] hosts`: no
//! page elsewhere has such a name. And a browser says of every request from where it comes: `Sec-Fetch-Site` (Fetch
//! Metadata Request Headers, W3C) and, with every change, `Origin` (RFC 6454, section 7).

use std::sync::{Arc, PoisonError, RwLock};

use axum::http::{
    HeaderMap, HeaderName, Uri,
    header::{HOST, ORIGIN},
    uri::Authority,
};

/// From where a browser says that a request comes.
const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Names of `[console] hosts`. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hosts(Arc<RwLock<Vec<String>>>);

impl Hosts {
    /// Puts the names of the revision in force.
    pub(crate) fn set(&self, names: &[String]) {
        names.clone_into(&mut self.0.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// Whether no page elsewhere can have come to us under this `host:port`.
    pub(crate) fn are_ours(&self, authority: &str) -> bool {
        let Ok(parsed) = authority.parse::<Authority>() else { return false };
        if authority.contains('@') {
            return false;
        }
        let host = parsed.host().to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host);
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let names = self.0.read().unwrap_or_else(PoisonError::into_inner);
        host == "localhost"
            || host.ends_with(".localhost")
            || bare.parse::<std::net::IpAddr>().is_ok()
            || names.iter().any(|name| name.eq_ignore_ascii_case(host))
    }
}

/// What a request calls us: the one `Host`, and the same in the target where that is a whole address (RFC 9112,
/// section 3.2). `None` where it is missing, twice there, or two different ones.
pub(crate) fn authority<'a>(uri: &Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    let mut all = headers.get_all(HOST).iter();
    let host = all.next()?.to_str().ok()?;
    let same = uri.authority().is_none_or(|target| target.as_str().eq_ignore_ascii_case(host));
    (all.next().is_none() && same).then_some(host)
}

/// Whether a browser says that one of our own pages asks, under the name by which it calls us. Who says nothing of
/// where it comes from is none.
pub(crate) fn is_our_page(headers: &HeaderMap, authority: &str) -> bool {
    let site = headers.get(SITE).map(|site| site.as_bytes() == b"same-origin");
    let origin = headers.get(ORIGIN).map(|origin| is_origin(origin.as_bytes(), authority));
    site != Some(false) && origin != Some(false) && (site.is_some() || origin.is_some())
}

/// Whether a browser says that a page elsewhere asks, on another port of this machine for one.
pub(crate) fn is_foreign_page(headers: &HeaderMap, authority: &str) -> bool {
    let site = headers.get(SITE).is_some_and(|site| !matches!(site.as_bytes(), b"same-origin" | b"none"));
    site || headers.get(ORIGIN).is_some_and(|origin| !is_origin(origin.as_bytes(), authority))
}

fn is_origin(origin: &[u8], authority: &str) -> bool {
    let text = std::str::from_utf8(origin).unwrap_or_default();
    let named = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    named.is_some_and(|named| named.eq_ignore_ascii_case(authority))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &str)| (HeaderName::from_static(name), value.parse().unwrap());
        fields.iter().map(field).collect()
    }

    #[test]
    fn names_that_no_page_elsewhere_can_have() {
        let hosts = Hosts::default();
        hosts.set(&["Keel.internal".to_owned()]);
        for ours in [
            "127.0.0.1:9400",
            "127.0.0.1",
            "[::1]:9400",
            "10.1.2.3:80",
            "localhost:9400",
            "LOCALHOST.",
            "a.localhost:1",
            "keel.internal:9400",
        ] {
            assert!(hosts.are_ours(ours), "{ours}");
        }
        for foreign in [
            "evil.example:9400",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "notlocalhost",
            "a.keel.internal",
            "127.0.0.1@evil.example",
            "user@127.0.0.1",
            "",
            "x",
        ] {
            assert!(!hosts.are_ours(foreign), "{foreign}");
        }
    }

    #[test]
    fn one_name_and_no_other() {
        let target = Uri::from_static("/v1/status");
        assert_eq!(authority(&target, &headers(&[("host", "a:1")])), Some("a:1"));
        assert_eq!(authority(&target, &headers(&[])), None);
        let mut two = headers(&[("host", "a:1")]);
        two.append(HOST, "b:1".parse().unwrap());
        assert_eq!(authority(&target, &two), None);
        let whole = Uri::from_static("http://evil.example/v1/status");
        assert_eq!(authority(&whole, &headers(&[("host", "127.0.0.1:9400")])), None);
    }

    #[test]
    fn who_asks() {
        let here = "127.0.0.1:9400";
        for (fields, ours, foreign) in [
            (&[][..], false, false),
            (&[("sec-fetch-site", "same-origin")], true, false),
            (&[("sec-fetch-site", "none")], false, false),
            (&[("sec-fetch-site", "same-site")], false, true),
            (&[("sec-fetch-site", "cross-site")], false, true),
            (&[("origin", "http://127.0.0.1:9400")], true, false),
            (&[("origin", "http://127.0.0.1:8080")], false, true),
            (&[("origin", "http://localhost:9400")], false, true),
            (&[("origin", "null")], false, true),
            (&[("origin", "http://127.0.0.1:9400"), ("sec-fetch-site", "cross-site")], false, true),
            (&[("origin", "http://evil.example"), ("sec-fetch-site", "same-origin")], false, true),
        ] {
            let headers = headers(fields);
            assert_eq!(is_our_page(&headers, here), ours, "{fields:?}");
            assert_eq!(is_foreign_page(&headers, here), foreign, "{fields:?}");
        }
    }
}
