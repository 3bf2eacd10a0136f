//! The frame reader: bytes in, messages out.
//!
//! The stream's bytes go into one block, and frames are parsed in place. A message that lies in the block as
//! one frame is copied out of it. Any other message is joined in its own buffer as its bytes arrive.

use std::io;
use std::ops::Range;

use bytes::Bytes;

use super::blocks::{Blocks, append};
#[cfg(feature = "deflate")]
use super::deflate::{Agreed, Inflater, Position};
use super::header::{self, Header, MAX_CONTROL, MAX_HEADER, Opcode};
use super::utf8::TextPieces;
use super::{Incoming, Violation};
use crate::message::Close;

/// The size of one read from a busy stream. A system call costs as much as ten messages, so a small block is
/// slow. A large block for each connection wastes memory while idle, so the large block exists only while it is
/// used.
const BUSY: usize = 64 * 1024;

/// The least size of the block. Between two reads at most half a control frame or half a header is left in it.
const LEAST: usize = 2 * (MAX_HEADER + MAX_CONTROL);

/// Frames parsed in one call. Without the limit a peer could send empty fragments without end.
const FRAMES_AT_ONCE: u32 = 64;

/// The most bytes reserved when a message's length is announced. More is reserved as bytes arrive.
const EAGER: usize = 256 * 1024;

/// The result of a look at the bytes so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// A message or a control frame.
    Frame(Incoming),
    /// There is more to parse, but other tasks may get a turn first.
    Busy,
    /// More bytes are needed.
    Hungry,
}

/// The position of a message that lies in one frame, or another result.
#[derive(Debug)]
pub(crate) enum Place<T> {
    /// A text that has not been checked for UTF-8 yet.
    Text(Range<usize>),
    Binary(Range<usize>),
    Other(T),
}

/// The receiving half of a connection.
#[derive(Debug)]
pub struct Reader {
    /// Initialised throughout. Empty until the first read.
    block: Vec<u8>,
    /// The start of the unparsed bytes.
    start: usize,
    end: usize,
    /// The size of the block while idle.
    at_rest: usize,
    /// The last read filled the block, so there may be more.
    is_full: bool,
    /// A large block was needed since the last [`relax`](Self::relax).
    was_busy: bool,
    /// The data frame whose payload is incomplete.
    frame: Option<Rest>,
    /// The message that is being joined.
    joined: Option<Joined>,
    blocks: Blocks,
    /// The largest message, in bytes.
    max: usize,
    /// The decompressor, if compression was agreed on.
    #[cfg(feature = "deflate")]
    inflater: Option<Box<Inflater>>,
    /// The compressed message that is being inflated, a piece at a time. The inflated part is in `joined`.
    #[cfg(feature = "deflate")]
    inflating: Option<Box<Inflating>>,
}

/// A whole compressed message.
#[cfg(feature = "deflate")]
#[derive(Debug)]
struct Inflating {
    deflated: Vec<u8>,
    position: Position,
}

/// The rest of an incomplete frame.
#[derive(Clone, Copy, Debug)]
struct Rest {
    bytes: usize,
    fin: bool,
}

#[derive(Debug)]
enum Joined {
    Text(TextPieces),
    Binary(Vec<u8>),
    #[cfg(feature = "deflate")]
    Deflated {
        is_text: bool,
        bytes: Vec<u8>,
    },
}

/// A compressed message: a place in the block, or joined from fragments.
#[cfg(feature = "deflate")]
enum Deflated {
    At(Range<usize>),
    Joined(Vec<u8>),
}

/// The result of parsing the block.
enum Found {
    /// A message in one frame, at this position.
    Whole(Opcode, Range<usize>),
    /// A compressed message in one frame, at this position.
    #[cfg(feature = "deflate")]
    Deflated(Opcode, Range<usize>),
    /// The joined message is complete.
    Joined,
    Busy,
    Hungry,
}

