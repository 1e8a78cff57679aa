//! Instances as a queue: requests come at a rate, an instance takes time to start, bears so many requests a second,
//! and its slowest answers take the longer the busier it is. Whatever exceeds what all of them bear waits, and counts as in flight.
//!
//! The world itself judges what must always hold: the bounds, and that instances go slowly and only once nobody has
//! needed them for long. How many are needed it works out from the rate, not from what the controller saw.

use std::fmt::Write as _;

use crate::{
    scale::{Decision, Kind, Observation, Reading, STEP_EVERY, Scaler},
    stack::{Duration, Elastic},
    time::Moment,
};

/// What one instance answers a second at most; one request takes this part of a core's second.
const MOST_PER_S: f64 = 200.0;

/// How long an answer takes while no request waits.
const ANSWER_S: f64 = 0.1;

/// Ticks of one second.
const TICKS: u32 = 4;

/// A run and what became of it.
pub(super) struct World {
    pub(super) settings: Elastic,
    /// How long an instance takes to start.
    start_s: f64,
    scaler: Scaler,
    /// When each instance is ready, in seconds.
    ready_at: Vec<f64>,
    in_flight: f64,
    seed: u64,
    /// By second: the rate, how many are needed for it, how many are wanted, how many are ready.
    pub(super) seconds: Vec<Second>,
    pub(super) decisions: Vec<(u64, Decision)>,
}

/// One second of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Second {
    pub(super) rate: f64,
    pub(super) needed: u32,
    pub(super) wanted: u32,
    pub(super) ready: u32,
}

/// Requests in flight for each instance.
pub(super) fn elastic(min: u32, max: u32, concurrency: u32) -> Elastic {
    let text = format!("min = {min}\nmax = {max}\ntarget = {{ concurrency = {concurrency} }}");
    toml::from_str(&text).unwrap()
}

impl World {
    pub(super) fn new(settings: Elastic, start_s: f64) -> Self {
        let wanted = settings.min;
        Self {
            scaler: Scaler::new(wanted, Moment::ORIGIN),
            ready_at: vec![0.0; wanted as usize],
            settings,
            start_s,
            in_flight: 0.0,
            seed: 7,
            seconds: Vec::new(),
            decisions: Vec::new(),
        }
    }

    /// Runs on for so many seconds under requests at the rate of each second, counted from the very beginning.
    pub(super) fn run(&mut self, seconds: u64, rate: impl Fn(f64, f64) -> f64) {
        let begin = self.seconds.len() as u64;
        for second in begin..begin + seconds {
            let noise = self.random();
            let rate = rate(seconds_f64(second), noise);
            let observation = self.second(second, rate);
            let now = Moment::from_millis((second + 1) * 1000);
            if let Some(decision) = self.scaler.on(&self.settings, &observation, now) {
                self.scaler.take(&decision, now);
                self.follow(second + 1);
                self.decisions.push((second + 1, decision));
            }
            let needed = self.needed(rate);
            let wanted = self.scaler.wanted();
            self.seconds.push(Second { rate, needed, wanted, ready: observation.ready });
            self.judge();
        }
    }

    /// One second of requests and answers.
    fn second(&mut self, second: u64, rate: f64) -> Observation {
        let mut sum = 0.0;
        let (mut ready, mut used, mut slowest) = (0, 0.0, 0.0);
        for tick in 0..TICKS {
            let at = seconds_f64(second) + f64::from(tick) / f64::from(TICKS);
            ready = u32::try_from(self.ready_at.iter().filter(|ready| **ready <= at).count()).unwrap();
            let bears = f64::from(ready) * MOST_PER_S;
            let busy = if bears > 0.0 { (rate / bears).min(0.95) } else { 0.95 };
            let steady = if bears > 0.0 { rate * ANSWER_S } else { 0.0 };
            slowest = ANSWER_S / (1.0 - busy);
            let left_over = self.in_flight + (rate - bears) / f64::from(TICKS);
            self.in_flight = steady.max(left_over.max(0.0) * f64::from(u8::from(rate > bears || left_over > steady)));
            sum += self.in_flight;
            used += busy * f64::from(ready);
        }
        let in_flight = sum / f64::from(TICKS);
        let asked = rate > 0.0 || self.in_flight > 0.0;
        let waits = if rate > 0.0 { in_flight / rate } else { 0.0 };
        Observation {
            ready,
            drained: 0,
            failing: 0,
            busy: Some(asked),
            in_flight: Reading::Known(in_flight),
            cpu_percent: Reading::Known(100.0 * used / f64::from(TICKS)),
            p99_ms: if asked { Reading::Known((waits + slowest) * 1000.0) } else { Reading::Idle },
            p99_requests: 1000,
            backlog: Reading::Known(self.in_flight),
        }
    }

