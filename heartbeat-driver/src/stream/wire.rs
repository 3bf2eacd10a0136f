//! A counted byte stream, so that half a message counts as life and half a write as progress.

use std::io::{self, Read, Write};

use crate::panics::{Panicked, catch};

/// A non-blocking byte stream that counts its traffic and defers write errors.
///
/// A write error is kept and not returned. The peer's last data (its Close frame above all) is still in the
/// receive buffer, and says more than "broken pipe".
#[derive(Debug)]
pub(crate) struct Wire<S> {
    io: S,
    /// Bytes read so far.
    pub(crate) read: u64,
    /// Bytes that the operating system took so far.
    pub(crate) written: u64,
    /// The last write took nothing, so it is worth waiting until the stream is writable.
    pub(crate) write_blocked: bool,
    write_error: Option<io::Error>,
    panicked: Option<Box<Panicked>>,
    ahead: Ahead,
    /// Bytes that TLS may still read before other tasks get a turn.
    allowed: usize,
    /// TLS tried to read more than that.
    cut_short: bool,
}

/// The most bytes that TLS reads in one look. A record with data is shorter (RFC 8446 §5.2: 16 KiB and 256 bytes). A
/// peer may send records without data endlessly, and rustls reads on until it has data or the stream is dry.
#[cfg(feature = "tls")]
const ALLOWANCE: usize = 32 * 1024;

/// The size of one read from a busy stream.
const AHEAD: usize = 64 * 1024;

/// A read of at least this many bytes may be made larger. Reads of TLS headers are smaller.
const LARGE: usize = 512;

/// Bytes read beyond the request, while the stream has more than one read returns.
///
/// A system call costs as much as ten messages, so a small buffer is slow. A large buffer for each connection
/// wastes memory while idle, so the large buffer exists only while it is used.
#[derive(Debug, Default)]
struct Ahead {
    /// Empty, or [`AHEAD`] bytes.
    buffer: Vec<u8>,
    at: usize,
    end: usize,
    /// The last read filled its buffer.
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

    /// Frees the read-ahead buffer, unless it was used since the last call.
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

    /// Allows TLS to read [`ALLOWANCE`] bytes. After them the stream reports that it is dry.
    #[cfg(feature = "tls")]
    pub(crate) fn allow(&mut self) {
        (self.allowed, self.cut_short) = (ALLOWANCE, false);
    }

    /// Returns true if the stream reported that it is dry although more data is available.
    pub(crate) fn was_cut_short(&self) -> bool {
        self.cut_short
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.write_error.is_some()
    }

    pub(crate) fn write_error(&mut self) -> Option<io::Error> {
        self.write_error.take()
    }

    /// Takes the panic of the stream, if it has panicked.
    pub(crate) fn panicked(&mut self) -> Option<Panicked> {
        self.panicked.take().map(|panicked| *panicked)
    }

    /// Calls the stream, and retries after a signal. A stream that has panicked reads and writes nothing until
    /// the panic is taken.
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

    /// Keeps an error. The caller sees a stream that takes nothing.
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
    /// Reads without reading ahead, for a caller with a large buffer of its own.
    pub(crate) fn read_directly(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.attempt(|io| io.read(buffer))?;
        self.read += count as u64;
        Ok(count)
    }
}

/// Reads ahead, because TLS reads small amounts, and stops at the allowance.
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
        // After a large read, more may have arrived meanwhile.
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

    /// A stream of `left` numbered bytes that counts its reads.
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

    /// Reads everything in pieces. Every byte must come once and in its place.
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
