//! Memory for small received messages: neighbouring messages are copied together and share an allocation.

use std::ops::Range;
use std::str::Utf8Error;

use bytes::{Bytes, BytesMut};

use crate::message::Text;

/// A message that the application keeps pins at most this many times its own size. Eight messages per
/// allocation cost nearly as little as eighty.
const SHARED: usize = 8;

/// The header of a small message, in bytes. Smaller messages count as this size, because an allocation costs
/// about as much.
const HEADER: usize = 4;
const SMALLEST: usize = 32;

/// Larger messages have their own allocation, because its cost is small next to their copy.
const LARGEST: usize = 512;

/// Long messages are copied in pieces of this size.
pub(super) const PIECE: usize = 2048;

/// The last copied parts of the reader's block.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    /// Texts, with zeros for headers. One check for UTF-8 is valid for all of them, and costs little more than a
    /// check of one.
    texts: Shared<Text>,
    binaries: Shared<Bytes>,
}

/// A copy of a part of the block that several messages share.
#[derive(Debug, Default)]
struct Shared<T> {
    copy: T,
    /// The position of the copy in the block. Empty if the block has changed since.
    from: usize,
    to: usize,
    /// The length of the shortest message that may share the copy.
    least: usize,
}

impl Blocks {
    /// Returns the text at `at` in the block, owned.
    #[inline(always)]
    pub(super) fn text(&mut self, block: &[u8], at: Range<usize>) -> Result<Text, Utf8Error> {
        let texts = &mut self.texts;
        if texts.has(block, &at)
            && let Some(text) = texts.copy.get(at.start - texts.from..at.end - texts.from)
        {
            return Ok(texts.copy.share(text));
        }
        own_text(&block[at])
    }

    /// Returns the binary message at `at` in the block, owned.
    pub(super) fn binary(&mut self, block: &[u8], at: Range<usize>) -> Bytes {
        let binaries = &mut self.binaries;
        if binaries.has(block, &at) {
            return binaries
                .copy
                .slice(at.start - binaries.from..at.end - binaries.from);
        }
        own(&block[at])
    }

    /// Forgets the copies, because the block is about to change.
    #[inline]
    pub(super) fn forget(&mut self) {
        (self.texts.from, self.texts.to) = (0, 0);
        (self.binaries.from, self.binaries.to) = (0, 0);
    }

    /// Frees the copies.
    pub(super) fn relax(&mut self) {
        *self = Self::default();
    }
}

/// A kind of message that can share a copy with others.
trait Share: Default + Into<Bytes> + TryFrom<Bytes> {
    /// Returns false if no message of the same kind follows.
    fn may_share(following: &[u8]) -> bool;

    /// Prepares a new copy, whose first message has `first` bytes.
    fn prepare(copy: &mut BytesMut, first: usize);
}

impl Share for Bytes {
    fn may_share(_: &[u8]) -> bool {
        true
    }

    fn prepare(_: &mut BytesMut, _: usize) {}
}

impl Share for Text {
    fn may_share(following: &[u8]) -> bool {
        text_at(following).is_some()
    }

    /// Overwrites the bytes that are not ASCII in the headers between the texts with zeros, and cuts off the bytes
    /// after the last whole text. No character extends over a zero, so all texts together are valid if each of them is.
    fn prepare(copy: &mut BytesMut, first: usize) {
        let mut end = first;
        while let Some(text) = text_at(&copy[end..]) {
            // The first byte, and the last byte of the length. Those between are ASCII: see `LARGEST`.
            copy[end] = 0;
            copy[end + text.start - 1] = 0;
            end += text.end;
        }
        copy.truncate(end);
    }
}

/// Returns the position of the text if a frame with a whole text is at the start of `bytes`.
#[inline(always)]
fn text_at(bytes: &[u8]) -> Option<Range<usize>> {
    let text = match *bytes {
        [0x81, len @ 0..=125, ..] => 2..2 + usize::from(len),
        [0x81, 126, high, low, ..] => 4..4 + usize::from(u16::from_be_bytes([high, low])),
        _ => return None,
    };
    (text.end <= bytes.len()).then_some(text)
}

impl<T: Share> Shared<T> {
    /// Returns true if the copy holds the message at `at` in the block. Otherwise the message is copied alone: it is
    /// large, nothing like it follows, it is a small one among larger ones, or a message of the copy is invalid.
    #[inline(always)]
    fn has(&mut self, block: &[u8], at: &Range<usize>) -> bool {
        at.end <= self.to && at.len() >= self.least || self.renew(block, at)
    }

