//! The filter in front of the rules. Most messages are no heartbeats, and the filter rejects most of them within a
//! few nanoseconds.
//!
//! The filter is exact: a message that it rejects matches no rule. It checks the length, the first byte, and, for
//! rules with JSON conditions, a piece of text that each of them needs: a value's string in its quotes, or a key.
//! Such a piece appears literally or with a `\u` escape, so a message with such an escape always passes. Characters
//! with a shorter escape in JSON are never part of a piece.
//!
//! One pass searches for all pieces, by a rare letter of each.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::needles::{Shared, choose, json_pieces};
use super::rule::{Matcher, Rule};
use crate::dialect::json::Paths;

#[derive(Clone, Debug)]
pub(crate) struct Filter {
    /// The longest text that can match.
    longest: usize,
    /// The rules apply to records, not to whole texts.
    has_records: bool,
    /// The kinds of rules that can match, for each first byte.
    first: [u8; 256],
    /// The prefixes of plain rules. True if the prefix is the whole text.
    plain: Box<[(Box<[u8]>, bool)]>,
    empty: bool,
    /// The needles of JSON rules.
    json: Search,
    /// The needles of all rules, for a message of several records.
    records: Search,
}

const PLAIN: u8 = 1;
const JSON: u8 = 2;

impl Filter {
    pub(crate) fn new(
        rules: &[Rule],
        paths: &Paths,
        max_len: usize,
        separator: Option<&str>,
        is_batch: bool,
    ) -> Self {
        let mut first = [0; 256];
        let (mut longest, mut empty) = (0, false);
        let mut plain: Vec<(Box<[u8]>, bool)> = Vec::new();
        let mut pieces = Vec::new();
        for rule in rules {
            let (begin, is_all) = match &rule.matcher {
                Matcher::Bytes(_) => continue,
                Matcher::Json { prefix, conditions } if prefix.is_empty() => {
                    pieces.push(json_pieces(conditions, paths));
                    longest = max_len;
                    for byte in b" \t\r\n{[" {
                        first[usize::from(*byte)] |= JSON;
                    }
                    continue;
                }
                Matcher::Text(text) => (text, true),
                Matcher::Prefix { prefix, .. } | Matcher::Json { prefix, .. } => (prefix, false),
            };
            longest = longest.max(if is_all { begin.len() } else { max_len });
            match begin.bytes().next() {
                Some(byte) => first[usize::from(byte)] |= PLAIN,
                None => empty = true,
            }
            plain.push((begin.as_bytes().into(), is_all));
        }
        let needed = choose(&pieces);
        let json = Search::new(needed.as_deref());
        let records = needed.map(|needed| {
            let begin = |(begin, _): &(Box<[u8]>, bool)| {
                Shared::plain([separator.unwrap_or_default().as_bytes(), begin].concat())
            };
            let begins = plain.iter().map(begin);
            needed.into_iter().chain(begins).collect::<Vec<_>>()
        });
        let records = Search::new(records.as_deref());
        let has_records = separator.is_some();
        Self {
            // A long message may have short records.
            longest: if has_records || is_batch {
                usize::MAX
            } else {
                longest
            },
            has_records,
            first,
            plain: plain.into(),
            empty,
            json,
            records,
        }
    }

    /// Returns true only if no rule can match a text of this length.
    #[inline]
    pub(crate) fn is_too_long(&self, len: usize) -> bool {
        len > self.longest
    }

    /// Returns false only if no rule can match this text. The text must not be too long.
    #[inline]
    pub(crate) fn passes(&self, text: &[u8]) -> bool {
        if self.has_records {
            return self.passes_records(text);
        }
        let Some(byte) = text.first() else {
            return self.empty;
        };
        match self.first[usize::from(*byte)] {
            0 => false,
            JSON => self.json.finds(text),
            PLAIN => self.passes_plain(text),
            _ => self.passes_plain(text) || self.json.finds(text),
        }
    }

    #[inline(never)]
    fn passes_plain(&self, text: &[u8]) -> bool {
        self.plain.iter().any(|(begin, is_all)| {
            if *is_all {
                text == &**begin
            } else {
                text.starts_with(begin)
            }
        })
    }

    /// Returns false only if no rule can match any record of this text.
    fn passes_records(&self, text: &[u8]) -> bool {
        let begins = |(begin, _): &(Box<[u8]>, bool)| text.starts_with(begin);
        self.plain.iter().any(begins) || self.records.finds(text)
    }
}

/// A search for any of several needles.
#[derive(Clone, Debug)]
struct Search {
    /// `None`: there are no needles, and every text passes.
    passes: Option<Box<[Pass]>>,
}

/// Needles that one pass finds, by one or two letters.
#[derive(Clone, Debug)]
struct Pass {
    letters: (u8, u8),
    needles: Box<[Needle]>,
}

/// A piece of text, and the values that may follow if it is a key.
#[derive(Clone, Debug)]
struct Needle {
    text: Box<[u8]>,
    /// The letter to search for, and its place in the needle.
    letter: u8,
    at: usize,
    /// The values of which one must follow, after a colon; none: any value.
    values: Box<[Box<str>]>,
}

