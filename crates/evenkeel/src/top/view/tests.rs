//! Frames of fixed answers, as text.

use std::time::Instant;

use evenkeel_core::{
    snapshot::Protocol,
    status::{EdgeStatus, ListenerStatus, Phase, ProcessStatus},
};
use ratatui::{Terminal, backend::TestBackend};

use super::*;
use crate::top::model::{Key, Taken};

/// A stack with two services, one of which is not well.
pub(crate) fn status() -> Status {
    let instance = |name: &str, pid: u32, health: Health, phase: Phase| InstanceStatus {
        name: name.to_owned(),
        generation: 1,
        pid: Some(pid),
        health,
        phase: Some(phase),
        in_flight: u64::from(pid % 10),
        restarts: u64::from(pid % 3),
        ..InstanceStatus::default()
    };
    let shop = ServiceStatus {
        name: "shop".to_owned(),
        replicas: 3,
        healthy: 2,
        requests_per_s: 1412.25,
        requests: 12_304,
        errors: 2,
        p50_ms: Some(1.2),
        p99_ms: Some(48.0),
        instances: vec![
            instance("shop/1", 4001, Health::Healthy, Phase::Running),
            instance("shop/2", 4002, Health::Healthy, Phase::Running),
            instance("shop/3", 4003, Health::Unknown, Phase::Starting),
        ],
        ..ServiceStatus::default()
    };
    let docs = ServiceStatus {
        name: "docs".to_owned(),
        replicas: 1,
        healthy: 1,
        instances: vec![instance("docs/1", 4004, Health::Healthy, Phase::Running)],
        ..ServiceStatus::default()
    };
    Status {
        stack: "shop".to_owned(),
        version: "0.1.0".to_owned(),
        revision: 2,
        since: WallTime::from_millis(8_000),
        guard: ProcessStatus { pid: 100, restarts: 0 },
        node: ProcessStatus { pid: 101, restarts: 0 },
        edge: Some(EdgeStatus { pid: 102, restarts: 0, snapshot: 9, applied: 9, reported: None, connections: 12 }),
        listeners: vec![ListenerStatus {
            name: "web".to_owned(),
            address: "0.0.0.0:8080".to_owned(),
            protocol: Protocol::Http,
        }],
        services: vec![shop, docs],
        overrides: Vec::new(),
        proofs: Vec::new(),
        console: None,
        problems: vec!["shop/3 has not passed its check yet".to_owned()],
    }
}

fn entry(id: u64, level: Level, message: &str) -> Entry {
    Entry {
        id,
        at: WallTime::from_millis(1_735_689_599_000 + id * 1000),
        level,
        subject: "shop/3".to_owned(),
        kind: "test".to_owned(),
        message: message.to_owned(),
        reasons: Vec::new(),
    }
}

fn model() -> Model {
    let events = vec![
        entry(1, Level::Info, "created"),
        entry(2, Level::Info, "starting `shop` on port 20773, generation 1"),
        entry(3, Level::Warning, "ended with exit code 1 after 12 ms; starting it again at once\u{1b}[31m"),
        entry(4, Level::Info, "starting `shop` on port 20773, generation 2"),
        entry(5, Level::Info, "started as process 4003"),
    ];
    let mut model = Model::new(false);
    let read = |pid: u32| Some(Taken { cpu_ms: 0, memory_bytes: u64::from(pid) << 14 });
    for _ in 0..3 {
        model.heard(status(), events.clone(), Instant::now(), &read);
    }
    // How much time passed between the answers is not for a snapshot.
    model.uses.values_mut().for_each(|taken| taken.cpu_percent = Some(12.3));
    model
}

fn frame(model: &Model, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw_at(frame, model, WallTime::from_millis(202_000))).unwrap();
    terminal.backend().to_string()
}

#[test]
fn the_overview_fits_80_by_24() {
    insta::assert_snapshot!(frame(&model(), 80, 24));
}

#[test]
fn with_little_room_the_last_columns_go_and_instances_stay() {
    insta::assert_snapshot!(frame(&model(), 40, 12));
}

#[test]
fn with_much_room_there_are_more_events_and_names_stay_beside_figures() {
    let text = frame(&model(), 120, 40);
    assert_eq!(text.matches("4003").count(), 2, "the instance and the newest event: {text}");
    assert!(text.contains("created"), "the oldest event has room: {text}");
    assert!(text.contains("shop           2/3"), "{text}");
}

#[test]
fn the_events_alone() {
    let mut model = model();
    model.key(Key::Char('e'));
    insta::assert_snapshot!(frame(&model, 80, 8));
}

#[test]
fn help_and_silence() {
    let mut model = model();
    model.key(Key::Char('?'));
    model.missed("connect: connection refused");
    insta::assert_snapshot!(frame(&model, 80, 18));
}

#[test]
fn a_tiny_terminal_and_no_answer_yet_are_no_reason_to_fail() {
    for (width, height) in [(1, 1), (10, 3), (20, 5), (300, 100)] {
        frame(&model(), width, height);
        frame(&Model::new(true), width, height);
    }
}

#[test]
fn without_colours_there_is_no_colour() {
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
    let coloured = |terminal: &Terminal<TestBackend>| {
        terminal.backend().buffer().content().iter().any(|cell| cell.fg != Color::Reset)
    };
    let mut model = model();
    terminal.draw(|frame| draw(frame, &model)).unwrap();
    assert!(!coloured(&terminal));
    model.colours = true;
    terminal.draw(|frame| draw(frame, &model)).unwrap();
    assert!(coloured(&terminal));
}
