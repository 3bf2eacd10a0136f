//! A WebSocket for a driver of the core: tungstenite over a stream that does not block, with its bytes
//! counted, so that half a message is known to have come, and half a write to have gone.

use std::io::{self, ErrorKind, Read, Write};
use std::time::Duration;

use heartbeat_core::{Cause, ConnId};
use tungstenite::error::ProtocolError;
use tungstenite::handshake::client::{ClientHandshake, Response};
use tungstenite::protocol::CloseFrame;
use tungstenite::{Error, HandshakeError, Message, WebSocket};

/// What tungstenite's handshake comes to.
pub(crate) type Upgraded<S> =
    Result<(WebSocket<Counted<S>>, Response), HandshakeError<ClientHandshake<Counted<S>>>>;

/// Begins the upgrade of a connected stream.
#[allow(clippy::result_large_err, reason = "it is tungstenite's own")]
pub(crate) fn upgrade<S: Read + Write>(url: String, io: S) -> Upgraded<S> {
    let (read, written) = (0, 0);
    tungstenite::client(url, Counted { io, read, written })
}

/// An open connection.
pub(crate) struct Socket<S: Read + Write> {
    pub(crate) conn: ConnId,
    ws: WebSocket<Counted<S>>,
    /// Bytes read and written of which was told.
    told: (u64, u64),
}

/// What a read came to.
pub(crate) enum Heard {
    Message(Message),
    /// Bytes, but no whole message yet.
    Part,
    /// Nothing more is there.
    Dry,
    Ended(Cause),
}

/// What a flush came to.
pub(crate) struct Flushed {
    /// Bytes went out since the last flush.
    pub(crate) moved: bool,
    /// Bytes wait, and the stream takes none.
    pub(crate) blocked: bool,
}

impl<S: Read + Write> Socket<S> {
    pub(crate) fn new(conn: ConnId, ws: WebSocket<Counted<S>>) -> Self {
        let told = (ws.get_ref().read, ws.get_ref().written);
        Self { conn, ws, told }
    }

    pub(crate) fn read(&mut self) -> Heard {
        let result = self.ws.read();
        let read = self.ws.get_ref().read;
        let heard = std::mem::replace(&mut self.told.0, read) != read;
        match result {
            Ok(Message::Close(frame)) => {
                let _ = self.ws.flush(); // the answer to it, if it goes at once
                Heard::Ended(Cause::Close(frame.map_or(1005, |frame| frame.code.into())))
            }
            Ok(message) => Heard::Message(message),
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock && heard => Heard::Part,
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => Heard::Dry,
            Err(error) => Heard::Ended(cause(&error)),
        }
    }

    /// What the stream does not take waits for [`Self::flush`], and what is broken is met by
    /// [`Self::read`]. A pong replaces the one with the same bytes that tungstenite has made by itself.
    pub(crate) fn send(&mut self, message: impl Into<Message>) {
        let _ = self.ws.send(message.into());
    }

    pub(crate) fn close(&mut self, code: u16) {
        let (code, reason) = (code.into(), "".into());
        let _ = self.ws.close(Some(CloseFrame { code, reason }));
    }

    pub(crate) fn flush(&mut self) -> Flushed {
        let result = self.ws.flush();
        let written = self.ws.get_ref().written;
        Flushed {
            moved: std::mem::replace(&mut self.told.1, written) != written,
            blocked: matches!(result, Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock),
        }
    }
}

/// What tungstenite's error means to the machine.
pub(crate) fn cause(error: &Error) -> Cause {
    match error {
        Error::Io(error) => io_cause(error),
        Error::Http(response) => Cause::Http {
            status: response.status().as_u16(),
            retry_after: retry_after(response),
        },
        Error::Utf8(_) => Cause::Close(1007),
        Error::Capacity(_) => Cause::Close(1009),
        Error::ConnectionClosed
        | Error::Protocol(
            ProtocolError::ResetWithoutClosingHandshake | ProtocolError::HandshakeIncomplete,
        ) => Cause::Eof,
        _ => Cause::Close(1002),
    }
}

/// In seconds; the header may also hold a date.
fn retry_after<T>(response: &tungstenite::http::Response<T>) -> Option<Duration> {
    let value = response.headers().get("retry-after")?.to_str().ok()?;
    value.parse().map(Duration::from_secs).ok()
}

/// The same for an error of the stream.
pub(crate) fn io_cause(error: &io::Error) -> Cause {
    match error.kind() {
        ErrorKind::ConnectionRefused => Cause::Refused,
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Cause::Reset,
        ErrorKind::UnexpectedEof => Cause::Eof,
        _ => Cause::Io,
    }
}

pub(crate) struct Counted<S> {
    io: S,
    read: u64,
    written: u64,
}

impl<S: Read> Read for Counted<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.io.read(buffer)?;
        self.read += count as u64;
        Ok(count)
    }
}

impl<S: Write> Write for Counted<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.io.write(bytes)?;
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.io.flush()
    }
}
