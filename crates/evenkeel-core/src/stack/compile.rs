//! From the stack file to the parts of a snapshot: names are resolved, units become milliseconds and bytes.

use super::{Check, Liveness, Service, Stack, listener::ClientLimits, transform, validate::signal_number};
use crate::snapshot;

/// The listeners of a snapshot.
pub fn compile_listeners(stack: &Stack) -> Vec<snapshot::Listener> {
    let listener = |(name, listener): (&String, &super::Listener)| snapshot::Listener {
        name: name.clone(),
        bind: listener.bind,
        trusted: listener.trusted.iter().map(|cidr| cidr.0).collect(),
        limits: client_limits(&listener.limits),
        protocol: listener.protocol,
        service: listener.service.clone(),
        accepts_proxy: listener.proxy_protocol,
        strictness: listener.strict,
        error_pages: transform::compile_error_pages(&listener.error_pages),
    };
    stack.listeners.iter().map(listener).collect()
}

/// How long a body may be waited for before its rate counts: slow starts and retransmissions are common.
const MIN_RATE_GRACE_MS: u64 = 10_000;

fn client_limits(limits: &ClientLimits) -> snapshot::ClientLimits {
    snapshot::ClientLimits {
        head_bytes: narrow(limits.head.as_bytes()),
        headers: limits.headers,
        target_bytes: narrow(limits.target.as_bytes()),
        body_bytes: limits.body.as_bytes(),
        head_timeout_ms: limits.head_timeout.as_ms(),
        body_idle_ms: limits.body_idle.as_ms(),
        keep_alive_ms: limits.keep_alive.as_ms(),
        connections: limits.connections,
        min_rate_bytes_per_s: limits.min_rate.as_bytes(),
        min_rate_grace_ms: MIN_RATE_GRACE_MS,
        connections_per_client: limits.connections_per_client,
    }
}

/// The routes of a snapshot, in the order of the file.
pub fn compile_routes(stack: &Stack) -> Vec<snapshot::Route> {
    let route = |route: &super::Route| snapshot::Route {
        listener: route.listener.clone(),
        host: route.host.as_ref().map(|host| host.to_ascii_lowercase()),
        path: route.path.clone(),
        headers: route.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect(),
        methods: route.methods.clone(),
        service: route.service.clone(),
        idempotency_key: route.idempotency_key,
        actions: snapshot::Actions {
            rewrite: route.rewrite.as_ref().map(super::Rewrite::compile).unwrap_or_default(),
            request_fields: route.request_headers.compile(),
            response_fields: route.response_headers.compile(),
            ..route.compile_rails()
        },
    };
    stack.routes.iter().map(route).collect()
}

/// A service of a snapshot, served by `instances`.
pub fn compile_service(name: &str, service: &Service, instances: Vec<snapshot::Instance>) -> snapshot::Service {
    snapshot::Service {
        name: name.to_owned(),
        balance: service.balance,
        check: service.check.as_ref().map(check),
        liveness: service.liveness.as_ref().map(liveness),
        ejection: snapshot::Ejection {
            consecutive: service.eject.consecutive,
            percent: service.eject.percent,
            min_requests: service.eject.min_requests,
            window_ms: service.eject.window.as_ms(),
            base_ms: service.eject.time.as_ms(),
            max_ms: service.eject.max_time.as_ms(),
            max_percent: service.eject.max_percent,
            count_5xx: service.eject.count_5xx,
        },
        retry: snapshot::Retry {
            max: service.retries.max,
            budget_percent: service.retries.budget_percent,
            budget_min_per_s: service.retries.budget_min,
            try_timeout_ms: service.retries.try_timeout.as_ms(),
            hedge_after_ms: service.retries.hedge_after.as_ms(),
        },
        hold: snapshot::Hold { max_ms: service.hold.max.as_ms(), max_requests: service.hold.requests },
        limits: snapshot::ServiceLimits {
            connect_timeout_ms: service.limits.connect_timeout.as_ms(),
            response_timeout_ms: service.limits.response_timeout.as_ms(),
            idle_timeout_ms: service.limits.idle_timeout.as_ms(),
            tunnel_idle_ms: service.limits.tunnel_idle.as_ms(),
            in_flight_per_instance: service.limits.in_flight,
            head_bytes: narrow(service.limits.head.as_bytes()),
            whole_bytes: narrow(service.limits.whole.as_bytes()),
            // PHP's manager answers nobody while all of its workers are busy, so its silence says nothing.
            silent_after_ms: if service.fastcgi.is_some() { 0 } else { service.limits.silent_after.as_ms() },
            idle_connections: service.limits.idle_connections,
        },
        fallback: service.fallback.clone(),
        prefer: service.prefer.clone(),
        away: false,
        observe: false,
        page: None,
        choice: super::choice::compile(service),
        wire: snapshot::Wire {
            fastcgi: service.fastcgi.as_ref().map(super::FastCgi::compile),
            sends_proxy: service.proxy_protocol,
        },
        answers: snapshot::Answers {
            compress: service.compress.as_ref().map(super::Compress::compile),
            error_pages: transform::compile_error_pages(&service.error_pages),
        },
        instances,
    }
}

fn check(check: &Check) -> snapshot::Check {
    snapshot::Check {
        probe: check.probe(),
        interval_ms: check.interval.as_ms(),
        timeout_ms: check.timeout.as_ms(),
        rise: check.rise,
        fall: check.fall,
    }
}

fn liveness(liveness: &Liveness) -> snapshot::Check {
    snapshot::Check {
        probe: liveness.probe(),
        interval_ms: liveness.interval.as_ms(),
        timeout_ms: liveness.timeout.as_ms(),
        rise: 1,
        fall: 1,
    }
}

/// Sizes that a snapshot keeps in 32 bits; larger ones mean "no bound" anyway.
fn narrow(bytes: u64) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

impl super::Stop {
    /// The signal's number.
    pub fn signal_number(&self) -> i32 {
        signal_number(&self.signal).expect("parsing accepts known signals only")
    }
}
