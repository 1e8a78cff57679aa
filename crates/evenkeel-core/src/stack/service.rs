//! `[services.NAME]`: named destinations and how their instances are run, chosen and protected.

use std::{collections::BTreeMap, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};

use super::{
    check::{Check, Liveness},
    choice::{HashBy, Sticky},
    deploy::Deploy,
    fastcgi::FastCgi,
    files::Files,
    instances::Instances,
    replicas::Replicas,
    returning::{Page, Return},
    transform::{Compress, ErrorPage},
    units::{Duration, Size},
};
use crate::snapshot::{Balance, ProxyHeader};

/// `[services.NAME]`: either `run` or `instances`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Command of one instance: program and arguments, no shell. `{port}` stands for its port, which is in the
    /// environment as `PORT` too.
    #[serde(default)]
    pub run: Option<Vec<String>>,
    /// Addresses of instances that something else runs: a list of `10.0.0.5:8080`, `app.internal:80` (one instance,
    /// resolved again and again), `{ address = "10.0.0.5:8080", weight = 3 }` or, with `fastcgi`,
    /// `unix:/run/php/php8.2-fpm.sock`; or `{ dns = "app.internal:8080" }`: as many as the name has addresses.
    #[serde(default)]
    pub instances: Option<Instances>,
    /// Folder whose files are served as they are, relative to `dir`, by instances that `keel` itself is; or
    /// `{ dir = "public", fallback = "index.html" }`, where that file answers for paths that have none.
    #[serde(default)]
    pub files: Option<Files>,
    /// Answer that the edge itself gives to every request, as `{ file = "sorry.html" }` or `{ text = "Back soon." }`
    /// with `status` (503) and `content_type`; mostly the `fallback` of another service.
    #[serde(default)]
    pub page: Option<Page>,
    /// How many instances of `run` or `files`: a number, or elastic, as
    /// `{ min = 2, max = 8, target = { concurrency = 10 } }`.
    #[serde(default)]
    pub replicas: Replicas,
    /// How an instance is chosen: by the fewest requests in flight relative to weight, in turn (with or without
    /// weights), by chance and weight, as the better one of two drawn by chance by latency and requests in flight
    /// (`power-of-two`), or by a hash: of the client's address (`ip-hash`), or by `hash_by` in a table with nearly equal
    /// shares (`maglev`) or on a ring with a bound on each instance's load (`consistent-hash`).
    #[serde(default)]
    #[schemars(with = "BalanceNames")]
    pub balance: Balance,
    /// By what `maglev` and `consistent-hash` tell requests apart: `"address"` (the default), `"path"` (without query),
    /// `"header:NAME"` or `"cookie:NAME"`. A request that has none of it counts by the client's address.
    #[serde(default)]
    pub hash_by: Option<HashBy>,
    /// Of `consistent-hash`: how many requests in flight an instance may have, in percent of the mean (by weight); beyond
    /// it the next one on the ring has the request. At least 100. Default: 125. 0: no bound.
    #[serde(default)]
    pub hash_bound: Option<u16>,
    /// Keeps each client at its instance: by `"address"`, by `"header:NAME"`, or by a cookie that the edge sets, as
    /// `{ cookie = "keel-instance", max_age = "0s", secure = false }`. Instances do not see that cookie, and each service
    /// needs a name of its own. A client whose instance is not healthy, drains or is gone moves to another one, and stays
    /// there. One whose instance is only at its limit (`limits.in_flight`) is served by another one meanwhile.
    #[serde(default)]
    pub sticky: Option<Sticky>,
    /// How long an instance that becomes healthy takes to its whole share: it begins with a tenth. Not while the service
    /// as a whole comes up. For `least-connections`, `weighted-round-robin`, `random` and `power-of-two`. `0ms`: none.
    #[serde(default = "Service::no_slow_start")]
    pub slow_start: Duration,
    /// Where a smaller part of the instances is healthy, in percent, those that are not and still answer get requests
    /// too: their check fails by an answer, as a status, or they are ejected. Never those that cannot be connected to, are
    /// silent, never passed, or drain; those that drain do not count at all. `fallback` answers, and requests are held,
    /// only where this finds nobody either. 0: never.
    #[serde(default)]
    #[schemars(range(max = 100))]
    pub min_capacity: u8,
    /// Decides whether an instance gets requests. Default: it does once it accepts a connection.
    #[serde(default)]
    pub check: Option<Check>,
    /// An instance that fails this for long is killed and started again. Default: only exits restart it.
    #[serde(default)]
    pub liveness: Option<Liveness>,
    /// Environment of `run`, beside `PORT`, `PATH`, `HOME`, `LANG` and `TZ`.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// FastCGI in place of HTTP towards instances, for PHP: `{ root = "/srv/www" }`.
    #[serde(default)]
    pub fastcgi: Option<FastCgi>,
    /// Working directory of `run`. Default: where the stack file lies.
    #[serde(default)]
    pub dir: Option<String>,
    /// User to run as; needs root. Default: the user of `keel`.
    #[serde(default)]
    pub user: Option<String>,
    /// Memory bound of one instance, where control groups permit. Default: none.
    #[serde(default)]
    pub memory: Option<Size>,
    /// How long a start may take until the first pass of the check; after that it counts as failed.
    #[serde(default = "Service::default_start_timeout")]
    pub start_timeout: Duration,
    /// How instances are stopped.
    #[serde(default)]
    pub stop: Stop,
    /// How exits are answered.
    #[serde(default)]
    pub restart: Restart,
    /// Command that `keel deploy` runs once, in the new release and before it changes anything else, as a migration:
    /// program and arguments, no shell. Where it fails, the deploy ends there.
    #[serde(default)]
    pub before: Option<Vec<String>>,
    /// How a new release proves itself.
    #[serde(default)]
    pub deploy: Deploy,
    /// Bounds towards instances.
    #[serde(default)]
    pub limits: Limits,
    /// Safe repetition of failed requests.
    #[serde(default)]
    pub retries: Retries,
    /// Waiting for an instance while none is healthy.
    #[serde(default)]
    pub hold: Hold,
    /// Passive removal by what traffic shows.
    #[serde(default)]
    pub eject: Eject,
    /// Service that answers while no instance of this one is healthy: another tier, another site, a page. While it
    /// can, no request is held, at an ordinary start of this service neither.
    #[serde(default)]
    pub fallback: Option<String>,
    /// Zone whose instances get every request while one of them is healthy; the others answer while none is.
    #[serde(default)]
    pub prefer: Option<String>,
    /// Connections to instances begin with a PROXY header that names the client: `"v1"` or `"v2"`. Such a connection
    /// belongs to that client's connection: it is reused for its requests alone, so instances see more connections than
    /// they would otherwise. Checks begin with a header that names nobody.
    #[serde(default)]
    pub proxy_protocol: Option<ProxyHeader>,
    /// What clients get in place of a plain line where no instance of this service could answer (502, 503, 504), by
    /// status or range, as `{ "500-599" = { file = "sorry.html" } }`; with `of_instances = true` also in place of the
    /// body of an instance's own answer of such a status.
    #[serde(default)]
    pub error_pages: BTreeMap<String, ErrorPage>,
    /// Compresses answers of instances for clients that accept it: `true`, or
    /// `{ encodings = ["zstd", "br", "gzip"], min = "1KiB", types = ["text/*"] }`. Answers to HTTP/1.0 and to `Range`,
    /// encoded ones, event streams, and those that say `no-transform` or carry a digest stay as they are. A long answer
    /// under way costs about 350 KiB of memory with gzip, 700 KiB with Zstandard, 1.8 MiB with Brotli;
    /// where those of one of the edge's threads would take more than 64 MiB, the next ones stay as they are. Where an answer
    /// holds a secret beside something that an attacker may choose, its compressed length tells about the secret (BREACH):
    /// give such paths a service without `compress`, or mask the secret anew in each answer.
    #[serde(default, deserialize_with = "Compress::deserialize_form")]
    #[schemars(with = "Option<super::transform::CompressForm>")]
    pub compress: Option<Compress>,
    /// When `fallback` and `prefer` are undone: `"at-once"` (the default), `"by-hand"` (`keel resume SERVICE`), or
    /// within a time of day in UTC, as `"02:00-04:00"`.
    #[serde(default, rename = "return")]
    pub returns: Option<Return>,
}

