//! State and disk that are not as they were left: a newer or damaged state directory, and a full disk. The service
//! goes on, and what is wrong is said with the way out.

use std::{
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};

use crate::{
    load::Load,
    rig::{self, PATIENCE, Rig, all_healthy, command, free_port, instances},
};

/// What becomes of one damaged file when the node process starts again.
struct Damage {
    /// In the state directory.
    file: &'static str,
    content: &'static [u8],
    /// What `keel status` (or, where there is no node process, `keel up`) says.
    said: &'static str,
    /// Whether the node process starts with it.
    starts: bool,
}

const DAMAGES: &[Damage] = &[
    Damage { file: "journal.db", content: &[0x5a; 16_384], said: "the journal was damaged", starts: true },
    Damage {
        file: "node.json",
        content: b"{ \"serv",
        said: "node.json in the state directory was damaged",
        starts: true,
    },
    Damage { file: "snapshot", content: b"\0\0\0\0", said: "", starts: true },
    Damage { file: "instances/shop-2.json", content: b"[]", said: "instances/shop-2.json", starts: true },
    Damage { file: "deploys/shop.json", content: b"{", said: "deploys/shop.json", starts: true },
    Damage { file: "pauses.json", content: b"{", said: "pauses.json cannot be read", starts: true },
    Damage { file: "VERSION", content: b"seven\n", said: "its VERSION is damaged", starts: false },
    Damage { file: "VERSION", content: b"99\n", said: "it was written by a newer keel", starts: false },
    Damage { file: "revisions/current", content: b"\xff\xff", said: "the revision in force", starts: false },
    Damage { file: "revisions/1.toml", content: b"[stack", said: "the revision in force", starts: false },
];

/// Three shops on one database.
fn shops(database: &Path) -> String {
    format!(
        "[listeners.web]\nbind = \"{{listen}}\"\n[services.shop]\nrun = [\"{}\", \"__shop\"]\nreplicas = 3\n\
         env = {{ SHOP_DATABASE = \"{}\" }}\ncheck = {{ http = \"/readyz\" }}\n",
        env!("CARGO_BIN_EXE_keel"),
        database.join("shop.db").display()
    )
}

#[test]
fn damaged_state_costs_no_request_and_is_said() {
    let database = tempfile::tempdir().unwrap();
    let rig = Rig::up(&shops(database.path()));
    rig.wait_until("all is well", all_healthy);
    let load = Load::start(rig.port, "/api/products", 8);
    load.wait_for(100);
    for damage in DAMAGES {
        suffer(&rig, damage);
        load.wait_for(100);
    }
    load.finish().assert_clean();
    let aside = String::from_utf8(rig.keel(&["doctor"]).stdout).unwrap();
    assert!(aside.contains("journal.db.damaged"), "what was set aside is still there: {aside}");
}

/// Damages a file, kills the node process, looks what is said, and mends what is not mended by itself.
fn suffer(rig: &Rig, damage: &Damage) {
    let path = rig.folder.path().join("state").join(damage.file);
    let before = rig.status();
    let former = fs::read(&path).ok();
    let said_before = rig.log().matches(damage.said).count();
    // Killed first: it might write the file once more.
    rig::signal(before.node.pid, Signal::STOP);
    fs::write(&path, damage.content).unwrap();
    if damage.file == "journal.db" {
        // With its log beside it, it would be whole again.
        fs::remove_file(path.with_extension("db-wal")).unwrap();
    }
    rig::signal(before.node.pid, Signal::KILL);
    if !damage.starts {
        let start = Instant::now();
        while rig.log().matches(damage.said).count() == said_before {
            assert!(start.elapsed() < PATIENCE, "nobody says that {} is damaged: {}", damage.file, rig.log());
            thread::sleep(Duration::from_millis(50));
        }
        fs::write(&path, former.expect("it was there")).unwrap();
    }
    let (after, _) = rig.wait_until(damage.file, |status| {
        let said = status.problems.iter().any(|problem| problem.contains(damage.said));
        status.node.pid != before.node.pid && all_healthy(status) && (said || !damage.starts || damage.said.is_empty())
    });
    let pids = |status| instances(status).iter().map(|instance| instance.pid).collect::<Vec<_>>();
    let kept = pids(&before).iter().zip(pids(&after)).filter(|(before, after)| **before == *after).count();
    let expected = if damage.file.starts_with("instances/") { 2 } else { 3 };
    assert!(kept >= expected, "after {}: {:?}, then {:?}", damage.file, pids(&before), pids(&after));
    let why = |subject| String::from_utf8(rig.keel(&["why", subject]).stdout).unwrap();
    let told = why("node") + &why("stack");
    assert!(!damage.starts || told.contains(damage.said), "`keel why` says it: {told}");
}

