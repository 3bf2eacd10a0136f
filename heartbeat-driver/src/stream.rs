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
}

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
        }
    }

    #[cfg(feature = "tls")]
    pub(crate) fn tls(io: S, session: rustls::ClientConnection) -> Self {
        let layer = Layer::Tls(Box::new(rustls::StreamOwned::new(session, Wire::new(io))));
        Self {
            layer,
            taken: 0,
            confirmed: 0,
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
        match &mut self.layer {
            Layer::Plain(wire) => wire.read(buffer),
            #[cfg(feature = "tls")]
            Layer::Tls(tls) => tls.read(buffer),
        }
    }
}

impl<S: Read + Write> Write for Stream<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = match &mut self.layer {
            Layer::Plain(wire) => wire.write(bytes)?,
            #[cfg(feature = "tls")]
            Layer::Tls(tls) => tls.write(bytes)?,
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
