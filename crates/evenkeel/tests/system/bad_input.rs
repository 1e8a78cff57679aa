//! Whatever is wrong ends in a clear message, at a bounded cost, with no effect on others and nothing left behind.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    time::Duration,
};

use evenkeel_core::status::Phase;

use crate::{
    instance::serve,
    load::Load,
    rig::{PATIENCE, Rig, command, instances, prepare},
};

/// Standard error of a `keel` that must fail, and its exit code.
fn refused(stack: &str, arguments: &[&str]) -> (String, i32) {
    let (folder, _) = prepare(stack);
    let output = command(folder.path(), arguments).output().unwrap();
    assert!(!output.status.success(), "{output:?}");
    (String::from_utf8(output.stderr).unwrap(), output.status.code().unwrap())
}

#[test]
fn a_wrong_stack_file_starts_nothing() {
    for command in ["up", "validate"] {
        let (error, code) = refused("[services.app]\nrun = [\"true\"]\nreplica = 2\n", &[command, "keel.toml"]);
        assert_eq!(code, 2, "{error}");
        assert!(error.contains("keel.toml:7:1") && error.contains("did you mean `replicas`?"), "{error}");
    }
}

#[test]
fn what_does_nothing_is_told_and_not_refused() {
    let rig = Rig::up(
        "[listeners.web]\nbind = \"{listen}\"\n[[routes]]\nservice = \"app\"\n\
         [services.app]\npage = { text = \"Back soon.\", status = 200 }\nhold.max = \"1s\"\n\
         [services.lost]\nrun = [\"./not-there\"]\nreplicas = 0\n",
    );
    let said = |arguments: &[&str]| {
        let output = rig.keel(arguments);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    let warnings = ["`hold` does nothing here", "nothing leads to service `lost`", "there is no program `"];
    let (code, shown, told) = said(&["validate", "keel.toml"]);
    assert!(code == 0 && shown.contains("is valid"), "{shown}");
    assert!(warnings.iter().all(|warning| told.contains(&format!("warning: {warning}"))), "{told}");
    let (code, shown, told) = said(&["validate", "keel.toml", "--json"]);
    let answer: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((code, told.as_str(), &answer["valid"]), (0, "", &true.into()));
    let found: Vec<_> = answer["diagnostics"].as_array().unwrap().iter().map(|one| &one["severity"]).collect();
    assert_eq!(found, ["warning"; 3]);

    rig.wait_until("it is up", |_| true);
    assert_eq!(rig.log().matches("warning: `hold` does nothing here").count(), 1, "{}", rig.log());
    let (code, shown, told) = said(&["apply", "keel.toml", "--no-wait"]);
    assert_eq!(code, 0, "{shown}{told}");
    assert!(warnings.iter().all(|warning| told.contains(&format!("warning: {warning}"))), "{told}");
    let (_, shown, _) = said(&["apply", "keel.toml", "--no-wait", "--json"]);
    let answer: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(answer["warnings"].as_array().map(Vec::len), Some(3), "{answer}");
}

#[test]
fn a_missing_file_says_so() {
    let (error, code) = refused("", &["up", "other.toml"]);
    assert_eq!(code, 2, "{error}");
    assert!(error.contains("other.toml") && error.contains("keel init"), "{error}");
}

#[test]
fn a_command_without_dashes_is_understood() {
    for words in [&["up", "node", "server.js"][..], &["up", "node"]] {
        let (error, code) = refused("", words);
        assert_eq!(code, 2, "{error}");
        assert!(error.contains(&format!("did you mean `keel up -- {}", words[1..].join(" "))), "{error}");
    }
}

#[test]
fn a_taken_port_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut rig =
        Rig::up(&format!("[listeners.web]\nbind = \"{address}\"\n[services.app]\nrun = [\"sleep\", \"100\"]\n"));
    assert_eq!(rig.ended(), 1, "{}", rig.log());
    assert!(rig.log().contains(&address.to_string()), "{}", rig.log());
}

#[test]
fn a_command_that_does_not_exist_is_given_up_with_its_cause() {
    let rig = Rig::up(
        "[listeners.web]\nbind = \"{listen}\"\n[services.app]\nrun = [\"no-such-program\"]\nreplicas = 1\nrestart = { attempts = 3, delay = \"10ms\" }\n",
    );
    rig.wait_until("it gave up", |status| {
        instances(status).iter().any(|instance| instance.phase == Some(Phase::GaveUp))
    });
    let why = String::from_utf8(rig.keel(&["why", "app/1"]).stdout).unwrap();
    assert!(why.contains("no-such-program"), "{why}");
    rig.wait_until("whoever started it reads the cause", |_| rig.log().contains("cannot run `no-such-program`"));
    rig.wait_until("and that it is over", |_| rig.log().contains("app: every instance gave up"));
}

