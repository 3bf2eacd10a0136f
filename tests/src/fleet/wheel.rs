//! A timer wheel for one timer per machine: two levels, intrusive lists, nothing allocated after the start.
//!
//! A heap of a million timers pays a cache miss at each of its 20 levels; a wheel pays one or two. The
//! crates that offer a wheel (such as `hierarchical_hash_wheel_timer`, which needs a newer compiler than
//! this workspace) count in milliseconds and return the timers of one millisecond in no order. Here a run
//! must repeat exactly, to the nanosecond.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A slot of the fine level is 2²⁰ ns wide, about a millisecond.
const FINE_BITS: u32 = 20;
/// The fine level has 2¹⁶ slots: 68.7 s. That is also the width of a slot of the coarse level.
const SLOT_BITS: u32 = 16;
const COARSE_BITS: u32 = FINE_BITS + SLOT_BITS;
const FINE_SLOTS: usize = 1 << SLOT_BITS;
const NONE: u32 = u32::MAX;

/// Timers by owner: each of `owners` has at most one.
#[derive(Debug)]
pub(crate) struct Wheel {
    /// The timers that are due in the current fine slot, in order.
    due: BinaryHeap<Reverse<(u64, u32)>>,
    /// The first owner in each fine slot of the current coarse slot.
    fine: Box<[u32]>,
    /// The first owner in each coarse slot.
    coarse: Box<[u32]>,
    /// One bit for each fine slot, set if the slot holds something.
    occupied: Box<[u64]>,
    next: Box<[u32]>,
    at: Box<[u64]>,
    /// The current fine slot, counted from the origin.
    slot: u64,
}

impl Wheel {
    /// A wheel for times up to `horizon` nanoseconds. A later time never comes.
    pub(crate) fn new(owners: usize, horizon: u64) -> Self {
        let coarse = (horizon >> COARSE_BITS) as usize + 1;
        Self {
            due: BinaryHeap::new(),
            fine: vec![NONE; FINE_SLOTS].into(),
            coarse: vec![NONE; coarse].into(),
            occupied: vec![0; FINE_SLOTS / 64].into(),
            next: vec![NONE; owners].into(),
            at: vec![0; owners].into(),
            slot: 0,
        }
    }

    /// Sets the timer of an owner that has none. A time in the past is due at once.
    pub(crate) fn set(&mut self, owner: u32, at: u64) {
        self.at[owner as usize] = at;
        self.place(owner, at);
    }

    fn place(&mut self, owner: u32, at: u64) {
        let slot = at >> FINE_BITS;
        if slot <= self.slot {
            self.due.push(Reverse((at, owner)));
            return;
        }
        let head = if slot >> SLOT_BITS == self.slot >> SLOT_BITS {
            let index = slot as usize % FINE_SLOTS;
            self.occupied[index / 64] |= 1 << (index % 64);
            &mut self.fine[index]
        } else {
            match self.coarse.get_mut((at >> COARSE_BITS) as usize) {
                Some(head) => head,
                None => return,
            }
        };
        self.next[owner as usize] = std::mem::replace(head, owner);
    }

    /// Takes the earliest timer that is due before `until`. Of two at the same time, takes that of the lower
    /// owner.
    pub(crate) fn pop(&mut self, until: u64) -> Option<(u64, u32)> {
        loop {
            if let Some(Reverse((at, _))) = self.due.peek() {
                if *at >= until {
                    return None;
                }
                return self.due.pop().map(|Reverse(timer)| timer);
            }
            if !self.advance(until) {
                return None;
            }
        }
    }

    /// Moves on to the next slot that holds something. False if that begins at `until` or later.
    fn advance(&mut self, until: u64) -> bool {
        let next = self.next_occupied();
        let slot = next.unwrap_or(((self.slot >> SLOT_BITS) + 1) << SLOT_BITS);
        if slot >= until.div_ceil(1 << FINE_BITS) {
            return false;
        }
        self.slot = slot;
        if next.is_none() {
            // A new turn of the fine level: the coarse slot's timers are spread over it.
            let Some(head) = self.coarse.get_mut((slot >> SLOT_BITS) as usize) else {
                return false;
            };
            let head = std::mem::replace(head, NONE);
            self.spread(head);
            return true;
        }
        let index = slot as usize % FINE_SLOTS;
        self.occupied[index / 64] &= !(1 << (index % 64));
        let head = std::mem::replace(&mut self.fine[index], NONE);
        self.spread(head);
        true
    }

    fn spread(&mut self, mut owner: u32) {
        while owner != NONE {
            let next = self.next[owner as usize];
            self.place(owner, self.at[owner as usize]);
            owner = next;
        }
    }

    /// The next occupied fine slot after the current one, in this turn.
    fn next_occupied(&self) -> Option<u64> {
        let from = self.slot as usize % FINE_SLOTS + 1;
        let turn = self.slot >> SLOT_BITS << SLOT_BITS;
        let mut word = from / 64;
        let mut bits = self.occupied.get(word)? & (u64::MAX << (from % 64));
        loop {
            if bits != 0 {
                return Some(turn + word as u64 * 64 + u64::from(bits.trailing_zeros()));
            }
            word += 1;
            bits = *self.occupied.get(word)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::fleet::dice::Dice;

    /// Compared with a sorted set: same timers, same order, whatever the distances.
    #[test]
    fn a_wheel_is_a_sorted_set() {
        const OWNERS: u32 = 300;
        for seed in 0..50 {
            let mut dice = Dice::new(seed);
            let mut wheel = Wheel::new(OWNERS as usize, 1 << 44);
            let mut set = BTreeSet::new();
            let mut idle: Vec<u32> = (0..OWNERS).collect();
            let mut now = 0;
            for _ in 0..3_000 {
                if dice.below(2) == 0 {
                    if let Some(owner) = idle.pop() {
                        let bits = dice.below(42);
                        let at = now + dice.below(1 << bits);
                        wheel.set(owner, at);
                        set.insert((at, owner));
                    }
                    continue;
                }
                let bits = dice.below(40);
                let until = now + dice.below(1 << bits);
                let expected = set.first().copied().filter(|(at, _)| *at < until);
                assert_eq!(wheel.pop(until), expected, "seed {seed}");
                match expected {
                    Some((at, owner)) => {
                        set.remove(&(at, owner));
                        idle.push(owner);
                        now = at;
                    }
                    None => now = until,
                }
            }
        }
    }
}
