//! `traffic-spike`: what there is no room for is held until there is, and is refused where nothing is held.

use serde_json::Value;

use super::run;
use crate::{rig::Rig, slow_app};

/// Each of two instances takes twelve requests at a time, for a fifth of a second each: eight clients find room there,
/// and forty do not.
fn stack(hold: &str) -> String {
    format!(
        "[listeners.web]\nbind = \"{{listen}}\"\n[drills]\nread = \"/slow\"\n[services.app]\nrun = {}\nreplicas = 2\n\
         check = {{ http = \"/\" }}\nlimits = {{ in_flight = 12 }}\nhold = {{ max = \"{hold}\" }}\n",
        slow_app::run()
    )
}

fn drill(hold: &str) -> (Option<i32>, Value) {
    let rig = Rig::up(&stack(hold));
    run(&rig, &["traffic-spike", "--for", "2s"])
}

#[test]
fn a_spike_costs_no_request_where_requests_are_held() {
    let (code, report) = drill("20s");
    assert_eq!((code, &report["verdict"]), (Some(0), &"pass".into()), "{report:#}");
    assert_eq!(report["errors"], 0, "{report:#}");
    assert!(report["stages"].as_array().unwrap().iter().any(|stage| stage["name"] == "released"), "{report:#}");
}

#[test]
fn a_spike_fails_requests_where_none_is_held() {
    let (code, report) = drill("0ms");
    assert_eq!((code, &report["verdict"]), (Some(1), &"fail".into()), "{report:#}");
    let first = report["reasons"][0]["text"].as_str().unwrap();
    assert!(first.contains("requests failed") && first.contains("status 503"), "{report:#}");
}
