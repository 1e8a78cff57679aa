//! What a large stack file costs whoever reads it: `cargo run --release -p evenkeel-core --example large [SERVICES
//! INSTANCES ROUTES]` prints how long it takes to parse and validate, to compile, and to put into words for the edge.

use std::{fmt::Write as _, time::Instant};

use evenkeel_core::{
    snapshot::{FORMAT, Instance, Snapshot},
    stack::{compile_listeners, compile_routes, compile_service, parse},
    status::InstanceId,
};

fn main() {
    let mut numbers = std::env::args().skip(1).map(|number| number.parse::<usize>().expect("a number"));
    let services = numbers.next().unwrap_or(1_000);
    let instances = numbers.next().unwrap_or(100_000);
    let routes = numbers.next().unwrap_or(10_000);
    let text = text(services, instances, routes);
    println!("{services} services, {instances} instances, {routes} routes, {} bytes", text.len());
    let began = Instant::now();
    let stack = parse(&text, "keel.toml").expect("it is a stack");
    println!("parsed and validated in {:.1?}", began.elapsed());
    let began = Instant::now();
    let compiled = stack.services.iter().map(|(name, service)| {
        let instances = service.fixed().iter().zip(1..).map(|(address, number): (_, u32)| {
            let id = InstanceId { name: format!("{name}/{number}"), generation: 0 };
            Instance::new(id, address.address.clone())
        });
        compile_service(name, service, instances.collect())
    });
    let snapshot = Snapshot {
        format: FORMAT,
        version: 1,
        revision: 1,
        stack: stack.stack.name.clone(),
        threads: 2,
        listeners: compile_listeners(&stack),
        routes: compile_routes(&stack),
        services: compiled.collect(),
    };
    println!("compiled in {:.1?}", began.elapsed());
    let began = Instant::now();
    let body = serde_json::to_vec(&snapshot).expect("it is serialisable");
    println!("put into {} bytes in {:.1?}", body.len(), began.elapsed());
}

fn text(services: usize, instances: usize, routes: usize) -> String {
    let mut text = "[stack]\nname = \"large\"\n[listeners.web]\nbind = \"127.0.0.1:8080\"\n".to_owned();
    for number in 0..routes {
        let service = number % services;
        let _ = writeln!(text, "[[routes]]\nhost = \"h{number}.example.com\"\nservice = \"s{service}\"");
    }
    let each = instances.div_ceil(services);
    for number in 0..services {
        let addresses: Vec<String> = (number * each..(number + 1) * each)
            .map(|place| format!("\"10.{}.{}.{}:8080\"", place >> 16, place >> 8 & 255, place & 255))
            .collect();
        let _ = writeln!(
            text,
            "[services.s{number}]\ninstances = [{}]\ncheck = {{ http = \"/healthz\" }}",
            addresses.join(", ")
        );
    }
    text
}
