//! A byte stream that is counted, so that half a message counts as life and half a write as progress.

use std::io::{self, Read, Write};

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
    /// The last write did not go through: it is worth waiting until the stream is writable.
    pub(crate) write_blocked: bool,
    write_error: Option<io::Error>,
}

impl<S> Wire<S> {
    pub(crate) fn new(io: S) -> Self {
        Self {
            io,
            read: 0,
            written: 0,
            write_blocked: false,
            write_error: None,
        }
    }

    pub(crate) fn get_ref(&self) -> &S {
        &self.io
    }

    pub(crate) fn get_mut(&mut self) -> &mut S {
        &mut self.io
    }

    pub(crate) fn write_error(&mut self) -> Option<io::Error> {
        self.write_error.take()
    }

    fn keep<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        match result {
            Err(error)
                if !matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                self.write_error = Some(error);
                Err(io::ErrorKind::WouldBlock.into())
            }
            other => other,
        }
    }
}

impl<S: Read> Read for Wire<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.io.read(buffer)?;
        self.read += count as u64;
        Ok(count)
    }
}

impl<S: Write> Write for Wire<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.write_error.is_some() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let result = self.io.write(bytes);
        let result = self.keep(result);
        self.write_blocked = result.is_err();
        let count = result?;
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.write_error.is_some() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let result = self.io.flush();
        self.keep(result)
    }
}
