//! `capacity`: what a service bears with all instances and with one gone, and that one must be able to go.

use super::run;
use crate::{rig::Rig, slow_app};

/// Each instance takes fifteen requests at a time, for a fifth of a second each: at most 75 a second.
fn stack(replicas: u32) -> String {
    format!(
        "[listeners.web]\nbind = \"{{listen}}\"\n[drills]\nread = \"/slow\"\nobjectives = {{ p99 = \"700ms\" }}\n\
         [services.app]\nrun = {}\nreplicas = {replicas}\ncheck = {{ http = \"/\" }}\nlimits = {{ in_flight = 15 }}\n",
        slow_app::run()
    )
}

#[test]
fn capacity_is_found_with_all_instances_and_with_one_gone() {
    let rig = Rig::up(&stack(2));
    let (code, report) = run(&rig, &["capacity"]);
    assert_eq!((code, &report["verdict"]), (Some(0), &"pass".into()), "{report:#}");
    let capacity = &report["capacity"];
    let [all, fewer] = ["rate", "rate_with_one_gone"].map(|key| capacity[key].as_u64().unwrap());
    // 150 and 75 are what can be; a busy machine shows less, a step of a second a little more.
    assert!((1..=190).contains(&all) && (1..=95).contains(&fewer), "{capacity:#}");
    assert_eq!(capacity["gone"], "app/2");
    let steps = capacity["steps"].as_array().unwrap();
    for one_gone in [false, true] {
        assert!(steps.iter().any(|step| step["one_gone"] == one_gone && step["met"] == true), "{capacity:#}");
    }
    assert!(steps.iter().all(|step| step["rate"].is_u64() && step["p99_ms"].is_u64() && step["errors"].is_u64()));
    let status = rig.status();
    assert!(status.services[0].instances.iter().all(|one| one.drained.is_none()), "the drain was taken back");
}

#[test]
fn without_a_second_instance_there_is_no_headroom() {
    let rig = Rig::up(&stack(1));
    let (code, report) = run(&rig, &["capacity"]);
    assert_eq!((code, &report["verdict"]), (Some(1), &"fail".into()), "{report:#}");
    assert_eq!(report["capacity"]["rate_with_one_gone"], 0);
    let first = report["reasons"][0]["text"].as_str().unwrap();
    assert!(first.contains("only one instance"), "{report:#}");
}
