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

/// `replicas = { min = 2, max = 8, target = { concurrency = 10 } }`: elastic scaling, up fast and down slow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Elastic {
    /// Fewest instances. With 0 the last one is stopped when nobody asks, and the first request waits for a start.
    pub min: u32,
    /// Most instances.
    pub max: u32,
    /// What one instance should bear; with several, the one that asks for most decides.
    pub target: Target,
    /// How long more must be needed without a break before instances are started.
    #[serde(default = "Elastic::default_up_after")]
    pub up_after: Duration,
    /// How long fewer must be enough without a break before instances are stopped: the most that was needed within
    /// this time stays.
    #[serde(default = "Elastic::default_down_after")]
    pub down_after: Duration,
}

impl Elastic {
    const fn default_down_after() -> Duration {
        Duration::s(300)
    }

    const fn default_up_after() -> Duration {
        Duration::s(3)
    }
}

/// What one instance should bear; at least one of these.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Target {
    /// Requests in flight, those that are held included.
    pub concurrency: Option<u32>,
    /// Percent of one processor core, all processes of an instance together.
    pub cpu_percent: Option<u16>,
    /// 99th percentile of the latency that clients see. Approached in small steps, since latency does not follow the
    /// number of instances in proportion.
    pub p99: Option<Duration>,
    /// Entries of a queue that wait.
    pub backlog: Option<Backlog>,
}

/// `backlog = { url = "http://127.0.0.1:9100/metrics", metric = "jobs_waiting", each = 50 }`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Backlog {
    /// Where the number is asked for by `GET`, `http://` only: a plain number, or metrics in the text format of
    /// Prometheus.
    pub url: String,
    /// Name of the metric, where the answer has several; all its series are added up.
    #[serde(default)]
    pub metric: Option<String>,
    /// How many waiting entries one instance is for.
    pub each: u32,
}

/// The most instances one service may have.
const MOST: u32 = 1000;

/// A key below `replicas`, what is wrong with it, and what would be right.
pub(super) type Fault = (&'static [&'static str], &'static str, Option<&'static str>);

impl Elastic {
    /// What the types alone cannot say.
    pub(super) fn faults(&self) -> Vec<Fault> {
        let mut faults: Vec<Fault> = Vec::new();
        if self.max == 0 || self.max > MOST {
            faults.push((&["max"], "`max` must be from 1 to 1000", None));
        } else if self.min > self.max {
            faults.push((&["min"], "`min` is greater than `max`", None));
        }
        if !(1..=600_000).contains(&self.up_after.as_ms()) {
            faults.push((&["up_after"], "`up_after` must be from 1ms to 10m", None));
        }
        if !(1_000..=86_400_000).contains(&self.down_after.as_ms()) {
            faults.push((&["down_after"], "`down_after` must be from 1s to 1d", None));
        }
        let Target { concurrency, cpu_percent, p99, backlog } = &self.target;
        if concurrency.is_none() && cpu_percent.is_none() && p99.is_none() && backlog.is_none() {
            let help = Some("as target = { concurrency = 10 }; also cpu_percent, p99 and backlog");
            faults.push((&["target"], "`target` says not what one instance should bear", help));
        }
        if *concurrency == Some(0) || *cpu_percent == Some(0) || p99.is_some_and(|p99| p99.as_ms() == 0) {
            faults.push((&["target"], "a target of nothing could never be met", None));
        }
        faults.extend(backlog.iter().flat_map(Backlog::faults));
        faults
    }
}

impl Backlog {
    fn faults(&self) -> Vec<Fault> {
        let mut faults: Vec<Fault> = Vec::new();
        let host = self.url.strip_prefix("http://").and_then(|rest| rest.split('/').next());
        if host.is_none_or(str::is_empty) || self.url.contains([' ', '\r', '\n', '@', '#']) {
            let help = Some("as `http://127.0.0.1:9100/metrics`, without TLS and credentials");
            faults.push((&["target", "backlog", "url"], "`url` is not an address to ask", help));
        }
        if self.each == 0 {
            faults.push((&["target", "backlog", "each"], "`each` must be at least 1", None));
        }
        if self.metric.as_ref().is_some_and(String::is_empty) {
            faults.push((&["target", "backlog", "metric"], "`metric` is empty; leave it out for a plain number", None));
        }
        faults
    }
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

#[cfg(test)]
mod tests {
    fn parsed(replicas: &str) -> String {
        let text = format!("[stack]\nname = \"t\"\n[services.a]\nrun = [\"a\"]\n{replicas}\n");
        match crate::stack::parse(&text, "t.toml") {
            Ok(stack) => stack.services["a"].replicas.to_string(),
            Err(faults) => faults.to_string(),
        }
    }

    #[test]
    fn a_number_or_bounds_with_a_target() {
        assert_eq!(parsed("replicas = 3"), "3");
        assert_eq!(parsed("replicas = { min = 0, max = 8, target = { concurrency = 10 } }"), "0 to 8");
        let long = "[services.a.replicas]\nmin = 1\nmax = 4\nup_after = \"5s\"\ndown_after = \"10m\"\n\
            target = { cpu_percent = 60, p99 = \"250ms\", backlog = { url = \"http://127.0.0.1:9/m\", metric = \"j\", each = 5 } }";
        assert_eq!(parsed(long), "1 to 4");
    }

    #[test]
    fn what_cannot_be_is_said() {
        for (replicas, said) in [
            ("replicas = { min = 3, max = 2, target = { concurrency = 1 } }", "`min` is greater than `max`"),
            ("replicas = { min = 0, max = 0, target = { concurrency = 1 } }", "`max` must be from 1 to 1000"),
            ("replicas = { min = 1, max = 2, target = {} }", "`target` says not what one instance should bear"),
            ("replicas = { min = 1, max = 2, target = { concurrency = 0 } }", "a target of nothing"),
            (
                "replicas = { min = 1, max = 2, target = { concurrency = 1 }, down_after = \"10ms\" }",
                "`down_after` must be",
            ),
            (
                "replicas = { min = 1, max = 2, target = { backlog = { url = \"https://q/\", each = 1 } } }",
                "is not an address to ask",
            ),
            ("replicas = { min = 1, max = 2, target = { concurency = 1 } }", "did you mean `concurrency`?"),
            (
                "replicas = { min = 0, max = 2, target = { concurrency = 1 } }\nhold = { max = \"0ms\" }",
                "could not wait for a start",
            ),
            (
                "replicas = { min = 0, max = 2, target = { concurrency = 1 } }\nfallback = \"a\"",
                "no request would ever wait for a start",
            ),
            ("replicas = 1001", "a number of instances from 0 to 1000"),
        ] {
            let refused = parsed(replicas);
            assert!(refused.contains(said), "{replicas}\n{refused}");
        }
    }
}
