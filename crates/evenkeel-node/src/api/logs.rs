//! `GET /v1/logs`: lines of output, one JSON document a line, and what follows where asked.
//!
//! For `edge`, `node` and the like, which write no output of their own, the lines are those of the journal.

use axum::{
    body::{Body, Bytes},
    extract::{Query, State, rejection::QueryRejection},
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};
use evenkeel_core::journal::Entry;
use http_body_util::channel::{Channel, Sender};
use serde::Deserialize;
use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::{Api, error::ApiError};
use crate::{
    clock::wall_now,
    journal,
    logs::{Line, Search},
    node::Command,
};

/// The most lines of one answer.
const MAX_LINES: usize = 100_000;

/// Lines sent at once.
const CHUNK: usize = 500;

#[derive(Debug, Deserialize)]
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
        tokio::spawn(stream_journal(api, wanted.subject, search, follow, sender));
    } else {
        tokio::spawn(stream_output(api, wanted.subject, search, follow, sender));
    }
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], Body::new(body)).into_response())
}

async fn stream_output(api: Api, subject: String, search: Search, follow: bool, mut to: Sender<Bytes>) {
    // Subscribed before the search, so that no line falls between the two.
    let mut follower = follow.then(|| api.logs.follow());
    let (logs, wanted) = (api.logs.clone(), search.clone());
    let found = tokio::task::spawn_blocking(move || logs.search(&wanted)).await.unwrap_or_default();
    let last = found.last().map(|line| line.at);
    if !send(&mut to, &found).await {
        return;
    }
    let Some(follower) = &mut follower else { return };
    loop {
        let Some(line) = next(follower, &mut to).await else {
            return;
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

/// The next line of any instance; says so where some were missed. `None` when either side is gone.
async fn next(follower: &mut Receiver<Line>, to: &mut Sender<Bytes>) -> Option<Line> {
    loop {
        match follower.recv().await {
            Ok(line) => return Some(line),
            Err(RecvError::Closed) => return None,
            Err(RecvError::Lagged(n)) => {
                let text = format!("({n} lines were left out: this follower was too slow)");
                if !send(to, &[Line { at: wall_now(), instance: "node".into(), text }]).await {
                    return None;
                }
            }
        }
    }
}

async fn stream_journal(api: Api, subject: String, search: Search, follow: bool, mut to: Sender<Bytes>) {
    let mut newest = api.journal.newest();
    let limit = u32::try_from(search.lines).unwrap_or(u32::MAX);
    let mut query = journal::Query { after: None, limit, subject: Some(subject) };
    loop {
        newest.borrow_and_update();
        let entries = api.journal.read(query.clone()).await;
        query.after = Some(entries.last().map_or_else(|| query.after.unwrap_or(0), |entry| entry.id));
        query.limit = 1000;
        let lines: Vec<Line> = entries.iter().map(as_line).collect();
        let matching = |line: &Line| search.grep.as_ref().is_none_or(|text| line.text.contains(text));
        let lines: Vec<Line> = lines.into_iter().filter(matching).collect();
        if !send(&mut to, &lines).await || !follow || newest.changed().await.is_err() {
            return;
        }
    }
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
