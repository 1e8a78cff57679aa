//! Checks by commands, of which the node process says how they ended.

mod control_support;

use control_support::{Edge, Node, check, instance::Server, member, service};
use evenkeel_core::{
    link::{Checked, EventKind},
    snapshot::{Check, Probe, Service},
    status::{Health, InstanceId},
};

fn by_command(digest: u64) -> Check {
    Check { probe: Probe::Exec { digest }, interval_ms: 1_000, ..check() }
}

fn says(node: &mut Node, digest: u64, liveness: bool, cause: Option<&str>) {
    let instance = InstanceId { name: "shop/1".to_owned(), generation: 1 };
    node.checked(Checked { instance, liveness, digest, cause: cause.map(str::to_owned) });
}

#[test]
fn what_is_told_counts_as_probes_do() {
    let (edge, mut node) = Edge::linked(1);
    let instance = Server::start("one");
    let snapshot = |version, digest| {
        let base = service(vec![member("shop/1", instance.address)]);
        let liveness = Some(by_command(9));
        edge.snapshot(version, vec![Service { check: Some(by_command(digest)), liveness, ..base }])
    };
    node.send(snapshot(1, 7));
    node.applied(1);
    // Somebody who is not here, and another command, say nothing.
    node.checked(Checked {
        instance: InstanceId { name: "shop/2".to_owned(), generation: 1 },
        liveness: false,
        digest: 7,
        cause: None,
    });
    says(&mut node, 8, false, Some("not this one"));
    says(&mut node, 7, false, None);
    assert_eq!(node.health("shop/1", Health::Healthy), "a probe passed");
    assert_eq!(edge.get("/"), (200, "one".to_owned()));
    for _ in 0..3 {
        says(&mut node, 7, false, Some("exit code 3: queue is stuck"));
    }
    let reason = node.health("shop/1", Health::Unhealthy);
    assert_eq!(reason, "3 probes in a row failed: exit code 3: queue is stuck");
    says(&mut node, 7, false, None);
    says(&mut node, 7, false, None);
    node.health("shop/1", Health::Healthy);
    // Liveness is a check of its own.
    says(&mut node, 9, true, None);
    says(&mut node, 9, true, Some("exit code 1"));
    let failing = node.event("shop/1", |what| match what {
        EventKind::Liveness { passing: false, reason } => Some(reason.clone()),
        _ => None,
    });
    assert_eq!(failing, "a probe failed: exit code 1");
    // A changed command takes nobody out that nobody passed, and what the former one says counts no more.
    node.send(snapshot(2, 70));
    node.applied(2);
    for _ in 0..5 {
        says(&mut node, 7, false, Some("the former"));
        says(&mut node, 70, false, Some("exit code 1"));
    }
    assert!(node.health("shop/1", Health::Healthy).contains("nobody has passed the changed check yet"));
}
