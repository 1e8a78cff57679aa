//! Buffers: taken from a pool of the thread, given back before a connection waits for its next request.
//!
//! An idle connection therefore costs no buffer. The pool belongs to one thread and keeps a bounded number of
//! buffers of bounded size; what has grown beyond that is freed.

use std::{
    cell::RefCell,
    future::Future,
    io,
    pin::pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    net::TcpStream,
};

/// Capacity of a fresh buffer, in bytes. Most heads and small answers fit with room to spare.
pub(crate) const FRESH_BYTES: usize = 16 << 10;
/// A larger one is not kept.
const KEPT_BYTES: usize = 128 << 10;
/// Most buffers kept by thread.
const KEPT: usize = 256;

/// The buffers of one thread.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    free: RefCell<Vec<Vec<u8>>>,
}

impl Buffers {
    /// An empty buffer with at least [`FRESH_BYTES`] of room.
    pub(crate) fn take(&self) -> Vec<u8> {
        self.free.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(FRESH_BYTES))
    }

    /// Takes a buffer back.
    pub(crate) fn give(&self, mut buffer: Vec<u8>) {
        let mut free = self.free.borrow_mut();
        if (FRESH_BYTES..=KEPT_BYTES).contains(&buffer.capacity()) && free.len() < KEPT {
            buffer.clear();
            free.push(buffer);
        }
    }
}

/// Bytes received and not used yet.
#[derive(Debug, Default)]
pub(crate) struct Input {
    bytes: Vec<u8>,
    start: usize,
}

impl Input {
    /// Around a buffer of the pool.
    pub(crate) fn new(buffer: Vec<u8>) -> Self {
        Self { bytes: buffer, start: 0 }
    }

    /// The bytes at hand.
    pub(crate) fn filled(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Whether nothing is at hand.
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    /// Whether a buffer is attached.
    pub(crate) fn has_buffer(&self) -> bool {
        self.bytes.capacity() > 0
    }

    /// Drops the first `count` bytes.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.bytes.len(), "more consumed than received");
        if self.is_empty() {
            self.bytes.clear();
            self.start = 0;
        }
    }

    /// The buffer, to be given back. What was in it is lost.
    pub(crate) fn release(&mut self) -> Vec<u8> {
        self.start = 0;
        std::mem::take(&mut self.bytes)
    }

    /// Makes room for more, up to `most` bytes at hand in all. Returns whether there is any.
    pub(crate) fn make_room(&mut self, most: usize) -> bool {
        let used = self.filled().len();
        if used >= most {
            return false;
        }
        if self.bytes.len() == self.bytes.capacity()
            || (self.start > 0 && used + FRESH_BYTES / 2 > self.bytes.capacity() - self.start)
        {
            self.bytes.drain(..self.start);
            self.start = 0;
            if used == self.bytes.capacity() {
                self.bytes.reserve_exact(used.clamp(FRESH_BYTES, most));
            }
        }
        true
    }

    /// Enlarges the buffer to this capacity, for bodies that fill it again and again.
    pub(crate) fn widen(&mut self, capacity: usize) {
        if self.bytes.capacity() < capacity {
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
    }

    /// Reads once into the room there is. `Ok(0)` is the end of the stream; [`Self::make_room`] comes first.
    pub(crate) fn poll_fill<R>(&mut self, reader: &mut R, cx: &mut Context<'_>) -> Poll<io::Result<usize>>
    where
        R: AsyncRead + Unpin,
    {
        debug_assert!(self.bytes.len() < self.bytes.capacity(), "room is made before reading");
        pin!(reader.read_buf(&mut self.bytes)).poll(cx)
    }

    /// Reads once where nothing is at hand, and holds a buffer only while there is something to read: for waits that may
    /// be long. `Ok(0)` is the end of the stream.
    pub(crate) fn poll_arrived(
        &mut self,
        stream: &mut TcpStream,
        buffers: &Buffers,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        debug_assert!(self.is_empty(), "what is at hand would be lost");
        loop {
            let Poll::Ready(readable) = stream.poll_read_ready(cx) else {
                buffers.give(self.release());
                return Poll::Pending;
            };
            readable?;
            if !self.has_buffer() {
                *self = Self::new(buffers.take());
            }
            // Readiness was a guess; where it was wrong the next look says so.
            if let Poll::Ready(read) = self.poll_fill(stream, cx) {
                return Poll::Ready(read);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn used_buffers_come_back_empty() {
        let buffers = Buffers::default();
        let mut buffer = buffers.take();
        let place = buffer.as_ptr();
        buffer.extend_from_slice(b"used");
        buffers.give(buffer);
        let again = buffers.take();
        assert_eq!((again.as_ptr(), again.len()), (place, 0));
        buffers.give(Vec::with_capacity(KEPT_BYTES + 1));
        assert!(buffers.free.borrow().is_empty(), "one that grew too large is not kept");
    }

    #[test]
    fn room_is_bounded() {
        let mut input = Input::new(Vec::with_capacity(FRESH_BYTES));
        assert!(input.make_room(10));
        input.bytes.extend_from_slice(&[b'x'; 10]);
        assert!(!input.make_room(10));
        input.consume(4);
        assert!(input.make_room(10));
        assert_eq!(input.filled(), [b'x'; 6]);
        input.consume(6);
        assert!(input.is_empty());
    }
}
