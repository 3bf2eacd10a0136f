//! A byte stream that is counted, so that half a message counts as life and half a write as progress.

use std::io::{self, Read, Write};

use crate::panics::{Panicked, catch};

/// A non-blocking byte stream whose traffic is counted and whose write errors wait.
///
/// A write error is kept instead of returned: what the peer said before it went away (its Close
/// frame above all) is still in the receive buffer, and is worth more than "broken pipe".
#[derive(Debug)]
pub(crate) struct Wire<S> {
    io: S,
    /// Bytes read so far.
    pub(crate) read: u64,
    /// Bytes that the operating system took so far.
    pub(crate) written: u64,
    /// The stream took nothing at the last write: it is worth waiting until it is writable.
    pub(crate) write_blocked: bool,
    write_error: Option<io::Error>,
    panicked: Option<Box<Panicked>>,
    ahead: Ahead,
    /// Bytes that TLS may still read before others get their turn.
    allowed: usize,
    /// TLS wanted more than that.
    cut_short: bool,
}

/// What TLS may read for one look of ours. A record that brings something to read is shorter (RFC 8446 §5.2: 16 KiB and
/// 256 bytes), and a peer may send others without end: rustls reads on until there is something, or the stream is dry.
const ALLOWANCE: usize = 32 * 1024;

/// What is read at once from a stream that has much to say.
const AHEAD: usize = 64 * 1024;

/// Reads of at least this many bytes may be worth a larger one: not those of a TLS header.
const LARGE: usize = 512;

/// Bytes read beyond what was asked for, while the stream has more than fits into a read.
///
/// A system call costs as much as ten messages. A small buffer makes many of them, a large one for each
/// connection makes idle connections dear: so there is a large one, only while it is used.
#[derive(Debug, Default)]
struct Ahead {
    /// Empty, or [`AHEAD`] bytes.
    buffer: Vec<u8>,
    at: usize,
    end: usize,
    /// The last read has filled its buffer.
    full: bool,
    /// Used since the last [`Wire::relax`].
    used: bool,
}

impl Ahead {
    fn take(&mut self, buffer: &mut [u8]) -> usize {
        let count = buffer.len().min(self.end - self.at);
        buffer[..count].copy_from_slice(&self.buffer[self.at..self.at + count]);
        self.at += count;
        count
    }
}

impl<S> Wire<S> {
    pub(crate) fn new(io: S) -> Self {
        Self {
            io,
            read: 0,
            written: 0,
            write_blocked: false,
            write_error: None,
            panicked: None,
            ahead: Ahead::default(),
            allowed: 0,
            cut_short: false,
        }
    }

    /// Gives back the memory for reading ahead, unless it was used since the last call.
    pub(crate) fn relax(&mut self) {
        if !std::mem::take(&mut self.ahead.used) && self.ahead.at == self.ahead.end {
            self.ahead = Ahead::default();
        }
    }

    pub(crate) fn get_ref(&self) -> &S {
        &self.io
    }

    pub(crate) fn get_mut(&mut self) -> &mut S {
        &mut self.io
    }

    /// From here on TLS may read [`ALLOWANCE`] bytes; then the stream seems dry.
    pub(crate) fn allow(&mut self) {
        (self.allowed, self.cut_short) = (ALLOWANCE, false);
    }

    /// It seemed dry, and more is there.
    pub(crate) fn was_cut_short(&self) -> bool {
        self.cut_short
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.write_error.is_some()
    }

    pub(crate) fn write_error(&mut self) -> Option<io::Error> {
        self.write_error.take()
    }

    /// A panic of the stream's, once.
    pub(crate) fn panicked(&mut self) -> Option<Panicked> {
        self.panicked.take().map(|panicked| *panicked)
    }

    /// Asks the stream. A signal is no reason to stop. One that has panicked has nothing to say and takes nothing,
    /// until somebody asks for the panic.
    fn attempt<T>(&mut self, mut attempt: impl FnMut(&mut S) -> io::Result<T>) -> io::Result<T> {
        let io = &mut self.io;
        let attempted = catch("the byte stream", || {
            loop {
                match attempt(io) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    result => return result,
                }
            }
        });
        attempted.unwrap_or_else(|panicked| {
            self.panicked = Some(Box::new(panicked));
            Err(io::ErrorKind::WouldBlock.into())
        })
    }

    /// Keeps what is an error, so that to the caller it is a stream that takes nothing.
    fn keep<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        match result {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                self.write_error = Some(error);
                self.write_blocked = false;
                Err(io::ErrorKind::WouldBlock.into())
            }
            other => other,
        }
    }
}

