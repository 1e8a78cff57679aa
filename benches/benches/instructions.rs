//! A guard: instructions of one exchange, counted by callgrind, must stay below a generous bound.
//!
//! Time on a shared machine says little; the instructions that a request costs are nearly the same everywhere. The
//! program runs itself under `valgrind --tool=callgrind`, once with few requests and once with many: the difference
//! divided by the difference of their numbers is what one request costs, client and instance of this process
//! included, which are a few hundred instructions. What happens in the kernel is not counted.

mod rig;

use std::{
    env,
    process::{Command, ExitCode},
};

use evenkeel_edge::http::head_request;
use std::{hint::black_box, mem::MaybeUninit};

/// What is counted, and what it may cost.
struct Case {
    name: &'static str,
    /// Few and many.
    times: (u32, u32),
    /// Instructions at most: half as many again as were measured, for other processors, libraries and compilers; more for
    /// long bodies, which come in more or fewer pieces.
    most: u64,
    run: fn(u32),
}

const CASES: [Case; 3] = [
    Case { name: "exchange", times: (200, 1200), most: 30_000, run: exchange },
    Case { name: "large", times: (20, 60), most: 120_000, run: large },
    Case { name: "head", times: (200, 1200), most: 8_000, run: head },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().collect();
    if let [_, name, times] = &arguments[..]
        && let Some(case) = CASES.iter().find(|case| case.name == name)
        && let Ok(times) = times.parse()
    {
        (case.run)(times);
        return ExitCode::SUCCESS;
    }
    let mut good = true;
    for case in &CASES {
        let counted = count(case.name, case.times.1).and_then(|many| Ok((many, count(case.name, case.times.0)?)));
        let (many, few) = match counted {
            Ok(counted) => counted,
            Err(problem) => {
                eprintln!("{problem}");
                return ExitCode::FAILURE;
            }
        };
        let each = many.saturating_sub(few) / u64::from(case.times.1 - case.times.0);
        let verdict = if each <= case.most { "ok" } else { "TOO MANY" };
        println!("{}: {each} instructions each, {} allowed: {verdict}", case.name, case.most);
        good &= each <= case.most;
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Instructions of the whole process with so many requests.
fn count(name: &str, times: u32) -> Result<u64, String> {
    let myself = env::current_exe().map_err(|error| error.to_string())?;
    let out = env::temp_dir().join(format!("keel-instructions-{}-{name}", std::process::id()));
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet", "--log-file=/dev/null"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(myself)
        .args([name, &times.to_string()])
        .output()
        .map_err(|error| format!("cannot run valgrind (apt-get install valgrind): {error}"))?;
    let profile = std::fs::read_to_string(&out).unwrap_or_default();
    if env::var_os("KEEP_PROFILES").is_none() {
        let _ = std::fs::remove_file(&out);
    }
    if !run.status.success() {
        return Err(format!("{name} failed under valgrind: {}", String::from_utf8_lossy(&run.stderr).trim()));
    }
    let total = profile.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok());
    total.ok_or_else(|| format!("{name}: callgrind wrote no total"))
}

/// A small answer over connections that are kept.
fn exchange(times: u32) {
    ask(times, 1 << 10);
}

/// One of a mebibyte.
fn large(times: u32) {
    ask(times, 1 << 20);
}

fn ask(times: u32, body_bytes: usize) {
    let edge = rig::Edge::start(&[rig::instance(body_bytes), rig::instance(body_bytes), rig::instance(body_bytes)]);
    let mut client = rig::Client::connect(edge.address, body_bytes);
    for _ in 0..times {
        client.ask();
    }
}

/// A head alone: understood, routed, written anew.
fn head(times: u32) {
    let view = rig::view(&rig::snapshot(&[], 0, 1));
    let listener = &view.listeners[0];
    let mut out = Vec::with_capacity(4096);
    for _ in 0..times {
        let mut room = [const { MaybeUninit::uninit() }; _];
        let head = head_request::parse(black_box(rig::REQUEST), &mut room, &listener.config.limits);
        let head = head.expect("a good head").expect("a whole one");
        let found = listener.routes.find(head.host(), head.method, head.path, |name, value| head.field_is(name, value));
        assert!(matches!(black_box(found), Ok(Some(_))), "a route leads everywhere");
        let forwarding =
            head_request::Forwarding { client: b"127.0.0.1", trusted: false, id: b"0123456789abcdef", expect: false };
        out.clear();
        head.write(&mut out, &forwarding);
        black_box(&out);
    }
}
