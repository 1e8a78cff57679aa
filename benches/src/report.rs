//! The table at the end.

use std::{fmt, time::Duration};

use crate::load::Load;

/// One contender in one round.
pub struct Round {
    pub name: &'static str,
    pub spent: Duration,
    pub load: Load,
}

impl Round {
    fn us_per_request(&self) -> f64 {
        self.spent.as_secs_f64() * 1e6 / self.load.requests.max(1) as f64
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:6.2} µs/request  {}", self.us_per_request(), self.load)
    }
}

/// CPU time per request by contender, and each one's ratio to the peers, pair by pair within a round.
pub fn print(connections: u32, seconds: u64, rounds: &[Round]) {
    let mut names: Vec<&str> = Vec::new();
    for round in rounds {
        if !names.contains(&round.name) {
            names.push(round.name);
        }
    }
    println!("\n{connections} connections, 1 KiB answers, keep-alive, {seconds} s a round");
    println!("contender   CPU µs/request: min  median     max   requests/s   errors");
    let of = |name: &str| rounds.iter().filter(|round| round.name == name).collect::<Vec<_>>();
    for name in &names {
        let mine = of(name);
        let mut us: Vec<f64> = mine.iter().map(|round| round.us_per_request()).collect();
        us.sort_by(f64::total_cmp);
        let mut rate: Vec<f64> = mine.iter().map(|round| round.load.per_second).collect();
        rate.sort_by(f64::total_cmp);
        let errors: u64 = mine.iter().map(|round| round.load.errors).sum();
        let (min, mid, max) = (us[0], us[us.len() / 2], us[us.len() - 1]);
        println!("{name:10} {min:20.2} {mid:7.2} {max:7.2} {:12.0} {errors:8}", rate[rate.len() / 2]);
    }
    for peer in names.iter().skip(1) {
        let mut ratios: Vec<f64> =
            of(names[0]).iter().zip(of(peer)).map(|(a, b)| a.us_per_request() / b.us_per_request()).collect();
        ratios.sort_by(f64::total_cmp);
        println!("{} / {peer}: {:.2} (median of {} pairs)", names[0], ratios[ratios.len() / 2], ratios.len());
    }
}
