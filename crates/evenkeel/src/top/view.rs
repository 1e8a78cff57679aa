//! How `keel top` looks: header, problems, services, instances, events, keys. Made for 80 columns and 24 lines;
//! with more room there are more lines, with less the last columns go first. Words and figures carry the meaning, colour only helps to find them.

use evenkeel_core::{
    journal::{Entry, Level},
    status::{Health, InstanceStatus, ServiceStatus, Status},
    time::WallTime,
};
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Cell, Paragraph, Row, Sparkline, Table, TableState},
};

use super::model::{Model, Page};
use crate::{
    style::harmless,
    words::{count, latency, now, span},
};

/// Most problems that stand above the tables.
const PROBLEMS: usize = 3;
/// Lines of events below the instances where there is little room.
const EVENTS: u16 = 4;
/// Lines of instances that are shown before any event, the head among them.
const INSTANCES: u16 = 4;
/// How narrow and how wide a column of names may be.
const NAMES: (u16, u16) = (10, 28);
/// The widest bar of rates: three seconds to a column.
const BAR: u16 = 60;
/// Most services that are shown; the instances need room too.
const SERVICES: usize = 7;

/// Draws everything.
pub(crate) fn draw(frame: &mut Frame<'_>, model: &Model) {
    draw_at(frame, model, now());
}

/// The same at a given moment.
pub(crate) fn draw_at(frame: &mut Frame<'_>, model: &Model, at: WallTime) {
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(1), Constraint::Fill(1), Constraint::Length(1)]).areas(frame.area());
    frame.render_widget(Paragraph::new(header(model, at)), head);
    frame.render_widget(Paragraph::new(footer(model)), foot);
    match (&model.status, model.page) {
        (_, Page::Help) => frame.render_widget(Paragraph::new(HELP), body),
        (None, _) => frame.render_widget(Paragraph::new("waiting for the first answer"), body),
        (Some(_), Page::Events) => events(frame, body, model, true),
        (Some(status), Page::Overview) => overview(frame, body, model, status),
    }
}

const HELP: &str = "
  q, Esc, Ctrl-C   end
  up, down, j, k   select an instance, or scroll through events
  s                sort instances: name, cpu, memory, in flight, restarts
  e                events alone, and back
  ?                this help, and back

  RATE is requests a second, ERR what was answered with 5xx or not at all, P50
  and P99 the latency of the last ten seconds; the bar shows three minutes.
  CPU is in percent of one core, for the instance's own process.

  keel why INSTANCE explains how it came to be as it is.";

fn header(model: &Model, at: WallTime) -> Line<'static> {
    let Some(status) = &model.status else { return Line::from("keel top") };
    let up = span(at.as_millis().saturating_sub(status.since.as_millis()));
    let connections = status.edge.as_ref().map_or(0, |edge| edge.connections);
    let mut parts = vec![
        Span::styled(harmless(&status.stack), bold(model)),
        Span::raw(format!("  revision {}  up {up}  {connections} connections  ", status.revision)),
    ];
    parts.push(match (&model.silent, status.problems.len()) {
        (Some(why), _) => Span::styled(format!("no answer: {}", harmless(why)), colour(model, Color::Red)),
        (None, 0) => Span::styled("no problems", colour(model, Color::Green)),
        (None, 1) => Span::styled("1 problem", colour(model, Color::Red)),
        (None, n) => Span::styled(format!("{n} problems"), colour(model, Color::Red)),
    });
    Line::from(parts)
}

fn footer(model: &Model) -> Line<'static> {
    let text = match model.page {
        Page::Overview => format!("q end  up/down select  s sort ({})  e events  ? help", model.sort.as_str()),
        Page::Events => "q end  up/down scroll  e back  ? help".to_owned(),
        Page::Help => "q end  ? back".to_owned(),
    };
    Line::from(Span::styled(text, dim(model)))
}

