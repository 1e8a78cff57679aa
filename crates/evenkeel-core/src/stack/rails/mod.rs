//! What a route does with a request before, or beside, leading it to its service: `redirect`, `rate`, `split`, `mirror`
//! and `connect`.
//!
//! The fields' docstrings are the reference. What the types cannot say is in [`check`]; how they become a snapshot is at
//! the end. Nothing here decides about a request.

mod check;

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

pub(super) use check::{fault_of_mirrored, faults};

use super::{Route, units::Duration};
use crate::snapshot;

/// `redirect = "https://{host}{uri}"`, or `{ to = "https://example.com{uri}", status = 301 }`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Redirect {
    /// Where to. `{host}` stands for the request's host without port, `{path}` for its path, `{uri}` for path and query.
    pub to: String,
    /// Status code: 301, 302, 303, 307 or 308.
    pub status: u16,
}

/// The same as a table.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RedirectTable {
    /// Where to. `{host}` stands for the request's host without port, `{path}` for its path, `{uri}` for path and query.
    to: String,
    /// Status code: 301, 302, 303, 307 or 308. With 308 and 307 a POST stays a POST; 308 and 301 are remembered by browsers.
    #[serde(default = "permanent")]
    #[schemars(range(min = 301, max = 308))]
    status: u16,
}

const fn permanent() -> u16 {
    308
}

impl<'de> Deserialize<'de> for Redirect {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> de::Visitor<'de> for Either {
            type Value = Redirect;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a target as \"https://{host}{uri}\", or { to = …, status = … }")
            }

            fn visit_str<E: de::Error>(self, to: &str) -> Result<Redirect, E> {
                Ok(Redirect { to: to.to_owned(), status: permanent() })
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Redirect, A::Error> {
                let RedirectTable { to, status } =
                    Deserialize::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(Redirect { to, status })
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for Redirect {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Redirect".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "string" }, generator.subschema_for::<RedirectTable>()] })
    }
}

/// One limit or a list of them, all of which must permit a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Rates(pub Vec<Rate>);

impl Rates {
    /// Whether there is no limit.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// `rate = { requests = 100, per = "1s", burst = 50, by = "address" }`: beyond it a client gets 429 with `Retry-After`.
/// Each client has a bucket of `requests` and `burst` tokens, which fills evenly by `requests` in `per`; a request takes
/// one. The threads of an edge share the buckets; each machine counts for itself. At most 65,536 clients are known at a
/// time: beyond that, those who have asked for little are forgotten first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Requests allowed …
    #[schemars(range(min = 1))]
    pub requests: u32,
    /// … in so long …
    #[serde(default = "Rate::default_per")]
    pub per: Duration,
    /// … and so many more at once after a quiet time.
    #[serde(default)]
    pub burst: u32,
    /// What tells clients apart: `address` (an IPv6 address by its first 64 bits; behind a `trusted` proxy, the one that
    /// it names in `X-Forwarded-For`), `header:NAME`, `cookie:NAME` (requests without it count by address), or `route`:
    /// all of them together. A header or cookie is what a client says it is: where somebody could gain by making values
    /// up, limit by address too.
    #[serde(default, deserialize_with = "By::of_rate")]
    pub by: By,
}

impl Rate {
    const fn default_per() -> Duration {
        Duration::s(1)
    }
}

impl<'de> Deserialize<'de> for Rates {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> de::Visitor<'de> for Either {
            type Value = Rates;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("{ requests = …, per = … }, or a list of such tables")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Rates, A::Error> {
                Rate::deserialize(de::value::MapAccessDeserializer::new(map)).map(|rate| Rates(vec![rate]))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, seq: A) -> Result<Rates, A::Error> {
                Deserialize::deserialize(de::value::SeqAccessDeserializer::new(seq)).map(Rates)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for Rates {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Rates".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let rate = generator.subschema_for::<Rate>();
        json_schema!({ "anyOf": [rate, { "type": "array", "items": rate }] })
    }
}

/// `split = [{ service = "next", percent = 5 }]`: another service that gets a part of the requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// Its name.
    pub service: String,
    /// Its part.
    #[schemars(range(max = 100))]
    pub percent: u8,
}

/// `mirror = { service = "next", percent = 10 }`: a service that gets copies of requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mirror {
    /// Its name.
    pub service: String,
    /// How many of the requests are copied.
    #[serde(default = "Mirror::default_percent")]
    #[schemars(range(max = 100))]
    pub percent: u8,
}

impl Mirror {
    const fn default_percent() -> u8 {
        100
    }
}

/// What tells requests or their senders apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum By {
    /// The client's address.
    #[default]
    Address,
    /// Nothing: each request is for itself.
    Request,
    /// Nothing: all requests of the route are one.
    Route,
    /// The value of this field, in lower case.
    Header(String),
    /// The value of this cookie.
    Cookie(String),
}

impl By {
    /// In turn.
    pub(super) const fn request() -> Self {
        Self::Request
    }

