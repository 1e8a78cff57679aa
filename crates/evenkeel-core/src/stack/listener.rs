//! `[listeners.NAME]`: bound addresses and what clients may ask of them.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::units::{Duration, Size};
use crate::snapshot::{Network, Protocol, Strictness};

/// `[listeners.NAME]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Address and port, as `0.0.0.0:80` or `[::]:80`.
    pub bind: SocketAddr,
    /// What is spoken: `"http"`; `"tcp"`, where each connection is led to one instance of `service` as it is; or `"udp"`,
    /// where the datagrams of one client (address and port) go to one instance and its answers back.
    #[serde(default)]
    pub protocol: Protocol,
    /// Of `tcp` and `udp`: the service that everything leads to.
    #[serde(default)]
    pub service: Option<String>,
    /// Connections from `trusted` networks must begin with a PROXY header, of version 1 or 2, and the client is whom it
    /// names: for `X-Forwarded-For`, hashing and limits. Connections from elsewhere are taken as they are. The named
    /// client's own `X-Forwarded-*` are believed only where its address is in `trusted` too. `limits.head_timeout` is how
    /// long the header may take.
    #[serde(default)]
    pub proxy_protocol: bool,
    /// Networks whose `X-Forwarded-*` and `X-Request-Id` headers are believed, as `10.0.0.0/8`. Default: none.
    #[serde(default)]
    pub trusted: Vec<Cidr>,
    /// What becomes of requests that are ambiguous, yet have one meaning for all who would take them: `"refuse"` answers
    /// 400; `"report"` forwards them in that meaning, for the time of a migration: it counts them by kind in the metric
    /// `keel_ambiguous_total` and names each client for each kind once an hour in the journal. These are:
    /// a head whose lines all end with LF alone, a field value continued on another line, several equal
    /// `Content-Length`, bytes in the target that should have been escaped, a `Host` that differs from the host of an
    /// absolute target. Field names with an underscore, which are left out otherwise, are passed on too, except for those
    /// that spell one the edge acts upon. Everything else is refused in any case.
    #[serde(default)]
    pub strict: Strictness,
    /// Bounds on what a client may cost.
    #[serde(default)]
    pub limits: ClientLimits,
    /// What the edge says in place of a plain line where it refuses a request itself, by status or range, as
    /// `{ "404" = { file = "404.html" }, "500-599" = { text = "Back soon." } }`. Of a service, its own `error_pages`
    /// come first. The narrowest range counts.
    #[serde(default)]
    pub error_pages: std::collections::BTreeMap<String, super::ErrorPage>,
}

/// Bounds on what one client connection may cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClientLimits {
    /// Largest request head; a larger one gets 431.
    pub head: Size,
    /// Most header fields of one request; more get 431.
    #[schemars(range(min = 1, max = 1000))]
    pub headers: u16,
    /// Longest request target; a longer one gets 414.
    pub target: Size,
    /// Largest request body; a larger one gets 413.
    pub body: Size,
    /// How long a whole head may take from its first byte; a slower one gets 408.
    pub head_timeout: Duration,
    /// How long a client may neither send nor take a byte of a body.
    pub body_idle: Duration,
    /// Fewest bytes of a request body a second, on average over the time spent waiting for the client, after ten seconds
    /// of grace; a slower client gets 408. `"0B"`: no bound.
    pub min_rate: Size,
    /// How long a connection may stay idle between requests; of UDP, how long a client may be silent and unanswered until
    /// it is forgotten.
    pub keep_alive: Duration,
    /// Most connections at once; more wait in the kernel's queue. Of UDP, most clients at once: beyond it the one that was
    /// quiet for longest is forgotten.
    #[schemars(range(min = 1))]
    pub connections: u32,
    /// Most connections of one client's address at once (an IPv6 address by its first 64 bits); more are closed at once.
    /// Networks that are `trusted` stand for many clients and are exempt. 0: no bound. Each machine counts for itself.
    pub connections_per_client: u32,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            head: Size::kib(64),
            headers: 100,
            target: Size::kib(16),
            body: Size::mib(1024),
            head_timeout: Duration::s(10),
            body_idle: Duration::s(60),
            min_rate: Size::kib(0),
            keep_alive: Duration::s(75),
            connections: 16_000,
            connections_per_client: 0,
        }
    }
}

/// An address range in CIDR notation (RFC 4632), or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr(pub Network);

impl Cidr {
    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
        let address: IpAddr = address.parse().ok()?;
        let widest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Some(widest), |p| p.parse().ok().filter(|p| *p <= widest))?;
        Some(Self(Network { address, prefix }))
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = Cidr;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address range, as \"10.0.0.0/8\", or one address")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Cidr, E> {
                Cidr::parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

impl Serialize for Cidr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}/{}", self.0.address, self.0.prefix))
    }
}

impl JsonSchema for Cidr {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Cidr".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": "an address range, as \"10.0.0.0/8\", or one address" })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{compile_listeners, parse};
    use super::*;

    #[test]
    fn what_is_ambiguous_is_refused_unless_it_is_to_be_reported() {
        let compiled = |keys: &str| {
            let text = format!(
                "[stack]\nname = \"t\"\n[listeners.web]\nbind = \"127.0.0.1:80\"\n{keys}\n[services.a]\nrun = [\"a\"]\n"
            );
            parse(&text, "keel.toml").map(|stack| compile_listeners(&stack)[0].clone())
        };
        let strict = compiled("").expect("both have defaults");
        assert_eq!((strict.strictness, strict.limits.min_rate_bytes_per_s), (Strictness::Refuse, 0));
        let report = compiled("strict = \"report\"\nlimits = { min_rate = \"1.5kB\" }").expect("both are understood");
        assert_eq!((report.strictness, report.limits.min_rate_bytes_per_s), (Strictness::Report, 1500));
        assert!(report.limits.min_rate_grace_ms > 0);
        let odd = compiled("strict = \"lax\"").expect_err("there is no such word").to_string();
        assert!(odd.contains("report"), "{odd}");
    }
}
