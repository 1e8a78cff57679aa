//! Whose address is whose: what commands say of the console is where this stack answers, or that nobody does.

use std::{fs, net::TcpListener};

use crate::rig::{Rig, all_healthy, instances};

#[test]
fn a_taken_console_is_named_nowhere() {
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = stranger.local_addr().unwrap().to_string();
    let stack = format!(
        "[listeners.web]\nbind = \"{{listen}}\"\n[services.app]\nrun = [\"{}\", \"__shop\"]\nreplicas = 1\n\
         check = {{ http = \"/readyz\", interval = \"200ms\" }}\n",
        env!("CARGO_BIN_EXE_keel")
    );
    let rig = Rig::up_with(&stack, |folder| {
        let file = folder.join("keel.toml");
        let text = fs::read_to_string(&file).unwrap();
        let bind = text.lines().find(|line| line.starts_with("bind = ")).unwrap();
        fs::write(&file, text.replacen(bind, &format!("bind = \"{address}\""), 1)).unwrap();
    });
    rig.wait_until("it is healthy", |status| all_healthy(status) && !instances(status).is_empty());
    rig.wait_until("it is announced", |_| rig.log().contains("metrics: "));
    assert!(rig.log().contains("metrics: not served"), "{}", rig.log());
    let made = rig.keel(&["token", "create", "ci", "--role", "viewer"]);
    let made = String::from_utf8(made.stdout).unwrap();
    assert!(made.contains("the console is not served now") && !made.contains("--url"), "{made}");

    drop(stranger);
    rig.wait_until("it is served", |status| status.console.as_ref() == Some(&address));
    let made = rig.keel(&["token", "create", "cd", "--role", "viewer"]);
    let made = String::from_utf8(made.stdout).unwrap();
    assert!(made.contains(&format!("--url http://{address}")), "{made}");
}
