//! `[listeners.NAME]`: bound addresses and what clients may ask of them.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::units::{Duration, Size};
use crate::snapshot::Network;

/// `[listeners.NAME]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Address and port, as `0.0.0.0:80` or `[::]:80`.
    pub bind: SocketAddr,
    /// Networks whose `X-Forwarded-*` and `X-Request-Id` headers are believed, as `10.0.0.0/8`. Default: none.
    #[serde(default)]
    pub trusted: Vec<Cidr>,
    /// Bounds on what a client may cost.
    #[serde(default)]
    pub limits: ClientLimits,
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
    /// How long a connection may stay idle between requests.
    pub keep_alive: Duration,
    /// Most connections at once; more wait in the kernel's queue.
    #[schemars(range(min = 1))]
    pub connections: u32,
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
            keep_alive: Duration::s(75),
            connections: 16_000,
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