impl Service {
    const fn no_slow_start() -> Duration {
        Duration::ms(0)
    }

    const fn default_start_timeout() -> Duration {
        Duration::s(60)
    }
}

/// The spellings of [`Balance`], for the schema.
#[derive(JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[expect(dead_code, reason = "only its schema is used")]
enum BalanceNames {
    RoundRobin,
    WeightedRoundRobin,
    LeastConnections,
    IpHash,
    Random,
    PowerOfTwo,
    Maglev,
    ConsistentHash,
}

/// How instances are stopped: they get no new requests, finish what they have, get the signal, and are killed if
/// they are still there after `grace`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Stop {
    /// How long requests in flight may take before the signal is sent all the same.
    pub drain: Duration,
    /// Signal that asks for the end: `TERM`, `INT`, `QUIT`, `HUP`, `USR1`, `USR2` or `WINCH`.
    pub signal: String,
    /// How long after the signal whatever is left is killed.
    pub grace: Duration,
}

impl Default for Stop {
    fn default() -> Self {
        Self { drain: Duration::s(30), signal: "TERM".to_owned(), grace: Duration::s(10) }
    }
}

/// How exits are answered: the first at once, then after a delay that doubles.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Restart {
    /// Delay after the second exit in a row; doubles with each further one.
    pub delay: Duration,
    /// Longest delay.
    pub max_delay: Duration,
    /// An instance that was healthy for so long starts the count anew.
    pub reset: Duration,
    /// Exits in a row after which `keel` gives up and says so.
    #[schemars(range(min = 1))]
    pub attempts: u32,
}

