//! `replicas`: a number of instances, or the bounds and the target of elastic scaling.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};

use super::units::Duration;

/// How many instances of `run`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Replicas {
    /// As many as this.
    Fixed(u32),
    /// As many as the load asks for.
    Elastic(Elastic),
}

/// `replicas = { min = 2, max = 8, target = { concurrency = 10 } }`: elastic scaling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Elastic {
    /// Fewest instances. With 0 the last one is stopped when nobody asks, and the first request waits for a start.
    pub min: u32,
    /// Most instances.
    pub max: u32,
    /// What one instance should bear; with several, the one that asks for most decides.
    pub target: Target,
    /// How long less must be enough before instances are stopped.
    #[serde(default = "Elastic::default_down_after")]
    pub down_after: Duration,
    /// How long more must be needed before instances are started.
    #[serde(default = "Elastic::default_up_after")]
    pub up_after: Duration,
}

impl Elastic {
    const fn default_down_after() -> Duration {
        Duration::s(300)
    }

    const fn default_up_after() -> Duration {
        Duration::s(3)
    }
}

/// What one instance should bear.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Target {
    /// Requests in flight.
    pub concurrency: Option<u32>,
    /// Percent of one processor core.
    pub cpu_percent: Option<u16>,
    /// 99th percentile of the latency.
    pub p99: Option<Duration>,
    /// Entries of a queue that wait.
    pub backlog: Option<Backlog>,
}

/// `backlog = { url = "http://127.0.0.1:9100/metrics", metric = "jobs_waiting", each = 50 }`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Backlog {
    /// Where the number is asked for by `GET`: a plain number, or metrics in the text format of Prometheus.
    pub url: String,
    /// Name of the metric, where the answer has several; all its series are added up.
    #[serde(default)]
    pub metric: Option<String>,
    /// How many waiting entries one instance is for.
    pub each: u32,
}

impl Replicas {
    /// The fewest instances that may be wanted.
    pub fn min(&self) -> u32 {
        match self {
            Self::Fixed(count) => *count,
            Self::Elastic(elastic) => elastic.min,
        }
    }

    /// The most instances that may be wanted.
    pub fn max(&self) -> u32 {
        match self {
            Self::Fixed(count) => *count,
            Self::Elastic(elastic) => elastic.max,
        }
    }

    /// The settings of elastic scaling, where it is on.
    pub fn elastic(&self) -> Option<&Elastic> {
        match self {
            Self::Fixed(_) => None,
            Self::Elastic(elastic) => Some(elastic),
        }
    }
}

impl fmt::Display for Replicas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(count) => write!(f, "{count}"),
            Self::Elastic(Elastic { min, max, .. }) => write!(f, "{min} to {max}"),
        }
    }
}

impl Default for Replicas {
    fn default() -> Self {
        Self::Fixed(2)
    }
}

impl<'de> Deserialize<'de> for Replicas {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> de::Visitor<'de> for Either {
            type Value = Replicas;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of instances from 0 to 1000, or { min = …, max = …, target = { … } }")
            }

            fn visit_i64<E: de::Error>(self, count: i64) -> Result<Replicas, E> {
                let fits = u32::try_from(count).ok().filter(|count| *count <= 1000);
                fits.map(Replicas::Fixed).ok_or_else(|| E::invalid_value(de::Unexpected::Signed(count), &self))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Replicas, A::Error> {
                Elastic::deserialize(de::value::MapAccessDeserializer::new(map)).map(Replicas::Elastic)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for Replicas {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Replicas".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "integer", "minimum": 0, "maximum": 1000 },
            generator.subschema_for::<Elastic>()
        ] })
    }
}