    #[inline(never)]
    fn renew(&mut self, block: &[u8], at: &Range<usize>) -> bool {
        let len = at.len();
        let end = block.len().min(at.start + most(len));
        let size = end - at.start;
        let is_alone = len > LARGEST || size < 2 * len || at.end <= self.to;
        if is_alone || !T::may_share(&block[at.end..end]) {
            return false;
        }
        let mut copy = match std::mem::take(&mut self.copy).into().try_into_mut() {
            Ok(copy) if copy.capacity() >= size && copy.capacity() <= most(len) => copy,
            _ => BytesMut::with_capacity(size),
        };
        copy.clear();
        copy.extend_from_slice(&block[at.start..end]);
        T::prepare(&mut copy, len);
        (self.from, self.to) = (at.start, at.start + copy.len());
        self.least = least(copy.capacity());
        match T::try_from(copy.freeze()) {
            Ok(copy) => self.copy = copy,
            Err(_) => self.to = 0,
        }
        self.to > 0
    }
}

#[inline(never)]
fn own_text(bytes: &[u8]) -> Result<Text, Utf8Error> {
    own(bytes).try_into()
}

fn own(bytes: &[u8]) -> Bytes {
    let mut own = Vec::with_capacity(bytes.len());
    append(&mut own, bytes);
    own.into()
}

/// Copies in pieces. Common processors have a special instruction for long copies, and it is slower than
/// copying in pieces.
pub(super) fn append(all: &mut Vec<u8>, bytes: &[u8]) {
    for piece in bytes.chunks(PIECE) {
        all.extend_from_slice(piece);
    }
}

/// Returns the most bytes that a message of this length may share.
#[inline]
fn most(len: usize) -> usize {
    (len + HEADER).max(SMALLEST) * SHARED
}