impl Reader {
    /// Creates a client's reader for messages of at most `max` bytes. Its idle block has `at_rest` bytes.
    /// `bytes` were read earlier.
    #[must_use]
    pub fn new(at_rest: usize, max: usize, bytes: &[u8]) -> Self {
        let mut block = bytes.to_vec();
        let at_rest = at_rest.max(LEAST);
        if !block.is_empty() && block.len() < at_rest {
            block.resize(at_rest, 0);
        }
        Self {
            block,
            start: 0,
            end: bytes.len(),
            at_rest,
            is_full: false,
            was_busy: false,
            frame: None,
            joined: None,
            blocks: Blocks::default(),
            max,
            #[cfg(feature = "deflate")]
            inflater: None,
            #[cfg(feature = "deflate")]
            inflating: None,
        }
    }

    /// Accepts compressed messages from now on.
    #[cfg(feature = "deflate")]
    #[must_use]
    pub fn inflating(mut self, agreed: Agreed) -> Self {
        self.inflater = Some(Box::new(Inflater::new(agreed)));
        self
    }

    /// Lends free memory to `read`, which returns how many bytes it has stored. Call this when
    /// [`next_frame`](Self::next_frame) is hungry.
    ///
    /// # Errors
    /// Returns the error of `read`.
    pub fn fill(&mut self, read: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> io::Result<usize> {
        self.blocks.forget();
        if self.start > 0 {
            // Usually nothing is moved: see `LEAST`.
            self.block.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let size = if self.is_full { BUSY } else { self.at_rest };
        if self.block.len() < size.max(self.end + LEAST) {
            self.grow(size.max(self.end + LEAST));
        }
        let free = &mut self.block[self.end..];
        let room = free.len();
        let count = read(free)?.min(room);
        self.end += count;
        // After a large read, more may have arrived meanwhile.
        self.is_full = count == room || count >= BUSY / 4;
        self.was_busy |= count > self.at_rest;
        Ok(count)
    }

    #[cold]
    fn grow(&mut self, size: usize) {
        // Allocate a new block: growing the old one would copy its bytes, and almost none of them are needed.
        let mut block = vec![0; size];
        block[..self.end].copy_from_slice(&self.block[..self.end]);
        self.block = block;
    }

    /// Frees memory that only a busy connection needs, unless it was needed since the last call.
    pub fn relax(&mut self) {
        self.blocks.relax();
        #[cfg(feature = "deflate")]
        if let Some(inflater) = &mut self.inflater
            && self.inflating.is_none()
        {
            inflater.relax();
        }
        if !std::mem::take(&mut self.was_busy)
            && self.block.len() > self.at_rest
            && self.end - self.start < self.at_rest - LEAST
        {
            self.block.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            self.is_full = false;
            self.block.truncate(self.at_rest);
            self.block.shrink_to_fit();
        }
    }

    /// Returns the next message or control frame.
    ///
    /// # Errors
    /// A [`Violation`] is final: do not call this again.
    #[inline(always)]
    pub fn next_frame(&mut self) -> Result<Next, Violation> {
        match self.find()? {
            Found::Whole(Opcode::Text, at) => match self.blocks.text(&self.block[..self.end], at) {
                Ok(text) => Ok(Next::Frame(Incoming::Text(text))),
                Err(_) => Err(Violation::NotUtf8),
            },
            found => self.rare(found),
        }
    }

    /// Like [`next_frame`](Self::next_frame), but does not copy the message.
    #[inline(always)]
    pub(crate) fn next_place(&mut self) -> Place<Result<Next, Violation>> {
        match self.find() {
            Ok(Found::Whole(Opcode::Text, at)) => Place::Text(at),
            Ok(Found::Whole(Opcode::Binary, at)) => Place::Binary(at),
            Ok(found) => Place::Other(self.rare(found)),
            Err(violation) => Place::Other(Err(violation)),
        }
    }

    /// Returns the bytes at a place, valid until the next call.
    #[inline(always)]
    pub(crate) fn bytes(&self, at: Range<usize>) -> &[u8] {
        &self.block[at]
    }

    #[inline(never)]
    fn rare(&mut self, found: Found) -> Result<Next, Violation> {
        Ok(Next::Frame(match found {
            Found::Whole(opcode, at) => {
                let payload = &self.block[at.clone()];
                match opcode {
                    Opcode::Close => Incoming::Close(Close::parse(payload)),
                    Opcode::Ping => Incoming::Ping(Bytes::copy_from_slice(payload)),
                    Opcode::Pong => Incoming::Pong(Bytes::copy_from_slice(payload)),
                    // Text was handled above.
                    Opcode::Binary | Opcode::Continuation | Opcode::Text => {
                        Incoming::Binary(self.blocks.binary(&self.block[..self.end], at))
                    }
                }
            }
            #[cfg(feature = "deflate")]
            Found::Joined if self.inflating.is_some() => return self.inflate_on(),
            Found::Joined => match self.joined.take() {
                Some(Joined::Text(pieces)) => {
                    let mut text = pieces.finish()?;
                    if is_loose(text.capacity(), text.len()) {
                        text.shrink_to_fit();
                    }
                    Incoming::Text(text.into())
                }
                Some(Joined::Binary(mut bytes)) => {
                    if is_loose(bytes.capacity(), bytes.len()) {
                        bytes.shrink_to_fit();
                    }
                    Incoming::Binary(bytes.into())
                }
                #[cfg(feature = "deflate")]
                Some(Joined::Deflated { is_text, bytes }) => {
                    return self.inflate(is_text, Deflated::Joined(bytes));
                }
                None => return Ok(Next::Busy),
            },
            #[cfg(feature = "deflate")]
            Found::Deflated(opcode, at) => {
                return self.inflate(opcode == Opcode::Text, Deflated::At(at));
            }
            Found::Busy => return Ok(Next::Busy),
            Found::Hungry => return Ok(Next::Hungry),
        }))
    }

    /// Inflates a message, or its first piece.
    #[cfg(feature = "deflate")]
    fn inflate(&mut self, is_text: bool, deflated: Deflated) -> Result<Next, Violation> {
        let Some(inflater) = &mut self.inflater else {
            return Err(Violation::ReservedBits);
        };
        let bytes = match &deflated {
            Deflated::At(at) => &self.block[at.clone()],
            Deflated::Joined(bytes) => bytes,
        };
        let (mut position, mut piece) = (Position::default(), Vec::new());
        if inflater.inflate(bytes, &mut position, &mut piece, self.max)? {
            return Ok(Next::Frame(message(is_text, piece)?));
        }
        let mut joined = if is_text {
            Joined::Text(TextPieces::default())
        } else {
            Joined::Binary(Vec::new())
        };
        joined.push(&piece)?;
        self.joined = Some(joined);
        let deflated = match deflated {
            Deflated::At(at) => self.block[at].to_vec(),
            Deflated::Joined(bytes) => bytes,
        };
        self.inflating = Some(Box::new(Inflating { deflated, position }));
        Ok(Next::Busy)
    }

    /// Inflates the next piece.
    #[cfg(feature = "deflate")]
    fn inflate_on(&mut self) -> Result<Next, Violation> {
        let (Some(inflater), Some(inflating), Some(joined)) =
            (&mut self.inflater, &mut self.inflating, &mut self.joined)
        else {
            return Ok(Next::Busy);
        };
        let Inflating { deflated, position } = &mut **inflating;
        let (before, mut piece) = (joined.len(), Vec::new());
        let is_done = inflater
            .inflate(deflated, position, &mut piece, self.max - before)
            .map_err(|violation| violation.after(before))?;
        joined.push(&piece)?;
        if !is_done {
            return Ok(Next::Busy);
        }
        self.inflating = None;
        self.rare(Found::Joined)
    }

    #[inline(always)]
    fn find(&mut self) -> Result<Found, Violation> {
        if self.frame.is_none() && self.joined.is_none() {
            let bytes = &self.block[self.start..self.end];
            // Fast path for nearly every frame. The slow path must be equivalent.
            if let Some(&0x81) = bytes.first()
                && let Some(header) = header::parse(bytes)?
                && !header.is_masked
                && header.len <= (bytes.len() - header.size) as u64
                && header.len <= self.max as u64
            {
                let from = self.start + header.size;
                self.start = from + header.len as usize;
                return Ok(Found::Whole(Opcode::Text, from..self.start));
            }
        }
        self.find_any()
    }

    #[inline(never)]
    fn find_any(&mut self) -> Result<Found, Violation> {
        #[cfg(feature = "deflate")]
        if self.inflating.is_some() {
            return Ok(Found::Joined);
        }
        for _ in 0..FRAMES_AT_ONCE {
            if let Some(rest) = self.frame {
                if !self.join(rest)? {
                    return Ok(Found::Hungry);
                }
                self.frame = None;
                if rest.fin {
                    return Ok(Found::Joined);
                }
                continue;
            }
            let bytes = &self.block[self.start..self.end];
            let Some(header) = header::parse(bytes)? else {
                return Ok(Found::Hungry);
            };
            let len = self.check(&header)?;
            let is_whole = bytes.len() - header.size >= len;
            let from = self.start + header.size;
            if header.opcode.is_control() {
                if !is_whole {
                    return Ok(Found::Hungry);
                }
                self.start = from + len;
                return Ok(Found::Whole(header.opcode, from..self.start));
            }
            if is_whole && header.fin && self.joined.is_none() {
                self.start = from + len;
                #[cfg(feature = "deflate")]
                if header.reserved != 0 {
                    return Ok(Found::Deflated(header.opcode, from..self.start));
                }
                return Ok(Found::Whole(header.opcode, from..self.start));
            }
            self.start = from;
            self.begin(&header, len);
        }
        Ok(Found::Busy)
    }

    /// Checks the header (RFC 6455 §5.1 to §5.5). Returns the length of the payload.
    fn check(&self, header: &Header) -> Result<usize, Violation> {
        let joined = self.joined.as_ref().map(Joined::len);
        let max = self.max_on_the_wire(header);
        let too_large = |before: usize| {
            let len = header.len.saturating_add(before as u64);
            let max = max.max(self.max);
            (len > max as u64).then_some(Violation::TooLarge { len, max })
        };
        let is_control = header.opcode.is_control();
        if let Some(too_large) = too_large(0).filter(|_| !is_control) {
            return Err(too_large);
        }
        if header.reserved != 0 && !self.is_deflated(header) {
            return Err(Violation::ReservedBits);
        }
        if header.is_masked {
            return Err(Violation::Masked);
        }
        if is_control && !header.fin {
            return Err(Violation::FragmentedControl);
        }
        if is_control && header.len > MAX_CONTROL as u64 {
            return Err(Violation::LongControl(header.len));
        }
        match (header.opcode, joined) {
            (Opcode::Continuation, None) => Err(Violation::NothingToContinue),
            (Opcode::Text | Opcode::Binary, Some(_)) => Err(Violation::Interleaved),
            (Opcode::Continuation, Some(before)) => match too_large(before) {
                Some(too_large) => Err(too_large),
                None => Ok(header.len as usize),
            },
            _ => Ok(header.len as usize),
        }
    }

    /// Returns true for RSV1 on the first frame of a message, if compression was agreed on (RFC 7692 §6).
    #[cfg(feature = "deflate")]
    fn is_deflated(&self, header: &Header) -> bool {
        self.inflater.is_some()
            && header.reserved == header::RSV1
            && matches!(header.opcode, Opcode::Text | Opcode::Binary)
    }

    #[cfg(not(feature = "deflate"))]
    fn is_deflated(&self, _: &Header) -> bool {
        false
    }

    /// Returns the most bytes of payload that a message may have before inflating.
    #[cfg(feature = "deflate")]
    fn max_on_the_wire(&self, header: &Header) -> usize {
        if self.is_deflated(header) || matches!(self.joined, Some(Joined::Deflated { .. })) {
            return Inflater::max_deflated(self.max);
        }
        self.max
    }

    #[cfg(not(feature = "deflate"))]
    fn max_on_the_wire(&self, _: &Header) -> usize {
        self.max
    }

    /// Begins a data frame that is incomplete or a fragment.
    fn begin(&mut self, header: &Header, len: usize) {
        #[cfg(feature = "deflate")]
        if header.reserved != 0 {
            self.joined = Some(Joined::Deflated {
                is_text: header.opcode == Opcode::Text,
                bytes: Vec::new(),
            });
        }
        let joined = self.joined.get_or_insert_with(|| match header.opcode {
            Opcode::Text => Joined::Text(TextPieces::default()),
            _ => Joined::Binary(Vec::new()),
        });
        joined.reserve(len, header.fin);
        self.frame = Some(Rest {
            bytes: len,
            fin: header.fin,
        });
    }

    /// Takes the available bytes of this frame. Returns true if the frame is complete.
    fn join(&mut self, rest: Rest) -> Result<bool, Violation> {
        let count = rest.bytes.min(self.end - self.start);
        let Some(joined) = &mut self.joined else {
            return Ok(true);
        };
        let bytes = &self.block[self.start..self.start + count];
        if joined.room() < count {
            joined.reserve(rest.bytes, rest.fin);
        }
        joined.push(bytes)?;
        self.start += count;
        let bytes = rest.bytes - count;
        self.frame = Some(Rest { bytes, ..rest });
        Ok(bytes == 0)
    }
}

#[cfg(feature = "deflate")]
fn message(is_text: bool, mut bytes: Vec<u8>) -> Result<Incoming, Violation> {
    if is_loose(bytes.capacity(), bytes.len()) {
        bytes.shrink_to_fit();
    }
    if !is_text {
        return Ok(Incoming::Binary(bytes.into()));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Incoming::Text(text.into())),
        Err(_) => Err(Violation::NotUtf8),
    }
}

/// Returns true if a kept message would waste too much reserved memory.
fn is_loose(capacity: usize, len: usize) -> bool {
    capacity - len > len / 4
}

impl Joined {
    fn len(&self) -> usize {
        match self {
            Self::Text(pieces) => pieces.len(),
            Self::Binary(bytes) => bytes.len(),
            #[cfg(feature = "deflate")]
            Self::Deflated { bytes, .. } => bytes.len(),
        }
    }

