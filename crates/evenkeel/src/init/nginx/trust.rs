//! Whose word is taken for a client's address: `set_real_ip_from`, `real_ip_header`, `proxy_protocol` of `listen`.
//!
//! A stack file believes whole listeners, nginx whole servers: only what all servers of an address agree upon is carried
//! over, by whoever asks. The edge believes `X-Forwarded-For` and PROXY headers, no other field. It reads nothing but
//! directives.

use std::net::{IpAddr, SocketAddr};

use super::{
    super::toml::{array, string},
    syntax::Directive,
};

/// Whose word is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Trust {
    networks: Vec<String>,
    header: String,
    /// The listener asks for a PROXY header.
    asks: bool,
}

impl Trust {
    /// The same, a level further down.
    pub(super) fn within(&self, directives: &[Directive]) -> Self {
        let of = |name: &str| directives.iter().filter(|one| one.name == name).collect::<Vec<_>>();
        let networks: Vec<String> = of("set_real_ip_from").iter().filter_map(|one| network(one.arg())).collect();
        let header = of("real_ip_header").first().map(|one| one.arg().to_ascii_lowercase());
        Self {
            networks: if networks.is_empty() { self.networks.clone() } else { networks },
            header: header.unwrap_or_else(|| self.header.clone()),
            asks: false,
        }
    }

    /// The same for a listener that asks for a PROXY header, or does not.
    pub(super) fn of_listener(&self, asks: bool) -> Self {
        Self { asks, ..self.clone() }
    }

    /// Whether it is known where proxies are that send a PROXY header.
    pub(super) fn knows_proxies(&self) -> bool {
        !self.networks.is_empty()
    }

    /// As keys of a listener.
    pub(super) fn keys(&self) -> Vec<(&'static str, String)> {
        let believed = self.header == "x-forwarded-for" || self.header == "proxy_protocol" && self.asks;
        if self.networks.is_empty() || !(believed || self.asks) {
            return Vec::new();
        }
        let networks = ("trusted", array(self.networks.iter().map(|network| string(network))));
        self.asks.then(|| ("proxy_protocol", "true".to_owned())).into_iter().chain([networks]).collect()
    }
}

/// Whether a directive is understood here.
pub(super) fn is_known(directive: &Directive) -> bool {
    match directive.name.as_str() {
        "set_real_ip_from" => network(directive.arg()).is_some(),
        "real_ip_header" => {
            ["x-forwarded-for", "proxy_protocol"].contains(&directive.arg().to_ascii_lowercase().as_str())
        }
        "real_ip_recursive" => true,
        _ => false,
    }
}

/// How a listener's address is written.
pub(super) fn key(bind: SocketAddr) -> String {
    if bind.is_ipv6() && bind.ip().is_unspecified() { format!("0.0.0.0:{}", bind.port()) } else { bind.to_string() }
}

/// An address or a range.
fn network(text: &str) -> Option<String> {
    let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
    let address: IpAddr = address.parse().ok()?;
    let widest = if address.is_ipv4() { 32 } else { 128 };
    let fits = prefix.is_none_or(|prefix| prefix.parse::<u8>().is_ok_and(|prefix| prefix <= widest));
    fits.then(|| text.to_owned())
}