#[test]
fn a_newer_state_directory_is_left_as_it_is() {
    let (folder, _) =
        rig::prepare("[listeners.web]\nbind = \"{listen}\"\n[services.app]\nrun = [\"sleep\", \"100\"]\n");
    let state = folder.path().join("state");
    fs::create_dir(&state).unwrap();
    fs::write(state.join("VERSION"), "99\n").unwrap();
    fs::write(state.join("journal.db"), "of the future").unwrap();
    let output = command(folder.path(), &["up", "keel.toml"]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && error.contains("newer") && error.contains("--state-dir"), "{error}");
    assert_eq!(fs::read_to_string(state.join("journal.db")).unwrap(), "of the future");
    let doctor = command(folder.path(), &["doctor"]).output().unwrap();
    let text = String::from_utf8(doctor.stdout).unwrap();
    assert_eq!(doctor.status.code(), Some(1), "{text}");
    assert!(text.contains("written by a newer keel (format 99"), "{text}");
}

/// A small disk of its own: a tmpfs that only this test and what it starts can see.
struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// Runs a command where the disk can be seen: in the mount namespace of the process that made it.
    fn inside(keeper: u32, folder: &Path, arguments: &[&str]) -> Output {
        let mut entered = Command::new("nsenter");
        entered.args(["--target", &keeper.to_string(), "--mount"]).arg(env!("CARGO_BIN_EXE_keel"));
        entered.args(arguments).arg("--state-dir").arg(folder.join("state")).current_dir(folder);
        entered.stdin(Stdio::null()).output().expect("nsenter (util-linux) is installed")
    }

    /// The disk's folder, seen from outside of its namespace.
    fn seen_from_outside(&self, keeper: u32) -> PathBuf {
        PathBuf::from(format!("/proc/{keeper}/root{}", self.state().display()))
    }
}

#[test]
fn a_full_disk_costs_no_request_is_said_and_is_got_over() {
    let small = SmallDisk { folder: tempfile::tempdir().unwrap() };
    let database = tempfile::tempdir().unwrap();
    let (port, console) = (free_port(), free_port());
    let text =
        format!("[stack]\nname = \"full\"\n[console]\nbind = \"127.0.0.1:{console}\"\n{}", shops(database.path()));
    fs::write(small.folder.path().join("keel.toml"), text.replace("{listen}", &format!("127.0.0.1:{port}"))).unwrap();
    fs::create_dir(small.state()).unwrap();
    let log = fs::File::create(small.folder.path().join("keel.log")).unwrap();
    let script = format!(
        "mount -t tmpfs -o size=8m,mode=700 tmpfs '{0}' && exec '{1}' up keel.toml --state-dir '{0}' --ends-with {2}",
        small.state().display(),
        env!("CARGO_BIN_EXE_keel"),
        std::process::id()
    );
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--propagation", "private", "sh", "-c", &script]).current_dir(small.folder.path());
    unshare.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
    let mut keel = unshare.spawn().expect("unshare (util-linux) is installed");
    let guard = keel.id();
    let outcome = std::panic::catch_unwind(|| fill_and_empty(&small, guard, port));
    rig::signal(guard, Signal::TERM);
    let _ = keel.wait();
    if let Err(panic) = outcome {
        eprintln!("log of keel:\n{}", fs::read_to_string(small.folder.path().join("keel.log")).unwrap_or_default());
        std::panic::resume_unwind(panic);
    }
}

