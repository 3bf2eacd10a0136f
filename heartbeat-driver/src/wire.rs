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
    /// The stream took nothing at the last write: it is worth waiting until it is writable.
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

/// A signal is no reason to stop.
fn uninterrupted<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

impl<S: Read> Read for Wire<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = uninterrupted(|| self.io.read(buffer))?;
        self.read += count as u64;
        Ok(count)
    }
}

impl<S: Write> Write for Wire<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.write_error.is_some() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let result = uninterrupted(|| match self.io.write(bytes) {
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
        let result = uninterrupted(|| self.io.flush());
        self.keep(result)
    }
}
