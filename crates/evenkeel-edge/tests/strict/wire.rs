//! Both ends of a connection as strangers: messages are read by another parser than the edge's own.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

use super::{common::PATIENCE, corpus::Sight};

/// A message that was read.
#[derive(Clone, Debug, Default)]
pub struct Read1 {
    /// Method and target, or nothing.
    pub method: String,
    pub target: String,
    /// Of an answer.
    pub status: u16,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Which connection it came over.
    pub connection: usize,
}

impl Read1 {
    pub fn values(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str()).collect()
    }

    /// What is not as it must be.
    pub fn differs(&self, with: &[(String, String)], without: &[String]) -> Option<String> {
        let missing = with.iter().find(|(name, value)| self.values(name) != [value.as_str()]);
        let left = without.iter().find(|name| !self.values(name).is_empty());
        missing.map(|(name, value)| format!("not {name}: {value}")).or(left.map(|name| format!("{name} is there")))
    }

    /// What is not as an instance must see it.
    pub fn is_not(&self, sight: &Sight) -> Option<String> {
        if (&self.method, &self.target, &self.body) != (&sight.method, &sight.target, &sight.body) {
            return Some(format!("another request than {sight:?}"));
        }
        self.differs(&sight.with, &sight.without)
    }
}

/// Reads messages off a connection.
pub struct Wire {
    pub stream: TcpStream,
    pub buffer: Vec<u8>,
}

/// Why no message could be read.
#[derive(Debug, PartialEq, Eq)]
pub enum Not {
    /// The connection ended between messages.
    Ended,
    /// It ended within one, or is none.
    Bad(String),
}

impl Wire {
    pub fn connect(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).unwrap())
    }

    pub fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    /// Sends, as far as somebody takes it.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    fn more(&mut self) -> bool {
        let mut part = vec![0; 65_536];
        match self.stream.read(&mut part) {
            Ok(count) => {
                self.buffer.extend_from_slice(&part[..count]);
                count > 0
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("nothing came; so far {:?}", String::from_utf8_lossy(&self.buffer))
            }
            Err(_) => false,
        }
    }

    /// Everything until the end.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.more() {}
        std::mem::take(&mut self.buffer)
    }

    fn take(&mut self, count: usize) -> Result<Vec<u8>, Not> {
        while self.buffer.len() < count {
            if !self.more() {
                return Err(Not::Bad(format!("{count} bytes were to come, and only {:?} came", self.buffer)));
            }
        }
        Ok(self.buffer.drain(..count).collect())
    }

    fn line(&mut self) -> Result<Vec<u8>, Not> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line = self.take(end + 2)?;
                return Ok(line[..end].to_vec());
            }
            if !self.more() {
                return Err(Not::Bad("the end within a line".to_owned()));
            }
        }
    }

    /// The next request.
    pub fn request(&mut self) -> Result<Read1, Not> {
        self.message(true, false)
    }

    /// The next answer, to a HEAD request or another.
    pub fn answer(&mut self, to_head: bool) -> Result<Read1, Not> {
        self.message(false, to_head)
    }

    fn message(&mut self, request: bool, to_head: bool) -> Result<Read1, Not> {
        let (mut message, length) = loop {
            match parse(&self.buffer, request)
                .map_err(|error| Not::Bad(format!("{error}: {:?}", String::from_utf8_lossy(&self.buffer))))?
            {
                Some(parsed) => break parsed,
                None if self.more() => {}
                None if self.buffer.is_empty() => return Err(Not::Ended),
                None => return Err(Not::Bad(format!("cut off: {:?}", String::from_utf8_lossy(&self.buffer)))),
            }
        };
        self.buffer.drain(..length);
        let bodiless = !request && (to_head || message.status < 200 || matches!(message.status, 204 | 304));
        let codings = message.values("transfer-encoding").len();
        let lengths: Vec<String> = message.values("content-length").into_iter().map(str::to_owned).collect();
        if codings + lengths.len() > 1 {
            return Err(Not::Bad(format!("two statements of its length: {message:?}")));
        }
        if bodiless {
            return Ok(message);
        }
        if codings == 1 {
            message.body = self.chunks()?;
        } else if let Some(length) = lengths.first() {
            message.body = self.take(length.parse().map_err(|_| Not::Bad(format!("a length of {length}")))?)?;
        } else if !request {
            message.body = self.rest();
        }
        Ok(message)
    }

    fn chunks(&mut self) -> Result<Vec<u8>, Not> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let size = line.split(|&byte| byte == b';').next().unwrap_or_default();
            let size = std::str::from_utf8(size).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
            let Some(size) = size else {
                return Err(Not::Bad(format!("a chunk of {:?}", String::from_utf8_lossy(&line))));
            };
            if size == 0 {
                while !self.line()?.is_empty() {}
                return Ok(body);
            }
            body.extend(self.take(size)?);
            if self.take(2)? != b"\r\n" {
                return Err(Not::Bad("no line end behind a chunk".to_owned()));
            }
        }
    }
}

/// Reads a head by httparse with its own leniences.
fn parse(bytes: &[u8], request: bool) -> Result<Option<(Read1, usize)>, httparse::Error> {
    let mut room = [httparse::EMPTY_HEADER; 400];
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let fields = |headers: &[httparse::Header<'_>]| {
        headers.iter().map(|field| (field.name.to_owned(), text(field.value))).collect::<Vec<_>>()
    };
    if request {
        let mut head = httparse::Request::new(&mut room);
        let httparse::Status::Complete(length) = head.parse(bytes)? else { return Ok(None) };
        let (method, target) = (head.method.unwrap_or_default().into(), head.path.unwrap_or_default().into());
        return Ok(Some((Read1 { method, target, fields: fields(head.headers), ..Read1::default() }, length)));
    }
    let mut head = httparse::Response::new(&mut room);
    let httparse::Status::Complete(length) = head.parse(bytes)? else { return Ok(None) };
    let status = head.code.unwrap_or_default();
    Ok(Some((Read1 { status, fields: fields(head.headers), ..Read1::default() }, length)))
}

/// An instance that writes down what it is asked, and every connection that ended badly.
pub struct Recorder {
    pub address: SocketAddr,
    pub seen: Arc<Mutex<Vec<Read1>>>,
    pub bad: Arc<Mutex<Vec<String>>>,
}

impl Recorder {
    /// Answers each request with what `answer` gives; with `true` beside it the connection ends behind the answer.
    pub fn start(answer: impl Fn() -> (Vec<u8>, bool) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, bad) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
        let (noted, noted_bad, answer) = (Arc::clone(&seen), Arc::clone(&bad), Arc::new(answer));
        std::thread::spawn(move || {
            for (connection, stream) in listener.incoming().map_while(Result::ok).enumerate() {
                let (seen, bad, answer) = (Arc::clone(&noted), Arc::clone(&noted_bad), Arc::clone(&answer));
                std::thread::spawn(move || {
                    let mut wire = Wire::new(stream);
                    loop {
                        match wire.request() {
                            Ok(request) => seen.lock().unwrap().push(Read1 { connection, ..request }),
                            Err(Not::Ended) => return,
                            Err(Not::Bad(problem)) => return bad.lock().unwrap().push(problem),
                        }
                        let (bytes, ends) = answer();
                        wire.send(&bytes);
                        if ends {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, seen, bad }
    }

    /// Answers each request with an empty 200.
    pub fn plain() -> Self {
        Self::start(|| (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec(), false))
    }

    pub fn take(&self) -> Vec<Read1> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}
