//! Choosing an instance as its user has it: keys of the stack file, orders, and what `keel why` says.

use std::{
    collections::BTreeSet,
    io::Write,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering::SeqCst},
    },
};

use evenkeel_core::status::Health;
use rustix::process::Signal;

use crate::{
    instance::serve,
    rig::{self, Rig},
};

/// An instance that answers with its name; its check at `/check` gets the status that is set here.
fn instance(name: &'static str) -> (u16, Arc<AtomicU16>) {
    let status = Arc::new(AtomicU16::new(200));
    let said = Arc::clone(&status);
    let (port, received) = serve(move |request, stream| {
        let status = if request.head.starts_with("GET /check ") { said.load(SeqCst) } else { 200 };
        let cookies = request.values("cookie").join("|");
        let body = format!("{name} {cookies}");
        let _ = write!(stream, "HTTP/1.1 {status} x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    });
    std::thread::spawn(move || received.iter().for_each(drop));
    (port, status)
}

/// Who answers `GET /`, with the cookies that the instance saw; the cookies of `jar` go with it and come back to it.
fn ask(rig: &Rig, jar: &str) -> String {
    let url = format!("http://127.0.0.1:{}/", rig.port);
    let jar = rig.folder.path().join(jar);
    let jar = jar.to_str().unwrap();
    let answer = Command::new("curl").args(["-sS", "-b", jar, "-c", jar, &url]).output().unwrap();
    String::from_utf8(answer.stdout).unwrap().trim().to_owned()
}

fn why(rig: &Rig, subject: &str) -> String {
    String::from_utf8(rig.keel(&["why", subject]).stdout).unwrap()
}

fn healthy(rig: &Rig, count: usize) {
    rig.wait_until("so many are healthy", |status| {
        let all = status.services.iter().flat_map(|service| &service.instances);
        all.filter(|instance| instance.health == Health::Healthy).count() == count
    });
}

#[test]
fn clients_stay_until_their_instance_drains_and_who_answers_helps_where_too_few_are_healthy() {
    let (one, two) = (instance("one"), instance("two"));
    let stack = format!(
        "[listeners.web]\nbind = \"{{listen}}\"\n\
         [services.app]\ninstances = [\"127.0.0.1:{}\", \"127.0.0.1:{}\"]\nbalance = \"round-robin\"\n\
         check = {{ http = \"/check\", interval = \"100ms\", status = [200, 200] }}\n\
         sticky = {{ cookie = \"at\" }}\nmin_capacity = 60\n",
        one.0, two.0
    );
    let mut rig = Rig::up(&stack);
    healthy(&rig, 2);
    let first = ask(&rig, "jar");
    for _ in 0..10 {
        assert_eq!(ask(&rig, "jar"), first, "and no instance sees the cookie");
    }
    let strangers: BTreeSet<String> = (0..6).map(|_| ask(&rig, "/dev/null")).collect();
    assert_eq!(strangers.len(), 2);

    // A cookie outlives every process of ours.
    let edge = rig.status().edge.unwrap().pid;
    rig::signal(edge, Signal::KILL);
    rig.wait_until("another edge serves", |status| status.edge.as_ref().is_some_and(|new| new.pid != edge));
    healthy(&rig, 2);
    assert_eq!(ask(&rig, "jar"), first);
    rig.stop();
    rig.start_again();
    healthy(&rig, 2);
    for _ in 0..5 {
        assert_eq!(ask(&rig, "jar"), first);
    }

    // Its client moves when it drains, and stays where it went.
    let (mine, other) = if first == "one" { (one, two) } else { (two, one) };
    let drained = format!("app/127.0.0.1:{}", mine.0);
    let done = rig.keel(&["drain", &drained]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    rig.wait_until("it drains", |_| ask(&rig, "jar") != first);
    let second = ask(&rig, "jar");
    assert!(rig.keel(&["resume", &drained]).status.success());
    healthy(&rig, 2);
    assert_eq!(ask(&rig, "jar"), second);

    // Half of them fail their check: fewer than asked for, so those that answer are asked all the same.
    other.1.store(500, SeqCst);
    rig.wait_until("it is said", |status| status.services[0].short.is_some());
    let said = why(&rig, "app");
    assert!(said.contains("app has too few healthy instances, so those that still answer get requests too"), "{said}");
    assert!(said.contains("1 of 2 instances is healthy, fewer than 60 %; 1 more still answers"), "{said}");
    assert_eq!(ask(&rig, "jar"), second, "its client stays");

    other.1.store(200, SeqCst);
    rig.wait_until("it is over", |status| status.services[0].short.is_none());
    assert_eq!(ask(&rig, "jar"), second);
}