#[test]
fn an_instance_that_exits_in_a_loop_is_given_up_with_its_last_output() {
    let rig = Rig::up(
        "[listeners.web]\nbind = \"{listen}\"\n[services.app]\nrun = [\"sh\", \"-c\", \"echo the cause; exit 3\"]\nreplicas = 1\n\
         restart = { attempts = 4, delay = \"10ms\" }\nhold = { max = \"200ms\" }\n",
    );
    let gave_up = |status: &_| instances(status).iter().any(|instance| instance.phase == Some(Phase::GaveUp));
    let (status, _) = rig.wait_until("it gave up", gave_up);
    let instance = &instances(&status)[0];
    assert_eq!(instance.last_exit.as_deref(), Some("exit code 3"));
    assert!(instance.last_output.iter().any(|line| line.contains("the cause")), "{instance:?}");
    assert!(!status.problems.is_empty(), "status says that somebody should look");
    rig.wait_until("whoever started it reads its last output", |_| rig.log().contains("\n  the cause"));
    let answer = ask(rig.port, b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.to_lowercase().contains("retry-after:"), "{answer}");
}

#[test]
fn a_check_that_never_passes_gets_no_traffic_and_is_started_again() {
    let rig = Rig::up(
        "[listeners.web]\nbind = \"{listen}\"\n[services.app]\nrun = [\"sleep\", \"1000\"]\nreplicas = 1\nstart_timeout = \"500ms\"\n\
         restart = { attempts = 2, delay = \"10ms\" }\nhold = { max = \"100ms\" }\n",
    );
    rig.wait_until("it gave up", |status| {
        instances(status).iter().any(|instance| instance.phase == Some(Phase::GaveUp))
    });
    let why = String::from_utf8(rig.keel(&["why", "app/1"]).stdout).unwrap();
    assert!(why.contains("500 ms") || why.contains("500ms"), "the start timeout is the cause: {why}");
}

#[test]
fn an_answer_cut_off_is_never_taken_for_a_whole_one() {
    let (port, _got) = serve(|_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\npart");
        let _ = stream.shutdown(std::net::Shutdown::Both);
    });
    let rig = Rig::up(&format!(
        "[listeners.web]\nbind = \"{{listen}}\"\n[services.app]\ninstances = [\"127.0.0.1:{port}\"]\ncheck = {{ http = \"/healthz\" }}\n"
    ));
    rig.wait_until("the instance is healthy", crate::rig::all_healthy);
    let answer = ask(rig.port, b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 502"), "a small answer is relayed when whole, or not at all: {answer}");
}

#[test]
fn clients_that_cost_too_much_are_refused_and_hurt_nobody() {
    let rig = Rig::demo();
    let load = Load::start(rig.port, "/api/products", 4);
    load.wait_for(50);

    let headers = "X-Number: 1\r\n".repeat(10_000);
    let many = format!("GET / HTTP/1.1\r\nHost: test\r\n{headers}\r\n");
    assert!(ask(rig.port, many.as_bytes()).starts_with("HTTP/1.1 431"));
    let both = b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert!(ask(rig.port, both).starts_with("HTTP/1.1 400"));
    assert!(ask(rig.port, b"GET / HTTP/1.1\nHost: test\n\n").starts_with("HTTP/1.1 400"));
    assert!(ask(rig.port, b"GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 400"));

    load.finish().assert_clean();
}

#[test]
fn a_client_that_sends_one_byte_after_the_other_gets_408() {
    let (port, _got) = serve(|_, _| {});
    let rig = Rig::up(&format!(
        "[listeners.web]\nbind = \"{{listen}}\"\nlimits = {{ head_timeout = \"1s\" }}\n[services.app]\ninstances = [\"127.0.0.1:{port}\"]\n"
    ));
    rig.wait_until("the instance is healthy", crate::rig::all_healthy);
    let mut stream = TcpStream::connect(("127.0.0.1", rig.port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    for byte in b"GET / HTTP/1.1\r\nHost: te" {
        if stream.write_all(&[*byte]).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&answer));
}

#[test]
fn a_state_directory_that_cannot_be_used_is_named() {
    let (folder, _) = prepare("[services.app]\nrun = [\"sleep\", \"100\"]\n");
    // A file where the directory should be stops root as well as anybody else.
    fs::write(folder.path().join("state"), "not a directory").unwrap();
    let output = command(folder.path(), &["up", "keel.toml"]).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && error.contains("state"), "{error}");
    assert_eq!(fs::read_to_string(folder.path().join("state")).unwrap(), "not a directory");
}

#[test]
fn a_state_directory_of_a_newer_version_is_refused_with_the_way_out() {
    let (folder, _) = prepare("[listeners.web]\nbind = \"{listen}\"\n[services.app]\nrun = [\"sleep\", \"100\"]\n");
    let state = folder.path().join("state");
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(state.join("VERSION"), "99\n").unwrap();
    let output = command(folder.path(), &["up", "keel.toml"]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && error.contains("newer") && error.contains("--state-dir"), "{error}");
}

#[test]
fn nothing_running_is_said_in_one_line() {
    let (folder, _) = prepare("");
    let output = command(folder.path(), &["status"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8(output.stderr).unwrap().contains("nothing is running"));
}

/// Sends `request` and returns everything until the edge closes. A reset after the answer is no failure.
fn ask(port: u16, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}
