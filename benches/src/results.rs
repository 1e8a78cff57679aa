//! Everything that one run measured, as it is written to JSON, and what is read out of it.

use serde::{Deserialize, Serialize};

use crate::{idle::Idle, load::Load, machine::Machine, memory::Memory, syscalls::Calls};

#[derive(Debug, Serialize, Deserialize)]
pub struct Results {
    pub machine: Machine,
    /// Rounds that were counted, and how long each of them was.
    pub rounds: u32,
    pub seconds: u64,
    /// The first is the one that the others are compared with.
    pub contenders: Vec<Contender>,
    pub cases: Vec<Measured>,
    pub idle: Vec<Idle>,
    /// What went wrong, each with contender, case and round; then nothing here is to be quoted.
    pub wrong: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Contender {
    pub name: String,
    pub version: String,
    pub configuration: String,
}

/// One case: all rounds of all contenders.
#[derive(Debug, Serialize, Deserialize)]
pub struct Measured {
    pub name: String,
    pub title: String,
    pub rounds: Vec<Round>,
    pub calls: Vec<Calls>,
}

/// One contender in one round.
#[derive(Debug, Serialize, Deserialize)]
pub struct Round {
    pub contender: String,
    pub cpu_us_per_request: f64,
    pub per_second: f64,
    /// How much of its core the contender used: one that is far from 100 was not the bottleneck.
    pub busy_percent: f64,
    pub load: Load,
    /// Right after the round.
    pub memory: Memory,
}

/// Of all rounds.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    pub min: f64,
    pub median: f64,
    pub max: f64,
}

impl Spread {
    pub fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut all: Vec<f64> = values.collect();
        all.sort_by(f64::total_cmp);
        let median = f64::midpoint(*all.get(all.len().saturating_sub(1) / 2)?, all[all.len() / 2]);
        Some(Self { min: all[0], median, max: all[all.len() - 1] })
    }
}

impl Results {
    pub fn names(&self) -> Vec<&str> {
        self.contenders.iter().map(|contender| contender.name.as_str()).collect()
    }

    /// Bytes of user memory for each idle connection.
    pub fn idle_bytes(&self, contender: &str) -> Option<Spread> {
        Spread::of(self.idle_of(contender).map(Idle::bytes_per_connection))
    }

    pub fn idle_of<'a>(&'a self, contender: &'a str) -> impl Iterator<Item = &'a Idle> {
        self.idle.iter().filter(move |idle| idle.contender == contender)
    }
}

impl Measured {
    fn of<'a>(&'a self, contender: &'a str) -> impl Iterator<Item = &'a Round> {
        self.rounds.iter().filter(move |round| round.contender == contender)
    }

    pub fn spread(&self, contender: &str, value: impl Fn(&Round) -> f64) -> Option<Spread> {
        Spread::of(self.of(contender).map(value))
    }

    pub fn median(&self, contender: &str, value: impl Fn(&Round) -> f64) -> Option<f64> {
        self.spread(contender, value).map(|spread| spread.median)
    }

    pub fn cpu(&self, contender: &str) -> Option<Spread> {
        self.spread(contender, |round| round.cpu_us_per_request)
    }

    /// CPU time of one over that of the other, pair by pair within each round: what the machine did to a round it did to
    /// both.
    pub fn ratio(&self, one: &str, other: &str) -> Option<Spread> {
        let pairs = self.of(one).zip(self.of(other));
        Spread::of(pairs.map(|(one, other)| one.cpu_us_per_request / other.cpu_us_per_request))
    }

    pub fn calls(&self, contender: &str) -> Option<&Calls> {
        self.calls.iter().find(|calls| calls.contender == contender)
    }
}
