//! Snapshots with every bound out of the way, for a test to change what it is about.

use std::net::SocketAddr;

use evenkeel_core::{
    snapshot::{
        Actions, Answers, Balance, Choice, ClientLimits, Ejection, FORMAT, Hold, Instance, Listener, Protocol, Retry,
        Route, Service, ServiceLimits, Snapshot, Strictness, Wire,
    },
    status::InstanceId,
};

pub fn snapshot(instances: &[SocketAddr]) -> Snapshot {
    Snapshot {
        format: FORMAT,
        version: 1,
        revision: 1,
        stack: "test".into(),
        threads: 1,
        listeners: vec![Listener {
            name: "web".into(),
            bind: "127.0.0.1:0".parse().unwrap(),
            trusted: Vec::new(),
            limits: ClientLimits {
                head_bytes: 16 << 10,
                headers: 100,
                target_bytes: 8 << 10,
                body_bytes: 8 << 20,
                head_timeout_ms: 50_000,
                body_idle_ms: 50_000,
                keep_alive_ms: 10_000,
                connections: 1000,
                connections_per_client: 0,
                min_rate_bytes_per_s: 0,
                min_rate_grace_ms: 0,
            },
            protocol: Protocol::Http,
            service: None,
            accepts_proxy: false,
            strictness: Strictness::Refuse,
            error_pages: Vec::new(),
        }],
        routes: vec![Route {
            listener: None,
            host: None,
            path: "/".into(),
            headers: Vec::new(),
            service: "app".into(),
            idempotency_key: false,
            methods: Vec::new(),
            actions: Actions::default(),
        }],
        services: vec![service("app", instances)],
    }
}

pub fn service(name: &str, instances: &[SocketAddr]) -> Service {
    let instances = instances.iter().enumerate().map(|(n, address)| {
        let id = InstanceId { name: format!("{name}/{}", n + 1), generation: 1 };
        Instance::new(id, address.to_string())
    });
    Service {
        name: name.into(),
        balance: Balance::RoundRobin,
        check: None,
        liveness: None,
        ejection: Ejection {
            consecutive: 0,
            percent: 0,
            min_requests: 0,
            window_ms: 10_000,
            base_ms: 1000,
            max_ms: 1000,
            max_percent: 50,
            count_5xx: false,
        },
        retry: Retry { max: 2, budget_percent: 20, budget_min_per_s: 100, try_timeout_ms: 0, hedge_after_ms: 0 },
        hold: Hold { max_ms: 10_000, max_requests: 100 },
        limits: ServiceLimits {
            connect_timeout_ms: 20_000,
            response_timeout_ms: 50_000,
            idle_timeout_ms: 50_000,
            tunnel_idle_ms: 3_600_000,
            in_flight_per_instance: 0,
            head_bytes: 16 << 10,
            whole_bytes: 64 << 10,
            silent_after_ms: 0,
            idle_connections: 16,
        },
        fallback: None,
        prefer: None,
        away: false,
        observe: false,
        page: None,
        choice: Choice::default(),
        wire: Wire::default(),
        answers: Answers::default(),
        instances: instances.collect(),
    }
}
