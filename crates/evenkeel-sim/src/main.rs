//! `evenkeel-sim`: runs seeds, prints what was seen, and replays the one that fails.

use std::{
    collections::BTreeMap,
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use evenkeel_sim::{Coverage, Options, Sabotage, Violation, coverage, invariants, run, trace::Stamp};

const USAGE: &str = "\
usage: evenkeel-sim [--seeds N] [--from S] [--keep-going] [--only INVARIANT] [--sabotage RULE]
       evenkeel-sim --seed S [--only INVARIANT] [--sabotage RULE]

  --seeds N         run so many seeds (default 1000)
  --from S          begin with this one (default 0)
  --seed S          run this one alone and print its trace
  --keep-going      run all seeds and list what broke by invariant
  --only INVARIANT  judge by this invariant alone
  --sabotage RULE   switch this rule off, to see an invariant break";

/// What was asked for.
struct Arguments {
    from: u64,
    seeds: u64,
    replay: bool,
    options: Options,
    /// What a replay must be given too.
    extra: Vec<String>,
    keep_going: bool,
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)) {
        Ok(Some(arguments)) if arguments.replay => replay(&arguments),
        Ok(Some(arguments)) => search(&arguments),
        Ok(None) => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("evenkeel-sim: {message}\n\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Arguments>, String> {
    let mut arguments = Arguments {
        from: 0,
        seeds: coverage::SEEDS,
        replay: false,
        options: Options::default(),
        extra: Vec::new(),
        keep_going: false,
    };
    while let Some(flag) = words.next() {
        if flag == "--help" || flag == "-h" {
            return Ok(None);
        }
        if flag == "--keep-going" {
            arguments.keep_going = true;
            continue;
        }
        let value = words.next().ok_or_else(|| format!("{flag} needs a value"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("{flag}: {value} is not a number"));
        match flag.as_str() {
            "--seeds" => arguments.seeds = number()?,
            "--from" => arguments.from = number()?,
            "--seed" => {
                arguments.from = number()?;
                arguments.replay = true;
                arguments.options.text = true;
            }
            "--only" => {
                arguments.options.only = Some(named_invariant(&value)?);
                arguments.extra.push(format!(" --only {value}"));
            }
            "--sabotage" => {
                arguments.options.sabotage = Some(named_rule(&value)?);
                arguments.extra.push(format!(" --sabotage {value}"));
            }
            _ => return Err(format!("unknown flag {flag}")),
        }
    }
    Ok(Some(arguments))
}

fn named_invariant(name: &str) -> Result<&'static str, String> {
    let names: Vec<&'static str> = invariants::all().iter().map(|invariant| invariant.name()).collect();
    let known = names.iter().find(|known| **known == name);
    known.copied().ok_or_else(|| format!("no invariant {name}; there are {}", names.join(", ")))
}

fn named_rule(name: &str) -> Result<Sabotage, String> {
    let names = || Sabotage::ALL.map(|(_, name)| name).join(", ");
    Sabotage::named(name).ok_or_else(|| format!("no rule {name}; there are {}", names()))
}

/// One seed with its trace.
fn replay(arguments: &Arguments) -> ExitCode {
    let outcome = run(arguments.from, &arguments.options);
    for line in &outcome.lines {
        println!("{line}");
    }
    println!("{} events, {} requests, hash {:016x}", outcome.events, outcome.requests, outcome.hash);
    if let Some(violation) = outcome.violation {
        tell(arguments.from, &violation, arguments);
        return ExitCode::FAILURE;
    }
    println!("seed {}: every invariant holds", arguments.from);
    ExitCode::SUCCESS
}

/// What all threads add to.
#[derive(Default)]
struct Found {
    coverage: Coverage,
    violation: Option<(u64, Violation)>,
    /// How often each invariant broke, and the lowest seed.
    broken: BTreeMap<&'static str, (u64, u64)>,
    events: u64,
    requests: u64,
}

/// Many seeds on all cores, until one fails.
fn search(arguments: &Arguments) -> ExitCode {
    let began = Instant::now();
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let found = Mutex::new(Found::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work(arguments, &next, &stop, &found));
        }
        watch(arguments, &next, &stop, began);
    });
    let found = found.into_inner().expect("no thread panicked with the lock");
    let ran = next.into_inner().min(arguments.seeds);
    report(&found, ran, began.elapsed());
    if let Some((seed, violation)) = &found.violation {
        tell(*seed, violation, arguments);
        return ExitCode::FAILURE;
    }
    let missing = found.coverage.missing();
    if ran >= coverage::SEEDS && !missing.is_empty() {
        println!("never seen over {ran} seeds: {}", missing.join("; "));
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn work(arguments: &Arguments, next: &AtomicU64, stop: &AtomicBool, found: &Mutex<Found>) {
    while !stop.load(Ordering::Relaxed) {
        let at = next.fetch_add(1, Ordering::Relaxed);
        if at >= arguments.seeds {
            return;
        }
        let seed = arguments.from.wrapping_add(at);
        let outcome = run(seed, &arguments.options);
        let mut found = found.lock().expect("no thread panicked with the lock");
        found.coverage.add(&outcome.coverage);
        found.events += outcome.events;
        found.requests += outcome.requests;
        if let Some(violation) = outcome.violation {
            stop.store(!arguments.keep_going, Ordering::Relaxed);
            let (times, lowest) = found.broken.entry(violation.invariant).or_insert((0, seed));
            (*times, *lowest) = (*times + 1, seed.min(*lowest));
            // The lowest seed, so that two searches over the same seeds rarely name different ones.
            if found.violation.as_ref().is_none_or(|(before, _)| seed < *before) {
                found.violation = Some((seed, violation));
            }
        }
    }
}

/// Says every few seconds how far it is.
fn watch(arguments: &Arguments, next: &AtomicU64, stop: &AtomicBool, began: Instant) {
    let mut told = Instant::now();
    loop {
        let done = next.load(Ordering::Relaxed);
        if done >= arguments.seeds || stop.load(Ordering::Relaxed) {
            return;
        }
        if told.elapsed() >= Duration::from_secs(2) {
            told = Instant::now();
            let rate = done / began.elapsed().as_secs().max(1);
            let left = (arguments.seeds - done) / rate.max(1);
            eprintln!("{done} of {} seeds, {rate} seeds/s, {left} s left", arguments.seeds);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn report(found: &Found, ran: u64, took: Duration) {
    println!("{:>12}  what was seen", "times");
    for (what, count) in found.coverage.table() {
        println!("{count:>12}  {what}");
    }
    let per_second = u128::from(ran) * 1000 / took.as_millis().max(1);
    let (events, requests) = (found.events, found.requests);
    for (invariant, (times, lowest)) in &found.broken {
        println!("`{invariant}` broke in {times} seeds, the lowest is {lowest}");
    }
    println!("{ran} seeds in {:.1} s, {per_second} seeds/s; {events} events, {requests} requests", took.as_secs_f64());
}

fn tell(seed: u64, violation: &Violation, arguments: &Arguments) {
    let extra = arguments.extra.concat();
    println!("seed {seed} breaks `{}` at {} s:", violation.invariant, Stamp(violation.at));
    println!("  {}", violation.what);
    println!("replay: cargo run --release -p evenkeel-sim -- --seed {seed}{extra}");
}
