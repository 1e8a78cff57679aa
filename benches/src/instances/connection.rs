//! One connection of an instance: what of a request has come, and what of an answer is still to be sent.

use std::sync::atomic::{AtomicU64, Ordering};

use rustix::{
    fd::OwnedFd,
    io::{Errno, retry_on_intr},
};

use crate::cases::{KIB, MIB};

/// Applications say when they answered; a proxy would have to say it in their place.
const DATE: &str = "Date: Fri, 20 Nov 2026 12:00:00 GMT\r\n";

/// Every answer that there is, head and body, and how many were given.
pub struct Answers<'a> {
    given: &'a AtomicU64,
    small: Vec<u8>,
    large: Vec<u8>,
    refused: Vec<u8>,
}

impl<'a> Answers<'a> {
    pub fn new(given: &'a AtomicU64) -> Self {
        let good = |bytes: u64| {
            let body = "x".repeat(usize::try_from(bytes).expect("a body fits into memory"));
            format!("HTTP/1.1 200 OK\r\n{DATE}Content-Type: text/plain\r\nContent-Length: {bytes}\r\n\r\n{body}")
                .into_bytes()
        };
        let refused = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n".to_vec();
        Self { given, small: good(KIB), large: good(MIB), refused }
    }
}

#[derive(Clone, Copy)]
enum Which {
    Small,
    Large,
    Refused,
}

pub struct Connection {
    fd: OwnedFd,
    /// The beginning of a head whose end has not come.
    head: Vec<u8>,
    /// What is still to come of a body.
    body_bytes: u64,
    /// The answer that the socket could not take whole, and how much of it went.
    unsent: Option<(Which, usize)>,
}

impl Connection {
    pub fn new(fd: OwnedFd) -> Self {
        Self { fd, head: Vec::new(), body_bytes: 0, unsent: None }
    }

    /// Sends and reads what can be sent and read now; false once the connection is over.
    pub fn go_on(&mut self, buffer: &mut [u8], answers: &Answers) -> bool {
        if let Some((which, sent)) = self.unsent.take()
            && !self.send(which, sent, answers)
        {
            return false;
        }
        while self.unsent.is_none() {
            match retry_on_intr(|| rustix::io::read(&self.fd, &mut *buffer)) {
                Ok(0) => return false,
                Ok(read) => {
                    if !self.take(&buffer[..read], answers) {
                        return false;
                    }
                    // A stream that gives less than was asked for is empty: epoll(7).
                    if read < buffer.len() {
                        return true;
                    }
                }
                Err(error) => return error == Errno::AGAIN,
            }
        }
        true
    }

    /// Takes in what has come, and answers every request that ends in it.
    fn take(&mut self, mut input: &[u8], answers: &Answers) -> bool {
        while !input.is_empty() {
            if self.body_bytes > 0 {
                let taken = input.len().min(usize::try_from(self.body_bytes).unwrap_or(usize::MAX));
                self.body_bytes -= taken as u64;
                input = &input[taken..];
                if self.body_bytes == 0 && !self.send(Which::Small, 0, answers) {
                    return false;
                }
                continue;
            }
            let before = self.head.len();
            let whole = if before == 0 {
                input
            } else {
                self.head.extend_from_slice(input);
                &self.head
            };
            let Some(end) = whole.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4) else {
                if before == 0 {
                    self.head.extend_from_slice(input);
                }
                return true;
            };
            let request = Request::of(&whole[..end]);
            input = &input[end - before..];
            self.head.clear();
            let answered = match request {
                Request::Body(bytes) => {
                    self.body_bytes = bytes;
                    true
                }
                Request::Answer(which) => self.send(which, 0, answers),
            };
            if !answered {
                return false;
            }
        }
        true
    }

    /// Nobody asks on before the answer has come, so that at most one waits to be sent.
    fn send(&mut self, which: Which, mut sent: usize, answers: &Answers) -> bool {
        let answer = match which {
            Which::Small => &answers.small,
            Which::Large => &answers.large,
            Which::Refused => &answers.refused,
        };
        if self.unsent.is_some() {
            return false;
        }
        while sent < answer.len() {
            match retry_on_intr(|| rustix::io::write(&self.fd, &answer[sent..])) {
                Ok(written) => sent += written,
                Err(Errno::AGAIN) => {
                    self.unsent = Some((which, sent));
                    return true;
                }
                Err(_) => return false,
            }
        }
        answers.given.fetch_add(1, Ordering::Relaxed);
        true
    }
}

enum Request {
    Answer(Which),
    /// A body of so many bytes comes first.
    Body(u64),
}

impl Request {
    /// What a whole head asks for. Of the fields only the body's length is looked at.
    fn of(head: &[u8]) -> Self {
        let path = |lead: &[u8]| head.strip_prefix(lead).map(|rest| rest.split(|&byte| byte == b' ').next());
        match (path(b"GET "), path(b"POST /post/")) {
            (Some(Some(b"/")), _) => Self::Answer(Which::Small),
            (Some(Some(b"/large")), _) => Self::Answer(Which::Large),
            (_, Some(Some(bytes))) => match (number(bytes), content_length(head)) {
                (Some(expected), Some(announced)) if expected == announced && expected > 0 => Self::Body(expected),
                _ => Self::Answer(Which::Refused),
            },
            _ => Self::Answer(Which::Refused),
        }
    }
}

fn content_length(head: &[u8]) -> Option<u64> {
    const NAME: &[u8] = b"content-length:";
    let mut lines = head.split(|&byte| byte == b'\n');
    let line = lines.find(|line| line.get(..NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME)))?;
    number(line[NAME.len()..].trim_ascii())
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}
