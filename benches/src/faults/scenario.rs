//! One fault under load, and what came of it.

use std::{
    error::Error,
    fmt, fs, io,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    Options,
    instance::Instances,
    open_loop::{Kind, OpenLoop, Seen},
    peer::Peer,
};

/// When the fault happens, from the start of the load.
const AT: Duration = Duration::from_secs(2);
/// How long an instance stays frozen or dead.
const LASTS: Duration = Duration::from_secs(3);
/// The whole load.
const TIME: Duration = Duration::from_secs(8);
/// Reloads in a run, a second apart.
const RELOADS: u32 = 5;
/// Throughput is looked at in steps of this length; it is back once five in a row are good.
const STEP: Duration = Duration::from_millis(20);

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `SIGSTOP` of one of three, for three seconds.
    Freeze,
    /// `SIGKILL` of one of three, which comes again after three seconds.
    Kill,
    /// Five reloads of a changed configuration.
    Reload,
}

impl Fault {
    pub fn named(name: &str) -> Result<Self, String> {
        match name {
            "freeze" => Ok(Self::Freeze),
            "kill" => Ok(Self::Kill),
            "reload" => Ok(Self::Reload),
            _ => Err(format!("there is no fault {name}; there are freeze, kill and reload")),
        }
    }
}

/// One run.
pub struct Scenario<'a> {
    pub fault: Fault,
    pub options: &'a Options,
    pub folder: &'a Path,
}

/// What one run showed.
pub struct Outcome {
    pub name: &'static str,
    pub fault: Fault,
    pub gets: usize,
    pub failed: usize,
    /// Of all kinds, since too many waited.
    pub unsent: usize,
    pub p99: Duration,
    pub worst: Duration,
    /// From the fault until throughput was whole again.
    pub back: Duration,
    pub posts: usize,
    pub posts_failed: usize,
    pub posts_twice: usize,
    /// Slow requests at instances that were well which were begun more than once, or failed.
    pub slow_touched: usize,
    pub failures: String,
}