fn overview(frame: &mut Frame<'_>, body: Rect, model: &Model, status: &Status) {
    let lines = |n: usize| u16::try_from(n).unwrap_or(u16::MAX);
    let problems = lines(status.problems.len().min(PROBLEMS));
    let shown = status.services.len().min(SERVICES);
    let instances_are = status.services.iter().map(|service| service.instances.len()).sum();
    let [top, services_at, _, rest] = Layout::vertical([
        Constraint::Length(problems),
        Constraint::Length(lines(shown).saturating_add(1)),
        Constraint::Length(1),
        Constraint::Fill(1),
    ])
    .areas(body);
    // Instances have what they need as long as some events can be read, and some of them are seen in any case.
    let beside_events = rest.height.saturating_sub(EVENTS + 1).max(INSTANCES);
    let [instances_at, _, events_at] = Layout::vertical([
        Constraint::Length(lines(instances_are).saturating_add(1).min(beside_events)),
        Constraint::Length(1),
        Constraint::Fill(1),
    ])
    .areas(rest);
    let problems: Vec<Line> =
        status.problems.iter().take(PROBLEMS).map(|problem| problem_line(problem, model)).collect();
    frame.render_widget(Paragraph::new(problems), top);
    services(frame, services_at, model, &status.services[..shown]);
    instances(frame, instances_at, model);
    events(frame, events_at, model, false);
}

fn problem_line(problem: &str, model: &Model) -> Line<'static> {
    Line::from(vec![Span::styled("! ", colour(model, Color::Red)), Span::raw(harmless(problem))])
}

fn services(frame: &mut Frame<'_>, area: Rect, model: &Model, services: &[ServiceStatus]) {
    let heads = ["SERVICE", "HEALTHY", "RATE", "ERR", "P50", "P99", "FLIGHT"];
    let name = name_width(services.iter().map(|service| service.name.as_str()));
    let fitting = fitting(&[name, 7, 8, 6, 7, 7, 6], area.width);
    let rows = services.iter().map(|service| {
        let wanted = if service.page { "page".to_owned() } else { format!("{}/{}", service.healthy, service.replicas) };
        let well = if service.healthy >= service.replicas { Color::Green } else { Color::Red };
        let errors = if service.errors == 0 { Style::new() } else { colour(model, Color::Red) };
        let in_flight: u64 = service.instances.iter().map(|instance| instance.in_flight).sum();
        let ms = |ms: Option<f64>| ms.map_or_else(|| "-".to_owned(), latency);
        let cells = vec![
            Cell::new(harmless(&service.name)),
            Cell::new(right(&wanted, 7)).style(colour(model, well)),
            Cell::new(right(&format!("{:.1}", service.requests_per_s), 8)),
            Cell::new(right(&count(service.errors), 6)).style(errors),
            Cell::new(right(&ms(service.p50_ms), 7)),
            Cell::new(right(&ms(service.p99_ms), 7)),
            Cell::new(right(&in_flight.to_string(), 6)),
        ];
        Row::new(cells.into_iter().take(fitting.len()))
    });
    let sizes = fitting.iter().map(|width| usize::from(*width)).enumerate();
    let header = heads.iter().zip(sizes).map(|(head, (n, width))| right(head, if n == 0 { 0 } else { width }));
    let taken = fitting.iter().map(|width| width + 1).sum::<u16>().min(area.width);
    let [table_at, bars] = Layout::horizontal([Constraint::Length(taken), Constraint::Max(BAR)]).areas(area);
    let table = Table::new(rows, fitting.iter().copied().map(Constraint::Length));
    frame.render_widget(table.header(Row::new(header).style(dim(model))), table_at);
    for (row, service) in (1..bars.height).zip(services) {
        let line = Rect { y: bars.y + row, height: 1, ..bars };
        let rates = model.rates.get(&service.name).map(|rates| recent(rates, bars.width.into())).unwrap_or_default();
        frame.render_widget(Sparkline::default().data(&rates).style(colour(model, Color::Cyan)), line);
    }
}

/// How wide a column of names is.
fn name_width<'a>(names: impl Iterator<Item = &'a str>) -> u16 {
    let longest = names.map(|name| name.chars().count()).max().unwrap_or(0);
    u16::try_from(longest).unwrap_or(u16::MAX).clamp(NAMES.0, NAMES.1)
}

/// The columns that fit into a width whole, with a space between them: the first one does in any case.
fn fitting(sizes: &[u16], width: u16) -> Vec<u16> {
    let mut used = 0_u16;
    let fits = |size: &&u16| {
        used = used.saturating_add(**size + u16::from(used > 0));
        used <= width
    };
    let fitting: Vec<u16> = sizes.iter().take_while(fits).copied().collect();
    if fitting.is_empty() { vec![width] } else { fitting }
}

