//! A wire, in the clear or under TLS, as tungstenite sees it.

use std::io::{self, Read, Write};

use crate::wire::Wire;

#[cfg(feature = "tls")]
type Tls<S> = rustls::StreamOwned<rustls::ClientConnection, Wire<S>>;

/// Reads and writes plain bytes; counts the plain bytes that were taken for writing.
#[derive(Debug)]
pub(crate) struct Stream<S: Read + Write> {
    layer: Layer<S>,
    taken: u64,
    /// Plain bytes of which everything, records included, has gone to the operating system.
    confirmed: u64,
    /// How much of [`OLD_VERSION`] the answer has begun with; its length once that is settled.
    version: usize,
}

/// Older proxies and load balancers answer like this. tungstenite refuses to look further, and a
/// passing 503 would count as a broken protocol; so the answer is read as one of HTTP/1.1.
const OLD_VERSION: &[u8; 8] = b"HTTP/1.0";

#[derive(Debug)]
enum Layer<S: Read + Write> {
    Plain(Wire<S>),
    #[cfg(feature = "tls")]
    Tls(Box<Tls<S>>),
}

impl<S: Read + Write> Stream<S> {
    pub(crate) fn plain(io: S) -> Self {
        Self {
            layer: Layer::Plain(Wire::new(io)),
            taken: 0,
            confirmed: 0,
            version: 0,
        }
    }

    #[cfg(feature = "tls")]
    pub(crate) fn tls(io: S, session: rustls::ClientConnection) -> Self {
        let layer = Layer::Tls(Box::new(rustls::StreamOwned::new(session, Wire::new(io))));
        Self {
            layer,
            taken: 0,
            confirmed: 0,
            version: 0,
        }
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

    /// Plain bytes taken for writing so far; what tungstenite still buffers is not among them.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// How many of the plain bytes have wholly gone to the operating system.
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
        let count = match &mut self.layer {
            Layer::Plain(wire) => wire.read(buffer)?,
            #[cfg(feature = "tls")]
            Layer::Tls(tls) => tls.read(buffer)?,
        };
        if self.version < OLD_VERSION.len() {
            self.renew_version(&mut buffer[..count]);
        }
        Ok(count)
    }
}

impl<S: Read + Write> Stream<S> {
    fn renew_version(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            match OLD_VERSION.get(self.version) {
                None => return,
                Some(expected) if expected != byte => self.version = OLD_VERSION.len(),
                Some(_) => {
                    self.version += 1;
                    if self.version == OLD_VERSION.len() {
                        *byte = b'1';
                    }
                }
            }
        }
    }
}

impl<S: Read + Write> Write for Stream<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = match &mut self.layer {
            Layer::Plain(wire) => wire.write(bytes)?,
            #[cfg(feature = "tls")]
            Layer::Tls(tls) if tls.conn.is_handshaking() => tls.write(bytes)?,
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
            Layer::Tls(tls) => tls.flush(),
        }
    }
}

/// Plain bytes in a record (RFC 8446 §5.1).
#[cfg(feature = "tls")]
const RECORD: usize = 1 << 14;

/// Writes as many records as the wire takes, each only when the one before is gone. Returns how many
/// plain bytes were taken, and how many of them have wholly gone, if any.
///
/// A peer can make nothing of half a record. So what has not wholly gone has not been received
/// either, and nothing that can be handed back as unsent has arrived: rustls' own 64 KiB of
/// unwritten records would leave that open. rustls may also say that it has taken zero bytes, which
/// to tungstenite is the end of the connection.
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

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn read_in_pieces(bytes: &[u8], piece: usize) -> Vec<u8> {
        let mut stream = Stream::plain(Cursor::new(bytes.to_vec()));
        let (mut all, mut buffer) = (Vec::new(), vec![0; piece]);
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            all.extend_from_slice(&buffer[..count]);
        }
        all
    }

    #[test]
    fn an_answer_in_http_1_0_is_read_as_one_in_http_1_1_and_nothing_else_is_touched() {
        for piece in [1, 3, 8, 100] {
            let renewed = read_in_pieces(b"HTTP/1.0 503 Busy\r\n\r\nHTTP/1.0", piece);
            assert_eq!(renewed, b"HTTP/1.1 503 Busy\r\n\r\nHTTP/1.0");
            for other in [
                &b"HTTP/1.1 101\r\n HTTP/1.0"[..],
                b"HTTP/2.0",
                b"SSH-2.0 HTTP/1.0",
                b"HTTP",
            ] {
                assert_eq!(read_in_pieces(other, piece), other);
            }
        }
    }
}
