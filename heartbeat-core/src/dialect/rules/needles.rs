//! Which pieces of text to look for, so that no message is missed and few are looked into.

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

use super::rule::{Condition, Test};
use crate::dialect::json::Paths;

/// The shortest piece worth looking for.
const SHORTEST: usize = 3;

/// Pieces looked for at once; beyond that, some are shortened to what they share.
const MOST_NEEDLES: usize = 4;

/// A piece that long is shared gladly.
const LONG: usize = 6;

/// Something that a rule needs to find.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) text: Vec<u8>,
    /// A value's text, which is rarer than a key's.
    is_value: bool,
    /// The value, a number or a word, that must follow the key.
    value: Option<Box<str>>,
}

/// All that must stand in a text of which these conditions are true.
pub(crate) fn json_pieces(conditions: &[Condition], paths: &Paths) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for condition in conditions {
        if condition.test == Test::Absent {
            continue;
        }
        let tokens = paths.tokens(condition.slot);
        for (depth, token) in tokens.iter().enumerate() {
            // A number may be an index, which stands nowhere.
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
                // Behind the whole key only.
                value: value.clone().filter(|_| piece.len() == quoted.len()),
            });
        }
        from = end + 1;
    }
}

/// A needle that some rules share, with its worth.
pub(crate) struct Shared {
    rules: Vec<usize>,
    worth: usize,
    pub(crate) text: Vec<u8>,
    /// One of these must follow, after a colon; none: anything.
    pub(crate) values: Vec<Box<str>>,
}

impl Shared {
    /// A text that is needed as it is.
    pub(crate) fn plain(text: Vec<u8>) -> Self {
        Self {
            rules: Vec::new(),
            worth: 0,
            text,
            values: Vec::new(),
        }
    }
}

/// A few needles, one of which stands in every text that any of the rules matches. `None` if a rule
/// needs nothing that could be looked for.
pub(crate) fn choose(rules: &[Vec<Piece>]) -> Option<Vec<Shared>> {
    let mut groups = Vec::new();
    for rule in 0..rules.len() {
        groups.push(share(rules, &[rule])?);
    }
    while let Some((left, right, shared)) = best_union(rules, &groups) {
        // Worth it if it is nearly as rare, or if there are too many.
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

/// The best piece of text that all of these rules need.
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
                    // Where there are values, the text is a whole key, quotes and all, and so is each holder.
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
