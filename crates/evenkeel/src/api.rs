//! The client of the node process's API on the control socket.
//!
//! While the node process is being restarted its socket refuses for a moment, so a call waits a little and says
//! so. One that accepts and stays silent is given up on soon, since nobody should wait for a frozen process to
//! tell how things are. Errors of the API come as `{"error", "hint"}` and become failures with the same words.

use std::{
    fmt::Write,
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use evenkeel_core::{journal::Entry, status::Status};
use http_body_util::BodyExt;
use hyper::{
    StatusCode,
    body::{Body, Bytes, Incoming},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    failure::{Exit, Failure},
    http::{Answer, Ask, Connection, HttpError},
    process,
    running::Running,
};

/// How long an answer about the present may take.
const ANSWER_WAIT: Duration = Duration::from_secs(2);
/// How long an answer may take that needs work first: a change, or a search through logs.
const WORK_WAIT: Duration = Duration::from_secs(30);
/// How long the socket may refuse before we give up. A node process that died is back well within it.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// The API of one running stack.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    running: Running,
    socket: PathBuf,
}

/// A page of the journal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Events {
    /// Oldest first.
    pub(crate) entries: Vec<Entry>,
    /// What to ask after for the next page.
    pub(crate) next: u64,
}

/// An error as the API says it.
#[derive(Deserialize)]
struct ApiError {
    error: String,
    hint: Option<String>,
}

impl Api {
    /// Of this stack. Nothing is connected yet.
    pub(crate) fn of(running: &Running) -> Self {
        Self { running: running.clone(), socket: running.socket() }
    }

    /// Where the stack keeps its state.
    pub(crate) fn state_dir(&self) -> &Path {
        &self.running.state_dir
    }

    /// Where that stack runs.
    pub(crate) fn running(&self) -> &Running {
        &self.running
    }

    /// How the stack is.
    pub(crate) async fn status(&self) -> Result<Status, Failure> {
        self.get("/v1/status").await
    }

    /// How the stack is, asked once without patience: for those who ask again and again.
    pub(crate) async fn status_now(&self) -> Result<Status, HttpError> {
        let mut connection = self.running.connect().await?;
        let answer = connection.ask(Ask::get("/v1/status"), ANSWER_WAIT).await?;
        serde_json::from_slice(&answer.body).map_err(|error| HttpError::Body(error.into()))
    }

    /// `GET` a target and reads its JSON.
    pub(crate) async fn get<T: DeserializeOwned>(&self, target: &str) -> Result<T, Failure> {
        self.get_within(target, ANSWER_WAIT).await
    }

    /// The same where the node process holds the answer back until there is something to say.
    pub(crate) async fn get_within<T: DeserializeOwned>(&self, target: &str, wait: Duration) -> Result<T, Failure> {
        read(&succeeded(self.exchange(Ask::get(target), wait).await?)?)
    }

    /// Asks and returns the answer, whatever its status.
    pub(crate) async fn ask(&self, ask: Ask<'_>) -> Result<Answer, Failure> {
        self.exchange(ask, WORK_WAIT).await
    }

    /// Asks; an answer other than 2xx is a failure.
    pub(crate) async fn succeed(&self, ask: Ask<'_>) -> Result<Answer, Failure> {
        succeeded(self.ask(ask).await?)
    }

    async fn exchange(&self, ask: Ask<'_>, wait: Duration) -> Result<Answer, Failure> {
        self.connect().await?.ask(ask, wait).await.map_err(|error| self.unreachable(&error))
    }

    /// `POST`s a body as it comes, and reads the answer's JSON.
    pub(crate) async fn send<T, B>(&self, target: &str, body: B) -> Result<T, Failure>
    where
        T: DeserializeOwned,
        B: Body<Data = Bytes, Error = io::Error> + Send + 'static,
    {
        let sent = self.connect().await?.send(target, body).await;
        read(&succeeded(sent.map_err(|error| self.unreachable(&error))?)?)
    }

    /// `GET` a target whose answer is one JSON document a line, as they come.
    pub(crate) async fn stream(&self, target: &str) -> Result<Lines, Failure> {
        let mut connection = self.connect().await?;
        let opened = tokio::time::timeout(WORK_WAIT, connection.open(Ask::get(target))).await;
        let opened = opened.unwrap_or(Err(HttpError::Timeout(WORK_WAIT)));
        let response = opened.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let mut body = response.into_body();
        if status.is_success() {
            return Ok(Lines { _connection: connection, body, buffer: Vec::new() });
        }
        let mut text = Vec::new();
        while let Some(Ok(frame)) = body.frame().await {
            text.extend_from_slice(&frame.into_data().unwrap_or_default());
        }
        Err(refused(status, &text))
    }

