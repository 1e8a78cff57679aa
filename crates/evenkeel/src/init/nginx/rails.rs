//! From nginx's limits, splits and redirects to the keys of a route.
//!
//! What is translated means the same, or nearly so, and then a note says the difference. It keeps what the top of the
//! file declares for use further down, and reads nothing but directives.

use std::collections::BTreeMap;

use evenkeel_core::snapshot::Redirect;

use super::{super::toml::string, syntax::Directive};

/// What the file declares before it uses it.
#[derive(Debug, Default)]
pub(super) struct Declared {
    /// `limit_req_zone`: by zone, whom it tells apart and how often each may ask.
    zones: BTreeMap<String, Zone>,
    /// `split_clients`: by variable.
    splits: BTreeMap<String, Split>,
}

#[derive(Clone, Debug)]
struct Zone {
    by: String,
    requests: u64,
    per: &'static str,
}

/// A variable that names one of several groups.
#[derive(Clone, Debug)]
pub(super) struct Split {
    pub(super) by: String,
    /// Names of groups with their part in percent.
    pub(super) parts: Vec<(String, u8)>,
    /// The group that gets the rest.
    pub(super) rest: String,
}

impl Declared {
    /// Reads the declarations of a file, wherever they stand in it.
    pub(super) fn read(&mut self, directives: &[Directive]) {
        for directive in directives {
            match directive.name.as_str() {
                "http" => self.read(directive.inside()),
                "limit_req_zone" => self.zones.extend(zone(directive)),
                "split_clients" => self.splits.extend(split(directive)),
                _ => {}
            }
        }
    }

    /// The value of `rate` for a `limit_req`: nginx lets one request and the burst through at once.
    pub(super) fn rate(&self, limit: &Directive) -> Option<String> {
        let named = |key: &str| limit.args.iter().find_map(|arg| arg.strip_prefix(key));
        let zone = self.zones.get(named("zone=")?)?;
        let burst: u64 = named("burst=").map_or(Some(0), |burst| burst.parse().ok())?;
        let more = (burst + 1).saturating_sub(zone.requests);
        let burst = if more > 0 { format!(", burst = {more}") } else { String::new() };
        Some(format!("{{ requests = {}, per = \"{}\"{burst}, by = {} }}", zone.requests, zone.per, string(&zone.by)))
    }

    /// The split of which a `proxy_pass` names the variable.
    pub(super) fn split(&self, target: &str) -> Option<&Split> {
        self.splits.get(target.strip_prefix("http://$")?)
    }
}

/// Whether a declaration is understood.
pub(super) fn is_known(declaration: &Directive) -> bool {
    match declaration.name.as_str() {
        "limit_req_zone" => zone(declaration).is_some(),
        "split_clients" => split(declaration).is_some(),
        _ => false,
    }
}

/// `limit_req_zone $binary_remote_addr zone=one:10m rate=10r/s`.
fn zone(directive: &Directive) -> Option<(String, Zone)> {
    let named = |key: &str| directive.args.iter().find_map(|arg| arg.strip_prefix(key));
    let (requests, unit) = named("rate=")?.split_once("r/")?;
    let per = match unit {
        "s" => "1s",
        "m" => "1m",
        _ => return None,
    };
    let requests = requests.parse().ok().filter(|requests| *requests > 0)?;
    let name = named("zone=")?.split(':').next()?.to_owned();
    Some((name, Zone { by: by(directive.arg())?, requests, per }))
}

/// `split_clients "${remote_addr}" $variant { 5% next; * main; }`.
fn split(directive: &Directive) -> Option<(String, Split)> {
    let [key, variable] = &directive.args[..] else { return None };
    let (mut parts, mut rest) = (Vec::new(), None);
    for part in directive.inside() {
        let [group] = &part.args[..] else { return None };
        match part.name.strip_suffix('%') {
            Some(percent) => parts.push((group.clone(), percent.parse().ok().filter(|percent| *percent <= 100)?)),
            None if part.name == "*" => rest = Some(group.clone()),
            None => return None,
        }
    }
    Some((variable.strip_prefix('$')?.to_owned(), Split { by: by(key)?, parts, rest: rest? }))
}

/// What a key of nginx's tells apart, in the words of a stack file.
fn by(key: &str) -> Option<String> {
    let name = key.replace(['{', '}'], "");
    let name = name.strip_prefix('$')?;
    if name.starts_with("binary_remote_addr") || name.starts_with("remote_addr") {
        return Some("address".to_owned());
    }
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let header = name.strip_prefix("http_").filter(|header| plain(header));
    let cookie = name.strip_prefix("cookie_").filter(|cookie| plain(cookie));
    header
        .map(|header| format!("header:{}", header.replace('_', "-").to_ascii_lowercase()))
        .or_else(|| cookie.map(|cookie| format!("cookie:{cookie}")))
}

/// The value of `redirect` for a `return`; `$scheme` is what clients speak with whatever stands in front.
pub(super) fn redirect(directive: &Directive, has_tls: bool) -> Option<String> {
    let (status, target) = match &directive.args[..] {
        [status, target] => (status.as_str(), target),
        [target] => ("302", target),
        _ => return None,
    };
    let to = target
        .replace("$scheme://", if has_tls { "https://" } else { "http://" })
        .replace("$host", "{host}")
        .replace("$http_host", "{host}")
        .replace("$server_name", "{host}")
        .replace("$request_uri", "{uri}")
        .replace("$uri", "{path}");
    let redirect = Redirect { to, status: status.parse().ok()? };
    let valid = !redirect.to.contains('$') && redirect.parts().is_ok();
    valid.then(|| format!("{{ to = {}, status = {} }}", string(&redirect.to), redirect.status))
}
