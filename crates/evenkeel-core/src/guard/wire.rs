//! The wire format of guard messages: one message a packet, each bounded by [`MAX_PACKET_BYTES`].
//!
//! A packet is the version (one byte, [`VERSION`]), the message's tag (one byte), then its fields in the order in
//! which they are declared. Numbers are little endian and of fixed width; a string or list is preceded by its
//! length in four bytes; an optional value by one byte, 0 or 1; strings are UTF-8. Whatever is left over after
//! the last field makes the packet malformed. Descriptors travel beside the packet and are not seen here.
//!
//! Nothing here owns state. Decoding never panics and never allocates more than the packet's own size times a
//! small constant, whatever the bytes are.

mod codec;
#[cfg(test)]
mod tests;

pub use codec::Malformed;
use codec::{Reader, Writer};

use super::{EdgeNotice, MAX_PACKET_BYTES, Notice, Order, ProcessSpec, VERSION};
use crate::{secret::Secret, status::ExitStatus};

/// What can travel as one packet.
pub trait Message: Sized {
    /// The packet, or why this message does not fit into one.
    fn encode(&self) -> Result<Vec<u8>, Malformed> {
        let mut writer = Writer::new(version_byte());
        self.write(&mut writer);
        writer.finish(MAX_PACKET_BYTES)
    }

    /// The message of a packet.
    fn decode(packet: &[u8]) -> Result<Self, Malformed> {
        if packet.len() > MAX_PACKET_BYTES {
            return Err(Malformed::TooLarge { bytes: packet.len() });
        }
        let mut reader = Reader::new(packet);
        let version = reader.byte()?;
        if version != version_byte() {
            return Err(Malformed::Version { got: version });
        }
        let message = Self::read(&mut reader)?;
        reader.finish()?;
        Ok(message)
    }

    /// Appends tag and fields.
    #[doc(hidden)]
    fn write(&self, writer: &mut Writer);

    /// Reads tag and fields.
    #[doc(hidden)]
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed>;
}

const fn version_byte() -> u8 {
    const { assert!(VERSION <= 0xff, "the version travels in one byte") };
    VERSION.to_le_bytes()[0]
}

impl Message for Order {
    fn write(&self, to: &mut Writer) {
        match self {
            Self::Spawn { key, spec } => {
                to.byte(1).string(key);
                write_spec(to, spec);
            }
            Self::Stop { key, signal, grace_ms } => {
                to.byte(2).string(key).i32(*signal).u64(*grace_ms);
            }
            Self::Kill { key } => {
                to.byte(3).string(key);
            }
            Self::Forget { key } => {
                to.byte(4).string(key);
            }
            Self::Hold { key } => {
                to.byte(5).string(key);
            }
            Self::Release { key } => {
                to.byte(6).string(key);
            }
            Self::StartEdge => {
                to.byte(7);
            }
            Self::Finish { code } => {
                to.byte(8).byte(*code);
            }
            Self::Bounds { edge_grace_ms, finish_ms } => {
                to.byte(9).u64(*edge_grace_ms).u64(*finish_ms);
            }
            Self::Alive { within_ms } => {
                to.byte(10).u64(*within_ms);
            }
            Self::KillEdge => {
                to.byte(11);
            }
            Self::Leave { code } => {
                to.byte(12).byte(*code);
            }
            Self::Outlive { folder } => {
                to.byte(13).string(folder);
            }
            Self::Adopt { outlive } => {
                to.byte(14).byte(u8::from(*outlive));
            }
        }
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match from.byte()? {
            1 => Self::Spawn { key: from.string()?, spec: read_spec(from)? },
            2 => Self::Stop { key: from.string()?, signal: from.i32()?, grace_ms: from.u64()? },
            3 => Self::Kill { key: from.string()? },
            4 => Self::Forget { key: from.string()? },
            5 => Self::Hold { key: from.string()? },
            6 => Self::Release { key: from.string()? },
            7 => Self::StartEdge,
            8 => Self::Finish { code: from.byte()? },
            9 => Self::Bounds { edge_grace_ms: from.u64()?, finish_ms: from.u64()? },
            10 => Self::Alive { within_ms: from.u64()? },
            11 => Self::KillEdge,
            12 => Self::Leave { code: from.byte()? },
            13 => Self::Outlive { folder: from.string()? },
            14 => Self::Adopt { outlive: from.byte()? != 0 },
            tag => return Err(Malformed::Tag { tag }),
        })
    }
}

