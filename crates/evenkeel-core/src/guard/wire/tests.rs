//! Round trips of every message, and bytes that are none.

use proptest::{collection::vec, option, prelude::*};

use super::*;

fn text() -> impl Strategy<Value = String> {
    ".{0,40}"
}

fn status() -> impl Strategy<Value = ExitStatus> {
    prop_oneof![any::<i32>().prop_map(ExitStatus::Code), any::<i32>().prop_map(ExitStatus::Signal)]
}

fn spec() -> impl Strategy<Value = ProcessSpec> {
    let env = vec((text(), text().prop_map(Secret::new)), 0..8);
    let groups = vec(any::<u32>(), 0..5);
    (vec(text(), 0..8), env, text(), any::<Option<(u32, u32)>>(), groups, any::<Option<u64>>()).prop_map(
        |(argv, env, cwd, user, groups, memory_bytes)| ProcessSpec { argv, env, cwd, user, groups, memory_bytes },
    )
}

fn order() -> impl Strategy<Value = Order> {
    prop_oneof![
        (text(), spec()).prop_map(|(key, spec)| Order::Spawn { key, spec }),
        (text(), any::<i32>(), any::<u64>()).prop_map(|(key, signal, grace_ms)| Order::Stop { key, signal, grace_ms }),
        text().prop_map(|key| Order::Kill { key }),
        text().prop_map(|key| Order::Forget { key }),
        text().prop_map(|key| Order::Hold { key }),
        text().prop_map(|key| Order::Release { key }),
        Just(Order::StartEdge),
        Just(Order::KillEdge),
        any::<u64>().prop_map(|within_ms| Order::Alive { within_ms }),
        any::<u8>().prop_map(|code| Order::Finish { code }),
        any::<u8>().prop_map(|code| Order::Leave { code }),
        text().prop_map(|folder| Order::Outlive { folder }),
        any::<bool>().prop_map(|outlive| Order::Adopt { outlive }),
        (any::<u64>(), any::<u64>()).prop_map(|(edge_grace_ms, finish_ms)| Order::Bounds { edge_grace_ms, finish_ms }),
    ]
}

fn notice() -> impl Strategy<Value = Notice> {
    prop_oneof![
        (any::<u16>(), any::<u32>(), any::<u64>(), any::<u64>()).prop_map(
            |(version, guard_pid, since_ms, node_starts)| Notice::Hello { version, guard_pid, since_ms, node_starts }
        ),
        text().prop_map(|key| Notice::Held { key }),
        (text(), any::<u32>(), any::<u64>(), option::of(status()))
            .prop_map(|(key, pid, started_ms, exit)| { Notice::Process { key, pid, started_ms, exit } }),
        Just(Notice::Complete),
        (text(), any::<u32>(), any::<u64>()).prop_map(|(key, pid, started_ms)| Notice::Started {
            key,
            pid,
            started_ms
        }),
        (text(), text()).prop_map(|(key, reason)| Notice::NotStarted { key, reason }),
        (text(), status(), any::<u32>()).prop_map(|(key, status, leftovers)| Notice::Exited { key, status, leftovers }),
        (any::<u32>(), any::<u64>()).prop_map(|(pid, starts)| Notice::EdgeStarted { pid, starts }),
        (status(), any::<u64>()).prop_map(|(status, restart_in_ms)| Notice::EdgeExited { status, restart_in_ms }),
        Just(Notice::Terminate),
        Just(Notice::Reload),
        (text(), any::<u64>(), any::<Option<u64>>()).prop_map(|(key, dropped_bytes, kill_in_ms)| Notice::Adopted {
            key,
            dropped_bytes,
            kill_in_ms
        }),
    ]
}

fn edge_notice() -> impl Strategy<Value = EdgeNotice> {
    prop_oneof![
        text().prop_map(|key| EdgeNotice::Held { key }),
        Just(EdgeNotice::Complete),
        text().prop_map(|key| EdgeNotice::Released { key }),
        Just(EdgeNotice::Link),
        any::<u64>().prop_map(|grace_ms| EdgeNotice::Terminate { grace_ms }),
    ]
}

/// Every proper prefix and every extension of a packet is malformed, and the packet itself is the message.
fn check<M: Message + PartialEq + std::fmt::Debug>(message: &M) {
    let mut packet = message.encode().unwrap();
    assert_eq!(M::decode(&packet).as_ref(), Ok(message));
    for cut in 0..packet.len() {
        assert!(M::decode(&packet[..cut]).is_err(), "a prefix of {cut} bytes passed for a message");
    }
    packet.push(0);
    assert!(matches!(M::decode(&packet), Err(Malformed::Trailing { bytes: 1 })));
}

proptest! {
    #[test]
    fn orders_survive_the_trip(order in order()) {
        check(&order);
    }

    #[test]
    fn notices_survive_the_trip(notice in notice()) {
        check(&notice);
    }

    #[test]
    fn edge_notices_survive_the_trip(notice in edge_notice()) {
        check(&notice);
    }

    #[test]
    fn arbitrary_bytes_never_panic(mut bytes in vec(any::<u8>(), 0..400), tag in 0_u8..16) {
        let _ = (Order::decode(&bytes), Notice::decode(&bytes), EdgeNotice::decode(&bytes));
        // Most random packets fail at the first two bytes; these reach the fields.
        bytes.splice(0..0, [version_byte(), tag]);
        let _ = (Order::decode(&bytes), Notice::decode(&bytes), EdgeNotice::decode(&bytes));
    }

    #[test]
    fn a_flipped_byte_never_panics(order in order(), at in any::<prop::sample::Index>(), by in 1_u8..) {
        let mut packet = order.encode().unwrap();
        let at = at.index(packet.len());
        packet[at] ^= by;
        let _ = Order::decode(&packet);
    }
}

#[test]
fn another_version_is_named() {
    let mut packet = Order::StartEdge.encode().unwrap();
    packet[0] = 9;
    assert_eq!(Order::decode(&packet), Err(Malformed::Version { got: 9 }));
}

#[test]
fn what_exceeds_a_packet_is_refused_on_both_sides() {
    let order = Order::Kill { key: "x".repeat(MAX_PACKET_BYTES) };
    assert_eq!(order.encode(), Err(Malformed::TooLarge { bytes: MAX_PACKET_BYTES + 6 }));
    let packet = vec![version_byte(); MAX_PACKET_BYTES + 1];
    assert_eq!(Order::decode(&packet), Err(Malformed::TooLarge { bytes: MAX_PACKET_BYTES + 1 }));
}

#[test]
fn a_false_count_is_short_and_cheap() {
    // A spawn order whose list of arguments claims four thousand million items.
    let mut packet = vec![version_byte(), 1, 1, 0, 0, 0, b'k'];
    packet.extend(u32::MAX.to_le_bytes());
    assert_eq!(Order::decode(&packet), Err(Malformed::Short));
}

#[test]
fn the_largest_common_environment_fits() {
    let env = (0..1000).map(|n| (format!("VARIABLE_{n}"), Secret::new("v".repeat(100)))).collect();
    let spec = ProcessSpec {
        argv: vec!["node".into(), "server.js".into()],
        env,
        cwd: "/".into(),
        user: None,
        groups: vec![],
        memory_bytes: None,
    };
    check_size(&Order::Spawn { key: "shop/1#1".into(), spec });
}

fn check_size(order: &Order) {
    assert!(order.encode().unwrap().len() < MAX_PACKET_BYTES);
}
