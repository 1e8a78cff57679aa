//! The table on the terminal. CPU time per request comes first, since it is what the bench is for.

use crate::results::{Measured, Results, Round};

/// One contender in one round, as it goes.
pub fn line(round: &Round) -> String {
    let load = &round.load;
    format!(
        "{:8.2} µs/request {:8.0}/s  p50 {:>8}  p99 {:>8}  p99.9 {:>8}",
        round.cpu_us_per_request,
        round.per_second,
        time(load.p50_us),
        time(load.p99_us),
        time(load.p999_us)
    )
}

pub fn print(results: &Results) {
    let (rounds, seconds) = (results.rounds, results.seconds);
    println!("\nMedians of {rounds} interleaved rounds of {seconds} s; ratios pair by pair within a round");
    for case in &results.cases {
        print_case(case, &results.names());
    }
    if results.idle.is_empty() {
        return;
    }
    println!("\nidle connections   bytes each: min  median     max   PSS without      with   USS without      with");
    for name in results.names() {
        let (Some(bytes), Some(idle)) = (results.idle_bytes(name), results.idle_of(name).next()) else { continue };
        println!(
            "{name:10} {:23.0} {:7.0} {:7.0} {:>13} {:>9} {:>13} {:>9}",
            bytes.min,
            bytes.median,
            bytes.max,
            mib(idle.without.pss_bytes as f64),
            mib(idle.with.pss_bytes as f64),
            mib(idle.without.uss_bytes as f64),
            mib(idle.with.uss_bytes as f64)
        );
    }
}

fn print_case(case: &Measured, names: &[&str]) {
    println!("\n{}", case.title);
    println!(
        "contender   CPU µs/request: min   median      max   requests/s  busy       p50       p99     p99.9       PSS       USS  \
         calls/request"
    );
    for name in names {
        let Some(cpu) = case.cpu(name) else { continue };
        let median = |value: fn(&Round) -> f64| case.median(name, value).unwrap_or(0.0);
        println!(
            "{name:10} {:20.2} {:8.2} {:8.2} {:12.0} {:4.0}% {:>9} {:>9} {:>9} {:>9} {:>9} {:>14}",
            cpu.min,
            cpu.median,
            cpu.max,
            median(|round| round.per_second),
            median(|round| round.busy_percent),
            time(median(|round| round.load.p50_us)),
            time(median(|round| round.load.p99_us)),
            time(median(|round| round.load.p999_us)),
            mib(median(|round| round.memory.pss_bytes as f64)),
            mib(median(|round| round.memory.uss_bytes as f64)),
            case.calls(name).map_or_else(|| "–".to_owned(), |calls| format!("{:.2}", calls.per_request)),
        );
    }
    let Some((first, others)) = names.split_first() else { return };
    for other in others {
        if let Some(ratio) = case.ratio(first, other) {
            println!("{first} / {other}: {:.2} ({:.2} to {:.2})", ratio.median, ratio.min, ratio.max);
        }
    }
}

/// Microseconds as people read them.
pub fn time(us: f64) -> String {
    match us {
        us if us < 1e3 => format!("{us:.0} µs"),
        us if us < 1e4 => format!("{:.2} ms", us / 1e3),
        us if us < 1e5 => format!("{:.1} ms", us / 1e3),
        us => format!("{:.0} ms", us / 1e3),
    }
}

/// Bytes as people read them.
pub fn mib(bytes: f64) -> String {
    format!("{:.1} MiB", bytes / 1024.0 / 1024.0)
}
