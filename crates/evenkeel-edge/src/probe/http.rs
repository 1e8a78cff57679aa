//! HTTP/1.1: `GET` a path; a status in the range passes.
//!
//! A client of its own for exactly this: one request, `Connection: close` (RFC 9112 section 9.6), and of the
//! answer only the status line (section 4) counts. Interim answers are passed over (RFC 9110 section 15.2). The
//! rest of the answer is read to its end within bounds and thrown away after the verdict, so that an instance
//! that is well does not see its answer refused.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::Failure;

/// Most bytes of an answer's heads that are looked at.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Most bytes of a body, and longest time, that are spent on politeness after the verdict.
const MAX_BODY_BYTES: u64 = 256 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(2);

/// Asks once over this new connection. The caller bounds the time.
pub(super) async fn probe(mut stream: TcpStream, host: &str, path: &str, passes: (u16, u16)) -> Result<(), Failure> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: keel-check\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.map_err(Failure::Broken)?;
    let status = status(&mut stream).await?;
    tokio::spawn(tokio::time::timeout(BODY_TIMEOUT, async move {
        // What the instance still sends does not matter any more, nor does an error while it sends.
        let _ = tokio::io::copy(&mut stream.take(MAX_BODY_BYTES), &mut tokio::io::sink()).await;
    }));
    if (passes.0..=passes.1).contains(&status) { Ok(()) } else { Err(Failure::Status(status)) }
}

/// Reads up to the status line of the final answer.
async fn status(stream: &mut TcpStream) -> Result<u16, Failure> {
    let mut head = Vec::with_capacity(1024);
    loop {
        match find(&head)? {
            Found::Status(status) => return Ok(status),
            Found::Interim { end } => {
                head.drain(..end);
                continue;
            }
            Found::Nothing if head.len() >= MAX_HEAD_BYTES => return Err(Failure::NotHttp),
            Found::Nothing => {}
        }
        let read = stream.read_buf(&mut head).await.map_err(Failure::Broken)?;
        if read == 0 {
            return Err(if head.is_empty() { Failure::Closed } else { Failure::NotHttp });
        }
    }
}

enum Found {
    Nothing,
    Interim { end: usize },
    Status(u16),
}

/// The status of the answer that starts here, once its line is complete.
fn find(head: &[u8]) -> Result<Found, Failure> {
    let Some(line_end) = head.iter().position(|&byte| byte == b'\n') else {
        return Ok(Found::Nothing);
    };
    let line = std::str::from_utf8(&head[..line_end.min(64)]).map_err(|_| Failure::NotHttp)?;
    let code = line.strip_prefix("HTTP/1.0 ").or_else(|| line.strip_prefix("HTTP/1.1 ")).ok_or(Failure::NotHttp)?;
    let code = code.trim_end_matches('\r').split(' ').next().unwrap_or_default();
    let valid = code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_digit());
    let status: u16 = code.parse().ok().filter(|status| valid && *status >= 100).ok_or(Failure::NotHttp)?;
    if status >= 200 || status == 101 {
        return Ok(Found::Status(status));
    }
    let end = head.windows(4).position(|four| four == b"\r\n\r\n");
    Ok(end.map_or(Found::Nothing, |end| Found::Interim { end: end + 4 }))
}