    fn room(&self) -> usize {
        match self {
            Self::Text(pieces) => pieces.text.capacity() - pieces.text.len(),
            Self::Binary(bytes) => bytes.capacity() - bytes.len(),
            #[cfg(feature = "deflate")]
            Self::Deflated { bytes, .. } => bytes.capacity() - bytes.len(),
        }
    }

    /// Reserves room for `len` announced bytes: as many as have arrived, or [`EAGER`]. If this is the last
    /// frame, at most the announced bytes.
    fn reserve(&mut self, len: usize, is_last: bool) {
        let len = len.min(self.len().max(EAGER));
        match self {
            Self::Text(TextPieces { text, .. }) if is_last => text.reserve_exact(len),
            Self::Text(TextPieces { text, .. }) => text.reserve(len),
            Self::Binary(bytes) if is_last => bytes.reserve_exact(len),
            Self::Binary(bytes) => bytes.reserve(len),
            #[cfg(feature = "deflate")]
            Self::Deflated { bytes, .. } => bytes.reserve(len),
        }
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        match self {
            Self::Text(pieces) => pieces.push(bytes),
            Self::Binary(all) => {
                append(all, bytes);
                Ok(())
            }
            #[cfg(feature = "deflate")]
            Self::Deflated { bytes: all, .. } => {
                append(all, bytes);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let len = payload.len();
        let head = match len {
            0..126 => vec![first, len as u8],
            126..65_536 => vec![first, 126, (len >> 8) as u8, len as u8],
            _ => [&[first, 127][..], &(len as u64).to_be_bytes()].concat(),
        };
        [head, payload.to_vec()].concat()
    }

    /// Feeds the bytes in pieces of these sizes, in turn, and returns everything that came out.
    fn read(
        reader: &mut Reader,
        mut bytes: &[u8],
        pieces: &[usize],
    ) -> (Vec<Incoming>, Option<Violation>) {
        let mut all = Vec::new();
        let mut pieces = pieces.iter().cycle();
        loop {
            match reader.next_frame() {
                Ok(Next::Frame(frame)) => all.push(frame),
                Ok(Next::Busy) => {}
                Ok(Next::Hungry) if bytes.is_empty() => return (all, None),
                Ok(Next::Hungry) => {
                    let piece = *pieces.next().unwrap();
                    let mut feed = |free: &mut [u8]| {
                        let count = piece.min(free.len()).min(bytes.len());
                        free[..count].copy_from_slice(&bytes[..count]);
                        bytes = &bytes[count..];
                        Ok(count)
                    };
                    reader.fill(&mut feed).unwrap();
                }
                Err(violation) => return (all, Some(violation)),
            }
        }
    }

    fn text(text: &str) -> Incoming {
        Incoming::Text(text.into())
    }

    #[test]
    fn messages_come_whole_whatever_pieces_their_bytes_come_in() {
        let large = "é€𐍈z".repeat(20_000);
        let bytes = [
            frame(0x81, b"one"),
            frame(0x01, b"t\xc3"),
            frame(0x89, b"between"),
            frame(0x00, b""),
            frame(0x80, b"\xa9"),
            frame(0x82, &[7; 70_000]),
            frame(0x8a, b""),
            frame(0x81, large.as_bytes()),
            frame(0x82, b""),
            frame(0x88, b"\x03\xe8bye"),
        ]
        .concat();
        let close = Close {
            code: 1000,
            reason: Some("bye".into()),
            answer: Some(1000),
        };
        let expected = vec![
            text("one"),
            Incoming::Ping("between".into()),
            text("té"),
            Incoming::Binary(vec![7; 70_000].into()),
            Incoming::Pong(Bytes::new()),
            text(&large),
            Incoming::Binary(Bytes::new()),
            Incoming::Close(close),
        ];
        for pieces in [
            &[1][..],
            &[2, 3],
            &[7],
            &[1000],
            &[65_536],
            &[1 << 20],
            &[1, 9000],
        ] {
            for already in [0, 1, 3, 5000] {
                let (first, rest) = bytes.split_at(already);
                let mut reader = Reader::new(1024, 1 << 20, first);
                let (all, violation) = read(&mut reader, rest, pieces);
                assert_eq!(violation, None);
                assert!(all == expected, "{pieces:?}, {already}");
            }
        }
    }

    #[test]
    fn each_violation_has_its_name_and_code() {
        let long = |len: u64| [&[0x82, 127][..], &len.to_be_bytes()].concat();
        let too_large = |len| Violation::TooLarge { len, max: 1000 };
        let cases = [
            (frame(0x83, b"x"), Violation::ReservedOpcode(3), 1002),
            (frame(0x8b, b"x"), Violation::ReservedOpcode(11), 1002),
            (frame(0xc1, b"x"), Violation::ReservedBits, 1002),
            (frame(0xa9, b"x"), Violation::ReservedBits, 1002),
            (vec![0x81, 0x81, 1, 2, 3, 4, 5], Violation::Masked, 1002),
            (frame(0x09, b"x"), Violation::FragmentedControl, 1002),
            (frame(0x8a, &[0; 126]), Violation::LongControl(126), 1002),
            (frame(0x80, b"x"), Violation::NothingToContinue, 1002),
            (
                [frame(0x01, b""), frame(0x81, b"")].concat(),
                Violation::Interleaved,
                1002,
            ),
            (
                [frame(0x02, b""), frame(0x02, b"")].concat(),
                Violation::Interleaved,
                1002,
            ),
            (frame(0x81, b"\xff"), Violation::NotUtf8, 1007),
            (frame(0x81, b"\xc3"), Violation::NotUtf8, 1007),
            (
                [frame(0x01, b"\xc3"), frame(0x80, b"")].concat(),
                Violation::NotUtf8,
                1007,
            ),
            (frame(0x82, &[0; 1001]), too_large(1001), 1009),
            (frame(0x81, &[0xff; 1001]), too_large(1001), 1009),
            (long(u64::MAX), too_large(u64::MAX), 1009),
            (
                [frame(0x02, &[0; 999]), frame(0x00, &[0; 2])].concat(),
                too_large(1001),
                1009,
            ),
        ];
        for (bytes, violation, code) in cases {
            for piece in [1, 5000] {
                let mut reader = Reader::new(1024, 1000, &[]);
                let (all, seen) = read(&mut reader, &bytes, &[piece]);
                assert_eq!((all.len(), seen), (0, Some(violation)), "{bytes:x?}");
                assert_eq!(violation.code(), code);
            }
        }
    }

    #[cfg(feature = "deflate")]
    #[test]
    fn compressed_messages_come_whole_in_any_pieces_and_only_where_that_was_agreed_on() {
        // RFC 7692 §7.2.3.1: `Hello` twice, first in one frame, then in two with a ping between them; then a
        // plain message.
        let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
        let bytes = [
            frame(0xc1, &hello),
            frame(0x41, &hello[..3]),
            frame(0x89, b"?"),
            frame(0x80, &hello[3..]),
            frame(0xc2, &hello),
            frame(0x81, b"plain"),
        ]
        .concat();
        let expected = vec![
            text("Hello"),
            Incoming::Ping("?".into()),
            text("Hello"),
            Incoming::Binary("Hello".into()),
            text("plain"),
        ];
        let inflating = |max| Reader::new(1024, max, &[]).inflating(Agreed::default());
        for piece in [1, 2, 5, 1000] {
            let (all, violation) = read(&mut inflating(5), &bytes, &[piece]);
            assert_eq!((all, violation), (expected.clone(), None));
            let (all, violation) = read(&mut Reader::new(1024, 99, &[]), &bytes, &[piece]);
            assert_eq!((all.len(), violation), (0, Some(Violation::ReservedBits)));
        }
        let bad_text = [0x00, 0x01, 0x00, 0xfe, 0xff, 0xff, 0x00];
        let faults = [
            (
                [frame(0x41, &hello), frame(0xc0, b"")].concat(),
                Violation::ReservedBits,
            ),
            (frame(0xc9, b""), Violation::ReservedBits),
            (frame(0xe1, b"x"), Violation::ReservedBits),
            (frame(0xc1, b"\xff\xff"), Violation::NotDeflated),
            (frame(0xc1, &bad_text), Violation::NotUtf8),
            (frame(0xc1, &hello), Violation::TooLarge { len: 5, max: 4 }),
        ];
        for (bytes, fault) in faults {
            for piece in [1, 1000] {
                let (all, violation) = read(&mut inflating(4), &bytes, &[piece]);
                assert_eq!((all.len(), violation), (0, Some(fault)), "{bytes:x?}");
            }
        }
    }

    #[cfg(feature = "deflate")]
    #[test]
    fn a_message_is_inflated_in_pieces_between_which_others_have_their_turn() {
        use super::super::deflate::{Deflate, Deflater};

        const LEN: usize = 1_200_000;
        // Pieces end within a character.
        let large = "ab€".repeat(LEN / 5);
        let answer = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        let agreed = Deflate::new().agree(answer).unwrap();
        let mut deflated = Vec::new();
        Deflater::new(agreed).deflate(large.as_bytes(), true, &mut deflated);
        let (first, second) = deflated.split_at(deflated.len() / 2);
        let fragments = [frame(0x42, first), frame(0x80, second)].concat();
        for (bytes, expected) in [
            (frame(0xc1, &deflated), text(&large)),
            (fragments, Incoming::Binary(large.clone().into())),
        ] {
            let bytes = [bytes, frame(0x81, b"behind it")].concat();
            for max in [LEN, LEN - 1, 300_000] {
                let mut reader = Reader::new(1024, max, &bytes).inflating(agreed);
                let (mut turns, mut came) = (0, Vec::new());
                let violation = loop {
                    let held = allocation_counter::measure(|| match reader.next_frame() {
                        Ok(Next::Frame(frame)) => came.push(Ok(frame)),
                        Ok(Next::Busy) => turns += 1,
                        Ok(Next::Hungry) => came.push(Err(None)),
                        Err(violation) => came.push(Err(Some(violation))),
                    });
                    // The message in its buffer, which doubles, and a piece.
                    assert!(held.bytes_max < 3 * LEN as u64, "{held:?}");
                    // As between two turns, when a timer is due.
                    reader.relax();
                    if let Some(Err(violation)) = came.last() {
                        break *violation;
                    }
                };
                came.pop();
                if max == LEN {
                    assert!(turns >= LEN / (256 * 1024), "{turns}");
                    let expected = [Ok(expected.clone()), Ok(text("behind it"))];
                    assert!(violation.is_none() && came == expected);
                } else {
                    let len = max as u64 + 1;
                    assert_eq!(violation, Some(Violation::TooLarge { len, max }));
                    assert!(came.is_empty());
                }
            }
        }
    }

    #[test]
    fn the_limit_is_exact_in_one_frame_and_in_many_and_no_concern_of_control_frames() {
        let bytes = [
            frame(0x82, &[1; 100]),
            frame(0x02, &[2; 50]),
            frame(0x89, &[3; 125]),
            frame(0x80, &[2; 50]),
            frame(0x81, "é".repeat(50).as_bytes()),
        ]
        .concat();
        let mut reader = Reader::new(1024, 100, &[]);
        let (all, violation) = read(&mut reader, &bytes, &[999]);
        assert_eq!((all.len(), violation), (4, None));
    }

    #[test]
    fn bad_utf8_is_noticed_at_the_byte_that_shows_it() {
        // A frame announces 1000 bytes, of which 4 have arrived.
        for bytes in [
            &b"\x81\x7e\x03\xe8ab\xed\xa0"[..],
            b"\x01\x01\xf4\x00\x7e\x03\xe8\x90",
        ] {
            let mut reader = Reader::new(1024, 2000, &[]);
            let (all, violation) = read(&mut reader, bytes, &[1]);
            assert_eq!((all.len(), violation), (0, Some(Violation::NotUtf8)));
        }
    }

    #[test]
    fn an_endless_row_of_empty_fragments_is_bounded_work_in_each_call() {
        let mut reader = Reader::new(1024, 1000, &[]);
        let row = [frame(0x01, b""), frame(0x00, b"").repeat(10_000)].concat();
        let (mut calls, mut at) = (0, 0);
        while at < row.len() {
            let filled = reader.fill(|free| {
                let count = free.len().min(row.len() - at);
                free[..count].copy_from_slice(&row[at..at + count]);
                at += count;
                Ok(count)
            });
            filled.unwrap();
            while reader.next_frame() == Ok(Next::Busy) {
                calls += 1;
            }
        }
        assert!(calls >= 10_001 / FRAMES_AT_ONCE - 1, "{calls}");
    }

    #[test]
    fn bytes_that_come_one_by_one_cost_linear_time() {
        let payload = "x".repeat(1_000_000);
        let bytes = frame(0x81, payload.as_bytes());
        let started = crate::clock::HostClock::start();
        let mut reader = Reader::new(1024, 1 << 20, &[]);
        let (all, _) = read(&mut reader, &bytes, &[1]);
        assert_eq!(all, [text(&payload)]);
        // If each fragment were compared with all before it, this would process 5 · 10^11 bytes.
        let took = heartbeat_core::Clock::now(&started).as_nanos();
        assert!(took < 60_000_000_000, "{took} ns");
    }

    #[test]
    fn memory_is_small_at_rest_and_given_back() {
        let mut reader = Reader::new(1024, 64 << 20, &[]);
        assert_eq!(reader.block.capacity(), 0);
        read(&mut reader, &frame(0x81, b"quiet").repeat(3), &[21]);
        assert_eq!(reader.block.capacity(), 1024);
        // One large message, and many small ones together.
        let bytes = [
            frame(0x82, &vec![0; 5 << 20]),
            frame(0x81, b"small").repeat(20_000),
        ]
        .concat();
        let (all, _) = read(&mut reader, &bytes, &[1 << 20]);
        assert_eq!(all.len(), 20_001);
        assert_eq!(reader.block.capacity(), BUSY);
        assert!(reader.joined.is_none());
        reader.relax();
        assert_eq!(reader.block.capacity(), BUSY, "it was needed just now");
        reader.relax();
        assert_eq!(reader.block.capacity(), 1024);
        // The block also holds a part of a frame.
        let (first, rest) = bytes.split_at((5 << 20) + 20 + 13);
        let (all, _) = read(&mut reader, first, &[1 << 20]);
        reader.relax();
        reader.relax();
        assert_eq!(reader.block.capacity(), 1024);
        let (more, violation) = read(&mut reader, rest, &[1 << 20]);
        assert_eq!((all.len() + more.len(), violation), (20_001, None));
    }

    #[test]
    fn a_message_holds_no_more_than_its_own_size_and_a_promise_of_one_little() {
        for first in [0x02, 0x01] {
            let bytes = [frame(first, &[b'x'; 3000]), frame(0x80, &[b'x'; 10])].concat();
            let mut reader = Reader::new(1024, 64 << 20, &[]);
            let held = allocation_counter::measure(|| {
                let (all, _) = read(&mut reader, &bytes, &[500]);
                std::mem::forget(all);
            });
            assert!(held.bytes_current < 3010 + 1024 + 500, "{held:?}");
        }
        let mut reader = Reader::new(1024, 64 << 20, &[]);
        let held = allocation_counter::measure(|| {
            let promise = [&[0x82, 127][..], &(60_u64 << 20).to_be_bytes()].concat();
            read(&mut reader, &promise, &[500]);
        });
        assert!(held.bytes_max < 300_000, "{held:?}");
    }
}
