//! A client of raw bytes, and messages as it understands them.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
};

use super::PATIENCE;

/// What a client or an instance received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// First line and fields, without the empty line.
    pub head: String,
    /// As it came, chunk framing included.
    pub raw: Vec<u8>,
    /// Without chunk framing.
    pub body: Vec<u8>,
}

pub type Answer = Message;

impl Message {
    pub fn status(&self) -> u16 {
        self.head[9..12].parse().unwrap()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields(name).into_iter().next()
    }

    pub fn fields(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
    }
}

/// A connection of raw bytes that understands just enough to know where a message ends.
pub struct Client {
    pub stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).unwrap())
    }

    pub fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub fn answer(&mut self) -> Answer {
        self.message(false).expect("a whole answer")
    }

    pub fn answer_to_head(&mut self) -> Answer {
        let head = self.head().expect("a head");
        Message { head, raw: Vec::new(), body: Vec::new() }
    }

    /// `None` if the connection ended within or before the message.
    pub fn message(&mut self, is_request: bool) -> Option<Message> {
        let head = self.head()?;
        let mut message = Message { head, raw: Vec::new(), body: Vec::new() };
        let bodiless = !is_request && (message.status() < 200 || matches!(message.status(), 204 | 304));
        if message.field("transfer-encoding").is_some() {
            self.chunks(&mut message)?;
        } else if let Some(length) = message.field("content-length") {
            let length: usize = length.parse().unwrap();
            if !bodiless {
                message.raw = self.take(length)?;
            }
            message.body = message.raw.clone();
        } else if !is_request && !bodiless {
            while self.read() {}
            message.raw = std::mem::take(&mut self.buffer);
            message.body = message.raw.clone();
        }
        Some(message)
    }

    fn head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
                return Some(String::from_utf8(head[..end].to_vec()).unwrap());
            }
            if !self.read() {
                return None;
            }
        }
    }

    fn line(&mut self, raw: &mut Vec<u8>) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|w| w == b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
                raw.extend_from_slice(&line);
                return Some(String::from_utf8(line[..end].to_vec()).unwrap());
            }
            if !self.read() {
                return None;
            }
        }
    }

    fn chunks(&mut self, message: &mut Message) -> Option<()> {
        loop {
            let line = self.line(&mut message.raw)?;
            let size = usize::from_str_radix(line.split(';').next().unwrap(), 16).unwrap();
            if size == 0 {
                while !self.line(&mut message.raw)?.is_empty() {}
                return Some(());
            }
            let chunk = self.take(size + 2)?;
            message.raw.extend_from_slice(&chunk);
            message.body.extend_from_slice(&chunk[..size]);
        }
    }

    /// What is at hand, or what comes next; empty at the end of the connection.
    pub fn some(&mut self) -> Vec<u8> {
        if self.buffer.is_empty() {
            self.read();
        }
        std::mem::take(&mut self.buffer)
    }

    /// So many bytes; `None` if the connection ends before.
    pub fn take(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < count {
            if !self.read() {
                return None;
            }
        }
        Some(self.buffer.drain(..count).collect())
    }

    /// `false` at the end of the connection, however it ended.
    fn read(&mut self) -> bool {
        let mut part = vec![0u8; 65_536];
        match self.stream.read(&mut part) {
            Ok(0) => false,
            Ok(count) => {
                self.buffer.extend_from_slice(&part[..count]);
                true
            }
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                panic!("nothing came for {PATIENCE:?}; so far: {:?}", String::from_utf8_lossy(&self.buffer))
            }
            Err(_) => false,
        }
    }

    /// Everything until the connection ends.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.read() {}
        std::mem::take(&mut self.buffer)
    }

    pub fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && !self.read()
    }

    pub fn finish_sending(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }
}
