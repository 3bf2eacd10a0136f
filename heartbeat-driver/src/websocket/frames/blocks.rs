//! Memory for small received messages: neighbouring messages are copied together and share an allocation.

use std::ops::Range;

use bytes::Bytes;

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

/// The last copied part of the reader's block.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    copy: Bytes,
    /// The position of the copy in the block. Empty if the block has changed since.
    from: usize,
    to: usize,
}

impl Blocks {
    /// Returns the message at `at` in the block as owned bytes.
    #[inline]
    pub(super) fn cut(&mut self, block: &[u8], at: Range<usize>) -> Bytes {
        if at.end <= self.to && self.copy.len() <= most(at.len()) {
            return self.copy.slice(at.start - self.from..at.end - self.from);
        }
        self.cut_elsewhere(block, at)
    }

    #[inline(never)]
    fn cut_elsewhere(&mut self, block: &[u8], at: Range<usize>) -> Bytes {
        let len = at.len();
        let copied = block.len().min(at.start + most(len)) - at.start;
        // A message is copied alone if it is large, if nothing follows it, or if it is a small one among larger
        // ones.
        if len > LARGEST || copied < 2 * len || at.end <= self.to {
            let mut own = Vec::with_capacity(len);
            append(&mut own, &block[at]);
            return own.into();
        }
        let bytes = &block[at.start..at.start + copied];
        self.copy = match std::mem::take(&mut self.copy).try_into_mut() {
            Ok(mut copy) if copy.capacity() >= copied && copy.capacity() <= most(len) => {
                copy.clear();
                copy.extend_from_slice(bytes);
                copy.freeze()
            }
            _ => Bytes::copy_from_slice(bytes),
        };
        (self.from, self.to) = (at.start, at.start + copied);
        self.copy.slice(..len)
    }

    /// Forgets the copy, because the block is about to change.
    #[inline]
    pub(super) fn forget(&mut self) {
        (self.from, self.to) = (0, 0);
    }

    /// Frees the copy.
    pub(super) fn relax(&mut self) {
        *self = Self::default();
    }
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
                let message = blocks.cut(&block, range.clone());
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
