//! The frame writer: messages in, bytes out.
//!
//! Every byte has an offset: its position among all plain bytes ever written to the stream. A message is
//! written once the stream has taken everything up to the message's end. A message of which the first byte has
//! gone and the last one has not was cut. No other account is needed.
//!
//! A large message is sent in fragments and framed piece by piece, as earlier bytes leave. Pings, pongs and
//! Close go between its fragments. Other messages must not (RFC 6455 §5.4), so they wait for its end.

use std::collections::VecDeque;

use super::header::{self, FIN, Opcode};
use super::mask;
#[cfg(feature = "deflate")]
use super::{
    deflate::{Agreed, Deflater},
    header::RSV1,
};
use crate::message::{CloseFrame, Goodbye, Message};

/// A message, or its next fragment, is framed only while fewer bytes than this wait, so that pongs find a short
/// queue.
const LOW_WATER: u64 = 16 * 1024;

/// Messages that fit below this mark are framed as well. One write costs as much as about ten small messages,
/// so they share it.
const HIGH_WATER: u64 = PIECE as u64;

/// A frame is masked in pieces of this size, so that a large message is never in memory twice.
const PIECE: usize = 64 * 1024;

/// The longest header of a masked frame.
pub(crate) const MAX_HEADER: u64 = header::MAX_HEADER as u64 + 4;

/// An empty buffer larger than this is freed at once, a smaller one when the connection is idle.
const SPARE: usize = 256 * 1024;

/// A type that contains a message.
pub(crate) trait Carries {
    fn message(&self) -> &Message;
}

/// A message that is not wholly written.
#[derive(Debug)]
struct InFlight<T> {
    item: T,
    /// The offset of the first byte. [`UNKNOWN`] until the message is framed.
    start: u64,
    /// The offset after the last byte. [`UNKNOWN`] until all of the message is framed.
    end: u64,
}

const UNKNOWN: u64 = u64::MAX;

/// The offset after the last byte of a queued item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The offset is known.
    At(u64),
    /// This many bytes after the end of the fragmented message that is being sent.
    AfterMessage(u64),
}

/// The state of closing.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Closing {
    No,
    /// Close goes after everything that is queued.
    AfterAll(CloseFrame),
    /// Close is in the buffer, so nothing more is sent.
    Said,
}

/// The sending half of a connection. `T` is a message, together with data of its owner.
#[derive(Debug)]
pub(crate) struct Writer<T> {
    /// Framed bytes. The stream has taken those before `at`.
    buffer: Vec<u8>,
    at: usize,
    /// Plain bytes that the stream has taken so far.
    taken: u64,
    /// Messages that are not wholly written, in order.
    messages: VecDeque<InFlight<T>>,
    /// The number of these messages that are framed.
    framed: usize,
    /// The number of framed bytes of the next message.
    position: usize,
    /// Bytes still to be framed of the last frame in the buffer.
    frame_rest: usize,
    key: [u8; 4],
    /// Control frames that go after the current frame.
    after_frame: Vec<u8>,
    /// Frames of the dialect that go after the message that is being framed.
    after_message: Vec<u8>,
    closing: Closing,
    /// Larger messages are sent in fragments of this size.
    fragment: usize,
    answers: Backlog,
    /// The last ping.
    ping: Option<End>,
    #[cfg(feature = "deflate")]
    deflater: Option<Box<Deflating>>,
}

#[cfg(feature = "deflate")]
#[derive(Debug)]
struct Deflating {
    deflater: Deflater,
    /// The compressed output of a piece.
    piece: Vec<u8>,
    /// A frame of the current message has been written.
    has_begun: bool,
}

impl<T: Carries> Writer<T> {
    /// Creates a writer for a stream that has taken this many bytes already.
    pub(crate) fn new(taken: u64, fragment: Option<usize>) -> Self {
        Self {
            buffer: Vec::new(),
            at: 0,
            taken,
            messages: VecDeque::new(),
            framed: 0,
            position: 0,
            frame_rest: 0,
            key: [0; 4],
            after_frame: Vec::new(),
            after_message: Vec::new(),
            closing: Closing::No,
            fragment: fragment.unwrap_or(usize::MAX),
            answers: Backlog::default(),
            ping: None,
            #[cfg(feature = "deflate")]
            deflater: None,
        }
    }

