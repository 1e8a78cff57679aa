//! PHP by FastCGI, as its user has it: each instance runs the scripts of its own folder, and what they complain of is in
//! its log, without secrets.

use std::{fs, process::Command};

use crate::rig::{Rig, all_healthy};

const SECRET: &str = "correct-horse-battery";

#[test]
fn scripts_are_told_whole_paths_and_their_complaints_are_masked_in_the_log_of_their_instance() {
    let stack = "[listeners.web]\nbind = \"{listen}\"\n\
                 [secrets]\npass = { file = \"pass\" }\n\
                 [services.app]\nfastcgi = { root = \"public\" }\ncheck = { tcp = true, interval = \"100ms\" }\n\
                 env = { PASS = \"secret:pass\" }\nstop = { signal = \"QUIT\" }\n\
                 run = [\"sh\", \"-c\", \"set -- /usr/sbin/php-fpm*; exec \\\"$1\\\" --nodaemonize --allow-to-run-as-root \
                 --fpm-config fpm.conf\"]\n";
    let rig = Rig::up_with(stack, |folder| {
        let pass = folder.join("pass");
        fs::write(&pass, SECRET).unwrap();
        fs::set_permissions(&pass, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        fs::create_dir(folder.join("public")).unwrap();
        let config = "[global]\nerror_log = /dev/null\ndaemonize = no\n[app]\nuser = root\ngroup = root\n\
                      listen = 127.0.0.1:${PORT}\npm = static\npm.max_children = 2\nenv[PASS] = $PASS\n";
        fs::write(folder.join("fpm.conf"), config).unwrap();
        let script = "<?php if (!isset($again)) { $again = 1; require $_SERVER['SCRIPT_FILENAME']; exit; }\n\
                      error_log('cannot log in with ' . getenv('PASS')); echo __FILE__;";
        fs::write(folder.join("public/index.php"), script).unwrap();
    });
    rig.wait_until("the instance is healthy", |status| all_healthy(status) && !status.services.is_empty());
    let url = format!("http://127.0.0.1:{}/any/page", rig.port);
    let answer = Command::new("curl").args(["-sS", &url]).output().unwrap();
    let script = rig.folder.path().canonicalize().unwrap().join("public/index.php");
    assert_eq!(String::from_utf8_lossy(&answer.stdout), script.display().to_string());
    let log = || String::from_utf8(rig.keel(&["logs", "app"]).stdout).unwrap();
    rig.wait_until("the complaint is in the log", |_| log().contains("cannot log in with "));
    assert!(!log().contains(SECRET), "{}", log());
    assert!(!rig.log().contains(SECRET) && !rig.log().contains("cannot log in"), "{}", rig.log());
}