impl Search {
    fn new(pieces: Option<&[Shared]>) -> Self {
        Self {
            passes: pieces.map(|pieces| passes(pieces).into()),
        }
    }

    #[inline]
    fn finds(&self, text: &[u8]) -> bool {
        match &self.passes {
            Some(passes) => passes.iter().any(|pass| pass.finds(text)),
            None => true,
        }
    }
}

impl Pass {
    /// Returns true if the text contains a needle, or an escape that may hide one.
    #[inline]
    fn finds(&self, text: &[u8]) -> bool {
        self.next_letter(text)
            .is_some_and(|at| self.finds_from(text, at))
    }

    #[inline]
    fn next_letter(&self, text: &[u8]) -> Option<usize> {
        let (one, other) = self.letters;
        if one == other {
            memchr::memchr2(one, b'\\', text)
        } else {
            memchr::memchr3(one, other, b'\\', text)
        }
    }

    #[inline(never)]
    fn finds_from(&self, text: &[u8], mut at: usize) -> bool {
        loop {
            if self.is_hit(text, at) {
                return true;
            }
            let rest = text.get(at + 1..).unwrap_or_default();
            let Some(next) = self.next_letter(rest) else {
                return false;
            };
            at += 1 + next;
        }
    }

    fn is_hit(&self, text: &[u8], at: usize) -> bool {
        let letter = text.get(at).copied();
        (letter == Some(b'\\') && text.get(at + 1) == Some(&b'u'))
            || self
                .needles
                .iter()
                .any(|needle| letter == Some(needle.letter) && needle.stands_around(text, at))
    }
}

impl Needle {
    fn stands_around(&self, text: &[u8], at: usize) -> bool {
        let from = at.checked_sub(self.at).and_then(|from| text.get(from..));
        let Some(after) = from.and_then(|from| from.strip_prefix(&*self.text)) else {
            return false;
        };
        if self.values.is_empty() {
            return true;
        }
        let value = after.trim_ascii_start().strip_prefix(b":");
        value.map(<[u8]>::trim_ascii_start).is_some_and(|value| {
            let mut wanted = self.values.iter();
            wanted.any(|wanted| value.starts_with(wanted.as_bytes()))
        })
    }
}

/// Groups the needles into as few passes as possible: a single one if two letters are enough for all.
fn passes(pieces: &[Shared]) -> Vec<Pass> {
    let letters: Vec<u8> = (0..=u8::MAX)
        .filter(|letter| pieces.iter().any(|piece| piece.text.contains(letter)))
        .collect();
    let mut pairs: Vec<(u8, u8)> = Vec::new();
    for one in &letters {
        for other in letters.iter().filter(|other| *other >= one) {
            let has = |piece: &Shared| piece.text.contains(one) || piece.text.contains(other);
            if pieces.iter().all(has) {
                pairs.push((*one, *other));
            }
        }
    }
    // Each letter found interrupts the search, so frequent letters cost more than a second letter.
    let weight = |letter: u8| frequency(letter).pow(2);
    let cost = |(one, other): &(u8, u8)| match one == other {
        true => weight(*one),
        false => weight(*one) + weight(*other) + 16,
    };
    match pairs.into_iter().min_by_key(cost) {
        Some(letters) => [pass(pieces, letters)].into(),
        None if pieces.len() > 1 => {
            let (left, right) = pieces.split_at(pieces.len() / 2);
            [passes(left), passes(right)].concat()
        }
        None => Vec::new(),
    }
}

fn pass(pieces: &[Shared], letters: (u8, u8)) -> Pass {
    let needle = |piece: &Shared| {
        let place = |letter| piece.text.iter().position(|other| *other == letter);
        let (letter, at) = match (place(letters.0), place(letters.1)) {
            (Some(at), None) => (letters.0, at),
            (Some(at), Some(_)) if frequency(letters.0) <= frequency(letters.1) => (letters.0, at),
            (_, at) => (letters.1, at.unwrap_or_default()),
        };
        Needle {
            text: piece.text.as_slice().into(),
            letter,
            at,
            values: piece.values.as_slice().into(),
        }
    };
    Pass {
        letters,
        needles: pieces.iter().map(needle).collect(),
    }
}

/// Returns the rank of a byte's frequency in the JSON of feeds, counted over the data in the catalogue's test
/// vectors. Punctuation and digits are the most frequent.
fn frequency(byte: u8) -> usize {
    const BY_FREQUENCY: &[u8] = b"zjqwxvfkyhbgmlucpdrnoiaste";
    match byte {
        b'"' | b':' | b',' | b'.' => 100,
        b'0'..=b'9' => 60,
        0..b' ' => 2,
        _ => {
            let letter = byte.to_ascii_lowercase();
            let rank = BY_FREQUENCY.iter().position(|other| *other == letter);
            // Symbols such as BNBBTC consist of capitals.
            let capital = if byte.is_ascii_uppercase() { 10 } else { 0 };
            rank.map_or(10, |rank| rank + 1 + capital)
        }
    }
}

#[cfg(test)]
mod tests;