    /// Compresses messages from now on.
    #[cfg(feature = "deflate")]
    pub(crate) fn deflating(mut self, agreed: Agreed) -> Self {
        self.deflater = Some(Box::new(Deflating {
            deflater: Deflater::new(agreed),
            piece: Vec::new(),
            has_begun: false,
        }));
        self
    }

    // ---- in ------------------------------------------------------------------------------------

    /// Queues a message. After Close the message is never framed.
    #[inline]
    pub(crate) fn queue(&mut self, item: T) {
        self.messages.push_back(InFlight {
            item,
            start: UNKNOWN,
            end: UNKNOWN,
        });
    }

    /// Queues a ping frame.
    pub(crate) fn ping(&mut self, payload: &[u8]) {
        self.ping = self.control(Opcode::Ping, payload).map(End::At);
    }

    /// Queues a ping message of the dialect. It goes ahead of messages for which the buffer has no room.
    pub(crate) fn ping_message(&mut self, is_text: bool, payload: &[u8]) {
        self.ping = self.own(is_text, payload);
    }

    /// Queues a pong frame.
    pub(crate) fn pong(&mut self, payload: &[u8]) {
        let before = self.backlog();
        if let Some(end) = self.control(Opcode::Pong, payload) {
            self.answers.add(self.backlog() - before, end);
        }
    }

    /// Queues an answer of the dialect, as [`ping_message`](Self::ping_message) does.
    pub(crate) fn pong_message(&mut self, is_text: bool, payload: &[u8]) {
        let before = self.backlog();
        if let Some(End::At(end)) = self.own(is_text, payload) {
            self.answers.add(self.backlog() - before, end);
        }
    }

    /// Returns false once Close is about to go out.
    pub(crate) fn takes_more(&self) -> bool {
        self.closing == Closing::No
    }

    /// Queues Close after everything else.
    pub(crate) fn close_after_all(&mut self, frame: CloseFrame) {
        if self.closing == Closing::No {
            self.closing = Closing::AfterAll(frame);
        }
    }

    /// Sends Close at once, or after the frame that has begun to go out. Unframed messages are never framed.
    pub(crate) fn close_now(&mut self, goodbye: Goodbye<'_>) {
        if self.closing != Closing::Said {
            self.control(Opcode::Close, &goodbye.payload());
            self.closing = Closing::Said;
            self.after_message = Vec::new();
        }
    }

    /// Queues a control frame, and returns the offset after it.
    fn control(&mut self, opcode: Opcode, payload: &[u8]) -> Option<u64> {
        if self.closing == Closing::Said {
            return None;
        }
        let to = if self.frame_rest > 0 {
            &mut self.after_frame
        } else {
            &mut self.buffer
        };
        write_frame(to, opcode, payload);
        Some(self.taken + self.backlog())
    }

    fn own(&mut self, is_text: bool, payload: &[u8]) -> Option<End> {
        // A few messages that were queued earlier, such as a login, still go first.
        self.frame_messages();
        if self.closing == Closing::Said {
            return None;
        }
        let opcode = if is_text {
            Opcode::Text
        } else {
            Opcode::Binary
        };
        if self.position > 0 || self.frame_rest > 0 {
            write_frame(&mut self.after_message, opcode, payload);
            return Some(End::AfterMessage(self.after_message.len() as u64));
        }
        write_frame(&mut self.buffer, opcode, payload);
        Some(End::At(self.taken + self.backlog()))
    }

    // ---- out -----------------------------------------------------------------------------------

    /// Returns the bytes to send next. Empty if nothing waits.
    #[inline]
    pub(crate) fn bytes(&mut self) -> &[u8] {
        self.frame_messages();
        &self.buffer[self.at..]
    }