fn fill_and_empty(small: &SmallDisk, guard: u32, port: u16) {
    let status = || {
        let output = SmallDisk::inside(guard, small.folder.path(), &["status", "--json"]);
        serde_json::from_slice::<evenkeel_core::status::Status>(&output.stdout).ok()
    };
    let until = |what: &str, is: &dyn Fn(&evenkeel_core::status::Status) -> bool| {
        let start = Instant::now();
        loop {
            let last = status();
            if last.as_ref().is_some_and(is) {
                return last.unwrap();
            }
            let log = fs::read_to_string(small.folder.path().join("keel.log")).unwrap_or_default();
            let refused = log.contains("mount:") || log.contains("unshare:");
            assert!(!refused, "this test needs root (CAP_SYS_ADMIN) to mount a small tmpfs of its own: {log}");
            assert!(start.elapsed() < PATIENCE, "it never came to pass that {what}: {last:#?}");
            thread::sleep(Duration::from_millis(50));
        }
    };
    let before = until("all is well", &all_healthy);
    let load = Load::start(port, "/api/products", 8);
    load.wait_for(100);

    let ballast = small.seen_from_outside(guard).join("ballast");
    // It stops where there is no room any more.
    let _ = fs::write(&ballast, vec![1_u8; 16 << 20]);
    let why = || String::from_utf8(SmallDisk::inside(guard, small.folder.path(), &["why", "node"]).stdout).unwrap();
    let note = |text: &str| {
        let (body, socket) = (format!("{{\"subject\":\"drill\",\"kind\":\"t\",\"message\":\"{text}\"}}"), "/v1/events");
        let answer = post(small, guard, socket, &body);
        assert!(answer.contains("201"), "{answer}");
    };
    (0..40).for_each(|i| note(&format!("{i} {}", "x".repeat(4000))));
    until("the full disk is a problem", &|status| {
        status.problems.iter().any(|problem| problem.contains("journal cannot be written (the disk is full)"))
    });
    // With a full disk an instance dies and then the node process; both come back.
    rig::signal(instances(&before)[0].pid.unwrap(), Signal::KILL);
    until("the killed instance is back", &|status| {
        all_healthy(status) && instances(status)[0].pid != instances(&before)[0].pid
    });
    load.wait_for(200);
    rig::signal(before.node.pid, Signal::KILL);
    until("another node process has taken over", &|status| all_healthy(status) && status.node.pid != before.node.pid);
    (0..40).for_each(|i| note(&format!("{i} {}", "x".repeat(4000))));
    until("the full disk is a problem again", &|status| {
        status.problems.iter().any(|problem| problem.contains("journal cannot be written (the disk is full)"))
    });
    load.wait_for(200);
    let doctor = SmallDisk::inside(guard, small.folder.path(), &["doctor"]);
    assert!(String::from_utf8_lossy(&doctor.stdout).contains("nearly full"), "{doctor:?}");

    fs::remove_file(&ballast).unwrap();
    until("nothing is said of the journal any more", &|status| {
        all_healthy(status) && !status.problems.iter().any(|problem| problem.contains("journal"))
    });
    let text = why();
    assert!(text.contains("the journal could not be written from"), "{text}");
    load.wait_for(200);
    load.finish().assert_clean();
}

#[test]
fn a_limit_of_file_sizes_is_named_with_the_way_out() {
    let rig = Rig::shop();
    let before = rig.status();
    let node = Pid::from_raw(i32::try_from(before.node.pid).unwrap());
    let limit = |current| {
        prlimit(node, Resource::Fsize, Rlimit { current, maximum: None }).unwrap();
    };
    limit(Some(0));
    // Whatever happens now is to be noted.
    rig::signal(instances(&before)[0].pid.unwrap(), Signal::KILL);
    let said = "journal cannot be written (a limit on the size of files is reached)";
    rig.wait_until("the limit is named, and how to lift it", |status| {
        status.problems.iter().any(|problem| problem.contains(said) && problem.contains("`LimitFSIZE=`"))
    });
    limit(None);
    rig.wait_until("nothing is said of the journal any more", |status| {
        all_healthy(status) && !status.problems.iter().any(|problem| problem.contains("journal"))
    });
    let why = String::from_utf8(rig.keel(&["why", "node"]).stdout).unwrap();
    assert!(why.contains("a limit on the size of files is reached"), "{why}");
}

/// `POST` over the control socket.
fn post(small: &SmallDisk, guard: u32, target: &str, body: &str) -> String {
    use std::io::{Read, Write};
    let lock = fs::read(small.seen_from_outside(guard).join("lock")).unwrap();
    let holder: serde_json::Value = serde_json::from_slice(&lock).unwrap();
    let socket = Path::new(holder["runtime_dir"].as_str().unwrap()).join("control.sock");
    let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!(
        "POST {target} HTTP/1.1\r\nHost: keel\r\nContent-Type: application/json\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
