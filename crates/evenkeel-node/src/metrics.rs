//! `/metrics`: what is counted, as text in the `OpenMetrics` format.
//!
//! Everything is rebuilt from the world at each scrape, so that nothing is counted twice or kept in two places.
//! Names follow Prometheus's conventions (base units, `_total` by the encoder); labels come only from the stack
//! file, so that their number is bounded by it.

use std::fmt::{self, Write};

use evenkeel_core::{
    ambiguity::Ambiguity,
    drill::{Proof, Verdict},
    link::{LATENCY_BOUNDS_US, ProxyFault},
    objectives::{Budget, ObjectiveStatus},
    status::Health,
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet, text},
    metrics::MetricType,
    registry::Registry,
};

use crate::traffic::{Sums, Totals, as_f64};

/// Content type of the answer (`OpenMetrics` 1.0, section "Text format").
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What a scrape shows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scrape {
    pub(crate) totals: Totals,
    pub(crate) connections: u64,
    /// Requests held now, by service.
    pub(crate) holding: Vec<(String, u64)>,
    pub(crate) instances: Vec<InstanceSample>,
    /// How objectives are held, by service.
    pub(crate) objectives: Vec<(String, ObjectiveStatus)>,
    /// What drills proved.
    pub(crate) proofs: Vec<Proof>,
    pub(crate) edge_restarts: u64,
    pub(crate) node_restarts: u64,
    pub(crate) journal_dropped: u64,
    pub(crate) events_dropped: u64,
    pub(crate) log_lines_dropped: u64,
    pub(crate) revision: u64,
    pub(crate) snapshot: u64,
    pub(crate) applied: u64,
}

/// One instance's part.
#[derive(Clone, Debug)]
pub(crate) struct InstanceSample {
    pub(crate) service: String,
    pub(crate) name: String,
    pub(crate) health: Health,
    pub(crate) restarts: u64,
    pub(crate) in_flight: u64,
    pub(crate) tries: u64,
    pub(crate) failures: u64,
}

/// The text.
pub(crate) fn render(scrape: Scrape) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(scrape));
    let mut text = String::new();
    // Writing into a string cannot fail, and the encoder has no failures of its own.
    if text::encode(&mut text, &registry).is_err() {
        let _ = writeln!(text, "# the metrics could not be written");
    }
    text
}

const HEALTHS: [Health; 6] =
    [Health::Unknown, Health::Healthy, Health::Unhealthy, Health::Silent, Health::Ejected, Health::Draining];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let to = &mut encoder;
        self.requests(to)?;
        self.streams(to)?;
        self.instances(to)?;
        self.budgets(to)?;
        self.drills(to)?;
        gauge(to, "keel_connections", "Open client connections", self.connections)?;
        counter(to, "keel_connections_accepted", "Client connections accepted", self.totals.accepted)?;
        let help = "Client connections closed at once: their client had as many as it may have";
        counter(to, "keel_connections_turned_away", help, self.totals.turned_away)?;
        counter(to, "keel_redirected", "Requests that a route sent elsewhere", self.totals.redirected)?;
        counter(to, "keel_edge_restarts", "Starts of the edge after its first", self.edge_restarts)?;
        counter(to, "keel_node_restarts", "Starts of the node process after its first", self.node_restarts)?;
        counter(to, "keel_journal_dropped", "Journal entries that could not be kept", self.journal_dropped)?;
        counter(to, "keel_events_dropped", "Events of the edge that found no room", self.events_dropped)?;
        counter(to, "keel_log_lines_dropped", "Lines of output that could not be kept", self.log_lines_dropped)?;
        gauge(to, "keel_revision", "The revision in force", self.revision)?;
        gauge(to, "keel_snapshot_version", "The newest snapshot", self.snapshot)?;
        gauge(to, "keel_snapshot_applied_version", "The snapshot that the edge serves", self.applied)
    }
}