/// Returns the length of the shortest message that may share so many bytes.
fn least(shared: usize) -> usize {
    if shared <= most(0) {
        return 0;
    }
    shared.div_ceil(SHARED) - HEADER
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds blocks of messages with these lengths in turn.
    fn messages(lengths: &[usize], count: usize, mut each: impl FnMut(usize, Bytes, &[u8])) {
        let mut blocks = Blocks::default();
        let mut lengths = lengths.iter().cycle();
        let mut number = 0;
        while number < count {
            let (mut block, mut ranges) = (Vec::new(), Vec::new());
            while block.len() < 60_000 {
                block.extend_from_slice(&[0xff; HEADER]);
                let from = block.len();
                block.resize(from + lengths.next().unwrap(), number as u8);
                ranges.push(from..block.len());
                number += 1;
            }
            blocks.forget();
            for (at, range) in ranges.into_iter().enumerate() {
                let message = blocks.binary(&block, range.clone());
                each(at, message, &block[range]);
            }
        }
    }

    #[test]
    fn every_message_is_its_own_bytes() {
        let lengths: Vec<usize> = (0..600).map(|n| n * 7 % 601).collect();
        messages(&lengths, 3000, |_, message, payload| {
            assert_eq!(message, payload);
        });
    }

    #[test]
    fn a_message_that_is_kept_pins_a_few_times_its_own_size() {
        for lengths in [
            &[23][..],
            &[150],
            &[23, 4000],
            &[500, 23, 23],
            &[512, 64],
            &[1],
        ] {
            for one_of in [1, 7, 8, 64, 101] {
                let (mut kept, mut bytes) = (Vec::with_capacity(10_000), 0);
                let held = allocation_counter::measure(|| {
                    messages(lengths, 8192, |at, message, _| {
                        if at % one_of == 0 && kept.len() < kept.capacity() {
                            bytes += message.len().max(SMALLEST);
                            kept.push(message);
                        }
                    });
                });
                let pinned = held.bytes_current as f64 / bytes as f64;
                assert!(pinned < 12.0, "{lengths:?}, one of {one_of}: {pinned}");
            }
        }
    }

    /// A block of text frames, and the position of each text.
    fn text_frames(texts: &[&[u8]]) -> (Vec<u8>, Vec<Range<usize>>) {
        let (mut block, mut ranges) = (Vec::new(), Vec::new());
        for text in texts {
            match text.len() {
                len @ 0..=125 => block.extend_from_slice(&[0x81, len as u8]),
                len => {
                    block.extend_from_slice(&[0x81, 126]);
                    block.extend_from_slice(&(len as u16).to_be_bytes());
                }
            }
            ranges.push(block.len()..block.len() + text.len());
            block.extend_from_slice(text);
        }
        (block, ranges)
    }

    #[test]
    fn texts_that_are_checked_together_are_as_valid_as_each_alone() {
        let (half, rest) = "\u{e9}".as_bytes().split_at(1);
        // The second byte of a length of 200 or 384 is not ASCII.
        let (long, longer) = ("\u{20ac}".repeat(66) + "ab", "x".repeat(384));
        let kinds: [&[u8]; 8] = [
            b"abc",
            "\u{e9}\u{20ac}".as_bytes(),
            long.as_bytes(),
            longer.as_bytes(),
            b"",
            half,
            rest,
            b"\0",
        ];
        for number in 0..kinds.len().pow(4) {
            let texts: Vec<&[u8]> = (0..4)
                .map(|place| kinds[number / kinds.len().pow(place) % kinds.len()])
                .collect();
            let (block, ranges) = text_frames(&texts);
            let mut blocks = Blocks::default();
            for (text, range) in texts.iter().zip(ranges) {
                let expected = std::str::from_utf8(text).ok();
                let seen = blocks.text(&block, range).ok();
                assert_eq!(seen.as_deref(), expected, "{texts:?}");
            }
        }
    }

    #[test]
    fn texts_share_a_copy_up_to_a_frame_that_is_no_whole_text() {
        let text = [b'x'; 100];
        // Another opcode, a fragment, a compressed frame, a mask, and a frame that is cut.
        for next in [
            [0x82, 100],
            [0x01, 100],
            [0xc1, 100],
            [0x81, 0xe4],
            [0x81, 101],
        ] {
            let (mut block, ranges) = text_frames(&[&text[..]; 3]);
            block[ranges[2].start - 2..ranges[2].start].copy_from_slice(&next);
            let mut blocks = Blocks::default();
            assert!(blocks.text(&block, ranges[0].clone()).is_ok());
            assert_eq!(blocks.texts.to, ranges[1].end, "{next:?}");
        }
    }

    #[test]
    fn texts_that_are_kept_pin_a_few_times_their_own_size() {
        for lengths in [&[23][..], &[150], &[500, 23, 23], &[512, 64], &[1]] {
            let texts: Vec<Vec<u8>> = lengths.iter().map(|len| vec![b'x'; *len]).collect();
            let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).cycle().take(1024).collect();
            let (block, ranges) = text_frames(&texts);
            for one_of in [1, 7, 8, 64] {
                let (mut kept, mut bytes) = (Vec::with_capacity(ranges.len()), 0);
                let held = allocation_counter::measure(|| {
                    let mut blocks = Blocks::default();
                    for (at, range) in ranges.iter().enumerate() {
                        let text = blocks.text(&block, range.clone()).unwrap();
                        if at % one_of == 0 {
                            bytes += text.len().max(SMALLEST);
                            kept.push(text);
                        }
                    }
                });
                let pinned = held.bytes_current as f64 / bytes as f64;
                assert!(pinned < 12.0, "{lengths:?}, one of {one_of}: {pinned}");
            }
        }
    }

    #[test]
    fn the_shortest_message_that_may_share_a_copy_pins_as_much_as_it_may() {
        for shared in 0..most(LARGEST) {
            let least = least(shared);
            assert!(shared <= most(least), "{shared}");
            assert!(least == 0 || shared > most(least - 1), "{shared}");
        }
    }

    #[test]
    fn small_messages_share_allocations() {
        let (mut count, mut kept) = (0_u64, Vec::with_capacity(10_000));
        let kept_ones = allocation_counter::measure(|| {
            messages(&[150], 4000, |_, message, _| kept.push(message));
        });
        let dropped_ones = allocation_counter::measure(|| {
            messages(&[150], 4000, |_, _, _| count += 1);
        });
        // Two to eight messages share a copy, or one if the copy is reused.
        assert!(kept_ones.count_total < 2 * 4000 / 7 + 300, "{kept_ones:?}");
        assert!(
            dropped_ones.count_total < 4000 / 7 + 300,
            "{dropped_ones:?}"
        );
    }
}