/// Three minutes in so many columns: each the highest rate of its share.
fn recent(rates: &std::collections::VecDeque<u64>, columns: usize) -> Vec<u64> {
    let all: Vec<u64> = rates.iter().copied().collect();
    let share = all.len().div_ceil(columns).max(1);
    all.rchunks(share)
        .map(|part| part.iter().copied().max().unwrap_or(0))
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .collect()
}

fn instances(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let heads = ["INSTANCE", "PID", "HEALTH", "PHASE", "CPU", "MEMORY", "FLIGHT", "RESTARTS"];
    let left = ["INSTANCE", "HEALTH", "PHASE"];
    let all = model.instances();
    let name = name_width(all.iter().map(|instance| instance.name.as_str()));
    let fitting = fitting(&[name, 8, 9, 8, 5, 8, 6, 8], area.width);
    let rows = all.iter().map(|instance| Row::new(instance_row(instance, model).into_iter().take(fitting.len())));
    let header = heads
        .iter()
        .zip(&fitting)
        .map(|(head, width)| if left.contains(head) { (*head).to_owned() } else { right(head, (*width).into()) });
    let table = Table::new(rows, fitting.iter().copied().map(Constraint::Length))
        .header(Row::new(header).style(dim(model)))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::default().with_selected((!all.is_empty()).then_some(model.selected));
    frame.render_stateful_widget(table, area, &mut state);
}

fn instance_row(instance: &InstanceStatus, model: &Model) -> Vec<Cell<'static>> {
    let taken = instance.pid.and_then(|pid| model.uses.get(&pid));
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let health = match instance.health {
        Health::Healthy => Color::Green,
        Health::Unknown | Health::Draining => Color::Yellow,
        Health::Unhealthy | Health::Silent | Health::Ejected => Color::Red,
    };
    let cpu = taken.and_then(|taken| taken.cpu_percent).map(|percent| format!("{percent:.0}%"));
    vec![
        Cell::new(harmless(&instance.name)),
        Cell::new(right(&or_dash(instance.pid.map(|pid| pid.to_string())), 8)),
        Cell::new(instance.health.as_str()).style(colour(model, health)),
        Cell::new(or_dash(instance.phase.map(|phase| phase.to_string()))),
        Cell::new(right(&or_dash(cpu), 5)),
        Cell::new(right(&or_dash(taken.map(|taken| mib(taken.memory_bytes))), 8)),
        Cell::new(right(&instance.in_flight.to_string(), 6)),
        Cell::new(right(&count(instance.restarts), 8)),
    ]
}

fn events(frame: &mut Frame<'_>, area: Rect, model: &Model, scrolls: bool) {
    let back = if scrolls { model.selected } else { 0 };
    let end = model.events.len().saturating_sub(back);
    let start = end.saturating_sub(area.height.into());
    let shown: Vec<Line> = model.events[start..end].iter().map(|entry| event_line(entry, model)).collect();
    frame.render_widget(Paragraph::new(shown), area);
}

fn event_line(entry: &Entry, model: &Model) -> Line<'static> {
    let style = match entry.level {
        Level::Info => Style::new(),
        Level::Warning => colour(model, Color::Yellow),
        Level::Error => colour(model, Color::Red),
    };
    // The time of day is enough beside the present.
    let time: String = entry.at.to_string().chars().skip(11).take(8).collect();
    let text = format!("{:<8} {}", harmless(&entry.subject), harmless(&entry.message));
    // One line for each event: what does not fit is on the page of events' own command.
    let text: String = text.chars().take(200).collect();
    Line::from(vec![Span::styled(format!("{time} "), dim(model)), Span::styled(text, style)])
}

fn right(text: &str, width: usize) -> String {
    format!("{text:>width$}")
}

fn mib(bytes: u64) -> String {
    if bytes >= 10 << 30 { format!("{} GiB", bytes >> 30) } else { format!("{} MiB", bytes >> 20) }
}

fn colour(model: &Model, colour: Color) -> Style {
    if model.colours { Style::new().fg(colour) } else { Style::new() }
}

fn dim(model: &Model) -> Style {
    if model.colours { Style::new().add_modifier(Modifier::DIM) } else { Style::new() }
}

fn bold(model: &Model) -> Style {
    if model.colours { Style::new().add_modifier(Modifier::BOLD) } else { Style::new() }
}

#[cfg(test)]
pub(super) mod tests;