impl Scrape {
    fn requests(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let services = &self.totals.services;
        let by_class = services.iter().flat_map(|(name, sums)| {
            let class = |(class, count): (&str, u64)| {
                let labels = vec![("service", name.clone()), ("class", class.to_owned())];
                (labels, Sample::Counter(count))
            };
            let without = [("aborted", sums.aborted), ("cancelled", sums.cancelled)];
            let all = CLASSES.into_iter().zip(sums.responses).chain(without);
            all.map(class).collect::<Vec<_>>()
        });
        let help = "Requests by class of their answer; aborted: no whole answer; cancelled: the client left first";
        family(to, "keel_requests", help, MetricType::Counter, by_class)?;
        let latency = services.iter().map(|(name, sums)| {
            let (sum_us, counts) = (sums.latency_sum_us, sums.latency);
            (of_service(name), Sample::Histogram { sum_us, counts })
        });
        let help = "From a request's first byte to its answer's last";
        let name = "keel_request_duration_seconds";
        family(to, name, help, MetricType::Histogram, latency)?;
        self.sums(to, "keel_retries", "Tries after the first", |sums| sums.retries)?;
        self.some(to, "keel_hedges", "Second tries beside a first one that was late", |sums| sums.hedges)?;
        self.some(to, "keel_hedges_won", "Of those, the ones that answered first", |sums| sums.hedges_won)?;
        self.sums(to, "keel_held", "Requests that waited for an instance", |sums| sums.held)?;
        self.sums(to, "keel_received_bytes", "Body bytes from clients", |sums| sums.received_bytes)?;
        self.sums(to, "keel_sent_bytes", "Body bytes to clients", |sums| sums.sent_bytes)?;
        self.sums(to, "keel_rate_limited", "Requests refused with 429 by a rate limit", |sums| sums.limited)?;
        let mirrored = services.iter().filter(|(_, sums)| sums.mirrored != [0; 3]).flat_map(|(name, sums)| {
            let one = |(what, count): (&str, u64)| {
                (vec![("service", name.clone()), ("copies", what.to_owned())], Sample::Counter(count))
            };
            ["sent", "failed", "skipped"].into_iter().zip(sums.mirrored).map(one).collect::<Vec<_>>()
        });
        let help = "Copies of requests; failed: sent, but without a whole answer; skipped: not sent";
        family(to, "keel_mirrored", help, MetricType::Counter, mirrored)?;
        let holding = self.holding.iter().map(|(name, n)| (of_service(name), Sample::Gauge(*n)));
        let help = "Requests that wait for an instance now";
        family(to, "keel_holding", help, MetricType::Gauge, holding)?;
        let by_status = self.totals.rejected.iter();
        let rejected = by_status.map(|(status, n)| (vec![("status", status.to_string())], Sample::Counter(*n)));
        let help = "Requests refused before they had a route";
        family(to, "keel_rejected", help, MetricType::Counter, rejected)?;
        let ambiguous = Ambiguity::ALL.into_iter().zip(self.totals.ambiguities);
        let ambiguous = ambiguous.map(|(kind, n)| (vec![("kind", kind.as_str().to_owned())], Sample::Counter(n)));
        let help = "Requests that were ambiguous: put right and forwarded, or something of them left out";
        family(to, "keel_ambiguous", help, MetricType::Counter, ambiguous)
    }

    /// What is not of HTTP.
    fn streams(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        self.some(to, "keel_tcp_connections", "Connections of TCP listeners that ended in order", |s| s.connections)?;
        self.some(to, "keel_udp_sessions", "Clients of UDP listeners", |sums| sums.sessions)?;
        let help = "Datagrams of clients that were sent to an instance";
        self.some(to, "keel_udp_received", help, |sums| sums.received_datagrams)?;
        let help = "Datagrams of instances that were sent to their client";
        self.some(to, "keel_udp_sent", help, |sums| sums.sent_datagrams)?;
        self.some(to, "keel_udp_dropped", "Datagrams that found no way", |sums| sums.dropped_datagrams)?;
        let faults = ProxyFault::ALL.into_iter().zip(self.totals.proxy_faults).filter(|(_, count)| *count > 0);
        let faults = faults.map(|(fault, n)| (vec![("fault", fault.as_str().to_owned())], Sample::Counter(n)));
        let help = "Connections closed for want of a PROXY header: missing, malformed, late";
        family(to, "keel_proxy_header_faults", help, MetricType::Counter, faults)
    }