    /// Starts and stops what was decided.
    fn follow(&mut self, second: u64) {
        let wanted = self.scaler.wanted() as usize;
        self.ready_at.resize(wanted, seconds_f64(second) + self.start_s);
    }

    /// How many instances bear this rate, with the tenth that a target may be exceeded by.
    fn needed(&self, rate: f64) -> u32 {
        let each = f64::from(self.settings.target.concurrency.unwrap_or(u32::MAX)) * 1.1;
        let enough = |count: &u32| {
            let count = f64::from(*count);
            rate <= count * MOST_PER_S && rate * ANSWER_S <= count * each
        };
        let count = (0..1000).find(enough).expect("the rates of these tests are small");
        count.clamp(self.settings.min, self.settings.max)
    }

    /// What must hold at every second.
    fn judge(&self) {
        let now = self.seconds.len() - 1;
        let Second { wanted, .. } = self.seconds[now];
        assert!((self.settings.min..=self.settings.max).contains(&wanted), "second {now}: {wanted} are wanted");
        if now == 0 || wanted >= self.seconds[now - 1].wanted {
            return;
        }
        // Seconds are counted roughly: the controller looks a moment later than it would take to count exactly.
        let within =
            |duration_ms: u64| &self.seconds[now.saturating_sub(usize::try_from(duration_ms / 1000).unwrap() - 1)..now];
        let most_needed = within(self.settings.down_after.as_ms()).iter().map(|second| second.needed).max().unwrap();
        assert!(wanted >= most_needed, "second {now}: {wanted} are wanted, {most_needed} were needed not long ago");
        let every = STEP_EVERY.min(std::time::Duration::from_millis(self.settings.down_after.as_ms()));
        let before =
            within(u64::try_from(every.as_millis()).unwrap()).iter().map(|second| second.wanted).max().unwrap();
        assert!(before - wanted <= before.div_ceil(4), "second {now}: from {before} to {wanted} is too fast");
    }

    /// How often the number changed.
    pub(super) fn changes(&self) -> usize {
        self.decisions.iter().filter(|(_, decision)| decision.kind != Kind::Limited).count()
    }

    /// The first second from `from` on in which enough are ready.
    pub(super) fn enough_at(&self, from: usize) -> Option<usize> {
        (from..self.seconds.len()).find(|second| self.seconds[*second].ready >= self.seconds[*second].needed)
    }

    /// Each decision with the load at that time and, if asked for, all its reasons.
    pub(super) fn transcript(&self, reasons: bool) -> String {
        let mut text = String::new();
        for (second, decision) in &self.decisions {
            let at = self.seconds[usize::try_from(*second).unwrap() - 1];
            let clock = format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60);
            let (rate, ready) = (at.rate, at.ready);
            writeln!(text, "{clock}  {rate:4.0}/s, {ready} ready: {} ({})", decision.message, decision.kind.as_str())
                .unwrap();
            for reason in decision.reasons.iter().filter(|_| reasons) {
                writeln!(text, "            {:?}: {}", reason.role, reason.text).unwrap();
            }
        }
        text
    }

    /// From 0 to 1, always the same.
    fn random(&mut self) -> f64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f64::from(u32::try_from(self.seed >> 32).unwrap()) / f64::from(u32::MAX)
    }
}

/// The settings with these windows.
pub(super) fn windows(settings: Elastic, up_s: u64, down_s: u64) -> Elastic {
    Elastic { up_after: Duration::s(up_s), down_after: Duration::s(down_s), ..settings }
}

pub(super) fn seconds_f64(seconds: u64) -> f64 {
    f64::from(u32::try_from(seconds).unwrap())
}