impl Message for Notice {
    fn write(&self, to: &mut Writer) {
        match self {
            Self::Hello { version, guard_pid, since_ms, node_starts } => {
                to.byte(1).u16(*version).u32(*guard_pid).u64(*since_ms).u64(*node_starts);
            }
            Self::Held { key } => {
                to.byte(2).string(key);
            }
            Self::Process { key, pid, started_ms, exit } => {
                to.byte(3).string(key).u32(*pid).u64(*started_ms);
                to.option(exit.as_ref(), |to, status| write_status(to, *status));
            }
            Self::Complete => {
                to.byte(4);
            }
            Self::Started { key, pid, started_ms } => {
                to.byte(5).string(key).u32(*pid).u64(*started_ms);
            }
            Self::NotStarted { key, reason } => {
                to.byte(6).string(key).string(reason);
            }
            Self::Exited { key, status, leftovers } => {
                to.byte(7).string(key);
                write_status(to, *status);
                to.u32(*leftovers);
            }
            Self::EdgeStarted { pid, starts } => {
                to.byte(8).u32(*pid).u64(*starts);
            }
            Self::EdgeExited { status, restart_in_ms } => {
                to.byte(9);
                write_status(to, *status);
                to.u64(*restart_in_ms);
            }
            Self::Terminate => {
                to.byte(10);
            }
            Self::Reload => {
                to.byte(11);
            }
            Self::Adopted { key, dropped_bytes, kill_in_ms } => {
                to.byte(12).string(key).u64(*dropped_bytes);
                to.option(kill_in_ms.as_ref(), |to, ms| {
                    to.u64(*ms);
                });
            }
        }
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match from.byte()? {
            1 => Self::Hello {
                version: from.u16()?,
                guard_pid: from.u32()?,
                since_ms: from.u64()?,
                node_starts: from.u64()?,
            },
            2 => Self::Held { key: from.string()? },
            3 => Self::Process {
                key: from.string()?,
                pid: from.u32()?,
                started_ms: from.u64()?,
                exit: from.option(read_status)?,
            },
            4 => Self::Complete,
            5 => Self::Started { key: from.string()?, pid: from.u32()?, started_ms: from.u64()? },
            6 => Self::NotStarted { key: from.string()?, reason: from.string()? },
            7 => Self::Exited { key: from.string()?, status: read_status(from)?, leftovers: from.u32()? },
            8 => Self::EdgeStarted { pid: from.u32()?, starts: from.u64()? },
            9 => Self::EdgeExited { status: read_status(from)?, restart_in_ms: from.u64()? },
            10 => Self::Terminate,
            11 => Self::Reload,
            12 => {
                Self::Adopted { key: from.string()?, dropped_bytes: from.u64()?, kill_in_ms: from.option(Reader::u64)? }
            }
            tag => return Err(Malformed::Tag { tag }),
        })
    }
}

impl Message for EdgeNotice {
    fn write(&self, to: &mut Writer) {
        match self {
            Self::Held { key } => {
                to.byte(1).string(key);
            }
            Self::Complete => {
                to.byte(2);
            }
            Self::Released { key } => {
                to.byte(3).string(key);
            }
            Self::Link => {
                to.byte(4);
            }
            Self::Terminate { grace_ms } => {
                to.byte(5).u64(*grace_ms);
            }
        }
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match from.byte()? {
            1 => Self::Held { key: from.string()? },
            2 => Self::Complete,
            3 => Self::Released { key: from.string()? },
            4 => Self::Link,
            5 => Self::Terminate { grace_ms: from.u64()? },
            tag => return Err(Malformed::Tag { tag }),
        })
    }
}

fn write_status(to: &mut Writer, status: ExitStatus) {
    match status {
        ExitStatus::Code(code) => to.byte(1).i32(code),
        ExitStatus::Signal(signal) => to.byte(2).i32(signal),
    };
}

fn read_status(from: &mut Reader<'_>) -> Result<ExitStatus, Malformed> {
    match from.byte()? {
        1 => Ok(ExitStatus::Code(from.i32()?)),
        2 => Ok(ExitStatus::Signal(from.i32()?)),
        tag => Err(Malformed::Tag { tag }),
    }
}

fn write_spec(to: &mut Writer, spec: &ProcessSpec) {
    let ProcessSpec { argv, env, cwd, user, groups, memory_bytes } = spec;
    to.list(argv, |to, argument| {
        to.string(argument);
    });
    to.list(env, |to, (name, value)| {
        to.string(name).string(value.expose());
    });
    to.string(cwd);
    to.option(user.as_ref(), |to, (user, group)| {
        to.u32(*user).u32(*group);
    });
    to.list(groups, |to, group| {
        to.u32(*group);
    });
    to.option(memory_bytes.as_ref(), |to, bytes| {
        to.u64(*bytes);
    });
}

fn read_spec(from: &mut Reader<'_>) -> Result<ProcessSpec, Malformed> {
    Ok(ProcessSpec {
        argv: from.list(Reader::string)?,
        env: from.list(|from| Ok((from.string()?, Secret::new(from.string()?))))?,
        cwd: from.string()?,
        user: from.option(|from| Ok((from.u32()?, from.u32()?)))?,
        groups: from.list(Reader::u32)?,
        memory_bytes: from.option(Reader::u64)?,
    })
}