impl<S: Read> Wire<S> {
    /// Reads no more than this: for who has a large buffer of its own.
    pub(crate) fn read_directly(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.attempt(|io| io.read(buffer))?;
        self.read += count as u64;
        Ok(count)
    }
}

/// As TLS reads, a little at a time, and no more than it is allowed.
impl<S: Read> Read for Wire<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.allowed == 0 {
            self.cut_short = true;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = self.read_ahead(buffer)?;
        self.allowed = self.allowed.saturating_sub(count);
        Ok(count)
    }
}

impl<S: Read> Wire<S> {
    fn read_ahead(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.ahead.at < self.ahead.end {
            return Ok(self.ahead.take(buffer));
        }
        if !std::mem::take(&mut self.ahead.full) {
            let count = self.attempt(|io| io.read(buffer))?;
            self.read += count as u64;
            self.ahead.full = count == buffer.len() && count >= LARGE;
            return Ok(count);
        }
        let mut buffered = std::mem::take(&mut self.ahead.buffer);
        buffered.resize(AHEAD, 0);
        let read = self.attempt(|io| io.read(&mut buffered));
        let ahead = &mut self.ahead;
        (ahead.buffer, ahead.used) = (buffered, true);
        let count = read?;
        self.read += count as u64;
        (ahead.at, ahead.end) = (0, count);
        // Much has come: more may have come meanwhile.
        ahead.full = count >= AHEAD / 4;
        Ok(ahead.take(buffer))
    }
}

impl<S: Write> Write for Wire<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.write_error.is_some() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let result = self.attempt(|io| match io.write(bytes) {
            Ok(0) if !bytes.is_empty() => Err(io::ErrorKind::WriteZero.into()),
            result => result,
        });
        self.write_blocked = result.is_err();
        let count = self.keep(result)?;
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.write_error.is_some() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let result = self.attempt(io::Write::flush);
        self.keep(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream with `left` bytes, numbered, that counts how often it is asked.
    struct Numbered {
        left: usize,
        next: u8,
        asked: usize,
    }

    impl Read for Numbered {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.asked += 1;
            let count = buffer.len().min(self.left);
            if count == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            for byte in &mut buffer[..count] {
                *byte = self.next;
                self.next = self.next.wrapping_add(1);
            }
            self.left -= count;
            Ok(count)
        }
    }

    fn wire(left: usize) -> Wire<Numbered> {
        Wire::new(Numbered {
            left,
            next: 0,
            asked: 0,
        })
    }

    /// Reads until nothing is left, in pieces; every byte must come once and in its place.
    fn drain(wire: &mut Wire<Numbered>, piece: usize, first: u8) -> usize {
        let (mut buffer, mut total) = (vec![0; piece], 0);
        while let Ok(count) = wire.read_ahead(&mut buffer) {
            for (at, byte) in buffer[..count].iter().enumerate() {
                assert_eq!(*byte, first.wrapping_add((total + at) as u8));
            }
            total += count;
        }
        total
    }

    #[test]
    fn a_busy_stream_is_read_ahead_and_every_byte_comes_once() {
        for (len, piece) in [
            (1_000_000, 4096),
            (AHEAD + 4096, 4096),
            (100_000, 700),
            (5, 4096),
        ] {
            let mut wire = wire(len);
            assert_eq!(drain(&mut wire, piece, 0), len);
            assert_eq!(wire.read, len as u64);
        }
        let mut busy = wire(1_000_000);
        drain(&mut busy, 4096, 0);
        assert!(busy.io.asked <= 1_000_000 / AHEAD + 4, "{}", busy.io.asked);
    }

    #[test]
    fn a_quiet_stream_holds_no_memory_for_reading_ahead() {
        let mut wire = wire(4095);
        drain(&mut wire, 4096, 0);
        assert_eq!(wire.ahead.buffer.capacity(), 0);
    }

    #[test]
    fn memory_is_given_back_after_a_quiet_while_and_never_with_bytes_in_it() {
        let mut wire = wire(200_000);
        let mut buffer = vec![0; 4096];
        for _ in 0..2 {
            assert_eq!(wire.read_ahead(&mut buffer).unwrap(), 4096);
        }
        assert!(wire.ahead.end > wire.ahead.at, "read ahead");
        for _ in 0..3 {
            wire.relax();
        }
        assert_eq!(drain(&mut wire, 4096, (2 * 4096) as u8), 200_000 - 2 * 4096);
        wire.relax();
        assert!(
            wire.ahead.buffer.capacity() >= AHEAD,
            "it was used just now"
        );
        wire.relax();
        assert_eq!(wire.ahead.buffer.capacity(), 0);
    }
}
