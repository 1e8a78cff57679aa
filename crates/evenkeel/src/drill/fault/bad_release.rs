//! A deploy of a release that passes its checks and fails every request.
//!
//! Ordered as `keel deploy` does it, through the API. What it runs is this binary (see `failing`). That it is taken back
//! is the work of a process of its own (see `withdraw`), which does so also when this one is gone. Whether a request
//! ever reached it, it says itself, since a deploy may be over before anybody has counted: without that nothing is
//! rehearsed.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use evenkeel_core::{
    drill::{Plan, stages},
    stack::Service,
    status::{ServiceStatus, Status},
};
use tokio::{io::AsyncReadExt, net::TcpListener, task::JoinHandle};

use super::{
    Aim, Doing, FaultError, Harm, Means,
    helper::{Helper, Undo},
};
use crate::{
    api::Api,
    drill::{
        control::Control,
        withdraw::{self, Args, PATIENCE, Told},
    },
    running::Running,
};

/// How long the drill itself tries where the withdrawal has failed.
const AGAIN: Duration = Duration::from_secs(30);

/// A release that is about to be deployed.
struct Ready<'a> {
    plan: &'a Plan,
    control: &'a Control,
    run: Vec<String>,
    asked: Asked,
    withdrawal: Withdrawal,
}

/// A release that was deployed.
struct Deployed<'a> {
    plan: &'a Plan,
    number: u64,
    /// `None` once it was taken back.
    withdrawal: Option<Withdrawal>,
    /// What the last status said of it.
    told: String,
    asked: Asked,
    /// Whether it was told that a request has reached it.
    tried: bool,
}

/// Where the release says that a request has reached it.
struct Asked {
    by: SocketAddr,
    yes: Arc<AtomicBool>,
    listening: JoinHandle<()>,
}

/// The process that takes the release back.
struct Withdrawal {
    helper: Helper,
    told: Arc<Mutex<Told>>,
}

/// The same from here.
#[derive(Debug)]
struct Back {
    api: Api,
    args: Args,
    told: Arc<Mutex<Told>>,
}

/// Prepares the release and its withdrawal.
pub(super) async fn aim<'a>(means: Means<'a>) -> Result<Box<dyn Aim<'a> + 'a>, FaultError> {
    let Means { plan, control, .. } = means;
    let stack = control.stack().await.map_err(|failure| FaultError::Stack(failure.what().to_owned()))?;
    let binary = std::env::current_exe().map_err(FaultError::Helper)?;
    let mark = format!("{:x}-{:x}", crate::words::now().as_millis(), std::process::id());
    let mut run = vec![binary.display().to_string(), "__failing".to_owned(), "--mark".to_owned(), mark.clone()];
    let asked = Asked::listen(mark.clone()).await.map_err(FaultError::Helper)?;
    run.extend(["--tell".to_owned(), asked.by.to_string()]);
    run.extend(stack.services.get(&plan.subject.service).map(probed).unwrap_or_default());
    let withdrawal = Withdrawal::start(plan, control, mark).await?;
    Ok(Box::new(Ready { plan, control, run, asked, withdrawal }))
}

/// The arguments that let it pass the service's checks.
fn probed(service: &Service) -> Vec<String> {
    let check = service.check.as_ref().and_then(|check| check.http.clone());
    let liveness = service.liveness.as_ref().and_then(|liveness| liveness.http.clone());
    let mut arguments = Vec::new();
    for path in check.into_iter().chain(liveness) {
        let path = path.split('?').next().unwrap_or_default().to_owned();
        arguments.extend(["--well".to_owned(), path]);
    }
    if let Some((lowest, _)) = service.check.as_ref().and_then(|check| check.status) {
        arguments.extend(["--status".to_owned(), lowest.to_string()]);
    }
    arguments
}

impl<'a> Aim<'a> for Ready<'a> {
    fn fire(self: Box<Self>) -> Doing<'a, Result<(Box<dyn Harm + 'a>, String), FaultError>> {
        Box::pin(async move {
            let Self { plan, control, run, asked, mut withdrawal } = *self;
            let service = &plan.subject.service;
            withdrawal.tell("deploy", |told| told.ordered = true).await?;
            let number = control.deploy(service, &run).await;
            let number = number.map_err(|failure| FaultError::Stack(failure.what().to_owned()))?;
            withdrawal.tell(&format!("release {number}"), |told| told.release = Some(number)).await?;
            let text = format!("release {number} of {service} is being deployed, which fails every request");
            let told = String::new();
            let harm = Deployed { plan, number, withdrawal: Some(withdrawal), told, asked, tried: false };
            Ok((Box::new(harm) as Box<dyn Harm>, text))
        })
    }
}

