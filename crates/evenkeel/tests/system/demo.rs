//! `keel demo` and the drills on it, as in the README.

use std::process::Command;

use crate::rig::{Rig, all_healthy};

#[test]
fn the_shop_is_there_and_a_second_start_finds_the_first() {
    let rig = Rig::demo();
    let page = Command::new("curl")
        .args(["-sS", "--fail", &format!("http://127.0.0.1:{}/", rig.port)])
        .output()
        .expect("curl is installed by `cargo xtask setup`");
    assert!(page.status.success(), "{page:?}");
    assert!(String::from_utf8_lossy(&page.stdout).contains("<html"), "a page, not an error");

    let second = rig.keel(&["demo", "--port", &rig.port.to_string()]);
    assert!(second.status.success(), "{second:?}");
    let said = [second.stdout, second.stderr].concat();
    assert!(String::from_utf8_lossy(&said).contains(&rig.port.to_string()), "it says where the first one is");
}

#[test]
fn both_drills_pass() {
    let rig = Rig::demo();
    for drill in ["kill-instance", "hang-instance"] {
        let run = rig.keel(&["drill", "run", drill, "--json"]);
        let report: serde_json::Value =
            serde_json::from_slice(&run.stdout).unwrap_or_else(|error| panic!("one JSON object, {error}: {run:?}"));
        assert!(run.status.success(), "{report:#}");
        assert_eq!(report["drill"], drill);
        assert_eq!(report["verdict"], "pass", "{report:#}");
        for zero in ["errors", "lost_writes", "doubled_writes"] {
            assert_eq!(report[zero], 0, "{zero}: {report:#}");
        }
        assert!(report["requests"].as_u64().unwrap() > 100, "there was load: {report:#}");
        for time in ["detection_ms", "recovery_ms", "worst_ms"] {
            assert!(report[time].is_number(), "{time}: {report:#}");
        }
        rig.wait_until("all is well again", all_healthy);
    }
    let events = String::from_utf8(rig.keel(&["events", "--json"]).stdout).unwrap();
    assert!(events.contains("kill-instance"), "drills are in the journal: {events}");
}