    /// Notes that the stream has taken this many bytes.
    #[inline]
    pub(crate) fn took(&mut self, count: usize) {
        self.at += count;
        self.taken += count as u64;
        if self.at == self.buffer.len() {
            self.at = 0;
            self.buffer.clear();
            if self.buffer.capacity() > SPARE {
                self.buffer = Vec::new();
            }
        } else if self.at >= PIECE {
            self.buffer.drain(..self.at);
            self.at = 0;
        }
        self.answers.taken(self.taken);
    }

    /// Returns true if nothing can be sent.
    #[cfg(test)]
    fn is_empty(&self) -> bool {
        let has_messages = self.closing != Closing::Said && self.framed < self.messages.len();
        self.backlog() == 0 && !has_messages && !matches!(self.closing, Closing::AfterAll(_))
    }

    /// Returns about how many bytes of messages may be queued, so that few wait here.
    #[inline]
    pub(crate) fn room(&self) -> u64 {
        match self.framed == self.messages.len() {
            true => HIGH_WATER.saturating_sub(self.buffered()),
            false => 0,
        }
    }

    /// Returns the number of framed bytes that wait.
    pub(crate) fn buffered(&self) -> u64 {
        (self.buffer.len() - self.at) as u64
    }

    /// Returns the bytes up to the end of the last frame that has begun, and of the frames right after it.
    fn backlog(&self) -> u64 {
        self.buffered() + (self.frame_rest + self.after_frame.len()) as u64
    }

    /// Returns the bytes of waiting answers.
    pub(crate) fn answers(&self) -> u64 {
        // This may include a ping or two of ours that wait for the message's end.
        self.answers.bytes() + self.after_message.len() as u64
    }

    // ---- accounts ------------------------------------------------------------------------------

    /// Removes and returns the next message that is wholly written, when the stream has taken `written` bytes.
    #[inline]
    pub(crate) fn settle(&mut self, written: u64) -> Option<T> {
        if self.messages.front()?.end > written {
            return None;
        }
        self.framed -= 1;
        self.messages.pop_front().map(|message| message.item)
    }

    /// Returns true if no message waits to be written.
    #[inline]
    pub(crate) fn has_settled(&self) -> bool {
        self.messages.is_empty()
    }

    /// Returns true if the last ping has been written. `None` if there was none.
    pub(crate) fn ping_has_left(&self, written: u64) -> Option<bool> {
        self.ping.map(|end| match end {
            End::At(end) => end <= written,
            End::AfterMessage(_) => false,
        })
    }

    /// Returns the messages that are not wholly written, in order, and whether a part of the first is.
    pub(crate) fn into_unsent(self, written: u64) -> (bool, impl Iterator<Item = T>) {
        let cut = self
            .messages
            .front()
            .is_some_and(|first| first.start < written);
        (cut, self.messages.into_iter().map(|message| message.item))
    }

