//! One request and its answer, looked at byte by byte: what `wrk` does not do.

use std::{
    io::{Error, ErrorKind, Read, Result, Write},
    net::TcpStream,
    time::Duration,
};

use crate::cases::Case;

/// A connection that fails rather than waits for ever.
pub fn connect(port: u16) -> Result<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_write_timeout(Some(Duration::from_secs(10)))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Asks what the case asks, once, and fails unless exactly the expected answer comes back.
pub fn of(case: &Case, stream: &mut TcpStream) -> Result<()> {
    let close = if case.close { "Connection: close\r\n" } else { "" };
    let mut request = match case.body_bytes {
        Some(bytes) => {
            format!("POST {} HTTP/1.1\r\nHost: bench\r\nContent-Length: {bytes}\r\n{close}\r\n", case.path())
        }
        None => format!("GET {} HTTP/1.1\r\nHost: bench\r\n{close}\r\n", case.path()),
    }
    .into_bytes();
    request.extend((0..case.body_bytes.unwrap_or(0)).map(|_| b'x'));
    stream.write_all(&request)?;
    let expected = usize::try_from(case.answer_bytes).expect("a body fits into memory");
    let (head, mut body) = head(stream)?;
    if !head.starts_with("HTTP/1.1 200 ") || !head.contains(&format!("content-length: {expected}\r\n")) {
        return Err(wrong(&format!("an answer of {expected} bytes was expected, and this came: {head}")));
    }
    while body.len() < expected {
        let mut buffer = [0; 16 * 1024];
        match stream.read(&mut buffer)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            read => body.extend_from_slice(&buffer[..read]),
        }
    }
    if body.len() != expected || body.iter().any(|&byte| byte != b'x') {
        return Err(wrong(&format!("{} bytes came, not the {expected} that were sent", body.len())));
    }
    Ok(())
}

/// The head, its field names in lower case, and what of the body came with it.
fn head(stream: &mut TcpStream) -> Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let body = bytes.split_off(at + 4);
            let head = String::from_utf8_lossy(&bytes).into_owned();
            let lower = head.split_inclusive('\n').map(|line| match line.split_once(':') {
                Some((name, value)) => format!("{}:{value}", name.to_ascii_lowercase()),
                None => line.to_owned(),
            });
            return Ok((lower.collect(), body));
        }
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            read => bytes.extend_from_slice(&buffer[..read]),
        }
    }
}

fn wrong(problem: &str) -> Error {
    Error::new(ErrorKind::InvalidData, problem.to_owned())
}