impl Deployed<'_> {
    fn look(&mut self, service: &ServiceStatus) -> Vec<(&'static str, String)> {
        let mut told = Vec::new();
        if self.asked.yes.load(Ordering::Relaxed) && !self.tried {
            self.tried = true;
            told.push((stages::TRIED, format!("a request has reached release {}", self.number)));
        }
        let Some(deploy) = service.deploy.as_ref().filter(|deploy| deploy.release == self.number) else { return told };
        let words = deploy.held.clone().unwrap_or_else(|| deploy.phase.clone());
        if words != self.told {
            told.push(("deploy", deploy.held.clone().unwrap_or_else(|| deploy.message.clone())));
            self.told = words;
        }
        told
    }
}

impl Harm for Deployed<'_> {
    fn lasts(&self) -> bool {
        self.withdrawal.is_some()
    }

    fn goes_on<'h>(
        &'h mut self,
        status: Option<&'h Status>,
    ) -> Doing<'h, Result<Vec<(&'static str, String)>, FaultError>> {
        let of = |service: &&ServiceStatus| service.name == self.plan.subject.service;
        let service = status.and_then(|status| status.services.iter().find(of));
        let stages = service.map(|service| self.look(service)).unwrap_or_default();
        Box::pin(async { Ok(stages) })
    }

    fn release(&mut self) -> Doing<'_, ()> {
        Box::pin(async {
            if let Some(withdrawal) = self.withdrawal.take() {
                withdrawal.helper.finish().await;
            }
        })
    }
}

impl Asked {
    async fn listen(mark: String) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let (by, yes) = (listener.local_addr()?, Arc::<AtomicBool>::default());
        let heard = Arc::clone(&yes);
        let listening = tokio::spawn(async move {
            // Whoever else connects does not know the mark.
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut said = vec![0; mark.len()];
                let read = tokio::time::timeout(Duration::from_secs(1), stream.read_exact(&mut said)).await;
                if matches!(read, Ok(Ok(_))) && said == mark.as_bytes() {
                    heard.store(true, Ordering::Relaxed);
                }
            }
        });
        Ok(Self { by, yes, listening })
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Withdrawal {
    async fn start(plan: &Plan, control: &Control, mark: String) -> Result<Self, FaultError> {
        let (service, former) = (plan.subject.service.clone(), plan.subject.generation);
        let words = [&service, &former.to_string(), &mark, "--state-dir"].map(std::ffi::OsString::from);
        let arguments: Vec<_> = words.into_iter().chain([control.state_dir().into()]).collect();
        let told = Arc::<Mutex<Told>>::default();
        let args = Args { service, former, mark };
        let undo = Back { api: control.api().clone(), args, told: Arc::clone(&told) };
        let helper = Helper::start(control.helpers(), "withdraw", &arguments, Box::new(undo)).await?;
        Ok(Self { helper, told })
    }

    /// Tells it, and remembers that.
    async fn tell(&mut self, words: &str, change: impl FnOnce(&mut Told)) -> Result<(), FaultError> {
        change(&mut self.told.lock().unwrap_or_else(PoisonError::into_inner));
        self.helper.tell(words).await.map_err(|source| FaultError::Broken { name: "withdraw", source })
    }
}

impl Undo for Back {
    fn within(&self) -> Duration {
        PATIENCE + AGAIN
    }

    fn again(&self) -> Doing<'_, Result<(), String>> {
        let told = *self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let api = move || {
            let state_dir = self.api.state_dir();
            // Whoever runs the stack may be another one by now.
            Ok(Running::in_dir(state_dir).map_or_else(|| self.api.clone(), |running| Api::of(&running)))
        };
        Box::pin(async move {
            let done = withdraw::withdraw(&api, &self.args, told, AGAIN).await;
            done.map_err(|failure| failure.what().to_owned())
        })
    }

    fn by_hand(&self) -> String {
        format!("take it back by hand: keel rollback {} --to {}", self.args.service, self.args.former)
    }
}