    /// Frees memory that only a busy connection needs.
    pub(crate) fn relax(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = Vec::new();
        }
        if self.messages.is_empty() {
            self.messages = VecDeque::new();
        }
        #[cfg(feature = "deflate")]
        if let Some(deflating) = &mut self.deflater
            && self.position == 0
        {
            deflating.piece = Vec::new();
            deflating.deflater.relax();
        }
    }

    // ---- framing -------------------------------------------------------------------------------

    /// Frames queued messages, as far as the buffer may hold them.
    fn frame_messages(&mut self) {
        loop {
            if self.frame_rest > 0 {
                if self.buffered() >= LOW_WATER {
                    break;
                }
                self.frame_piece();
            } else if self.closing == Closing::Said || !self.begin_frame() {
                break;
            }
        }
        if self.framed == self.messages.len()
            && let Closing::AfterAll(frame) = &self.closing
        {
            let frame = frame.clone();
            self.close_now(frame.goodbye());
        }
    }

    /// Begins the next frame. Returns false if there is no message, or no room.
    fn begin_frame(&mut self) -> bool {
        let buffered = self.buffered();
        let Some(next) = self.messages.get_mut(self.framed) else {
            return false;
        };
        let (first, payload) = parts(next.item.message());
        let is_whole = payload.len() <= self.fragment;
        if buffered >= LOW_WATER
            && !(is_whole && buffered + payload.len() as u64 + MAX_HEADER <= HIGH_WATER)
        {
            return false;
        }
        #[cfg(feature = "deflate")]
        if let Some(deflating) = &mut self.deflater
            && deflating.deflater.wants(payload.len())
        {
            return self.frame_deflated();
        }
        let rest = payload.len() - self.position;
        let opcode = if self.position == 0 {
            next.start = self.taken + (self.buffer.len() - self.at) as u64;
            first
        } else {
            Opcode::Continuation
        };
        let len = rest.min(self.fragment);
        let fin = if len == rest { FIN } else { 0 };
        self.key = mask::key();
        header::write(&mut self.buffer, fin | opcode as u8, len, self.key);
        self.frame_rest = len;
        self.frame_piece();
        true
    }

    /// Frames the next piece of the current frame. At the end of the frame it also adds the items that wait for
    /// the end of the frame or of the message.
    fn frame_piece(&mut self) {
        let Some(next) = self.messages.get_mut(self.framed) else {
            return;
        };
        let (_, payload) = parts(next.item.message());
        let len = self.frame_rest.min(PIECE);
        let piece = &payload[self.position..self.position + len];
        mask::append(&mut self.buffer, piece, self.key);
        self.position += len;
        self.frame_rest -= len;
        let message_ends = self.position == payload.len();
        if self.frame_rest == 0 {
            self.frame_ends(message_ends);
        }
    }

    /// Compresses and frames the next piece of a message. Each piece with output becomes a fragment.
    #[cfg(feature = "deflate")]
    fn frame_deflated(&mut self) -> bool {
        let (Some(deflating), Some(next)) =
            (&mut self.deflater, self.messages.get_mut(self.framed))
        else {
            return false;
        };
        let (first, payload) = parts(next.item.message());
        if self.position == 0 {
            next.start = self.taken + (self.buffer.len() - self.at) as u64;
            deflating.has_begun = false;
        }
        let len = (payload.len() - self.position).min(self.fragment);
        let piece = &payload[self.position..self.position + len];
        self.position += len;
        let is_last = self.position == payload.len();
        deflating.piece.clear();
        deflating
            .deflater
            .deflate(piece, is_last, &mut deflating.piece);
        if deflating.piece.is_empty() && !is_last {
            return true;
        }
        let first = if std::mem::replace(&mut deflating.has_begun, true) {
            Opcode::Continuation as u8
        } else {
            RSV1 | first as u8
        };
        let fin = if is_last { FIN } else { 0 };
        let key = mask::key();
        header::write(&mut self.buffer, fin | first, deflating.piece.len(), key);
        mask::append(&mut self.buffer, &deflating.piece, key);
        if deflating.piece.capacity() > SPARE {
            deflating.piece = Vec::new();
        }
        self.frame_ends(is_last);
        true
    }

    /// Adds the items that wait for the end of the frame and, if the message has ended too, for the end of the
    /// message.
    fn frame_ends(&mut self, message_ends: bool) {
        if message_ends && let Some(next) = self.messages.get_mut(self.framed) {
            next.end = self.taken + (self.buffer.len() - self.at) as u64;
            self.framed += 1;
            self.position = 0;
        }
        self.buffer.append(&mut self.after_frame);
        if message_ends && !self.after_message.is_empty() {
            self.release_own();
        }
    }

    #[cold]
    fn release_own(&mut self) {
        let start = self.taken + self.buffered();
        let bytes = self.after_message.len() as u64;
        self.buffer.append(&mut self.after_message);
        self.answers.add(bytes, start + bytes);
        if let Some(End::AfterMessage(len)) = self.ping {
            self.ping = Some(End::At(start + len));
        }
    }
}

fn parts(message: &Message) -> (Opcode, &[u8]) {
    match message {
        Message::Text(text) => (Opcode::Text, text.as_bytes()),
        Message::Binary(bytes) => (Opcode::Binary, bytes),
    }
}

fn write_frame(to: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    let key = mask::key();
    header::write(to, FIN | opcode as u8, payload.len(), key);
    mask::append(to, payload, key);
}

