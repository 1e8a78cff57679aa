//! The client of the node process's API on the control socket.
//!
//! While the node process is being restarted its socket refuses for a moment, so a call waits a little and says
//! so. Errors of the API come as `{"error", "hint"}` and become failures with the same words.

use std::{
    fmt::Write,
    io::IsTerminal,
    path::PathBuf,
    time::{Duration, Instant},
};

use evenkeel_core::{journal::Entry, status::Status};
use http_body_util::BodyExt;
use hyper::{
    StatusCode,
    body::{Bytes, Incoming},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    failure::{Exit, Failure},
    http::{Answer, Ask, Connection, HttpError},
    running::Running,
};

/// How long an answer may take.
const ANSWER_WAIT: Duration = Duration::from_secs(30);
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

    /// How the stack is.
    pub(crate) async fn status(&self) -> Result<Status, Failure> {
        self.get("/v1/status").await
    }

    /// How the stack is, asked once without patience: for those who ask again and again.
    pub(crate) async fn status_now(&self) -> Result<Status, HttpError> {
        let mut connection = Connection::unix(&self.socket).await?;
        let answer = connection.ask(Ask::get("/v1/status"), Duration::from_secs(5)).await?;
        serde_json::from_slice(&answer.body).map_err(|error| HttpError::Body(error.into()))
    }

    /// `GET` a target and reads its JSON.
    pub(crate) async fn get<T: DeserializeOwned>(&self, target: &str) -> Result<T, Failure> {
        read(&self.succeed(Ask::get(target)).await?)
    }

    /// Asks and returns the answer, whatever its status.
    pub(crate) async fn ask(&self, ask: Ask<'_>) -> Result<Answer, Failure> {
        self.connect().await?.ask(ask, ANSWER_WAIT).await.map_err(|error| self.unreachable(&error))
    }

    /// Asks; an answer other than 2xx is a failure.
    pub(crate) async fn succeed(&self, ask: Ask<'_>) -> Result<Answer, Failure> {
        let answer = self.ask(ask).await?;
        if answer.status.is_success() { Ok(answer) } else { Err(refused(answer.status, &answer.body)) }
    }

    /// `GET` a target whose answer is one JSON document a line, as they come.
    pub(crate) async fn stream(&self, target: &str) -> Result<Lines, Failure> {
        let mut connection = self.connect().await?;
        let response = connection.open(Ask::get(target)).await.map_err(|error| self.unreachable(&error))?;
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
            match Connection::unix(&self.socket).await {
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

    /// Whether the stack has ended, or another one runs in its place.
    fn is_gone(&self) -> bool {
        Running::in_dir(&self.running.state_dir).is_none_or(|now| now.holder.pid != self.running.holder.pid)
    }

    fn gone(&self) -> Failure {
        Failure::new("the stack was stopped")
            .exit(Exit::NothingRuns)
            .at_path(&self.running.state_dir)
            .because(format!("process {} has ended", self.running.holder.pid))
            .fix("start it again with `keel up FILE`")
    }

    fn unreachable(&self, error: &HttpError) -> Failure {
        Failure::new("the stack runs, but its node process does not answer").at_path(&self.socket).because(error).fix(
            format!(
                "it is restarted when it dies: try again in a moment; what it says last stands in the output of \
                 `keel up` (process {})",
                self.running.holder.pid
            ),
        )
    }
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
        Ok(ApiError { error, hint: Some(hint) }) => Failure::new(error).exit(exit).fix(hint),
        Ok(ApiError { error, hint: None }) => Failure::new(error).exit(exit),
        Err(_) => Failure::new("the node process refused").exit(exit).because(format!("status {status}")),
    }
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
        let failure = refused(StatusCode::NOT_FOUND, br#"{"error":"there is no shpo","hint":"did you mean shop?"}"#);
        assert_eq!(failure.exit, Exit::Unknown);
        insta::assert_snapshot!(failure.render(Paint::plain()), @r"
        error: there is no shpo
            fix: did you mean shop?
        ");
        assert_eq!(refused(StatusCode::BAD_GATEWAY, b"<html>").exit, Exit::Failed);
    }
}
