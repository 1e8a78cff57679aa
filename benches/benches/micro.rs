//! Micro-benchmarks of parts of a request's way: parse, route, pick. `cargo xtask bench micro` runs them.
//!
//! Where instructions are meant, `instructions` counts them; here is time, which also shows what caches and branches do.

mod rig;

use std::{mem::MaybeUninit, net::IpAddr};

use divan::{Bencher, black_box};
use evenkeel_core::balance::{Candidate, LeastConnections, RoundRobin, ip_hash};
use evenkeel_edge::http::{head_request, head_response};

fn main() {
    divan::main();
}

#[divan::bench]
fn parse_request(bencher: Bencher<'_, '_>) {
    let view = rig::view(&rig::snapshot(&[], 0, 1));
    let limits = &view.listeners[0].config.limits;
    bencher.bench(|| {
        let mut room = [const { MaybeUninit::uninit() }; _];
        let head = head_request::parse(black_box(rig::REQUEST), &mut room, limits).expect("a good head");
        head.map(|head| head.length)
    });
}

#[divan::bench]
fn write_request(bencher: Bencher<'_, '_>) {
    let view = rig::view(&rig::snapshot(&[], 0, 1));
    let limits = &view.listeners[0].config.limits;
    let mut room = [const { MaybeUninit::uninit() }; _];
    let head = head_request::parse(rig::REQUEST, &mut room, limits).expect("a good head").expect("a whole one");
    let mut out = Vec::with_capacity(4096);
    let forwarding =
        head_request::Forwarding { client: b"127.0.0.1", trusted: false, id: b"0123456789abcdef", expect: false };
    bencher.bench_local(|| {
        out.clear();
        head.write(&mut out, black_box(&forwarding));
        out.len()
    });
}

#[divan::bench]
fn parse_answer(bencher: Bencher<'_, '_>) {
    let view = rig::view(&rig::snapshot(&[], 0, 1));
    let limits = &view.services[0].config.limits;
    let answer: &[u8] = b"HTTP/1.1 200 OK\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\nServer: app\r\n\
        Content-Type: text/html; charset=utf-8\r\nContent-Length: 1024\r\nCache-Control: no-store\r\n\r\n";
    bencher.bench(|| {
        let mut room = [const { MaybeUninit::uninit() }; _];
        let head = head_response::parse(black_box(answer), &mut room, limits, false).expect("a good head");
        head.map(|head| head.length)
    });
}

#[divan::bench(args = [0, 100, 10_000])]
fn route(bencher: Bencher<'_, '_>, routes: usize) {
    let view = rig::view(&rig::snapshot(&[], routes, 1));
    let table = &view.listeners[0].routes;
    let host = format!("h{}.example.com", routes / 20);
    let path = format!("/p{}/cart", routes / 2);
    bencher.bench(|| {
        let found = table.find(black_box(host.as_bytes()), b"GET", black_box(path.as_bytes()), |_, _| false);
        found.is_ok_and(|route| route.is_some())
    });
}

/// In the middle of work: a few requests everywhere.
fn candidates(instances: u32) -> Vec<Candidate> {
    let one = |place: u32| Candidate { key: u64::from(place) << 32, weight: 1, in_flight: place % 5 + 1, open: true };
    (0..instances).map(one).collect()
}

#[divan::bench(args = [3, 10, 100])]
fn pick_least_connections(bencher: Bencher<'_, '_>, instances: u32) {
    let candidates = candidates(instances);
    let mut turns = LeastConnections::default();
    bencher.bench_local(|| turns.choose(black_box(&candidates)));
}

#[divan::bench(args = [3, 10, 100])]
fn pick_round_robin(bencher: Bencher<'_, '_>, instances: u32) {
    let candidates = candidates(instances);
    let mut turns = RoundRobin::default();
    bencher.bench_local(|| turns.choose(black_box(&candidates)));
}

#[divan::bench(args = [3, 10, 100])]
fn pick_by_address(bencher: Bencher<'_, '_>, instances: u32) {
    let candidates = candidates(instances);
    let client = IpAddr::from([192, 0, 2, 7]);
    bencher.bench(|| ip_hash(black_box(&candidates), black_box(client)))
}