impl Default for Restart {
    fn default() -> Self {
        Self { delay: Duration::ms(100), max_delay: Duration::s(30), reset: Duration::s(10), attempts: 10 }
    }
}

/// Bounds towards instances.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Bound on connecting to an instance.
    pub connect_timeout: Duration,
    /// Bound from the end of a request to the head of its answer; then 504.
    pub response_timeout: Duration,
    /// How long an instance may neither send nor take a byte of a body.
    pub idle_timeout: Duration,
    /// How long a connection that was upgraded (WebSocket), or a stream of server-sent events, may pass no byte in
    /// either direction.
    pub tunnel_idle: Duration,
    /// Most requests in flight at one instance; more are held. 0: no bound.
    pub in_flight: u32,
    /// Largest head of an answer.
    pub head: Size,
    /// A complete answer up to this size is relayed only when whole, so that a death in its middle can be retried.
    pub whole: Size,
    /// After so long with requests that wait for their answers and nothing received while other instances answer, an
    /// instance may be silent: it gets no new requests, and those that may be sent again go elsewhere. Of one that is run
    /// here the kernel is asked: it is silent if all of its processes are stopped, and otherwise only its check judges,
    /// however long it takes. Of `instances` those are probed that have a check by `http` or `grpc`, answered 300 requests
    /// in the last one or two minutes, and were seen to answer a probe while about as many requests waited, or are quiet
    /// for twice as long as the longest quiet meanwhile that ended (by the clock, or by how many answers the others gave
    /// during it); they are silent if they fail two probes in a row. Each
    /// probe may take half of this time, or four times as long as its check usually takes there where that is longer.
    /// Others are left to their check and to `response_timeout`. Uploads, streams and tunnels under way do not count.
    /// `0ms` switches the rule off.
    pub silent_after: Duration,
    /// Most idle connections kept by edge thread and instance. There are never more than were in use at once, and beyond
    /// 128 only those that were needed within the last ten seconds. An instance for which an idle connection occupies a
    /// worker may want fewer; `0`: none are kept.
    pub idle_connections: u16,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::s(1),
            response_timeout: Duration::s(60),
            idle_timeout: Duration::s(60),
            tunnel_idle: Duration::s(3600),
            in_flight: 0,
            head: Size::kib(64),
            whole: Size::kib(64),
            silent_after: Duration::ms(100),
            idle_connections: 16_384,
        }
    }
}

