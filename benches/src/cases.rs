//! What is measured under load: how many connections ask for what.

/// The bytes of an answer, and of a body, by the name that a path gives them.
pub const KIB: u64 = 1024;
pub const MIB: u64 = 1024 * KIB;

/// One kind of load.
pub struct Case {
    /// Its name in options and in JSON.
    pub name: &'static str,
    /// What a reader calls it.
    pub title: &'static str,
    pub connections: u32,
    /// Bytes of the body that each request brings; none makes it a `GET`.
    pub body_bytes: Option<u64>,
    /// Bytes of each answer's body.
    pub answer_bytes: u64,
    /// Whether each request is the only one of its connection.
    pub close: bool,
    /// How long it takes until all connections are open; nothing is counted meanwhile.
    pub settle_s: u64,
}

const KEEP_ALIVE: Case =
    Case { name: "", title: "", connections: 0, body_bytes: None, answer_bytes: KIB, close: false, settle_s: 0 };

/// In the order in which they are measured and shown.
pub const CASES: [Case; 9] = [
    Case { name: "keep-alive-1", title: "keep-alive, 1 connection", connections: 1, ..KEEP_ALIVE },
    Case { name: "keep-alive-64", title: "keep-alive, 64 connections", connections: 64, ..KEEP_ALIVE },
    Case { name: "keep-alive-256", title: "keep-alive, 256 connections", connections: 256, ..KEEP_ALIVE },
    Case {
        name: "keep-alive-5000",
        title: "keep-alive, 5,000 connections",
        connections: 5000,
        settle_s: 2,
        ..KEEP_ALIVE
    },
    Case { name: "close-64", title: "a connection each, 64", connections: 64, close: true, ..KEEP_ALIVE },
    Case { name: "answer-1m", title: "answers of 1 MiB, 16", connections: 16, answer_bytes: MIB, ..KEEP_ALIVE },
    Case { name: "post-1k", title: "POST of 1 KiB, 64", connections: 64, body_bytes: Some(KIB), ..KEEP_ALIVE },
    Case { name: "post-64k", title: "POST of 64 KiB, 64", connections: 64, body_bytes: Some(64 * KIB), ..KEEP_ALIVE },
    Case { name: "post-1m", title: "POST of 1 MiB, 16", connections: 16, body_bytes: Some(MIB), ..KEEP_ALIVE },
];

impl Case {
    /// The path asked for, from which an instance knows what to answer and what to expect.
    pub fn path(&self) -> String {
        match self.body_bytes {
            Some(bytes) => format!("/post/{bytes}"),
            None if self.answer_bytes == MIB => "/large".to_owned(),
            None => "/".to_owned(),
        }
    }
}