    fn parse(text: &str) -> Option<Self> {
        match text {
            "address" => Some(Self::Address),
            "request" => Some(Self::Request),
            "route" => Some(Self::Route),
            _ => {
                let (kind, name) = text.split_once(':')?;
                match kind {
                    "header" => Some(Self::Header(name.to_ascii_lowercase())),
                    "cookie" => Some(Self::Cookie(name.to_owned())),
                    _ => None,
                }
            }
        }
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address => f.write_str("address"),
            Self::Request => f.write_str("request"),
            Self::Route => f.write_str("route"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
        }
    }
}

impl By {
    /// As the value of `by` in `rate`.
    fn of_rate<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::of(deserializer, "\"address\", \"header:NAME\", \"cookie:NAME\" or \"route\"")
    }

    /// As the value of `split_by`.
    pub(super) fn of_split<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::of(deserializer, "\"request\", \"address\", \"header:NAME\" or \"cookie:NAME\"")
    }

    /// What is a value, but not of this key, is refused later, with the reason.
    fn of<'de, D: Deserializer<'de>>(deserializer: D, expected: &str) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom(format!("`{text}`: expected {expected}")))
    }
}

impl Serialize for By {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for By {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "By".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^(address|request|route|header:.+|cookie:.+)$",
            "description": "\"address\", \"header:NAME\" or \"cookie:NAME\"; of `rate` also \"route\", of `split_by` also \"request\""
        })
    }
}

impl Route {
    /// What this module's keys say; everything else has its default.
    pub(super) fn compile_rails(&self) -> snapshot::Actions {
        let mut actions = snapshot::Actions::default();
        let redirect = |redirect: &Redirect| snapshot::Redirect { to: redirect.to.clone(), status: redirect.status };
        actions.redirect = self.redirect.as_ref().map(redirect);
        let rate = |rate: &Rate| snapshot::Rate {
            by: match &rate.by {
                By::Header(name) => snapshot::RateKey::Header(name.clone()),
                By::Cookie(name) => snapshot::RateKey::Cookie(name.clone()),
                By::Address => snapshot::RateKey::Address,
                By::Route | By::Request => snapshot::RateKey::Route,
            },
            requests: rate.requests,
            per_ms: rate.per.as_ms(),
            burst: rate.burst,
        };
        actions.rates = self.rate.0.iter().map(rate).collect();
        let split = |split: &Split| snapshot::Split { service: split.service.clone(), percent: split.percent };
        actions.split = self.split.iter().map(split).collect();
        actions.split_by = match &self.split_by {
            By::Header(name) => snapshot::SplitBy::Header(name.clone()),
            By::Cookie(name) => snapshot::SplitBy::Cookie(name.clone()),
            By::Address => snapshot::SplitBy::Address,
            By::Route | By::Request => snapshot::SplitBy::Request,
        };
        let mirror = |mirror: &Mirror| snapshot::Mirror { service: mirror.service.clone(), percent: mirror.percent };
        actions.mirror = self.mirror.as_ref().map(mirror);
        actions.connect = self.connect;
        actions
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::{compile_routes, parse};

    #[test]
    fn short_and_long_forms() {
        let text = r#"
[stack]
name = "t"
[[routes]]
path = "/old"
methods = ["GET", "HEAD"]
redirect = "https://{host}{uri}"
[[routes]]
path = "/new"
redirect = { to = "/", status = 302 }
[[routes]]
path = "/api"
service = "a"
rate = [{ requests = 10, per = "1m", burst = 5, by = "header:X-Api-Key" }, { requests = 1000, by = "route" }]
split = [{ service = "b", percent = 5 }]
split_by = "cookie:sid"
mirror = { service = "b" }
[[routes]]
service = "a"
rate = { requests = 100 }
connect = true
[services.a]
run = ["a"]
[services.b]
run = ["b"]
"#;
        let stack = parse(text, "t.toml").unwrap();
        let routes = compile_routes(&stack);
        assert_eq!(
            routes[0].actions.redirect,
            Some(snapshot::Redirect { to: "https://{host}{uri}".into(), status: 308 })
        );
        assert_eq!((routes[0].service.as_str(), &routes[0].methods[..]), ("", &["GET".to_owned(), "HEAD".into()][..]));
        assert_eq!(routes[1].actions.redirect.as_ref().unwrap().status, 302);
        let api = &routes[2].actions;
        let rate = |by, requests, per_ms, burst| snapshot::Rate { by, requests, per_ms, burst };
        let by_key = snapshot::RateKey::Header("x-api-key".into());
        assert_eq!(api.rates, [rate(by_key, 10, 60_000, 5), rate(snapshot::RateKey::Route, 1000, 1000, 0)]);
        assert_eq!(api.split, [snapshot::Split { service: "b".into(), percent: 5 }]);
        assert_eq!(api.split_by, snapshot::SplitBy::Cookie("sid".into()));
        assert_eq!(api.mirror, Some(snapshot::Mirror { service: "b".into(), percent: 100 }));
        assert_eq!(routes[3].actions.rates, [rate(snapshot::RateKey::Address, 100, 1000, 0)]);
        assert!(routes[3].actions.connect);
        // What is written down reads as the same.
        let again = parse(&toml::to_string(&stack).unwrap(), "t.toml").unwrap();
        assert_eq!(again.routes, stack.routes);
    }
}
