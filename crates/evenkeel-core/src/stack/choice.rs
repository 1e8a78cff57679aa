//! How an instance is chosen, beside `balance`: `hash_by`, `hash_bound`, `sticky`, `slow_start`, `min_capacity`.
//!
//! The fields' docstrings are in the service; here are the types of their values, what of them is refused and what to
//! write instead, and what they are in a snapshot. Nothing here decides about a request.

use std::{fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{Service, Stack, units::Duration};
use crate::snapshot::{self, Balance};

/// What `hash_bound` is where the file does not say.
const HASH_BOUND: u16 = 125;

/// The longest name of a cookie or field.
const LONGEST_NAME: usize = 100;

/// `hash_by`: `"address"`, `"path"`, `"header:NAME"` or `"cookie:NAME"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashBy(pub snapshot::HashBy);

/// Text that names nothing to hash by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected \"address\", \"path\", \"header:NAME\" or \"cookie:NAME\"")]
pub struct NotAHashBy;

impl FromStr for HashBy {
    type Err = NotAHashBy;

    fn from_str(text: &str) -> Result<Self, NotAHashBy> {
        Ok(Self(match text.split_once(':') {
            None if text == "address" => snapshot::HashBy::Address,
            None if text == "path" => snapshot::HashBy::Path,
            Some(("header", name)) => snapshot::HashBy::Header(name.to_ascii_lowercase()),
            Some(("cookie", name)) => snapshot::HashBy::Cookie(name.to_owned()),
            _ => return Err(NotAHashBy),
        }))
    }
}

impl fmt::Display for HashBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            snapshot::HashBy::Address => f.write_str("address"),
            snapshot::HashBy::Path => f.write_str("path"),
            snapshot::HashBy::Header(name) => write!(f, "header:{name}"),
            snapshot::HashBy::Cookie(name) => write!(f, "cookie:{name}"),
        }
    }
}

impl Serialize for HashBy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HashBy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for HashBy {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "HashBy".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^(address|path|header:.+|cookie:.+)$" })
    }
}

/// `sticky`: `"address"`, `"header:NAME"`, or a table with the cookie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Sticky {
    /// `"address"` or `"header:NAME"`.
    Plain(PlainSticky),
    /// `{ cookie = "keel-instance", … }`
    Cookie(StickyCookie),
}

/// What a client is known by without a cookie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlainSticky {
    /// Its address.
    Address,
    /// The value of this lower-case field.
    Header(String),
}

/// A cookie that the edge sets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StickyCookie {
    /// Its name. Instances never see it.
    pub cookie: String,
    /// How long it lasts from when it was set, in whole seconds. `0s`: until the browser ends.
    #[serde(default = "zero")]
    pub max_age: Duration,
    /// Whether clients send it over HTTPS only.
    #[serde(default)]
    pub secure: bool,
}

const fn zero() -> Duration {
    Duration::ms(0)
}

impl Serialize for PlainSticky {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Address => serializer.serialize_str("address"),
            Self::Header(name) => serializer.collect_str(&format_args!("header:{name}")),
        }
    }
}

