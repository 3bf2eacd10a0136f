//! A frame reader and a frame writer over one stream.

use std::io::{self, Read, Write};
use std::ops::Range;

#[cfg(feature = "deflate")]
use super::frames::Agreed;
use super::frames::{Carries, Incoming, Next, Place, Reader, Violation, Writer};
use crate::stream::Stream;

/// Writes in a row before other tasks get a turn, so that a peer that takes everything at once cannot block
/// reading.
const WRITES: u32 = 16;

/// The result of a read.
pub(crate) enum Heard {
    Frame(Incoming),
    /// Much data has come, but no whole message yet.
    Busy,
    /// There is nothing more to read.
    Dry,
    /// The stream has ended.
    Eof,
    Failed(io::Error),
    Broken(Violation),
}

/// The result of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// Everything is written.
    All,
    /// The stream takes no more for now.
    Blocked,
    /// The stream would take more, but other tasks get a turn first.
    Busy,
}

/// `T` is a message to send, together with data of its owner.
pub(crate) struct Framed<S: Read + Write, T> {
    stream: Stream<S>,
    reader: Reader,
    pub(crate) writer: Writer<T>,
}

/// A stream whose upgrade is done.
pub(crate) struct Opened<S: Read + Write> {
    pub(crate) stream: Stream<S>,
    /// Bytes that came after the server's answer.
    pub(crate) rest: Vec<u8>,
    /// As agreed by the options and the server.
    pub(crate) sizes: Sizes,
}

/// The sizes that govern how a connection reads and writes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// The size of the idle read buffer.
    pub(crate) read_buffer: usize,
    /// The largest message to receive.
    pub(crate) max_message: usize,
    /// Larger messages are sent in fragments of this size.
    pub(crate) fragment: Option<usize>,
    /// The agreed compression.
    #[cfg(feature = "deflate")]
    pub(crate) deflate: Option<Agreed>,
}

impl<S: Read + Write, T: Carries> Framed<S, T> {
    /// Creates a connection over a stream whose upgrade is done. `bytes` were read after the server's answer.
    pub(crate) fn new(stream: Stream<S>, bytes: &[u8], sizes: Sizes) -> Self {
        let reader = Reader::new(sizes.read_buffer, sizes.max_message, bytes);
        let writer = Writer::new(stream.taken(), sizes.fragment);
        #[cfg(feature = "deflate")]
        let (reader, writer) = match sizes.deflate {
            Some(agreed) => (reader.inflating(agreed), writer.deflating(agreed)),
            None => (reader, writer),
        };
        Self {
            stream,
            reader,
            writer,
        }
    }

    pub(crate) fn stream(&self) -> &Stream<S> {
        &self.stream
    }

    pub(crate) fn stream_mut(&mut self) -> &mut Stream<S> {
        &mut self.stream
    }

    #[inline(always)]
    pub(crate) fn read(&mut self) -> Heard {
        match self.reader.next_frame() {
            Ok(Next::Frame(frame)) => Heard::Frame(frame),
            other => self.read_on(other),
        }
    }

    #[inline(always)]
    pub(crate) fn next_place(&mut self) -> Place<Heard> {
        match self.reader.next_place() {
            Place::Text(at) => Place::Text(at),
            Place::Binary(at) => Place::Binary(at),
            Place::Other(next) => Place::Other(self.read_on(next)),
        }
    }

    #[inline(always)]
    pub(crate) fn bytes(&self, at: Range<usize>) -> &[u8] {
        self.reader.bytes(at)
    }

    /// Reads once from the stream, if nothing else is available. A large message takes hundreds of reads, and
    /// other tasks get a turn between them.
    #[inline(never)]
    fn read_on(&mut self, next: Result<Next, Violation>) -> Heard {
        let next = match next {
            Ok(Next::Hungry) => match self.reader.fill(|free| self.stream.read(free)) {
                Ok(0) => return Heard::Eof,
                Ok(_) => self.reader.next_frame(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return match self.stream.was_cut_short() {
                        true => Heard::Busy,
                        false => Heard::Dry,
                    };
                }
                Err(error) => return Heard::Failed(error),
            },
            next => next,
        };
        match next {
            Ok(Next::Frame(frame)) => Heard::Frame(frame),
            Ok(Next::Busy | Next::Hungry) => Heard::Busy,
            Err(violation) => Heard::Broken(violation),
        }
    }

    /// Writes waiting bytes, as far as the stream takes them.
    pub(crate) fn push(&mut self) -> Pushed {
        for _ in 0..WRITES {
            let bytes = self.writer.bytes();
            // An error here means a full stream. Any other error is kept until everything has been read
            // (`Wire`).
            if bytes.is_empty() {
                return match self.stream.flush() {
                    Ok(()) => Pushed::All,
                    Err(_) => Pushed::Blocked,
                };
            }
            match self.stream.write(bytes) {
                Ok(count) => self.writer.took(count),
                Err(_) => return Pushed::Blocked,
            }
        }
        Pushed::Busy
    }

    /// Returns the offset up to which everything has gone to the operating system.
    #[inline]
    pub(crate) fn written(&mut self) -> u64 {
        self.stream.confirmed()
    }

    pub(crate) fn into_writer(self) -> Writer<T> {
        self.writer
    }

    /// Frees memory that only a busy connection needs.
    pub(crate) fn relax(&mut self) {
        self.reader.relax();
        self.writer.relax();
        self.stream.wire_mut().relax();
    }
}