impl Scenario<'_> {
    pub fn run(&self, peer: &Peer, mut instances: Instances) -> Result<Outcome, Box<dyn Error>> {
        let mut load = OpenLoop::new(peer.port)?;
        let mut done = 0;
        let mut at = |since: Duration| -> io::Result<()> {
            let wrong = |error: Box<dyn Error>| io::Error::other(error.to_string());
            match (self.fault, done) {
                (Fault::Freeze, 0) if since >= AT => instances.signal(Signal::STOP).map_err(wrong)?,
                (Fault::Freeze, 1) if since >= AT + LASTS => instances.signal(Signal::CONT).map_err(wrong)?,
                (Fault::Kill, 0) if since >= AT => instances.signal(Signal::KILL).map_err(wrong)?,
                (Fault::Kill, 1) if since >= AT + LASTS => instances.start_again().map_err(wrong)?,
                (Fault::Reload, done) if done < RELOADS && since >= AT + Duration::from_secs(1) * done => {
                    self.reload(peer, done).map_err(wrong)?;
                }
                _ => return Ok(()),
            }
            done += 1;
            Ok(())
        };
        load.run(self.options.per_second, TIME, &mut at)?;
        self.outcome(peer, &load.seen, &instances)
    }

    /// Changes the configuration and lets the contender take it over; does not wait for that.
    fn reload(&self, peer: &Peer, number: u32) -> Result<(), Box<dyn Error>> {
        let signal = |signal| kill_process(Pid::from_raw(peer.pid().cast_signed()).expect("it runs"), signal);
        let changed = |file: &str, text: String| fs::write(self.folder.join(file), text);
        let configuration = &peer.configuration;
        match peer.name {
            "nginx" => {
                let location = format!("    location /reload-{number} {{ return 204; }}\n    location / {{");
                changed("nginx.conf", configuration.replacen("    location / {", &location, 1))?;
                signal(Signal::HUP)?;
            }
            "haproxy" => {
                let rule = format!("  http-request return status 204 if {{ path /reload-{number} }}\n  balance");
                changed("haproxy.cfg", configuration.replacen("  balance", &rule, 1))?;
                signal(Signal::USR2)?;
            }
            _ => {
                let route = format!("[[routes]]\npath = \"/reload-{number}\"\nservice = \"app\"\n");
                changed("keel.toml", format!("{configuration}\n{route}\n[[routes]]\nservice = \"app\"\n"))?;
                let (file, state) = (self.folder.join("keel.toml"), self.folder.join("state"));
                let mut apply = Command::new(&self.options.keel);
                apply.arg("apply").arg(file).arg("--state-dir").arg(state).stdin(Stdio::null());
                let log = fs::File::create(self.folder.join(format!("apply-{number}")))?;
                let mut child = apply.stdout(log.try_clone()?).stderr(log).spawn()?;
                let said = self.folder.join(format!("apply-{number}"));
                std::thread::spawn(move || {
                    if !child.wait().is_ok_and(|status| status.success()) {
                        eprintln!("keel apply failed: {}", fs::read_to_string(said).unwrap_or_default());
                    }
                });
            }
        }
        Ok(())
    }

    fn outcome(&self, peer: &Peer, seen: &Seen, instances: &Instances) -> Result<Outcome, Box<dyn Error>> {
        let of = |kind: Kind| seen.samples.iter().filter(move |sample| sample.kind == kind);
        let mut gets: Vec<Duration> = of(Kind::Get).map(|sample| sample.took).collect();
        gets.sort();
        let failed = |kind: Kind| of(kind).filter(|sample| !sample.good).count();
        let begun = instances.begun()?;
        let twice = |lead: &str, anywhere: bool| {
            let those = begun.iter().filter(|(name, (_, first))| name.starts_with(lead) && (anywhere || !first));
            those.filter(|(_, (count, _))| *count > 1).count()
        };
        let failures = seen.failures.iter().map(|((kind, what), count)| format!("{count} × {kind:?} {what}"));
        Ok(Outcome {
            name: peer.name,
            fault: self.fault,
            gets: gets.len(),
            failed: failed(Kind::Get),
            unsent: seen.unsent,
            p99: gets[gets.len() * 99 / 100],
            worst: gets[gets.len() - 1],
            back: self.back(seen),
            posts: of(Kind::Post).count(),
            posts_failed: failed(Kind::Post),
            posts_twice: twice("/order/", true),
            slow_touched: twice("/slow/", false),
            failures: failures.collect::<Vec<_>>().join(", "),
        })
    }

    /// From the fault to the end of the last step before five in a row with nine tenths of the answers that are due.
    fn back(&self, seen: &Seen) -> Duration {
        let steps = usize::try_from((TIME.as_millis() / STEP.as_millis()) + 1).expect("few");
        let mut answers = vec![0_u32; steps];
        for sample in seen.samples.iter().filter(|sample| sample.kind == Kind::Get && sample.good) {
            let step = (sample.due + sample.took).as_millis() / STEP.as_millis();
            if let Some(count) = usize::try_from(step).ok().and_then(|step| answers.get_mut(step)) {
                *count += 1;
            }
        }
        let wanted = self.options.per_second * u32::try_from(STEP.as_millis()).expect("small") / 1_000 * 9 / 10;
        let first = usize::try_from(AT.as_millis() / STEP.as_millis()).expect("few");
        let after = &answers[first..];
        let whole = after.windows(5).position(|five| five.iter().all(|&count| count >= wanted));
        whole.map_or(TIME, |steps| STEP * u32::try_from(steps).expect("few"))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} {:8} {} GETs, {} failed, {} not sent, p99 {:.1?}, worst {:.1?}, back after {:.0?}; {} POSTs, {} failed, {} twice; \
             {} slow ones touched; {}",
            self.fault,
            self.name,
            self.gets,
            self.failed,
            self.unsent,
            self.p99,
            self.worst,
            self.back,
            self.posts,
            self.posts_failed,
            self.posts_twice,
            self.slow_touched,
            self.failures
        )
    }
}
