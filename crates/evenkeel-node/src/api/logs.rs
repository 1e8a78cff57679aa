//! `GET /v1/logs`: lines of output, one JSON document a line, and what follows where asked.
//!
//! For `edge`, `node` and the like, which write no output of their own, the lines are those of the journal.

use std::time::Duration;

use axum::{
    Extension,
    body::{Body, Bytes},
    extract::{Query, State, rejection::QueryRejection},
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};
use evenkeel_core::journal::Entry;
use http_body_util::channel::{Channel, Sender};
use serde::Deserialize;
use tokio::{sync::broadcast::error::RecvError, time::interval};

use super::{Api, Endless, error::ApiError};
use crate::{
    clock::wall_now,
    journal::{self, Journal},
    logs::{Line, Logs, Search},
    node::Command,
};

/// The most lines of one answer.
const MAX_LINES: usize = 100_000;

/// How often it is looked whether a follower that has got no line for a while is still there.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Lines sent at once.
const CHUNK: usize = 500;

#[derive(Debug, Deserialize, schemars::JsonSchema)]
pub(super) struct Wanted {
    #[serde(default)]
    subject: String,
    lines: Option<usize>,
    grep: Option<String>,
    #[serde(default)]
    follow: bool,
}

/// Streams lines, oldest first. Without a subject these are those of all instances.
pub(super) async fn lines(
    State(api): State<Api>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(wanted) = wanted?;
    let subject = wanted.subject.clone();
    let instances = api.commands.ask(|reply| Command::Instances { subject, reply }).await;
    let instances = instances.ok_or_else(ApiError::ending)??;
    let of_journal = instances.is_empty() && matches!(wanted.subject.as_str(), "edge" | "node" | "stack");
    let search = Search {
        instances,
        lines: wanted.lines.unwrap_or(100).min(MAX_LINES),
        grep: wanted.grep.filter(|text| !text.is_empty()),
    };
    let (sender, body) = Channel::<Bytes>::new(16);
    let follow = wanted.follow;
    if of_journal {
        tokio::spawn(stream_journal(api.journal, wanted.subject, search, follow, sender));
    } else {
        tokio::spawn(stream_output(api.logs, wanted.subject, search, follow, sender));
    }
    let answer = ([(CONTENT_TYPE, "application/x-ndjson")], Body::new(body));
    Ok(if follow { (Extension(Endless), answer).into_response() } else { answer.into_response() })
}

async fn stream_output(logs: Logs, subject: String, search: Search, follow: bool, mut to: Sender<Bytes>) {
    // Subscribed before the search, so that no line falls between the two.
    let mut follower = follow.then(|| logs.follow());
    let wanted = search.clone();
    let found = tokio::task::spawn_blocking(move || logs.search(&wanted)).await.unwrap_or_default();
    let last = found.last().map(|line| line.at);
    if !send(&mut to, &found).await {
        return;
    }
    let Some(follower) = &mut follower else { return };
    let mut look = interval(LOOK_EVERY);
    loop {
        let received = tokio::select! {
            received = follower.recv() => received,
            _ = look.tick() => {
                if is_read(&mut to).await {
                    continue;
                }
                return;
            }
        };
        let line = match received {
            Ok(line) => line,
            Err(RecvError::Closed) => return,
            Err(RecvError::Lagged(n)) => {
                let text = format!("({n} lines were left out: this follower was too slow)");
                if !send(&mut to, &[Line { at: wall_now(), instance: "node".into(), text }]).await {
                    return;
                }
                continue;
            }
        };
        let of_service = line.instance.strip_prefix(subject.as_str()).is_some_and(|rest| rest.starts_with('/'));
        let wanted = subject.is_empty() || *line.instance == *subject || of_service;
        let matching = search.grep.as_ref().is_none_or(|text| line.text.contains(text));
        // What the search found already is not said twice.
        let known = last.is_some_and(|last| line.at <= last) && found.contains(&line);
        if wanted && matching && !known && !send(&mut to, &[line]).await {
            return;
        }
    }
}

async fn stream_journal(journal: Journal, subject: String, search: Search, follow: bool, mut to: Sender<Bytes>) {
    let mut newest = journal.newest();
    let mut look = interval(LOOK_EVERY);
    let limit = u32::try_from(search.lines).unwrap_or(u32::MAX);
    let mut query = journal::Query { limit, subject: Some(subject), ..journal::Query::default() };
    loop {
        newest.borrow_and_update();
        let entries = journal.read(query.clone()).await;
        query.after = Some(entries.last().map_or_else(|| query.after.unwrap_or(0), |entry| entry.id));
        query.limit = 1000;
        let lines: Vec<Line> = entries.iter().map(as_line).collect();
        let matching = |line: &Line| search.grep.as_ref().is_none_or(|text| line.text.contains(text));
        let lines: Vec<Line> = lines.into_iter().filter(matching).collect();
        if !send(&mut to, &lines).await || !follow {
            return;
        }
        loop {
            tokio::select! {
                changed = newest.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                _ = look.tick() => if !is_read(&mut to).await {
                    return;
                }
            }
        }
    }
}

/// Whether somebody still reads: an empty piece goes into no answer, but finds its way closed.
async fn is_read(to: &mut Sender<Bytes>) -> bool {
    to.send_data(Bytes::new()).await.is_ok()
}

fn as_line(entry: &Entry) -> Line {
    let text = format!("{} {}: {}", entry.level, entry.kind, entry.message);
    Line { at: entry.at, instance: entry.subject.as_str().into(), text }
}

/// Sends lines; `false` when nobody reads any more.
async fn send(to: &mut Sender<Bytes>, lines: &[Line]) -> bool {
    for chunk in lines.chunks(CHUNK) {
        let mut text = Vec::new();
        for line in chunk {
            serde_json::to_writer(&mut text, line).expect("a line is plain text");
            text.push(b'\n');
        }
        if to.send_data(Bytes::from(text)).await.is_err() {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::Limits;

    /// One who follows what says nothing, and goes away.
    #[tokio::test]
    async fn a_follower_that_went_away_is_forgotten() {
        let temp = tempfile::tempdir().unwrap();
        let logs = Logs::open(temp.path().to_owned(), Limits { size_bytes: 1 << 20, files: 2 }).unwrap();
        let journal = Journal::open(&temp.path().join("journal.db"), 8 << 20).unwrap();
        let search = Search { instances: Vec::new(), lines: 10, grep: None };
        let (sender, body) = Channel::<Bytes>::new(1);
        let (other, other_body) = Channel::<Bytes>::new(1);
        let output = tokio::spawn(stream_output(logs, "shop".to_owned(), search.clone(), true, sender));
        let entries = tokio::spawn(stream_journal(journal, "edge".to_owned(), search, true, other));
        tokio::task::yield_now().await;
        drop((body, other_body));
        let both = async { tokio::join!(output, entries) };
        let ended = tokio::time::timeout(Duration::from_secs(20), both).await.expect("both end");
        assert!(ended.0.is_ok() && ended.1.is_ok());
    }
}
