//! `slow-instance`: what stands still again and again gets no requests meanwhile, unless nobody looks.

use super::{run, shop};

#[test]
fn a_slow_instance_is_noticed() {
    let (rig, _database) = shop("", "");
    let (code, report) = run(&rig, &["slow-instance"]);
    assert_eq!((code, &report["verdict"]), (Some(0), &"pass".into()), "{report:#}");
    assert_eq!(report["errors"], 0, "{report:#}");
    let (detected, released) = (report["detection_ms"].as_u64().unwrap(), report["released_at_ms"].as_u64().unwrap());
    assert!(detected <= released, "{report:#}");
}

#[test]
fn a_slow_instance_is_not_noticed_where_nobody_looks_for_silence() {
    let (rig, _database) = shop("limits = { silent_after = \"0ms\" }\n", "");
    let (code, report) = run(&rig, &["slow-instance", "--for", "2s"]);
    assert_eq!((code, &report["verdict"]), (Some(1), &"fail".into()), "{report:#}");
    let first = report["reasons"][0]["text"].as_str().unwrap();
    assert!(first.contains("was not noticed") && first.contains("it got requests as before"), "{report:#}");
}