    /// One counter of each service that has counted it.
    fn some(&self, to: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: fn(&Sums) -> u64) -> fmt::Result {
        let services = self.totals.services.iter().filter(|(_, sums)| value(sums) > 0);
        let samples = services.map(|(service, sums)| (of_service(service), Sample::Counter(value(sums))));
        family(to, name, help, MetricType::Counter, samples)
    }

    /// One counter of each service.
    fn sums(&self, to: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: fn(&Sums) -> u64) -> fmt::Result {
        let services = self.totals.services.iter();
        let samples = services.map(|(service, sums)| (of_service(service), Sample::Counter(value(sums))));
        family(to, name, help, MetricType::Counter, samples)
    }

    /// Objectives, as shares from 0 to 1.
    fn budgets(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let each = |value: fn(&Budget) -> f64| {
            self.objectives.iter().flat_map(move |(service, status)| {
                status.budgets().map(move |(key, budget)| {
                    let labels = vec![("service", service.clone()), ("objective", key.to_owned())];
                    (labels, Sample::Share(value(budget)))
                })
            })
        };
        let help = "The share of requests that must be good";
        family(to, "keel_objective_ratio", help, MetricType::Gauge, each(|budget| budget.target_percent / 100.0))?;
        let help = "What is left of the budget of bad requests, as a share of it; negative where it is used up";
        let left = each(|budget| 1.0 - budget.spent_percent / 100.0);
        family(to, "keel_objective_budget_left_ratio", help, MetricType::Gauge, left)?;
        let help = "Bad requests of the last hour as a multiple of what that hour's requests allow";
        family(to, "keel_objective_burn_rate", help, MetricType::Gauge, each(|budget| budget.burn_rate))
    }

    /// The age of proofs is what somebody alerts on: a time, so that it grows without anybody counting.
    fn drills(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let each = |value: fn(&Proof) -> Option<f64>| {
            self.proofs.iter().filter_map(move |proof| {
                let labels = vec![("drill", proof.drill.clone()), ("service", proof.service.clone())];
                Some((labels, Sample::Share(value(proof)?)))
            })
        };
        let help = "When the newest run began that passed, in seconds since the Unix epoch";
        let passed = each(|proof| proof.passed_at.map(|at| as_f64(at.as_millis()) / 1000.0));
        family(to, "keel_drill_last_pass_timestamp_seconds", help, MetricType::Gauge, passed)?;
        let help = "Whether the newest run with a verdict passed: 1, else 0";
        let verdict = each(|proof| Some(if proof.verdict == Verdict::Pass { 1.0 } else { 0.0 }));
        family(to, "keel_drill_passed", help, MetricType::Gauge, verdict)?;
        let help = "From the harm until everything was well again, in the newest run with a verdict";
        let recovery = each(|proof| proof.recovery_ms.map(|ms| as_f64(ms) / 1000.0));
        family(to, "keel_drill_recovery_seconds", help, MetricType::Gauge, recovery)
    }

    fn instances(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let labels = |i: &InstanceSample| vec![("service", i.service.clone()), ("instance", i.name.clone())];
        let health = self.instances.iter().flat_map(|instance| {
            HEALTHS.map(|health| {
                let mut labels = labels(instance);
                labels.push(("health", health.to_string()));
                (labels, Sample::Gauge(u64::from(instance.health == health)))
            })
        });
        family(to, "keel_instance_health", "1 for the edge's verdict, 0 for the others", MetricType::Gauge, health)?;
        let each = |value: fn(&InstanceSample) -> u64, kind: fn(u64) -> Sample| {
            self.instances.iter().map(move |i| (labels(i), kind(value(i))))
        };
        let restarts = each(|i| i.restarts, Sample::Counter);
        family(to, "keel_instance_restarts", "Starts after the first", MetricType::Counter, restarts)?;
        let in_flight = each(|i| i.in_flight, Sample::Gauge);
        family(to, "keel_instance_in_flight", "Requests in flight", MetricType::Gauge, in_flight)?;
        let tries = each(|i| i.tries, Sample::Counter);
        family(to, "keel_instance_tries", "Tries sent since the edge's start", MetricType::Counter, tries)?;
        let failures = each(|i| i.failures, Sample::Counter);
        family(to, "keel_instance_failures", "Tries that failed since the edge's start", MetricType::Counter, failures)
    }
}

