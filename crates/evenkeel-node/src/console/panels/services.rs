//! Services with their numbers, their instances, and what can be ordered of them.

use evenkeel_core::{
    access::Role,
    status::{InstanceStatus, ServiceStatus},
};
use maud::{Markup, html};

use super::{
    Panel, act, act_with, picture, why,
    words::{age, count, health, latency, rate},
};
use crate::console::view::View;

/// All services.
pub(super) struct Services;

impl Panel for Services {
    fn id(&self) -> &'static str {
        "services"
    }

    fn title(&self) -> &'static str {
        "Services and instances"
    }

    fn render(&self, view: &View) -> Markup {
        html! {
            @for service in &view.status.services { (block(service)) }
            @if view.status.services.is_empty() { p class="empty" { "The stack has no service." } }
        }
    }
}

fn block(service: &ServiceStatus) -> Markup {
    html! {
        article class="service-block" id={ "service-" (service.name) } data-key=(service.name) aria-label={ "Service " (service.name) } {
            header {
                h3 { (service.name) }
                (picture::verdict(service))
                div class="acts" { (why(&service.name)) (orders(service)) }
            }
            (numbers(service))
            @if let Some(scaling) = &service.scaling {
                p class="hint" {
                    "Elastic, " (scaling.min) " to " (scaling.max) " instances; "
                    @if scaling.pinned { "fixed by an operator" } @else { (scaling.reason) } "."
                }
            }
            @if let Some(stuck) = &service.stuck { p class="hint bad" { (stuck) } }
            @if let Some(dns) = &service.dns {
                p class="hint" { "Instances from " (dns.name) @if let Some(failing) = &dns.failing { ": " (failing) } }
            }
            @if !service.instances.is_empty() { (instances(service)) }
        }
    }
}

fn orders(service: &ServiceStatus) -> Markup {
    let run = service.instances.iter().any(|instance| instance.phase.is_some());
    let name = &service.name;
    html! {
        @if !service.page && (run || service.replicas == 0 || service.scaling.is_some()) {
            (act_with("Scale…", "scale", Role::Operator, name, &service.replicas.to_string()))
            (act("Restart…", "restart", Role::Operator, name))
            (act("Deploy…", "deploy", Role::Operator, name))
        }
        @if !service.page {
            @if service.hands_off.is_some() || service.away.is_some() { (act("Resume…", "resume", Role::Operator, name)) }
            @if service.hands_off.is_none() { (act("Pause…", "pause", Role::Operator, name)) }
        }
    }
}

fn numbers(service: &ServiceStatus) -> Markup {
    let number = |label: &str, value: String, bad: bool| {
        html! { div class=[bad.then_some("bad")] { dt { (label) } dd { (value) } } }
    };
    html! {
        dl class="numbers" {
            (number("req/s", rate(service.requests_per_s), false))
            (number("p50", latency(service.p50_ms), false))
            (number("p99", latency(service.p99_ms), false))
            (number("requests", count(service.requests), false))
            (number("errors", count(service.errors), service.errors > 0 && !service.page))
            (number("retries", count(service.retries), false))
            (number("held", count(service.held), false))
            (number("waiting now", count(service.holding), service.holding > 0))
            @if let Some(release) = service.release { (number("release", count(release), false)) }
            @if let Some(udp) = &service.udp {
                (number("sessions", count(udp.sessions), false))
                (number("datagrams", count(udp.received + udp.sent), false))
                (number("dropped", count(udp.dropped), udp.dropped > 0))
            }
        }
    }
}

fn instances(service: &ServiceStatus) -> Markup {
    html! {
        table class="instances" {
            caption class="hidden" { "Instances of " (service.name) }
            thead { tr {
                th scope="col" { "Instance" } th scope="col" { "Health" } th scope="col" { "Phase" }
                th scope="col" class="number" { "Process" } th scope="col" { "Address" }
                th scope="col" class="number" { "Up" } th scope="col" class="number" { "Restarts" }
                th scope="col" class="number" { "In flight" } th scope="col" { "Orders" }
            } }
            tbody { @for instance in &service.instances { (row(service, instance)) } }
        }
    }
}

fn row(service: &ServiceStatus, instance: &InstanceStatus) -> Markup {
    let name = &instance.name;
    let dash = || html! { "–" };
    let last = service.healthy <= 1 && instance.health == evenkeel_core::status::Health::Healthy;
    html! {
        tr id={ "instance-" (name) } data-key=(name) {
            th scope="row" { (name) }
            td data-label="Health" { (health(instance)) }
            td data-label="Phase" { @if let Some(phase) = instance.phase { (phase.to_string()) } @else { "fixed" } }
            td class="number" data-label="Process" { @if let Some(pid) = instance.pid { (pid) } @else { (dash()) } }
            td class="address" data-label="Address" { (instance.address) }
            td class="number" data-label="Up" {
                @if let Some(since) = instance.since.filter(|_| instance.pid.is_some()) { (age(since)) } @else { (dash()) }
            }
            td class="number" data-label="Restarts" { (count(instance.restarts)) }
            td class="number" data-label="In flight" { (count(instance.in_flight)) }
            td class="acts" data-label="Orders" {
                (why(name))
                @if instance.phase.is_some() {
                    (act("Output", "output", Role::Viewer, name))
                    (act("Restart…", "restart", Role::Operator, name))
                }
                @if instance.drained.is_some() { (act("Resume…", "resume", Role::Operator, name)) }
                @else { (act_with("Drain…", "drain", Role::Operator, name, if last { "last" } else { "" })) }
            }
        }
        @if let Some(note) = note(instance) {
            tr class="aside" data-key={ (name) "-note" } { td colspan="9" { (note) } }
        }
    }
}

/// Why it is not healthy, how its last process ended and what that printed.
fn note(instance: &InstanceStatus) -> Option<Markup> {
    let healthy = instance.health == evenkeel_core::status::Health::Healthy;
    let reason = Some(instance.reason.as_str()).filter(|reason| !healthy && !reason.is_empty());
    let drained = instance.drained.as_ref();
    if reason.is_none() && instance.last_exit.is_none() && drained.is_none() && instance.last_output.is_empty() {
        return None;
    }
    Some(html! {
        @if let Some(drained) = drained {
            span { "drained by hand" @if !drained.reason.is_empty() { " (" (drained.reason) ")" }
                @if drained.finished { ", nothing is in flight any more" } ". " }
        } @else if let Some(reason) = reason { span { (reason) ". " } }
        @if let Some(exit) = &instance.last_exit { span { "Last exit: " (exit) ". " } }
        @if !instance.last_output.is_empty() { pre { @for line in &instance.last_output { (line) "\n" } } }
    })
}
