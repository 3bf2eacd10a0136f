//! One open connection: a reader and a writer over one stream.

use std::io::{self, Read, Write};
use std::ops::Range;

#[cfg(feature = "deflate")]
use super::frames::Agreed;
use super::frames::{Carries, Incoming, Next, Place, Reader, Violation, Writer};
use crate::stream::Stream;

/// Writes in a row, before others get their turn: a peer that takes everything at once must not keep us from hearing it.
const WRITES: u32 = 16;

/// What a read came to.
pub(crate) enum Heard {
    Frame(Incoming),
    /// Much has come, and no whole message yet.
    Busy,
    /// Nothing more is there.
    Dry,
    /// The end of the stream.
    Eof,
    Failed(io::Error),
    Broken(Violation),
}

/// What a write came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// Everything has gone.
    All,
    /// The stream takes no more for now.
    Blocked,
    /// The stream would take more: others get their turn first.
    Busy,
}

/// `T` is a message to be sent, with whatever its owner keeps beside it.
pub(crate) struct Framed<S: Read + Write, T> {
    stream: Stream<S>,
    reader: Reader,
    pub(crate) writer: Writer<T>,
}

/// A stream whose upgrade is done.
pub(crate) struct Opened<S: Read + Write> {
    pub(crate) stream: Stream<S>,
    /// What has come after the answer.
    pub(crate) rest: Vec<u8>,
    /// As the options and the server want it.
    pub(crate) sizes: Sizes,
}

/// How a connection reads and writes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// The block for reading, at rest.
    pub(crate) read_buffer: usize,
    /// The largest message that may come.
    pub(crate) max_message: usize,
    /// Larger messages go out in fragments of this size.
    pub(crate) fragment: Option<usize>,
    /// Messages may be compressed.
    #[cfg(feature = "deflate")]
    pub(crate) deflate: Option<Agreed>,
}

impl<S: Read + Write, T: Carries> Framed<S, T> {
    /// A connection over a stream whose upgrade is done. `bytes` have come after it already.
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

    /// Reads once from the stream, if nothing else is to be had: a large message comes in hundreds of reads, and others
    /// get their turn between them.
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

    /// Writes what waits, as far as the stream takes it.
    pub(crate) fn push(&mut self) -> Pushed {
        for _ in 0..WRITES {
            let bytes = self.writer.bytes();
            // An error here is a full stream; any other one is kept until everything has been read (`Wire`).
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

    /// The offset up to which everything has gone to the operating system.
    #[inline]
    pub(crate) fn written(&mut self) -> u64 {
        self.stream.confirmed()
    }

    pub(crate) fn into_writer(self) -> Writer<T> {
        self.writer
    }

    /// Gives back memory that only a busy connection needs.
    pub(crate) fn relax(&mut self) {
        self.reader.relax();
        self.writer.relax();
        self.stream.wire_mut().relax();
    }
}