type Labels = Vec<(&'static str, String)>;

fn of_service(name: &str) -> Labels {
    vec![("service", name.to_owned())]
}

/// One value of a family.
#[derive(Clone, Debug)]
enum Sample {
    Counter(u64),
    Gauge(u64),
    Share(f64),
    Histogram { sum_us: u64, counts: [u64; LATENCY_BOUNDS_US.len() + 1] },
}

impl EncodeMetric for Sample {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        match self {
            Self::Counter(value) => encoder.encode_counter::<NoLabelSet, _, u64>(value, None),
            Self::Gauge(value) => encoder.encode_gauge(value),
            Self::Share(value) => encoder.encode_gauge(value),
            Self::Histogram { sum_us, counts } => {
                let bounds = LATENCY_BOUNDS_US.iter().map(|us| as_f64(*us) / 1e6).chain([f64::INFINITY]);
                let buckets: Vec<(f64, u64)> = bounds.zip(counts.iter().copied()).collect();
                let sum_s = as_f64(*sum_us) / 1e6;
                encoder.encode_histogram::<NoLabelSet>(sum_s, counts.iter().sum(), &buckets, None)
            }
        }
    }

    fn metric_type(&self) -> MetricType {
        match self {
            Self::Counter(_) => MetricType::Counter,
            Self::Gauge(_) | Self::Share(_) => MetricType::Gauge,
            Self::Histogram { .. } => MetricType::Histogram,
        }
    }
}

fn family(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    kind: MetricType,
    samples: impl Iterator<Item = (Labels, Sample)>,
) -> fmt::Result {
    let mut samples = samples.peekable();
    if samples.peek().is_none() {
        return Ok(());
    }
    let mut metric = to.encode_descriptor(name, help, None, kind)?;
    for (labels, sample) in samples {
        sample.encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

fn counter(to: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    Sample::Counter(value).encode(to.encode_descriptor(name, help, None, MetricType::Counter)?)
}

fn gauge(to: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    Sample::Gauge(value).encode(to.encode_descriptor(name, help, None, MetricType::Gauge)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_units_and_buckets() {
        let mut scrape = Scrape { edge_restarts: 3, ..Scrape::default() };
        let mut sums = Sums { responses: [0, 7, 0, 0, 1], latency_sum_us: 2_500_000, ..Sums::default() };
        sums.latency[0] = 3;
        sums.latency[18] = 1;
        scrape.totals.services.insert("shop".to_owned(), sums);
        scrape.instances.push(InstanceSample {
            service: "shop".to_owned(),
            name: "shop/1".to_owned(),
            health: Health::Healthy,
            restarts: 2,
            in_flight: 1,
            tries: 9,
            failures: 0,
        });
        let budget = Budget { target_percent: 99.5, spent_percent: 25.0, burn_rate: 0.5, ..Budget::default() };
        let objective = ObjectiveStatus { availability: Some(budget), ..ObjectiveStatus::default() };
        scrape.objectives.push(("shop".to_owned(), objective));
        let text = render(scrape);
        for line in [
            "keel_objective_ratio{service=\"shop\",objective=\"availability\"} 0.995",
            "keel_objective_budget_left_ratio{service=\"shop\",objective=\"availability\"} 0.75",
            "keel_objective_burn_rate{service=\"shop\",objective=\"availability\"} 0.5",
            "# TYPE keel_requests counter",
            "keel_requests_total{service=\"shop\",class=\"2xx\"} 7",
            "keel_request_duration_seconds_sum{service=\"shop\"} 2.5",
            "keel_request_duration_seconds_bucket{le=\"0.00025\",service=\"shop\"} 3",
            "keel_request_duration_seconds_bucket{le=\"60.0\",service=\"shop\"} 3",
            "keel_request_duration_seconds_bucket{le=\"+Inf\",service=\"shop\"} 4",
            "keel_instance_health{service=\"shop\",instance=\"shop/1\",health=\"healthy\"} 1",
            "keel_instance_health{service=\"shop\",instance=\"shop/1\",health=\"silent\"} 0",
            "keel_instance_restarts_total{service=\"shop\",instance=\"shop/1\"} 2",
            "keel_edge_restarts_total 3",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing from\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
