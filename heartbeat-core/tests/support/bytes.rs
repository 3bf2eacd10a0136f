//! Machine, model and audit on any bytes, for the fuzz target `step`.

use heartbeat_kit::{Resolver, Script};

use super::compare::compare;

/// Machine, model and audit agree on these bytes, or the difference.
pub(crate) fn check(bytes: &[u8]) -> Result<(), String> {
    let Some(script) = Script::from_bytes(bytes) else {
        return Ok(());
    };
    let mut ops = script.ops.into_iter();
    let mut resolver = Resolver::new(script.header.start);
    compare(&script.header, |machine| {
        ops.next().map(|op| resolver.resolve(machine, op))
    })
}

// ---- seeds -------------------------------------------------------------------------------------

/// The bytes for a machine whose times are usual ones: a start for the fuzzer, and a test of the decoder.
pub(crate) struct Seed(Vec<u8>);

/// A count of seconds, at most 31.
pub(crate) const fn seconds(count: u8) -> u8 {
    count * 8 + 3
}

impl Seed {
    /// Idle 9 s, a question after 3 s of silence, its answer within 4 s; `change` changes single bytes of the head.
    pub(crate) fn new(change: &[(usize, u8)]) -> Self {
        let mut head = vec![
            seconds(1),
            7,
            seconds(9),
            0,
            seconds(3) - 1,
            0,
            seconds(4),
            0, //
            seconds(5),
            seconds(3),
            seconds(2),
            seconds(1),
            seconds(1),
            seconds(8),
            seconds(10),
            50,
            0,
        ];
        // An even byte asks after silence: 30 tenths of a second.
        head[4] = 30 * 8 + 2;
        for (index, byte) in change {
            head[*index] = *byte;
        }
        Self(head)
    }

    /// A tick at the machine's wake.
    pub(crate) fn wake(self) -> Self {
        self.then(0, 0, 0, 0)
    }

    /// An event `amount` later.
    pub(crate) fn later(self, amount: u8, what: u8, more: u8) -> Self {
        self.then(8, amount, what, more)
    }

    pub(crate) fn then(mut self, when: u8, amount: u8, what: u8, more: u8) -> Self {
        self.0.extend([when, amount, what, more]);
        self
    }

    pub(crate) fn bytes(self) -> Vec<u8> {
        self.0
    }
}
