//! Sabotage: one rule switched off, so that a test can show that its invariant notices.
//!
//! The shells ask at one place each whether their rule is on. A run of the simulator has none of them; only tests
//! and `--sabotage` do.

/// A rule that is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// Requests go to any instance, whatever its verdict.
    IgnoreVerdict,
    /// A node process that starts again does not adopt what runs.
    ForgetProcesses,
    /// A number that is used again starts at generation one.
    ForgetGenerations,
    /// The minimum rule of ejection always sees room.
    IgnoreMinimum,
    /// An instance on its own is never brought back early.
    IgnoreLastOnes,
    /// Probes that the silence rule asks for are reported as failed.
    AccuseWithoutProof,
    /// The silence rule is never told what traffic shows.
    DeafToSilence,
    /// Processes are not started again.
    DropRestarts,
    /// Gives up with fewer fruitless exits than were configured.
    GiveUpEarly,
    /// Exits are answered at once.
    NoBackOff,
    /// The edge's reports about liveness are lost.
    DropLiveness,
    /// Every request may be sent again.
    RepeatAnything,
    /// No request is sent again.
    RepeatNothing,
    /// The retry budget is always used up.
    NoBudget,
    /// A rollout takes a new instance for ready as soon as it was created.
    BelieveNewOnes,
    /// A stop does not wait until requests are finished.
    StopAtOnce,
    /// A node process that starts again does not know how many instances were wanted.
    ForgetWanted,
    /// Instances go as soon as they are not needed.
    FewerAtOnce,
    /// No load makes a service larger.
    NeverMore,
    /// A pause stops nothing.
    IgnorePauses,
}

impl Sabotage {
    /// All of them with their names.
    pub const ALL: [(Self, &'static str); 20] = [
        (Self::IgnoreVerdict, "ignore-verdict"),
        (Self::ForgetProcesses, "forget-processes"),
        (Self::ForgetGenerations, "forget-generations"),
        (Self::IgnoreMinimum, "ignore-minimum"),
        (Self::IgnoreLastOnes, "ignore-last-ones"),
        (Self::AccuseWithoutProof, "accuse-without-proof"),
        (Self::DeafToSilence, "deaf-to-silence"),
        (Self::DropRestarts, "drop-restarts"),
        (Self::GiveUpEarly, "give-up-early"),
        (Self::NoBackOff, "no-back-off"),
        (Self::DropLiveness, "drop-liveness"),
        (Self::RepeatAnything, "repeat-anything"),
        (Self::RepeatNothing, "repeat-nothing"),
        (Self::NoBudget, "no-budget"),
        (Self::BelieveNewOnes, "believe-new-ones"),
        (Self::StopAtOnce, "stop-at-once"),
        (Self::ForgetWanted, "forget-wanted"),
        (Self::FewerAtOnce, "fewer-at-once"),
        (Self::NeverMore, "never-more"),
        (Self::IgnorePauses, "ignore-pauses"),
    ];

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(_, known)| *known == name);
        found.map(|(sabotage, _)| *sabotage)
    }
}
