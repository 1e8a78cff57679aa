//! Instances with a will of their own: raw sockets that record what the edge sends and answer as they are told.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::Duration,
};

/// One request as the edge sent it.
#[derive(Clone)]
pub(crate) struct Received {
    pub(crate) head: String,
    /// The body without its framing.
    pub(crate) body: Vec<u8>,
}

impl Received {
    /// All values of a header, in order.
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
    }
}

/// A server that answers every request by `answer`, and the requests it got. Probes of `/healthz` are answered
/// and not recorded.
pub(crate) fn serve(answer: impl Fn(&Received, &mut TcpStream) + Clone + Send + 'static) -> (u16, Receiver<Received>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (answer, sender) = (answer.clone(), sender.clone());
            thread::spawn(move || connection(stream, &answer, &sender));
        }
    });
    (port, receiver)
}

fn connection(mut stream: TcpStream, answer: &impl Fn(&Received, &mut TcpStream), sender: &Sender<Received>) {
    let _ = stream.set_read_timeout(Some(Duration::from_mins(1)));
    let mut buffer = Vec::new();
    while let Some(received) = read_request(&mut stream, &mut buffer) {
        if received.head.starts_with("GET /healthz ") {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            continue;
        }
        // Before its answer, so that whoever has that finds it.
        let somebody_listens = sender.send(received.clone()).is_ok();
        answer(&received, &mut stream);
        if !somebody_listens {
            return;
        }
    }
}

/// Reads one whole request; `None` at the end of the connection.
fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Received> {
    let end = loop {
        if let Some(at) = find(buffer, b"\r\n\r\n") {
            break at + 4;
        }
        more(stream, buffer)?;
    };
    let head = String::from_utf8(buffer.drain(..end).collect()).unwrap();
    let mut received = Received { head, body: Vec::new() };
    if received.values("transfer-encoding").contains(&"chunked") {
        loop {
            let line = loop {
                if let Some(at) = find(buffer, b"\r\n") {
                    break at;
                }
                more(stream, buffer)?;
            };
            let text = String::from_utf8(buffer.drain(..line + 2).collect()).unwrap();
            let size = usize::from_str_radix(text.trim().split(';').next().unwrap(), 16).unwrap();
            while buffer.len() < size + 2 {
                more(stream, buffer)?;
            }
            received.body.extend(buffer.drain(..size));
            buffer.drain(..2);
            if size == 0 {
                return Some(received);
            }
        }
    }
    let length = received.values("content-length").first().map_or(0, |text| text.parse::<usize>().unwrap());
    while buffer.len() < length {
        more(stream, buffer)?;
    }
    received.body = buffer.drain(..length).collect();
    Some(received)
}

fn more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    let mut piece = [0; 16 * 1024];
    let read = stream.read(&mut piece).ok().filter(|read| *read > 0)?;
    buffer.extend_from_slice(&piece[..read]);
    Some(())
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
