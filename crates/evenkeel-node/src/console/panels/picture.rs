//! The stack as a picture: listeners, the services that they lead to, and instances, with health and flow.
//!
//! Heights are multiples of one unit, so the ends of wires are known without measuring anything: a wire is drawn in
//! units down and in hundredths across, and stretched. Wires of what carries requests move; how fast tells how many.

use evenkeel_core::{
    snapshot::Protocol,
    stack::Route,
    status::{Health, InstanceStatus, ListenerStatus, ServiceStatus},
};
use maud::{Markup, html};

use super::{
    Panel,
    words::{Tone, count, latency, mark, rate, state},
};
use crate::console::view::View;

/// Instances below each other before another column begins.
const ROWS: usize = 6;

/// Units of a service: its card needs two.
const LEAST_UNITS: usize = 2;

/// The picture.
pub(super) struct Picture;

impl Panel for Picture {
    fn id(&self) -> &'static str {
        "picture"
    }

    fn title(&self) -> &'static str {
        "The stack"
    }

    fn render(&self, view: &View) -> Markup {
        let services: Vec<Placed<'_>> = place(view);
        let units = services.last().map_or(LEAST_UNITS, |last| last.top + last.units);
        let listeners = &view.status.listeners;
        html! {
            div class="picture" {
                div class="column listeners" {
                    @for listener in listeners { div class="cell" { (listener_card(listener)) } }
                    @if listeners.is_empty() { div class="cell" { p class="empty" { "No listener is bound." } } }
                }
                (wires(units, &to_services(view, &services, units)))
                div class="column services" {
                    @for (index, placed) in services.iter().enumerate() {
                        div class={ "cell u" (placed.units) " o" (index) } { (service_card(view, placed.service)) }
                    }
                }
                (wires(units, &to_instances(&services)))
                div class="column instances" {
                    @for (index, placed) in services.iter().enumerate() {
                        div class={ "cell u" (placed.units) " o" (index) " c" (placed.columns()) } {
                            @for instance in &placed.service.instances { (instance_card(instance)) }
                        }
                    }
                }
            }
        }
    }
}

/// A service and where its block begins.
struct Placed<'a> {
    service: &'a ServiceStatus,
    top: usize,
    units: usize,
}

impl Placed<'_> {
    fn middle(&self) -> f64 {
        halves(2 * self.top + self.units)
    }

    fn columns(&self) -> usize {
        self.service.instances.len().div_ceil(ROWS).clamp(1, 4)
    }

    /// Rows of instances.
    fn rows(&self) -> usize {
        self.service.instances.len().div_ceil(self.columns())
    }
}

/// Half of a small number, as a coordinate.
fn halves(n: usize) -> f64 {
    f64::from(u32::try_from(n).unwrap_or(u32::MAX)) / 2.0
}

fn place(view: &View) -> Vec<Placed<'_>> {
    let mut top = 0;
    let mut placed: Vec<Placed<'_>> = Vec::new();
    for service in &view.status.services {
        let mut next = Placed { service, top, units: 0 };
        next.units = next.rows().max(LEAST_UNITS);
        top += next.units;
        placed.push(next);
    }
    placed
}

/// A line from one height to another, and how it looks.
struct Wire {
    from: f64,
    to: f64,
    class: String,
}

fn wires(units: usize, wires: &[Wire]) -> Markup {
    html! {
        svg class="wires" viewBox={ "0 0 100 " (units) } preserveAspectRatio="none" aria-hidden="true" focusable="false" {
            @for Wire { from, to, class } in wires {
                @let path = format!("M0 {from:.3}C55 {from:.3} 45 {to:.3} 100 {to:.3}");
                path class={ "wire " (class) } d=(path) {}
                @if class.starts_with("flow") { path class={ "stream " (class) } d=(path) {} }
            }
        }
    }
}

