//! What `keel doctor`, `keel top` and `keel why` say of stacks that are not well, with the real binary.

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::TcpListener,
    os::fd::{AsFd, OwnedFd},
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use evenkeel_core::status::Phase;
use rustix::{
    process::Signal,
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};

use crate::rig::{self, PATIENCE, Rig, all_healthy, command, instances};

fn said(rig: &Rig, arguments: &[&str]) -> String {
    String::from_utf8(rig.keel(arguments).stdout).unwrap()
}

fn first_line(rig: &Rig, subject: &str) -> String {
    said(rig, &["why", subject]).lines().next().unwrap_or_default().to_owned()
}

#[test]
fn the_first_sentence_names_the_true_cause() {
    let rig = Rig::up(
        "[listeners.web]\nbind = \"{listen}\"\n[[routes]]\nservice = \"loops\"\n\
         [services.none]\nrun = [\"no-such-program\"]\nreplicas = 1\nrestart = { attempts = 2, delay = \"10ms\" }\n\
         [services.loops]\nrun = [\"sh\", \"-c\", \"echo DATABASE_URL is not set; exit 3\"]\nreplicas = 1\n\
         restart = { attempts = 2, delay = \"10ms\" }\n\
         [services.never]\nrun = [\"sleep\", \"1000\"]\nreplicas = 1\nstart_timeout = \"1500ms\"\n\
         restart = { attempts = 1 }\ncheck = { http = \"/healthz\", interval = \"100ms\" }\n\
         [services.again]\nrun = [\"sh\", \"-c\", \"echo no licence; exit 4\"]\nreplicas = 1\n\
         restart = { attempts = 1000, delay = \"1m\" }\n",
    );
    rig.wait_until("three gave up, one waits", |status| {
        let phases: Vec<_> = instances(status).iter().filter_map(|instance| instance.phase).collect();
        phases.iter().filter(|phase| **phase == Phase::GaveUp).count() == 3 && phases.contains(&Phase::Waiting)
    });
    for (subject, causes) in [
        ("none/1", ["gave up", "cannot run `no-such-program`: no such file"]),
        ("none", ["no healthy instance", "cannot run `no-such-program`: no such file"]),
        ("loops/1", ["exit code 3", "DATABASE_URL is not set"]),
        ("loops", ["exit code 3", "DATABASE_URL is not set"]),
        ("never/1", ["killed: not ready within 1.5 s of its start", "its check saw: "]),
        ("again/1", ["exit code 4", "no licence"]),
    ] {
        let line = first_line(&rig, subject);
        assert!(causes.iter().all(|cause| line.contains(cause)), "{subject}: {line}");
    }
    let then = said(&rig, &["why", "loops/1", "--at", "0s"]);
    assert!(then.lines().next().unwrap().contains("exit code 3"), "{then}");
    let early = said(&rig, &["why", "loops/1", "--at", "2001-01-01T00:00:00Z"]);
    assert!(early.contains("no entry that early"), "{early}");
    assert!(said(&rig, &["events", "--since", "1m"]).contains("gave up"));
    assert!(!said(&rig, &["events", "--until", "2001-01-01T00:00:00Z"]).contains("gave up"));
    assert_eq!(rig.keel(&["why", "loops", "--at", "teatime"]).status.code(), Some(2));

    let output = rig.keel(&["doctor"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    let first = text.lines().next().unwrap();
    assert!(first.starts_with("error") && text.contains("its output: DATABASE_URL is not set"), "{text}");
    assert!(text.contains("keel logs loops/1"), "{text}");
    let json: serde_json::Value = serde_json::from_slice(&rig.keel(&["doctor", "--json"]).stdout).unwrap();
    assert_eq!(json["findings"][0]["severity"], "error", "{json}");
}

#[test]
fn a_refused_change_and_a_taken_port_are_the_first_thing_said_of_the_stack() {
    let (port, _got) = crate::instance::serve(|_, _| {});
    let rig = Rig::up(&format!(
        "[listeners.web]\nbind = \"{{listen}}\"\n[services.app]\ninstances = [\"127.0.0.1:{port}\"]\n"
    ));
    rig.wait_until("it is healthy", all_healthy);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let file = rig.folder.path().join("keel.toml");
    let good = fs::read_to_string(&file).unwrap();
    let bad = format!("{good}\n[listeners.other]\nbind = \"{}\"\n", taken.local_addr().unwrap());
    fs::write(&file, bad).unwrap();
    assert!(!rig.keel(&["apply", "keel.toml"]).status.success());
    let line = first_line(&rig, "stack");
    assert!(line.contains("not applied") && line.contains(&taken.local_addr().unwrap().to_string()), "{line}");
    fs::write(&file, format!("{good}# changed\n")).unwrap();
    assert!(rig.keel(&["apply", "keel.toml"]).status.success());
    let line = first_line(&rig, "stack");
    assert!(!line.contains("not applied"), "it was put right: {line}");
}

#[test]
fn a_unit_that_would_kill_what_should_be_adopted_is_found() {
    let (folder, _) = rig::prepare("[services.app]\nrun = [\"true\"]\n");
    let unit = folder.path().join("shop.service");
    fs::write(&unit, "[Service]\nExecStart=/usr/bin/keel up /etc/keel/shop.toml\nRestart=always\n").unwrap();
    let doctor = |unit: &std::path::Path| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_keel"));
        command.args(["doctor", "--unit"]).arg(unit).env("HOME", folder.path()).env_remove("KEEL_STATE_DIR");
        command.output().unwrap()
    };
    let output = doctor(&unit);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("KillMode=process") && text.contains("shop.service"), "{text}");
    fs::write(&unit, "[Service]\nExecStart=/usr/bin/other\n").unwrap();
    assert_eq!(doctor(&unit).status.code(), Some(2));
}

