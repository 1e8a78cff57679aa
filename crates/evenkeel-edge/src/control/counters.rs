//! The counters of all threads, summed up for the node process. Reading never stops a thread.

use std::sync::atomic::Ordering::Relaxed;

use evenkeel_core::{
    link::{Counters, InstanceCounters, ServiceCounters},
    status::{Basis, InstanceId},
};

use crate::{
    shared::{EdgeShared, InstanceShared, REJECTED_STATUSES},
    view::{ServiceView, View},
};

/// All counters now. `view` says which services and instances there are, `basis` whose verdict does not rest on the
/// check in force.
pub(super) fn collect(edge: &EdgeShared, view: &View, basis: Vec<(InstanceId, Basis)>) -> Counters {
    let threads = || edge.threads.iter().map(|cell| &cell.0);
    let rejected = REJECTED_STATUSES
        .iter()
        .enumerate()
        .map(|(index, &status)| (status, threads().map(|cell| cell.rejected[index].get()).sum::<u64>()));
    Counters {
        pid: std::process::id(),
        snapshot: view.version,
        basis,
        connections: threads().map(|cell| cell.connections.get()).sum(),
        accepted: threads().map(|cell| cell.accepted.get()).sum(),
        turned_away: threads().map(|cell| cell.turned_away.get()).sum(),
        proxy_faults: std::array::from_fn(|fault| threads().map(|cell| cell.proxy_faults[fault].get()).sum::<u64>()),
        redirected: threads().map(|cell| cell.redirected.get()).sum(),
        rejected: rejected.filter(|(_, count)| *count > 0).collect(),
        ambiguities: std::array::from_fn(|kind| threads().map(|cell| cell.ambiguities[kind].get()).sum()),
        services: view.services.iter().map(|view| service(view)).collect(),
    }
}

fn service(view: &ServiceView) -> ServiceCounters {
    let shared = &view.shared;
    ServiceCounters {
        name: shared.name.clone(),
        responses: std::array::from_fn(|class| shared.sum(|cell| &cell.responses[class])),
        aborted: shared.sum(|cell| &cell.aborted),
        cancelled: shared.sum(|cell| &cell.cancelled),
        retries: shared.sum(|cell| &cell.retries),
        hedges: shared.sum(|cell| &cell.hedges),
        hedges_won: shared.sum(|cell| &cell.hedges_won),
        held: shared.sum(|cell| &cell.held),
        holding: u64::from(shared.holding.load(Relaxed)),
        latency_sum_us: shared.sum(|cell| &cell.latency_sum_us),
        latency: std::array::from_fn(|bucket| shared.sum(|cell| &cell.latency[bucket])),
        connections: shared.sum(|cell| &cell.connections),
        sessions: shared.sum(|cell| &cell.sessions),
        received_datagrams: shared.sum(|cell| &cell.received_datagrams),
        sent_datagrams: shared.sum(|cell| &cell.sent_datagrams),
        dropped_datagrams: shared.sum(|cell| &cell.dropped_datagrams),
        received_bytes: shared.sum(|cell| &cell.received_bytes),
        sent_bytes: shared.sum(|cell| &cell.sent_bytes),
        limited: shared.sum(|cell| &cell.limited),
        mirrored: shared.sum(|cell| &cell.mirrored),
        mirror_failed: shared.sum(|cell| &cell.mirror_failed),
        mirror_skipped: shared.sum(|cell| &cell.mirror_skipped),
        instances: view.instances.iter().map(|one| instance(&one.shared)).collect(),
    }
}

fn instance(shared: &InstanceShared) -> InstanceCounters {
    if shared.sum(|cell| &cell.tries) == 0 {
        // Of very many instances most have not been asked for yet.
        return InstanceCounters { health: shared.health(), ..InstanceCounters::zero(shared.id.clone()) };
    }
    InstanceCounters {
        id: shared.id.clone(),
        health: shared.health(),
        in_flight: u64::from(shared.in_flight.load(Relaxed)),
        tries: shared.sum(|cell| &cell.tries),
        failures: shared.sum(|cell| &cell.failed),
        responses: std::array::from_fn(|class| shared.sum(|cell| &cell.responses[class])),
        latency_sum_us: shared.sum(|cell| &cell.latency_sum_us),
        latency: std::array::from_fn(|bucket| shared.sum(|cell| &cell.latency[bucket])),
    }
}
