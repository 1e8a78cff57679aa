//! Each drill twice: on a stack that is protected against its fault, and on one that is not.

mod bad_deploy;
mod capacity;
mod crash_loop;
mod processes;
mod runs;
mod slow_dependency;
mod slow_instance;
mod surroundings;
mod traffic_spike;

use serde_json::Value;

use crate::rig::{Rig, all_healthy};

/// A stack like the demo's: three instances of the shop, with these keys beside, and these in `[drills]`. Its database
/// lies in the folder.
fn shop(service: &str, drills: &str) -> (Rig, tempfile::TempDir) {
    let database = tempfile::tempdir().unwrap();
    let rig = Rig::up(&format!(
        "[listeners.web]\nbind = \"{{listen}}\"\n[[routes]]\nservice = \"shop\"\nidempotency_key = true\n\
         [drills]\nread = \"/api/products\"\n{drills}[drills.write]\npost = \"/api/orders\"\n\
         body = '{{\"items\":[{{\"product\":1,\"quantity\":1}}],\"email\":\"drill@example.com\"}}'\n\
         verify = \"/api/orders?key={{key}}\"\n[services.shop]\nrun = [\"{}\", \"__shop\"]\nreplicas = 3\n\
         env = {{ SHOP_DATABASE = \"{}\" }}\ncheck = {{ http = \"/readyz\", interval = \"200ms\" }}\n{service}",
        env!("CARGO_BIN_EXE_keel"),
        database.path().join("shop.db").display()
    ));
    rig.wait_until("all is well", |status| !status.services.is_empty() && all_healthy(status));
    (rig, database)
}

/// Runs a drill once all is well; its exit code and its report.
fn run(rig: &Rig, arguments: &[&str]) -> (Option<i32>, Value) {
    rig.wait_until("all is well", |status| !status.services.is_empty() && all_healthy(status));
    let run = rig.keel(&[&["drill", "run"], arguments, &["--json"]].concat());
    let report =
        serde_json::from_slice(&run.stdout).unwrap_or_else(|error| panic!("one JSON object, {error}: {run:?}"));
    (run.status.code(), report)
}