/// A terminal of 80 by 24 with `keel top` on it.
struct TopOnATerminal {
    keyboard: File,
    terminal: OwnedFd,
    /// As it was before.
    modes: LocalModes,
    screen: std::sync::Arc<std::sync::Mutex<Vec<u8>>>,
    child: Child,
}

/// What stands on the screen after these bytes: text, moves of the cursor (`ESC [ row ; column H`), and other sequences
/// that move nothing.
fn drawn(bytes: &str) -> String {
    let mut cells = vec![vec![' '; 80]; 24];
    let (mut row, mut column) = (0, 0);
    let mut rest = bytes.chars();
    while let Some(letter) = rest.next() {
        if letter != '\u{1b}' {
            if let Some(cell) = cells.get_mut(row).and_then(|cells: &mut Vec<char>| cells.get_mut(column)) {
                *cell = letter;
            }
            column += 1;
            continue;
        }
        let mut numbers = String::new();
        let last = rest.by_ref().skip(1).find(|one| {
            numbers.extend(Some(*one).filter(|one| !one.is_ascii_alphabetic()));
            one.is_ascii_alphabetic()
        });
        if let (Some('H'), Some((to_row, to_column))) = (last, numbers.split_once(';')) {
            (row, column) = (to_row.parse::<usize>().unwrap() - 1, to_column.parse::<usize>().unwrap() - 1);
        }
    }
    cells.into_iter().map(|cells| cells.into_iter().collect::<String>() + "\n").collect()
}

impl TopOnATerminal {
    fn start(rig: &Rig) -> Self {
        let control = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&control).unwrap();
        unlockpt(&control).unwrap();
        let name = ptsname(&control, Vec::new()).unwrap();
        tcsetwinsize(&control, Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let open = || {
            let path = name.to_str().unwrap();
            File::options().read(true).write(true).open(path).map(OwnedFd::from).unwrap()
        };
        let terminal = open();
        let modes = tcgetattr(terminal.as_fd()).unwrap().local_modes;
        let child = command(rig.folder.path(), &["top"])
            .stdin(Stdio::from(open()))
            .stdout(Stdio::from(open()))
            .stderr(Stdio::null())
            .env("TERM", "xterm")
            .env("NO_COLOR", "1")
            .spawn()
            .unwrap();
        let keyboard = File::from(control);
        let screen = std::sync::Arc::<std::sync::Mutex<Vec<u8>>>::default();
        let (mut reader, seen) = (keyboard.try_clone().unwrap(), screen.clone());
        thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(n @ 1..) = reader.read(&mut piece) {
                seen.lock().unwrap().extend_from_slice(&piece[..n]);
            }
        });
        Self { keyboard, terminal, modes, screen, child }
    }

    fn seen(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().unwrap()).into_owned()
    }

    fn wait_for(&self, text: &str) {
        let start = Instant::now();
        // Only cells that change are drawn, so a word may come in pieces around a letter that was there before.
        while !self.seen().contains(text) && !drawn(&self.seen()).contains(text) {
            assert!(start.elapsed() < PATIENCE, "it never shows {text:?}:\n{}", drawn(&self.seen()));
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for its end, and looks whether the terminal is as it was.
    fn ended(&mut self) {
        let start = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(start.elapsed() < PATIENCE, "it goes on: {}", self.seen());
            thread::sleep(Duration::from_millis(20));
        }
        let modes = tcgetattr(self.terminal.as_fd()).unwrap().local_modes;
        assert_eq!(modes, self.modes, "line by line, with echo, as before");
        self.wait_for("\u{1b}[?1049l");
        self.wait_for("\u{1b}[?25h");
    }
}

#[test]
fn top_draws_on_a_terminal_and_leaves_it_as_it_was() {
    let rig = Rig::demo();
    rig.wait_until("all is well", all_healthy);
    for end in ["q", "\u{3}", "signal"] {
        let mut top = TopOnATerminal::start(&rig);
        let by_line = LocalModes::ICANON | LocalModes::ECHO;
        assert!(top.modes.contains(by_line));
        top.wait_for("shop/1");
        top.wait_for("INSTANCE");
        let raw = tcgetattr(top.terminal.as_fd()).unwrap().local_modes;
        assert!(!raw.intersects(by_line), "it reads key by key while it runs");
        assert!(!top.seen().contains("\u{1b}[31m") && !top.seen().contains("\u{1b}[38;5"), "NO_COLOR is heard");
        match end {
            "signal" => rig::signal(top.child.id(), Signal::TERM),
            keys => {
                top.keyboard.write_all(b"?").unwrap();
                top.wait_for("explains");
                top.keyboard.write_all(keys.as_bytes()).unwrap();
            }
        }
        top.ended();
    }
    let once = said(&rig, &["top", "--once"]);
    assert!(once.contains("SERVICE") && once.contains("shop/3") && once.contains("MiB"), "{once}");
    let refused = rig.keel(&["top"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8(refused.stderr).unwrap().contains("keel top --once"));
}
