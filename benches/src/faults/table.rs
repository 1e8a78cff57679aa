//! The table at the end: by fault and contender, the median and the worst of all rounds.

use std::time::Duration;

use crate::scenario::{Fault, Outcome};

pub fn print(per_second: u32, outcomes: &[Outcome]) {
    println!("\n{per_second} GETs a second at a constant rate, latency from when each was due; sums over all rounds");
    println!(
        "fault   contender    GETs  failed not sent  p99 median  worst: median     max  back: median     max   POSTs failed twice  \
         slow touched"
    );
    for fault in [Fault::Freeze, Fault::Kill, Fault::Reload] {
        for name in ["keel", "nginx", "haproxy"] {
            let those: Vec<&Outcome> =
                outcomes.iter().filter(|outcome| outcome.fault == fault && outcome.name == name).collect();
            if those.is_empty() {
                continue;
            }
            let sum = |of: fn(&Outcome) -> usize| those.iter().map(|outcome| of(outcome)).sum::<usize>();
            let sorted = |of: fn(&Outcome) -> Duration| {
                let mut all: Vec<Duration> = those.iter().map(|outcome| of(outcome)).collect();
                all.sort();
                (ms(all[all.len() / 2]), ms(all[all.len() - 1]))
            };
            let (p99, worst, back) = (sorted(|o| o.p99), sorted(|o| o.worst), sorted(|o| o.back));
            println!(
                "{:7} {name:9} {:7} {:7} {:8} {:>11} {:>14} {:>7} {:>13} {:>7} {:7} {:6} {:5} {:13}",
                format!("{fault:?}").to_lowercase(),
                sum(|o| o.gets),
                sum(|o| o.failed),
                sum(|o| o.unsent),
                p99.0,
                worst.0,
                worst.1,
                back.0,
                back.1,
                sum(|o| o.posts),
                sum(|o| o.posts_failed),
                sum(|o| o.posts_twice),
                sum(|o| o.slow_touched),
            );
        }
    }
}

fn ms(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1e3)
}
