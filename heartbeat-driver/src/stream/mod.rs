//! A plain or TLS byte stream, which reads and writes plain bytes.
//!
//! In: an adapter's socket. Out: [`Stream`], which counts the bytes that it has taken and those that the
//! operating system has. `wire.rs` is the socket below TLS, `tls.rs` creates rustls sessions, and `error.rs`
//! maps I/O errors to causes. Read this file first.

mod error;
#[cfg(feature = "tls")]
pub(crate) mod tls;
mod wire;

use std::io::{self, Read, Write};

pub use self::error::io_cause;
pub(crate) use self::wire::Wire;

#[cfg(feature = "tls")]
type Tls<S> = rustls::StreamOwned<rustls::ClientConnection, Wire<S>>;

/// Reads and writes plain bytes, and counts the plain bytes taken for writing.
#[derive(Debug)]
pub(crate) struct Stream<S: Read + Write> {
    layer: Layer<S>,
    taken: u64,
    /// Plain bytes that have wholly gone to the operating system, including their TLS records.
    confirmed: u64,
    /// A record was invalid. Data decrypted before it is read first.
    #[cfg(feature = "tls")]
    corrupt: Option<io::Error>,
}

/// A TLS session before its handshake. `None` for a plain connection.
#[cfg(feature = "tls")]
pub(crate) type Security = Option<Box<rustls::ClientConnection>>;
#[cfg(not(feature = "tls"))]
pub(crate) type Security = Option<std::convert::Infallible>;

#[derive(Debug)]
enum Layer<S: Read + Write> {
    Plain(Wire<S>),
    #[cfg(feature = "tls")]
    Tls(Box<Tls<S>>),
}

impl<S: Read + Write> Stream<S> {
    pub(crate) fn plain(io: S) -> Self {
        Self::over(Wire::new(io), None)
    }

    pub(crate) fn new(io: S, security: Security) -> Self {
        Self::over(Wire::new(io), security)
    }

    /// Wraps the same wire in TLS, if `security` has a session.
    pub(crate) fn secured(self, security: Security) -> Self {
        match self.layer {
            Layer::Plain(wire) => Self::over(wire, security),
            #[cfg(feature = "tls")]
            Layer::Tls(_) => self,
        }
    }

    fn over(wire: Wire<S>, security: Security) -> Self {
        let layer = match security {
            None => Layer::Plain(wire),
            #[cfg(feature = "tls")]
            Some(session) => Layer::Tls(Box::new(rustls::StreamOwned::new(*session, wire))),
            #[cfg(not(feature = "tls"))]
            Some(never) => match never {},
        };
        Self {
            layer,
            taken: 0,
            confirmed: 0,
            #[cfg(feature = "tls")]
            corrupt: None,
        }
    }

    /// Returns true during the TLS handshake.
    pub(crate) fn is_securing(&self) -> bool {
        match &self.layer {
            Layer::Plain(_) => false,
            #[cfg(feature = "tls")]
            Layer::Tls(tls) => tls.conn.is_handshaking(),
        }
    }

    /// Returns true if the last read stopped only to give other tasks a turn, and more data is available.
    pub(crate) fn was_cut_short(&self) -> bool {
        self.wire().was_cut_short()
    }

    pub(crate) fn wire(&self) -> &Wire<S> {
        match &self.layer {
            Layer::Plain(wire) => wire,
            #[cfg(feature = "tls")]
            Layer::Tls(tls) => &tls.sock,
        }
    }

    pub(crate) fn wire_mut(&mut self) -> &mut Wire<S> {
        match &mut self.layer {
            Layer::Plain(wire) => wire,
            #[cfg(feature = "tls")]
            Layer::Tls(tls) => &mut tls.sock,
        }
    }

    /// Returns the number of plain bytes taken for writing so far.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// Returns how many of the plain bytes have wholly gone to the operating system.
    pub(crate) fn confirmed(&mut self) -> u64 {
        match &self.layer {
            Layer::Plain(_) => self.confirmed = self.taken,
            #[cfg(feature = "tls")]
            Layer::Tls(tls) if !tls.conn.wants_write() => self.confirmed = self.taken,
            #[cfg(feature = "tls")]
            Layer::Tls(_) => {}
        }
        self.confirmed
    }
}

impl<S: Read + Write> Read for Stream<S> {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.layer {
            Layer::Plain(wire) => wire.read_directly(buffer),
            #[cfg(feature = "tls")]
            Layer::Tls(tls) => {
                tls.sock.allow();
                read_records(tls, &mut self.corrupt, buffer)
            }
        }
    }
}

impl<S: Read + Write> Write for Stream<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = match &mut self.layer {
            Layer::Plain(wire) => wire.write(bytes)?,
            #[cfg(feature = "tls")]
            Layer::Tls(tls) if tls.conn.is_handshaking() => {
                tls.sock.allow();
                tls.write(bytes)?
            }
            #[cfg(feature = "tls")]
            Layer::Tls(tls) => {
                let (count, confirmed) = write_records(tls, bytes)?;
                if let Some(confirmed) = confirmed {
                    self.confirmed = self.taken + confirmed;
                }
                count
            }
        };
        self.taken += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.layer {
            Layer::Plain(wire) => wire.flush(),
            #[cfg(feature = "tls")]
            Layer::Tls(tls) => {
                // rustls may read here, too.
                tls.sock.allow();
                tls.flush()
            }
        }
    }
}

/// Reads decrypted data. rustls reports a bad record before it hands out the good ones that came with it, and
/// those may hold the answer to an upgrade, or a Close.
#[cfg(feature = "tls")]
fn read_records<S: Read + Write>(
    tls: &mut Tls<S>,
    corrupt: &mut Option<io::Error>,
    buffer: &mut [u8],
) -> io::Result<usize> {
    if corrupt.is_none() {
        match tls.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => *corrupt = Some(error),
            result => return result,
        }
    }
    match tls.conn.reader().read(buffer) {
        Ok(count @ 1..) => Ok(count),
        rest => corrupt.take().map_or(rest, Err),
    }
}

/// The most plain bytes of a record (RFC 8446 §5.1).
#[cfg(feature = "tls")]
const RECORD: usize = 1 << 14;

/// Writes as many records as the wire takes, each after the previous one has gone. Returns how many plain bytes
/// were taken, and how many of them have wholly gone, if any.
///
/// A peer cannot use half a record. So the peer has not received bytes that have not wholly gone, and a message
/// that is handed back as unsent has not arrived. The 64 KiB of unwritten records that rustls can buffer would
/// leave that open.
#[cfg(feature = "tls")]
fn write_records<S: Read + Write>(
    tls: &mut Tls<S>,
    bytes: &[u8],
) -> io::Result<(usize, Option<u64>)> {
    let (mut count, mut confirmed) = (0, None);
    loop {
        while tls.conn.wants_write() {
            match tls.conn.write_tls(&mut tls.sock) {
                Err(_) if count > 0 => return Ok((count, confirmed)),
                result => result?,
            };
        }
        confirmed = Some(count as u64);
        let Some(next) = bytes[count..].chunks(RECORD).next() else {
            return Ok((count, confirmed));
        };
        count += tls.conn.writer().write(next)?;
    }
}