/// Safe repetition: idempotent methods, and requests of which nothing was sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retries {
    /// Most tries after the first. 0 switches repetition off.
    #[schemars(range(max = 10))]
    pub max: u8,
    /// Tries allowed, in percent of the requests of the last ten seconds, …
    #[schemars(range(max = 100))]
    pub budget_percent: u8,
    /// … plus so many a second.
    pub budget_min: u32,
    /// Bound on each try until the head of its answer. `0ms`: only the request's own bound.
    pub try_timeout: Duration,
    /// After so long without the first byte of an answer, a second try runs beside the first at another instance, and the
    /// first answer wins. Only for requests that may be repeated, once for each, out of the same budget; not where
    /// clients stay with an instance (`sticky`). `0ms`: never.
    pub hedge_after: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Self { max: 3, budget_percent: 20, budget_min: 50, try_timeout: Duration::ms(0), hedge_after: Duration::ms(0) }
    }
}

/// Waiting for an instance, first come first served.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Hold {
    /// Longest wait; then 503 with `Retry-After`. `0ms` switches holding off.
    pub max: Duration,
    /// Most requests waiting at once; beyond it 503 at once.
    pub requests: u32,
}

impl Default for Hold {
    fn default() -> Self {
        Self { max: Duration::s(10), requests: 1000 }
    }
}

/// Passive removal of an instance whose traffic fails: connect errors, answers cut off, timeouts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Eject {
    /// Failures in a row that eject. 0 switches that rule off.
    pub consecutive: u32,
    /// Percentage of failures within the window that ejects. 0 switches that rule off.
    #[schemars(range(max = 100))]
    pub percent: u8,
    /// Fewest requests in the window before the percentage counts.
    pub min_requests: u32,
    /// Length of the window.
    pub window: Duration,
    /// First time out; doubles with each further ejection in a row.
    pub time: Duration,
    /// Longest time out.
    pub max_time: Duration,
    /// Most instances ejected at once, in percent; one always stays.
    #[schemars(range(max = 100))]
    pub max_percent: u8,
    /// Whether an answer of 500, 502, 503 or 504 counts as a failure.
    pub count_5xx: bool,
}

impl Default for Eject {
    fn default() -> Self {
        Self {
            consecutive: 5,
            percent: 50,
            min_requests: 20,
            window: Duration::s(10),
            time: Duration::s(5),
            max_time: Duration::s(300),
            max_percent: 50,
            count_5xx: false,
        }
    }
}

/// The address of a fixed instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InstanceAddress {
    /// `IP:port` or `host:port`.
    pub address: String,
    /// Relative share for `weighted-round-robin` and `least-connections`.
    pub weight: u16,
    /// Where it is, for `prefer`.
    pub zone: Option<String>,
}

impl<'de> Deserialize<'de> for InstanceAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            address: String,
            #[serde(default = "one")]
            weight: u16,
            #[serde(default)]
            zone: Option<String>,
        }
        const fn one() -> u16 {
            1
        }
        struct Either;
        impl<'de> de::Visitor<'de> for Either {
            type Value = InstanceAddress;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"host:port\" or { address = \"host:port\", weight = 1 }")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<InstanceAddress, E> {
                Ok(InstanceAddress { address: text.to_owned(), weight: 1, zone: None })
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<InstanceAddress, A::Error> {
                let table = Table::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(InstanceAddress { address: table.address, weight: table.weight, zone: table.zone })
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for InstanceAddress {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "InstanceAddress".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "string" },
            { "type": "object", "additionalProperties": false, "required": ["address"], "properties": {
                "address": { "type": "string" },
                "weight": { "type": "integer", "minimum": 1, "maximum": 1000 },
                "zone": { "type": "string" }
            } }
        ] })
    }
}