    /// Connects; waits a little where the node process is just being restarted.
    async fn connect(&self) -> Result<Connection, Failure> {
        let deadline = Instant::now() + CONNECT_PATIENCE;
        let mut said = false;
        loop {
            match self.running.connect().await {
                Ok(connection) => return Ok(connection),
                Err(_) if self.is_gone() => return Err(self.gone()),
                Err(error) if Instant::now() >= deadline => return Err(self.unreachable(&error)),
                Err(_) => {}
            }
            let waited = CONNECT_PATIENCE.saturating_sub(deadline - Instant::now());
            if !said && waited > Duration::from_secs(1) && std::io::stderr().is_terminal() {
                said = true;
                eprintln!("the node process does not answer yet; waiting up to {} s", CONNECT_PATIENCE.as_secs());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// That the stack has ended, if it has.
    pub(crate) fn end(&self) -> Option<Failure> {
        self.is_gone().then(|| self.gone())
    }

    /// Whether the stack has ended, or another one runs in its place.
    fn is_gone(&self) -> bool {
        self.running.remote.is_none()
            && Running::in_dir(&self.running.state_dir).is_none_or(|now| now.holder.pid != self.running.holder.pid)
    }

    fn gone(&self) -> Failure {
        Failure::new("the stack was stopped")
            .exit(Exit::NothingRuns)
            .at_path(&self.running.state_dir)
            .because(format!("process {} has ended", self.running.holder.pid))
            .fix("start it again with `keel up FILE`")
    }

    /// The node process does not answer, which says nothing about the service.
    pub(crate) fn unreachable(&self, error: &HttpError) -> Failure {
        if let Some(remote) = &self.running.remote {
            return Failure::new("the console does not answer")
                .exit(Exit::NothingRuns)
                .at(&remote.url)
                .because(error)
                .fix("see that the stack runs, and that `[console] bind` is that address");
        }
        let guard = self.running.holder.pid;
        let (name, frozen) = match process::node_of(guard) {
            Some(node) if node.stopped => (format!("its node process ({}) does not answer", node.pid), true),
            Some(node) => (format!("its node process ({}) does not answer", node.pid), false),
            None => ("its node process does not run at the moment".to_owned(), false),
        };
        let cause = if frozen { format!("{error}: it was stopped by a signal") } else { error.to_string() };
        Failure::new(format!("the stack runs, but {name}")).at_path(&self.socket).because(cause).fix(format!(
            "try again in a moment: the guard starts a node process again that is dead or stays silent.\n\
             The service itself goes on: the edge and the instances do not need the node process.\n\
             What it said last stands in the output of `keel up` (process {guard})."
        ))
    }
}

fn succeeded(answer: Answer) -> Result<Answer, Failure> {
    if answer.status.is_success() { Ok(answer) } else { Err(refused(answer.status, &answer.body)) }
}

/// The lines of a streamed answer.
pub(crate) struct Lines {
    _connection: Connection,
    body: Incoming,
    buffer: Vec<u8>,
}

impl Lines {
    /// The next line; `None` at the end of the stream.
    pub(crate) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Failure> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return parse(&line).map(Some);
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.buffer.extend_from_slice(&frame.into_data().unwrap_or_else(|_| Bytes::new())),
                // The node process ended; what it had sent whole has been shown.
                None | Some(Err(_)) => return Ok(None),
            }
        }
    }
}

/// Reads an answer's JSON.
pub(crate) fn read<T: DeserializeOwned>(answer: &Answer) -> Result<T, Failure> {
    parse(&answer.body)
}

fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(text).map_err(|error| {
        Failure::new("the answer of the node process cannot be read")
            .because(error)
            .fix("the stack may run another version of keel than this one: see `keel --version` and `keel status`")
    })
}

fn refused(status: StatusCode, body: &[u8]) -> Failure {
    let exit = if status == StatusCode::NOT_FOUND { Exit::Unknown } else { Exit::Failed };
    match serde_json::from_slice::<ApiError>(body) {
        Ok(ApiError { error, hint }) => {
            let failure = Failure::new(error).exit(exit);
            match hint.as_deref().map(as_fix).filter(|fix| !fix.is_empty()) {
                Some(fix) => failure.fix(fix),
                None => failure,
            }
        }
        Err(_) => Failure::new("the node process refused").exit(exit).because(format!("status {status}")),
    }
}

/// A hint of the API, which is whole sentences, as the end of a line that begins with `fix:`.
pub(crate) fn as_fix(hint: &str) -> String {
    let mut letters = hint.chars();
    let small = match (letters.next(), letters.clone().next()) {
        (Some(first), Some(second)) if !second.is_uppercase() => first.to_lowercase().chain(letters).collect(),
        _ => hint.to_owned(),
    };
    let one_sentence = !small.trim_end_matches('.').contains(". ");
    if one_sentence { small.trim_end_matches('.').to_owned() } else { small }
}

/// Percent-encodes a value for a query (RFC 3986, section 2.3: unreserved characters stay).
pub(crate) fn encode(value: &str) -> String {
    let mut text = String::new();
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::style::Paint;

    #[test]
    fn values_are_encoded() {
        assert_eq!(encode("shop/1"), "shop/1");
        assert_eq!(encode("a b&c=ü"), "a%20b%26c%3D%C3%BC");
    }

    #[test]
    fn errors_of_the_api_keep_their_words() {
        let failure = refused(StatusCode::NOT_FOUND, br#"{"error":"there is no shpo","hint":"Did you mean shop?"}"#);
        assert_eq!(failure.exit, Exit::Unknown);
        insta::assert_snapshot!(failure.render(Paint::plain()), @r"
        error: there is no shpo
            fix: did you mean shop?
        ");
        assert_eq!(refused(StatusCode::BAD_GATEWAY, b"<html>").exit, Exit::Failed);
        assert_eq!(as_fix("There are: shop."), "there are: shop");
        assert_eq!(as_fix("Stop it. Or wait."), "stop it. Or wait.");
        assert_eq!(as_fix("TLS is missing."), "TLS is missing");
    }
}
