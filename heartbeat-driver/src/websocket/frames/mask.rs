//! Masking (RFC 6455 §5.3): unpredictable keys, and their application.

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};

/// Bytes of keys that a thread draws from the operating system at once. One system call costs as much as
/// masking a few hundred bytes.
const DRAWN: usize = 1024;

/// Bytes that are masked in one step.
const BLOCK: usize = 32;

struct Keys {
    bytes: [u8; DRAWN],
    at: usize,
}

thread_local! {
    static KEYS: RefCell<Keys> = const {
        RefCell::new(Keys { bytes: [0; DRAWN], at: DRAWN })
    };
}

/// Returns four random bytes from the operating system (RFC 6455 §10.3).
pub(crate) fn key() -> [u8; 4] {
    KEYS.with_borrow_mut(|keys| {
        if keys.at == DRAWN {
            keys.draw();
        }
        let mut key = [0; 4];
        key.copy_from_slice(&keys.bytes[keys.at..keys.at + 4]);
        keys.at += 4;
        key
    })
}

impl Keys {
    #[cold]
    fn draw(&mut self) {
        if getrandom::fill(&mut self.bytes).is_err() {
            // On no known system does this call fail while the standard library still gets its random keys.
            let random = RandomState::new();
            for (number, part) in self.bytes.chunks_exact_mut(8).enumerate() {
                part.copy_from_slice(&random.hash_one(number).to_ne_bytes());
            }
        }
        self.at = 0;
    }
}

/// Appends the masked bytes. The key starts at the first of them.
#[inline]
pub(super) fn append(to: &mut Vec<u8>, bytes: &[u8], key: [u8; 4]) {
    let start = to.len();
    to.extend_from_slice(bytes);
    apply(&mut to[start..], key);
}

/// Masks or unmasks the bytes.
#[inline]
pub(super) fn apply(bytes: &mut [u8], key: [u8; 4]) {
    // The compiler vectorises the loop over blocks.
    let wide: [u8; BLOCK] = std::array::from_fn(|at| key[at % 4]);
    let (blocks, rest) = bytes.as_chunks_mut::<BLOCK>();
    for block in blocks {
        for (byte, key) in block.iter_mut().zip(wide) {
            *byte ^= key;
        }
    }
    let (words, rest) = rest.as_chunks_mut::<4>();
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ u32::from_ne_bytes(key)).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn bytes_of_any_length_are_masked_as_one_by_one() {
        let key = [1, 2, 0x40, 0xff];
        for len in (0..70).chain([1000, 4099]) {
            let bytes: Vec<u8> = (0..len).map(|n| n as u8).collect();
            let mut masked = vec![7];
            append(&mut masked, &bytes, key);
            let plainly = bytes.iter().zip(key.iter().cycle());
            let plainly: Vec<u8> = plainly.map(|(byte, key)| byte ^ key).collect();
            assert_eq!(masked[1..], plainly, "{len}");
        }
    }

    #[test]
    fn keys_do_not_repeat() {
        let keys: HashSet<_> = (0..2000).map(|_| key()).collect();
        // One collision among 2000 keys has a chance of 1 in 2147. Three collisions are practically impossible.
        assert!(keys.len() > 1997, "{}", keys.len());
    }

    #[test]
    fn threads_have_keys_of_their_own() {
        let here: HashSet<_> = (0..256).map(|_| key()).collect();
        let there = std::thread::spawn(|| (0..256).map(|_| key()).collect::<HashSet<_>>());
        assert!(here.intersection(&there.join().unwrap()).count() < 3);
    }
}
