//! Selection of the pieces of text to search for. No heartbeat may be missed, and few data should need a closer
//! look.

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

use super::rule::{Condition, Test};
use crate::dialect::json::Paths;

/// The shortest piece worth a search.
const SHORTEST: usize = 3;

/// The most pieces in one search. If there are more, some are shortened to their common part.
const MOST_NEEDLES: usize = 4;

/// A value with at least this much in common is shared even if there are few needles.
const LONG: usize = 6;

/// A piece of text that a rule needs.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) text: Vec<u8>,
    /// The piece is a value's text, which is rarer than a key's.
    is_value: bool,
    /// The value, a number or a word, that must follow the key.
    value: Option<Box<str>>,
}

/// Returns all pieces that a text must contain to fulfil these conditions.
pub(crate) fn json_pieces(conditions: &[Condition], paths: &Paths) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for condition in conditions {
        if condition.test == Test::Absent {
            continue;
        }
        let tokens = paths.tokens(condition.slot);
        for (depth, token) in tokens.iter().enumerate() {
            // A number may be an array index, which does not appear in the text.
            if token.index.is_some() {
                continue;
            }
            let value = match &condition.test {
                Test::Literal(value) if depth + 1 == tokens.len() => Some(value.clone()),
                _ => None,
            };
            add_pieces(&mut pieces, &token.key, false, value);
        }
        if let Test::String(value) = &condition.test {
            add_pieces(&mut pieces, value, true, None);
        }
    }
    pieces
}

fn add_pieces(pieces: &mut Vec<Piece>, text: &str, is_value: bool, value: Option<Box<str>>) {
    let quoted = format!("\"{text}\"");
    let last = quoted.len() - 1;
    let has_short_escape = |at: usize, letter: char| {
        letter.is_control()
            || letter == '/'
            || letter == '\\'
            || (letter == '"' && at != 0 && at != last)
    };
    let mut from = 0;
    let mut ends: Vec<usize> = quoted
        .char_indices()
        .filter(|(at, letter)| has_short_escape(*at, *letter))
        .map(|(at, _)| at)
        .collect();
    ends.push(quoted.len());
    for end in ends {
        let piece = quoted.as_bytes().get(from..end).unwrap_or_default();
        if piece.len() >= SHORTEST {
            pieces.push(Piece {
                text: piece.into(),
                is_value,
                // A value follows only the whole key.
                value: value.clone().filter(|_| piece.len() == quoted.len()),
            });
        }
        from = end + 1;
    }
}

/// A needle shared by some rules, with its worth.
pub(crate) struct Shared {
    rules: Vec<usize>,
    worth: usize,
    pub(crate) text: Vec<u8>,
    /// The values of which one must follow, after a colon; none: any value.
    pub(crate) values: Vec<Box<str>>,
}

impl Shared {
    /// Makes a needle of a text that is needed in full.
    pub(crate) fn plain(text: Vec<u8>) -> Self {
        Self {
            rules: Vec::new(),
            worth: 0,
            text,
            values: Vec::new(),
        }
    }
}

/// Chooses a few needles such that every text that matches a rule contains one of them. Returns `None` if a rule
/// needs no text that can be searched for.
pub(crate) fn choose(rules: &[Vec<Piece>]) -> Option<Vec<Shared>> {
    let mut groups = Vec::new();
    for rule in 0..rules.len() {
        groups.push(share(rules, &[rule])?);
    }
    while let Some((left, right, shared)) = best_union(rules, &groups) {
        // Share if the shared needle is nearly as rare, or if there are too many needles.
        if shared.worth < VALUE + LONG && groups.len() <= MOST_NEEDLES {
            break;
        }
        groups.remove(right);
        groups[left] = shared;
    }
    Some(groups)
}

/// Any value is worth more than any key.
const VALUE: usize = 1000;

fn best_union(rules: &[Vec<Piece>], groups: &[Shared]) -> Option<(usize, usize, Shared)> {
    let mut best: Option<(usize, usize, Shared)> = None;
    for left in 0..groups.len() {
        for right in left + 1..groups.len() {
            let members = [&groups[left].rules[..], &groups[right].rules[..]].concat();
            if let Some(shared) = share(rules, &members)
                && best
                    .as_ref()
                    .is_none_or(|(.., best)| shared.worth > best.worth)
            {
                best = Some((left, right, shared));
            }
        }
    }
    best
}

/// Returns the best piece of text that all of these rules need.
fn share(rules: &[Vec<Piece>], members: &[usize]) -> Option<Shared> {
    let (first, others) = members.split_first()?;
    let mut best: Option<Shared> = None;
    for piece in &rules[*first] {
        for from in 0..piece.text.len() {
            for to in from + SHORTEST..=piece.text.len() {
                let text = &piece.text[from..to];
                let is_whole = text.len() == piece.text.len();
                let mut is_value = piece.is_value;
                let mut values: Vec<_> = piece.value.iter().filter(|_| is_whole).cloned().collect();
                let has_all = others.iter().all(|other| {
                    let holders = || rules[*other].iter().filter(|p| contains(&p.text, text));
                    is_value &= holders().any(|holder| holder.is_value);
                    // With values, the needle is a whole key in its quotes, and so is each piece that contains it.
                    match holders().find_map(|piece| piece.value.clone()) {
                        Some(value) if !values.is_empty() => values.push(value),
                        _ => values.clear(),
                    }
                    holders().next().is_some()
                });
                // Digits alone are as frequent as numbers.
                let has_letter = text.iter().any(u8::is_ascii_alphabetic);
                let is_rare = (is_value && has_letter) || !values.is_empty();
                let worth = text.len() + if is_rare { VALUE } else { 0 };
                if has_all && best.as_ref().is_none_or(|best| worth > best.worth) {
                    best = Some(Shared {
                        rules: members.into(),
                        worth,
                        text: text.into(),
                        values,
                    });
                }
            }
        }
    }
    best
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