/// Answers that wait to be taken, in two parts. Each part is gone once its end has been taken, so the count
/// also falls while the application's messages keep the buffer from becoming empty.
#[derive(Debug, Default)]
struct Backlog {
    older: Part,
    newer: Part,
}

#[derive(Debug, Default)]
struct Part {
    bytes: u64,
    /// The offset after the last answer.
    end: u64,
}

impl Backlog {
    fn bytes(&self) -> u64 {
        self.older.bytes + self.newer.bytes
    }

    fn add(&mut self, bytes: u64, end: u64) {
        self.newer.bytes += bytes;
        self.newer.end = end;
    }

    #[inline]
    fn taken(&mut self, taken: u64) {
        for _ in 0..2 {
            if self.older.end <= taken {
                self.older = std::mem::take(&mut self.newer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::header::{MASKED, parse};
    use super::*;

    impl Carries for Message {
        fn message(&self) -> &Message {
            self
        }
    }

    /// Returns first byte and unmasked payload of each whole frame, and the length of the incomplete rest.
    fn frames(mut bytes: &[u8]) -> (Vec<(u8, Vec<u8>)>, usize) {
        let mut all = Vec::new();
        while let Ok(Some(header)) = parse(bytes) {
            assert!(bytes[1] & MASKED != 0, "a client masks each frame");
            let (from, len) = (header.size + 4, header.len as usize);
            let Some(payload) = bytes.get(from..from + len) else {
                break;
            };
            let key = bytes[from - 4..from].try_into().unwrap();
            let mut payload = payload.to_vec();
            mask::apply(&mut payload, key);
            all.push((bytes[0], payload));
            bytes = &bytes[from + len..];
        }
        (all, bytes.len())
    }

    /// Takes everything, this many bytes at a time.
    fn drain(writer: &mut Writer<Message>, piece: usize) -> Vec<u8> {
        let mut out = Vec::new();
        loop {
            let bytes = writer.bytes();
            let count = bytes.len().min(piece);
            out.extend_from_slice(&bytes[..count]);
            if count == 0 {
                assert!(writer.is_empty());
                return out;
            }
            writer.took(count);
        }
    }

    fn settle(writer: &mut Writer<Message>, written: u64) -> usize {
        std::iter::from_fn(|| writer.settle(written)).count()
    }

    fn writer(fragment: Option<usize>) -> Writer<Message> {
        Writer::new(100, fragment)
    }

    #[test]
    fn messages_go_out_in_order_and_large_ones_in_fragments() {
        let large = "é".repeat(60_000);
        for piece in [1, 999, 1 << 20] {
            let mut writer = writer(Some(50_001));
            for message in ["one", &large, "two"] {
                writer.queue(message.into());
            }
            writer.queue(vec![7; 50_001].into());
            let (all, rest) = frames(&drain(&mut writer, piece));
            let firsts: Vec<u8> = all.iter().map(|(first, _)| *first).collect();
            assert_eq!(
                (firsts, rest),
                (vec![0x81, 0x01, 0x00, 0x80, 0x81, 0x82], 0)
            );
            let joined: Vec<u8> = all[1..4]
                .iter()
                .flat_map(|(_, part)| part.clone())
                .collect();
            assert!(joined == large.as_bytes());
            assert_eq!(all[4].1, b"two");
        }
    }

    #[test]
    fn control_frames_go_between_fragments_and_our_own_messages_after_the_last() {
        let mut writer = writer(Some(1000));
        writer.queue(vec![1; 30_000].into());
        let _ = writer.bytes();
        writer.took(500);
        writer.pong(b"pong");
        writer.ping_message(true, b"own ping");
        assert_eq!(writer.ping_has_left(u64::MAX), Some(false));
        let (all, rest) = frames(&[vec![0; 0], drain(&mut writer, 999)].concat()[508..]);
        assert_eq!(rest, 0);
        let at = all.iter().position(|(first, _)| *first == 0x8a).unwrap();
        assert!(
            (10..20).contains(&at),
            "within what was framed by then: {at}"
        );
        assert_eq!(all[at].1, b"pong");
        assert_eq!(all.last().unwrap(), &(0x81, b"own ping".to_vec()));
        assert_eq!(all.iter().filter(|(first, _)| *first == 0x80).count(), 1);
        let end = writer.taken;
        assert_eq!(writer.ping_has_left(end), Some(true));
        assert_eq!(writer.ping_has_left(end - 1), Some(false));
        assert_eq!(writer.answers(), 0);
    }

    #[test]
    fn without_fragments_a_large_message_is_one_frame_that_is_never_wholly_in_the_buffer() {
        let mut writer = writer(None);
        writer.queue(vec![1; 1 << 20].into());
        assert!(writer.bytes().len() < 2 * PIECE);
        writer.ping(b"?");
        let told = writer.taken + 14 + (1 << 20) + 7;
        assert_eq!(writer.ping_has_left(told), Some(true));
        assert_eq!(writer.ping_has_left(told - 1), Some(false));
        let (all, rest) = frames(&drain(&mut writer, 10_000));
        assert_eq!((all[0].1.len(), all[1].0, rest), (1 << 20, 0x89, 0));
        assert_eq!(writer.taken, told);
    }

    #[test]
    fn each_message_is_written_at_its_last_byte_and_cut_from_its_first_one_on() {
        let messages = || {
            [
                Message::from("first"),
                Message::from(vec![2; 300]),
                Message::from(""),
                Message::from(vec![4; 20_000]),
                Message::from("last"),
            ]
        };
        let queued = || {
            let mut writer = writer(Some(999));
            for message in messages() {
                writer.queue(message);
            }
            writer
        };
        let mut whole = queued();
        let total = drain(&mut whole, 1 << 20).len();
        // Computes the ends from the headers.
        let mut ends = Vec::new();
        let mut at = 100;
        for message in messages() {
            let start = at;
            for from in (0..message.len().max(1)).step_by(999) {
                let len = (message.len() - from).min(999);
                at += len + if len > 125 { 8 } else { 6 };
            }
            ends.push((start, at));
        }
        assert_eq!(at, 100 + total);
        let messages = messages();
        for taken in (0..=total).step_by(7).chain(
            ends.iter()
                .flat_map(|(start, end)| [start + 1, end - 1, *end].map(|offset| offset - 100)),
        ) {
            let mut writer = queued();
            let mut left = taken;
            while left > 0 {
                let count = left.min(writer.bytes().len());
                writer.took(count);
                left -= count;
            }
            let written = 100 + taken;
            let count = settle(&mut writer, written as u64);
            let expected = ends.iter().filter(|(_, end)| *end <= written).count();
            assert_eq!(count, expected, "{taken}");
            let (cut, unsent) = writer.into_unsent(written as u64);
            let unsent: Vec<Message> = unsent.collect();
            assert!(unsent == messages[expected..], "{taken}");
            let is_cut = ends
                .get(expected)
                .is_some_and(|(start, _)| *start < written);
            assert_eq!(cut, is_cut, "{taken}");
        }
    }

    #[cfg(feature = "deflate")]
    #[test]
    fn compressed_messages_go_out_in_fragments_with_accounts_like_any() {
        use super::super::deflate::{Agreed, Inflater};
        let large: String = (0..30_000).map(|n| format!("{n},")).collect();
        let mut writer = writer(Some(64 * 1024)).deflating(Agreed::default());
        writer.queue("below the least size".into());
        writer.queue(large.as_str().into());
        let _ = writer.bytes();
        writer.pong(b"pong");
        let (all, rest) = frames(&drain(&mut writer, 999));
        let firsts: Vec<u8> = all.iter().map(|(first, _)| *first).collect();
        assert_eq!((firsts[..2].to_vec(), rest), (vec![0x81, 0x41], 0));
        let pong = firsts.iter().position(|first| *first == 0x8a).unwrap();
        assert!(pong < firsts.len() - 1, "between fragments: {firsts:x?}");
        let end = writer.taken;
        assert_eq!(settle(&mut writer, end), 2);

        let mut writer = super::tests::writer(Some(64 * 1024)).deflating(Agreed::default());
        writer.queue(large.as_str().into());
        writer.queue("x".repeat(100).as_str().into());
        let bytes = drain(&mut writer, 999);
        assert!(bytes.len() < large.len() / 2);
        let (all, rest) = frames(&bytes);
        assert_eq!(rest, 0);
        let firsts: Vec<u8> = all.iter().map(|(first, _)| *first).collect();
        let (first, middle) = firsts[..firsts.len() - 1].split_first().unwrap();
        let (last, middle) = middle.split_last().unwrap();
        assert_eq!((*first, *last, firsts.last()), (0x41, 0x80, Some(&0xc1)));
        assert!(middle.iter().all(|first| *first == 0x00));
        let joined: Vec<u8> = all[..all.len() - 1]
            .iter()
            .flat_map(|(_, part)| part.clone())
            .collect();
        let mut inflater = Inflater::new(Agreed::default());
        assert!(inflater.all(&joined, 1 << 20).unwrap() == large.as_bytes());
        let second = inflater.all(&all.last().unwrap().1, 100);
        assert_eq!(second.unwrap(), [b'x'; 100]);
    }

    #[test]
    fn close_goes_after_everything_or_at_once_and_nothing_after_it() {
        let mut last = writer(Some(1000));
        last.queue(vec![1; 20_000].into());
        last.queue("accepted".into());
        last.close_after_all(1000.into());
        last.pong(b"still");
        let (all, _) = frames(&drain(&mut last, 777));
        assert_eq!(all.last().unwrap(), &(0x88, vec![0x03, 0xe8]));
        assert!(all.iter().any(|(_, payload)| payload == b"accepted"));
        assert!(all.iter().any(|(_, payload)| payload == b"still"));
        let end = last.taken;
        assert_eq!(settle(&mut last, end), 2);

        for fragment in [Some(1000), None] {
            let mut now = writer(fragment);
            now.queue(vec![1; 400_000].into());
            now.queue("not any more".into());
            let _ = now.bytes();
            now.took(10);
            now.ping_message(true, b"nor this");
            now.close_now(1002.into());
            now.close_now(Goodbye::default());
            now.pong(b"nor this");
            now.ping(b"nor this");
            now.queue("nor this".into());
            let bytes = drain(&mut now, 777);
            assert!(bytes.len() < if fragment.is_none() { 401_000 } else { 20_000 });
            let end = now.taken;
            assert_eq!(settle(&mut now, end), usize::from(fragment.is_none()));
            let (cut, unsent) = now.into_unsent(end);
            assert_eq!(
                (cut, unsent.count()),
                (fragment.is_some(), 2 + usize::from(cut))
            );
            // The Close frame is the last: 2 bytes of header, 4 of mask, 2 of code.
            assert_eq!(bytes[bytes.len() - 8], 0x88);
        }
    }

    #[test]
    fn answers_are_counted_until_they_are_taken_and_only_as_long() {
        let mut writer = writer(Some(1000));
        for _ in 0..10 {
            writer.pong(&[0; 125]);
        }
        assert_eq!(writer.answers(), 10 * 131);
        // The second half is queued while the first is being sent.
        let _ = writer.bytes();
        writer.took(5 * 131);
        for _ in 0..10 {
            writer.pong(&[0; 125]);
        }
        writer.took(5 * 131);
        assert_eq!(writer.answers(), 10 * 131);
        writer.took(10 * 131);
        assert_eq!(writer.answers(), 0);
    }

    #[test]
    fn the_buffer_is_given_back() {
        let mut writer = writer(Some(64 * 1024));
        writer.queue(vec![1; 1 << 20].into());
        drain(&mut writer, 10_000);
        assert!(writer.buffer.capacity() < SPARE);
        let end = writer.taken;
        assert_eq!(settle(&mut writer, end), 1);
        writer.relax();
        assert_eq!(
            (writer.buffer.capacity(), writer.messages.capacity()),
            (0, 0)
        );
    }
}
