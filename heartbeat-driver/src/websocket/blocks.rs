//! Memory for small messages: a few of them share an allocation.

use bytes::{Bytes, BytesMut};

/// A message that is kept pins at most so many times its own size. Eight messages to an allocation cost nearly
/// as little as eighty would.
const SHARED: usize = 8;

/// Messages below this count as that: what an allocation costs beside its bytes is about as much.
const SMALLEST: usize = 32;

/// Larger messages have an allocation of their own: next to them its price is small.
const LARGEST: usize = 512;

/// After so many messages in a row that were too small for the block, they get one that suits them.
const MISFITS: u8 = 4;

/// The block that small messages are cut from, if there is one.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    block: BytesMut,
    /// Its size, with what was cut from it.
    size: usize,
    misfits: u8,
}

impl Blocks {
    /// The payload as bytes that can be kept.
    #[inline]
    pub(super) fn cut(&mut self, payload: &[u8]) -> Bytes {
        let len = payload.len();
        let most = len.max(SMALLEST) * SHARED;
        if len > LARGEST || self.size > most || self.block.capacity() < len {
            return self.cut_elsewhere(payload, most);
        }
        self.misfits = 0;
        self.block.extend_from_slice(payload);
        self.block.split().freeze()
    }

    #[inline(never)]
    fn cut_elsewhere(&mut self, payload: &[u8], most: usize) -> Bytes {
        if payload.len() > LARGEST || payload.is_empty() {
            return Bytes::copy_from_slice(payload);
        }
        if self.size > most && self.misfits < MISFITS {
            self.misfits += 1;
            return Bytes::copy_from_slice(payload);
        }
        if self.size > most || !self.block.try_reclaim(payload.len()) {
            self.block = BytesMut::with_capacity(most);
            self.size = most;
        }
        self.misfits = 0;
        self.block.extend_from_slice(payload);
        self.block.split().freeze()
    }

    /// Gives the block back.
    pub(super) fn relax(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_its_own_bytes() {
        let mut blocks = Blocks::default();
        let payloads: Vec<Vec<u8>> = (0..2000)
            .map(|n: usize| vec![n as u8; n * 7 % 600])
            .collect();
        let cut: Vec<Bytes> = payloads.iter().map(|payload| blocks.cut(payload)).collect();
        assert_eq!(cut, payloads);
    }

    /// Keeps one of so many messages of these lengths, by turns, and says how many allocated bytes were kept for
    /// each byte of theirs.
    fn pinned(lengths: &[usize], one_of: usize) -> f64 {
        let mut kept = Vec::new();
        let mut bytes = 0;
        let held = allocation_counter::measure(|| {
            let mut blocks = Blocks::default();
            let payload = [b'x'; 4096];
            for n in 0..8192 {
                let message = blocks.cut(&payload[..lengths[n % lengths.len()]]);
                if n % one_of == 0 {
                    bytes += message.len().max(SMALLEST);
                    kept.push(message);
                }
            }
        });
        held.bytes_current as f64 / bytes as f64
    }

    #[test]
    fn a_message_that_is_kept_pins_a_few_times_its_own_size() {
        for lengths in [&[23][..], &[150], &[23, 4000], &[500, 23, 23], &[512, 64]] {
            for one_of in [1, 7, 8, 64, 101] {
                // The list of those that are kept, and the allocator's own words on each block, come on top.
                let pinned = pinned(lengths, one_of);
                assert!(pinned < 12.0, "{lengths:?}, one of {one_of}: {pinned}");
            }
        }
    }

    #[test]
    fn messages_that_are_dropped_at_once_share_one_block() {
        let mut blocks = Blocks::default();
        drop(blocks.cut(&[1; 150]));
        let counted = allocation_counter::measure(|| {
            for _ in 0..1000 {
                drop(blocks.cut(&[1; 150]));
            }
        });
        assert!(counted.count_total <= 1, "{counted:?}");
    }
}