impl<'de> Deserialize<'de> for Sticky {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> de::Visitor<'de> for Either {
            type Value = Sticky;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"address\", \"header:NAME\" or { cookie = \"keel-instance\" }")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Sticky, E> {
                Ok(Sticky::Plain(match text.split_once(':') {
                    None if text == "address" => PlainSticky::Address,
                    Some(("header", name)) => PlainSticky::Header(name.to_ascii_lowercase()),
                    _ => return Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Sticky, A::Error> {
                StickyCookie::deserialize(de::value::MapAccessDeserializer::new(map)).map(Sticky::Cookie)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for Sticky {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Sticky".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "string", "pattern": "^(address|header:.+)$" },
            generator.subschema_for::<StickyCookie>()
        ] })
    }
}

/// As a snapshot has it.
pub(super) fn compile(service: &Service) -> snapshot::Choice {
    let sticky = service.sticky.as_ref().map(|sticky| match sticky {
        Sticky::Plain(PlainSticky::Address) => snapshot::Sticky::Address,
        Sticky::Plain(PlainSticky::Header(name)) => snapshot::Sticky::Header(name.clone()),
        Sticky::Cookie(StickyCookie { cookie, max_age, secure }) => snapshot::Sticky::Cookie {
            name: cookie.clone(),
            max_age_s: max_age.as_ms().div_ceil(1000),
            secure: *secure,
        },
    });
    let bounded = service.balance == Balance::ConsistentHash;
    snapshot::Choice {
        hash_by: service.hash_by.as_ref().map(|by| by.0.clone()).unwrap_or_default(),
        hash_bound_percent: if bounded { service.hash_bound.unwrap_or(HASH_BOUND) } else { 0 },
        sticky,
        slow_start_ms: service.slow_start.as_ms(),
        min_capacity_percent: service.min_capacity,
    }
}

/// Takes a fault: where, what, and what would be right.
type Fault<'a> = dyn FnMut(&[&str], String, Option<String>) + 'a;

/// Finds every fault.
pub(super) fn check(stack: &Stack, fault: &mut Fault<'_>) {
    for (name, service) in &stack.services {
        let at = |key: &'static str| ["services", name.as_str(), key];
        if let Some((message, help)) = fault_of_hash(service) {
            fault(&at("hash_by"), message, help);
        }
        if let Some((message, help)) = fault_of_bound(service) {
            fault(&at("hash_bound"), message, help);
        }
        if let Some((message, help)) = fault_of_sticky(service) {
            fault(&at("sticky"), message, help);
        }
        if service.slow_start.as_ms() > 0 && !weighs(service.balance) {
            let message = format!(
                "`slow_start` without a meaning: {}",
                match service.balance {
                    Balance::IpHash | Balance::Maglev | Balance::ConsistentHash =>
                        format!("with `{}` a hash says who gets a request, however new it is", spelled(service.balance)),
                    other => format!("`{}` knows no weights", spelled(other)),
                }
            );
            let help = "it goes with least-connections, weighted-round-robin, random and power-of-two";
            fault(&at("slow_start"), message, Some(help.to_owned()));
        }
        if service.min_capacity > 100 {
            fault(&at("min_capacity"), "`min_capacity` is a percentage, at most 100".to_owned(), None);
        }
    }
}

/// A message, and what would be right.
type Wrong = Option<(String, Option<String>)>;

fn fault_of_hash(service: &Service) -> Wrong {
    let by = service.hash_by.as_ref()?;
    if !matches!(service.balance, Balance::Maglev | Balance::ConsistentHash) {
        let help = "`hash_by` goes with balance = \"maglev\" or \"consistent-hash\"";
        let what = match service.balance {
            Balance::IpHash => "`ip-hash` is by the client's address in any case".to_owned(),
            other => format!("`{}` does not hash", spelled(other)),
        };
        return Some((what, Some(help.to_owned())));
    }
    let (snapshot::HashBy::Header(name) | snapshot::HashBy::Cookie(name)) = &by.0 else { return None };
    fault_of_name(name)
}

fn fault_of_bound(service: &Service) -> Wrong {
    let bound = service.hash_bound?;
    if service.balance != Balance::ConsistentHash {
        let help = "`hash_bound` goes with balance = \"consistent-hash\"".to_owned();
        return Some((format!("`{}` has no bound", spelled(service.balance)), Some(help)));
    }
    (1..100).contains(&bound).then(|| {
        let message = format!("with {bound} % of the mean not every request would find an instance");
        (message, Some("from 100 on, as 125; 0: no bound".to_owned()))
    })
}

fn fault_of_sticky(service: &Service) -> Wrong {
    let hashes = matches!(service.balance, Balance::IpHash | Balance::Maglev | Balance::ConsistentHash);
    match service.sticky.as_ref()? {
        Sticky::Plain(_) if hashes => {
            let message = format!("`sticky` by a hash, and `{}` hashes too: one of them would do nothing", {
                spelled(service.balance)
            });
            Some((message, Some("leave out `sticky`, or choose balance = \"least-connections\"".to_owned())))
        }
        Sticky::Plain(PlainSticky::Address) => None,
        Sticky::Plain(PlainSticky::Header(name)) => fault_of_name(name),
        Sticky::Cookie(StickyCookie { cookie, secure, .. }) => fault_of_name(cookie).or_else(|| {
            let starts = |prefix: &str| cookie.get(..prefix.len()).is_some_and(|it| it.eq_ignore_ascii_case(prefix));
            // RFC 6265bis section 5.5: browsers refuse such a cookie.
            (!secure && (starts("__Secure-") || starts("__Host-"))).then(|| {
                let message = format!("browsers take a cookie named `{cookie}` only if it is secure");
                (message, Some("add `secure = true`, or choose another name".to_owned()))
            })
        }),
    }
}

/// A name must be a token (RFC 9110 section 5.6.2, RFC 6265 section 4.1.1).
fn fault_of_name(name: &str) -> Wrong {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let is_token = !name.is_empty() && name.len() <= LONGEST_NAME && name.bytes().all(fits);
    let help = || Some("letters, digits and hyphens, as `x-session` or `sid`".to_owned());
    (!is_token).then(|| (format!("`{name}` is not the name of a field or cookie"), help()))
}

const fn weighs(balance: Balance) -> bool {
    matches!(balance, Balance::LeastConnections | Balance::WeightedRoundRobin | Balance::Random | Balance::PowerOfTwo)
}

fn spelled(balance: Balance) -> String {
    let spelled = serde_json::to_value(balance).expect("a name is plain data");
    spelled.as_str().expect("it is spelled as text").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(keys: &str) -> Result<Service, String> {
        let text = format!("[stack]\nname = \"t\"\n[services.shop]\nrun = [\"shop\"]\n{keys}\n");
        let stack = crate::stack::parse(&text, "keel.toml").map_err(|faults| faults.to_string())?;
        Ok(stack.services["shop"].clone())
    }

    #[test]
    fn every_spelling() {
        let choice = |keys: &str| compile(&parsed(keys).unwrap());
        assert_eq!(choice(""), snapshot::Choice::default());
        let maglev = choice("balance = \"maglev\"\nhash_by = \"header:X-User\"");
        assert_eq!(maglev.hash_by, snapshot::HashBy::Header("x-user".to_owned()));
        assert_eq!(choice("balance = \"consistent-hash\"").hash_bound_percent, 125);
        let ring = choice("balance = \"consistent-hash\"\nhash_by = \"cookie:Sid\"\nhash_bound = 0");
        assert_eq!((ring.hash_by, ring.hash_bound_percent), (snapshot::HashBy::Cookie("Sid".to_owned()), 0));
        assert_eq!(choice("sticky = \"address\"").sticky, Some(snapshot::Sticky::Address));
        let header = Some(snapshot::Sticky::Header("x-session".to_owned()));
        assert_eq!(choice("sticky = \"header:X-Session\"").sticky, header);
        let cookie = |max_age_s, secure| snapshot::Sticky::Cookie { name: "at".to_owned(), max_age_s, secure };
        assert_eq!(choice("sticky = { cookie = \"at\" }").sticky, Some(cookie(0, false)));
        let long = "sticky = { cookie = \"at\", max_age = \"1h\", secure = true }";
        assert_eq!(choice(long).sticky, Some(cookie(3600, true)));
        let rest = choice("balance = \"power-of-two\"\nslow_start = \"30s\"\nmin_capacity = 50");
        assert_eq!((rest.slow_start_ms, rest.min_capacity_percent), (30_000, 50));
    }

    #[test]
    fn what_cannot_be_is_said() {
        for (keys, said) in [
            ("hash_by = \"path\"", "`least-connections` does not hash"),
            ("balance = \"ip-hash\"\nhash_by = \"address\"", "by the client's address in any case"),
            ("balance = \"maglev\"\nhash_by = \"url\"", "expected \"address\", \"path\""),
            ("balance = \"maglev\"\nhash_by = \"header:\"", "not the name of a field or cookie"),
            ("balance = \"maglev\"\nhash_bound = 125", "`maglev` has no bound"),
            ("balance = \"consistent-hash\"\nhash_bound = 99", "not every request would find an instance"),
            ("balance = \"maglev\"\nsticky = \"address\"", "one of them would do nothing"),
            ("sticky = \"cookie:at\"", "expected \"address\", \"header:NAME\" or { cookie"),
            ("sticky = { cookie = \"a b\" }", "`a b` is not the name of a field or cookie"),
            ("sticky = { cookie = \"__Host-at\" }", "only if it is secure"),
            ("sticky = { cookie = \"at\", age = 1 }", "unknown key `age`"),
            ("balance = \"round-robin\"\nslow_start = \"1s\"", "`round-robin` knows no weights"),
            ("balance = \"maglev\"\nslow_start = \"1s\"", "with `maglev` a hash says who gets a request"),
            ("min_capacity = 101", "at most 100"),
            ("balance = \"randon\"", "random"),
        ] {
            let refused = parsed(keys).expect_err(keys);
            assert!(refused.contains(said), "{keys}:\n{refused}");
        }
    }

    #[test]
    fn what_was_read_is_written_alike() {
        let keys = "balance = \"maglev\"\nhash_by = \"cookie:sid\"\nsticky = { cookie = \"at\", max_age = \"1h\" }";
        let service = parsed(keys).unwrap();
        let again: Service = toml::from_str(&toml::to_string(&service).unwrap()).unwrap();
        assert_eq!(again, service);
    }
}