fn to_services(view: &View, services: &[Placed<'_>], units: usize) -> Vec<Wire> {
    let listeners = &view.status.listeners;
    let height = halves(2 * units);
    let mut wires = Vec::new();
    for (index, listener) in listeners.iter().enumerate() {
        let from = height * halves(2 * index + 1) / halves(2 * listeners.len());
        for placed in services.iter().filter(|placed| leads(view, listener, &placed.service.name)) {
            let can = placed.service.page || placed.service.healthy > 0;
            let class = if can { flow(placed.service.requests_per_s) } else { "broken" };
            wires.push(Wire { from, to: placed.middle(), class: class.to_owned() });
        }
    }
    wires
}

fn to_instances(services: &[Placed<'_>]) -> Vec<Wire> {
    let mut wires = Vec::new();
    for placed in services {
        let rows = placed.rows();
        let instances = &placed.service.instances;
        for row in 0..rows {
            // The grid fills rows first, and a row shares its wire.
            let columns = placed.columns();
            let first = instances.iter().skip(row * columns).take(columns);
            let best = first.map(|instance| instance.health).min_by_key(|health| u8::from(*health != Health::Healthy));
            let class = match best {
                Some(Health::Healthy) => flow(placed.service.requests_per_s),
                Some(Health::Draining | Health::Unknown | Health::Ejected) => "idle",
                _ => "broken",
            };
            let step = halves(2 * placed.units) / halves(2 * rows.max(1));
            let to = halves(2 * placed.top) + step * halves(2 * row + 1);
            wires.push(Wire { from: placed.middle(), to, class: class.to_owned() });
        }
    }
    wires
}

/// How fast a wire moves.
fn flow(per_s: f64) -> &'static str {
    match per_s {
        rate if rate < 0.05 => "idle",
        rate if rate < 10.0 => "flow-1",
        rate if rate < 100.0 => "flow-2",
        rate if rate < 1000.0 => "flow-3",
        _ => "flow-4",
    }
}

/// Whether what arrives at a listener may reach a service.
fn leads(view: &View, listener: &ListenerStatus, service: &str) -> bool {
    let Some(stack) = &view.stack else { return false };
    let own = stack.listeners.get(&listener.name).and_then(|listener| listener.service.as_deref());
    if own.is_some() || listener.protocol != Protocol::Http {
        return own == Some(service);
    }
    stack.routes.iter().any(|route| is_on(route, &listener.name) && goes_to(route, service))
}

fn is_on(route: &Route, listener: &str) -> bool {
    route.listener.as_deref().is_none_or(|name| name == listener)
}

fn goes_to(route: &Route, service: &str) -> bool {
    route.service == service || route.split.iter().any(|split| split.service == service)
}

fn listener_card(listener: &ListenerStatus) -> Markup {
    let protocol = match listener.protocol {
        Protocol::Http => "HTTP",
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
    };
    html! {
        div class="card listener" {
            span class="kind" { (protocol) " listener" }
            strong { (listener.name) }
            span class="address" { (listener.address) }
        }
    }
}

fn service_card(view: &View, service: &ServiceStatus) -> Markup {
    let routes = routes_to(view, &service.name);
    html! {
        a class={ "card service " (tone(service).class()) } href={ "#service-" (service.name) } {
            span class="kind" { @if service.page { "Page" } @else { "Service" } @if !routes.is_empty() { " · " (routes) } }
            span class="title" { strong { (service.name) } (verdict(service)) }
            span class="numbers" {
                span { b { (rate(service.requests_per_s)) } " req/s" }
                @if !service.page { span { "p99 " b { (latency(service.p99_ms)) } } }
                @if service.holding > 0 { span class="warn" { b { (count(service.holding)) } " held" } }
            }
        }
    }
}

/// How a service is as a whole.
pub(super) fn tone(service: &ServiceStatus) -> Tone {
    match service.healthy {
        _ if service.page => Tone::Quiet,
        n if n >= service.replicas.max(1) => Tone::Good,
        0 if service.replicas > 0 => Tone::Bad,
        _ => Tone::Warn,
    }
}

/// The same as a shape and words.
pub(super) fn verdict(service: &ServiceStatus) -> Markup {
    let words = format!("{}/{} healthy", service.healthy, service.replicas);
    match tone(service) {
        _ if service.page => state(Tone::Quiet, "info", "answered by the edge"),
        Tone::Good => state(Tone::Good, "healthy", &words),
        Tone::Bad => state(Tone::Bad, "unhealthy", &words),
        other => state(other, "warning", &words),
    }
}

/// Hosts and paths that lead to a service, as far as there is room for them.
fn routes_to(view: &View, service: &str) -> String {
    let routes = view.stack.as_ref().map_or(&[][..], |stack| &stack.routes);
    let said: Vec<String> = routes
        .iter()
        .filter(|route| goes_to(route, service))
        .map(|route| format!("{}{}", route.host.as_deref().unwrap_or_default(), route.path))
        .collect();
    match said.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [one, two] => format!("{one}, {two}"),
        [one, two, more @ ..] => format!("{one}, {two} and {} more", more.len()),
    }
}

fn instance_card(instance: &InstanceStatus) -> Markup {
    let tone = Tone::of(instance.health);
    let word = instance.health.as_str();
    html! {
        a class={ "card instance " (tone.class()) } href={ "#instance-" (instance.name) } {
            (mark(word))
            strong { (instance.name) }
            span class="word" { (word) }
            span class="flight" { b { (count(instance.in_flight)) } " in flight" }
        }
    }
}
