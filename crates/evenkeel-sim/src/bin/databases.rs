//! `databases`: runs seeds of the world of one replicated database, prints what was seen, and replays one that fails.

use std::{
    collections::BTreeMap,
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use evenkeel_core::failover::{Rule, Rules};
use evenkeel_sim::database::{Options, run};

const USAGE: &str = "\
usage: databases [--seeds N] [--from S] [--without RULE]
       databases --seed S [--without RULE]

  --seeds N        run so many seeds (default 1000)
  --from S         begin with this one (default 0)
  --seed S         run this one alone and print what happens
  --without RULE   switch this rule off, to see an invariant break";

/// What was asked for.
struct Arguments {
    from: u64,
    seeds: u64,
    options: Options,
}

/// What all threads add to.
#[derive(Default)]
struct Found {
    coverage: BTreeMap<String, u64>,
    /// How often each invariant broke, and the lowest seed.
    broken: BTreeMap<&'static str, (u64, u64)>,
    acknowledged: u64,
    changes: u64,
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)) {
        Ok(Some(arguments)) if arguments.options.text => replay(&arguments),
        Ok(Some(arguments)) => search(&arguments),
        Ok(None) => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("databases: {message}\n\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Arguments>, String> {
    let options = Options { rules: Rules::ALL, text: false };
    let mut arguments = Arguments { from: 0, seeds: 1000, options };
    while let Some(flag) = words.next() {
        if flag == "--help" || flag == "-h" {
            return Ok(None);
        }
        let value = words.next().ok_or_else(|| format!("{flag} needs a value"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("{flag}: {value} is not a number"));
        match flag.as_str() {
            "--seeds" => arguments.seeds = number()?,
            "--from" => arguments.from = number()?,
            "--seed" => {
                arguments.from = number()?;
                arguments.options.text = true;
            }
            "--without" => arguments.options.rules = Rules::without(named(&value)?),
            _ => return Err(format!("unknown flag {flag}")),
        }
    }
    Ok(Some(arguments))
}

fn named(name: &str) -> Result<Rule, String> {
    let names = || Rule::ALL.map(|rule| format!("{rule:?}")).join(", ");
    let known = Rule::ALL.into_iter().find(|rule| format!("{rule:?}") == name);
    known.ok_or_else(|| format!("no rule {name}; there are {}", names()))
}

fn replay(arguments: &Arguments) -> ExitCode {
    let outcome = run(arguments.from, arguments.options);
    println!("{} writes acknowledged, {} changes of primary", outcome.acknowledged, outcome.changes);
    let Some(violation) = outcome.violation else {
        println!("seed {}: every invariant holds", arguments.from);
        return ExitCode::SUCCESS;
    };
    println!("breaks `{}`: {}", violation.invariant, violation.what);
    ExitCode::FAILURE
}

fn search(arguments: &Arguments) -> ExitCode {
    let (began, next, found) = (Instant::now(), AtomicU64::new(0), Mutex::new(Found::default()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work(arguments, &next, &found));
        }
    });
    let found = found.into_inner().expect("no thread panicked with the lock");
    for (what, count) in &found.coverage {
        println!("{count:>12}  {what}");
    }
    let (seeds, took) = (arguments.seeds, began.elapsed().as_secs_f64());
    println!(
        "{seeds} seeds in {took:.1} s; {} writes acknowledged, {} changes of primary",
        found.acknowledged, found.changes
    );
    for (invariant, (times, lowest)) in &found.broken {
        println!(
            "`{invariant}` broke in {times} seeds; replay: cargo run --release -p evenkeel-sim --bin databases -- --seed {lowest}"
        );
    }
    if found.broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn work(arguments: &Arguments, next: &AtomicU64, found: &Mutex<Found>) {
    loop {
        let at = next.fetch_add(1, Ordering::Relaxed);
        if at >= arguments.seeds {
            return;
        }
        let seed = arguments.from.wrapping_add(at);
        let outcome = run(seed, arguments.options);
        let mut found = found.lock().expect("no thread panicked with the lock");
        for (what, count) in outcome.coverage {
            *found.coverage.entry(what).or_default() += count;
        }
        found.acknowledged += outcome.acknowledged;
        found.changes += outcome.changes;
        if let Some(violation) = outcome.violation {
            let (times, lowest) = found.broken.entry(violation.invariant).or_insert((0, seed));
            (*times, *lowest) = (*times + 1, seed.min(*lowest));
        }
    }
}
