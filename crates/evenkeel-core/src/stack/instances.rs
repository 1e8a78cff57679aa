//! `instances`: addresses that something else runs, listed in the file or asked of a name server.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};

use super::{service::InstanceAddress, units::Duration};

/// What stands before the path of a Unix socket in an address.
pub const UNIX: &str = "unix:";

/// Where the addresses of instances come from.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Instances {
    /// They stand in the file.
    Fixed(Vec<InstanceAddress>),
    /// A name has them.
    Dns(Dns),
}

/// `instances = { dns = "app.internal:8080", every = "10s" }`: as many instances as the name has addresses (A and AAAA).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dns {
    /// Name and port. The system's resolver is asked, so `/etc/hosts` and search domains count.
    pub dns: String,
    /// Time between two questions.
    #[serde(default = "Dns::default_every")]
    pub every: Duration,
    /// How long an address stays an instance that answers no longer name: name servers that hand out a part of the
    /// addresses at a time would otherwise make instances come and go.
    #[serde(default = "Dns::default_keep")]
    pub keep: Duration,
}

impl Dns {
    const fn default_every() -> Duration {
        Duration::s(10)
    }

    const fn default_keep() -> Duration {
        Duration::s(30)
    }

    /// What is wrong with it: the key, what, and what helps.
    pub(super) fn fault(&self) -> Option<(&'static str, String, Option<String>)> {
        let (name, port) = self.dns.rsplit_once(':').unwrap_or((&self.dns, ""));
        if !super::validate::is_host(name)
            || name.parse::<std::net::IpAddr>().is_ok()
            || !port.parse::<u16>().is_ok_and(|port| port > 0)
        {
            let help =
                Some("as `app.internal:8080`; addresses are listed as instances = [\"10.0.0.5:8080\"]".to_owned());
            return Some(("dns", format!("`{}` is not a name with a port", self.dns), help));
        }
        if self.every.as_ms() < 1_000 {
            return Some(("every", format!("`{}` is too often", self.every), Some("at least 1s".to_owned())));
        }
        None
    }
}

impl fmt::Display for Instances {
    /// In a few words, for lists of changes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(fixed) if fixed.len() == 1 => f.write_str("1 fixed instance"),
            Self::Fixed(fixed) => write!(f, "{} fixed instances", fixed.len()),
            Self::Dns(dns) => write!(f, "instances by the name {}", dns.dns),
        }
    }
}

impl super::Service {
    /// Addresses of instances that stand in the file; empty for a service that is run.
    pub fn fixed(&self) -> &[InstanceAddress] {
        match &self.instances {
            Some(Instances::Fixed(fixed)) => fixed,
            Some(Instances::Dns(_)) | None => &[],
        }
    }

    /// The name that has the addresses of its instances.
    pub fn dns(&self) -> Option<&Dns> {
        match &self.instances {
            Some(Instances::Dns(dns)) => Some(dns),
            Some(Instances::Fixed(_)) | None => None,
        }
    }
}

impl<'de> Deserialize<'de> for Instances {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> de::Visitor<'de> for Either {
            type Value = Instances;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("[\"host:port\", …] or { dns = \"name:port\" }")
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, seq: A) -> Result<Instances, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(seq)).map(Instances::Fixed)
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Instances, A::Error> {
                Dns::deserialize(de::value::MapAccessDeserializer::new(map)).map(Instances::Dns)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for Instances {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Instances".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let fixed = generator.subschema_for::<Vec<InstanceAddress>>();
        let dns = generator.subschema_for::<Dns>();
        json_schema!({ "anyOf": [fixed, dns] })
    }
}
