//! Most messages are no heartbeats, and most of them are told in a few nanoseconds.
//!
//! The filter is exact: a message that it rejects matches no rule. It looks at the length, at the
//! first byte, and, for rules of JSON conditions, for a piece of text that each of them needs: a
//! value's string in its quotes, or a key. Such a piece stands there literally or behind a `\u`
//! escape; so a message with one of those always passes. Characters that JSON can write in a shorter
//! escaped form are never part of a piece.

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

use memchr::memmem::Finder;

use super::rule::{Condition, Matcher, Rule, Test};
use super::scan::Paths;

/// The shortest piece worth looking for.
const SHORTEST: usize = 3;

/// Pieces looked for one after the other; beyond that, some are shortened to what they share.
const MOST_NEEDLES: usize = 3;

#[derive(Clone, Debug)]
pub(super) struct Filter {
    longest: usize,
    /// For each first byte, which kinds of rules can match.
    first: Box<[u8; 256]>,
    /// What plain rules need at the beginning, and whether that is all.
    plain: Box<[(Box<[u8]>, bool)]>,
    empty: bool,
    /// What JSON rules need; `None`: nothing in particular.
    needles: Option<Box<[Needle]>>,
}

const PLAIN: u8 = 1;
const JSON: u8 = 2;

impl Filter {
    pub(super) fn new(rules: &[Rule], paths: &Paths, max_len: usize) -> Self {
        let mut filter = Self {
            longest: 0,
            first: Box::new([0; 256]),
            plain: Box::default(),
            empty: false,
            needles: None,
        };
        let mut plain = Vec::new();
        let mut pieces = Vec::new();
        for rule in rules {
            let (begin, is_all) = match &rule.matcher {
                Matcher::Bytes(_) => continue,
                Matcher::Json { prefix, conditions } if prefix.is_empty() => {
                    pieces.push(json_pieces(conditions, paths));
                    filter.longest = max_len;
                    for byte in b" \t\r\n{[" {
                        filter.first[usize::from(*byte)] |= JSON;
                    }
                    continue;
                }
                Matcher::Text(text) => (text, true),
                Matcher::Prefix { prefix, .. } | Matcher::Json { prefix, .. } => (prefix, false),
            };
            filter.longest = filter
                .longest
                .max(if is_all { begin.len() } else { max_len });
            match begin.bytes().next() {
                Some(byte) => filter.first[usize::from(byte)] |= PLAIN,
                None => filter.empty = true,
            }
            plain.push((begin.as_bytes().into(), is_all));
        }
        filter.plain = plain.into();
        filter.needles = choose(&pieces);
        filter
    }

    /// False only if no rule can match this text.
    #[inline]
    pub(super) fn passes(&self, text: &[u8]) -> bool {
        if text.len() > self.longest {
            return false;
        }
        let Some(byte) = text.first() else {
            return self.empty;
        };
        match self.first[usize::from(*byte)] {
            0 => false,
            JSON => self.passes_json(text),
            PLAIN => self.passes_plain(text),
            _ => self.passes_plain(text) || self.passes_json(text),
        }
    }

    fn passes_plain(&self, text: &[u8]) -> bool {
        self.plain.iter().any(|(begin, is_all)| {
            if *is_all {
                text == &**begin
            } else {
                text.starts_with(begin)
            }
        })
    }

    #[inline]
    fn passes_json(&self, text: &[u8]) -> bool {
        let Some(needles) = &self.needles else {
            return true;
        };
        needles.iter().any(|needle| needle.is_in(text)) || has_unicode_escape(text)
    }
}

fn has_unicode_escape(text: &[u8]) -> bool {
    memchr::memchr_iter(b'\\', text).any(|at| text.get(at + 1) == Some(&b'u'))
}

/// A piece of text, and what must come behind it if it is a key.
#[derive(Clone, Debug)]
struct Needle {
    finder: Finder<'static>,
    /// One of these values, after a colon; none: anything.
    values: Box<[Box<str>]>,
}

impl Needle {
    #[inline]
    fn is_in(&self, text: &[u8]) -> bool {
        if self.values.is_empty() {
            return self.finder.find(text).is_some();
        }
        self.finder
            .find_iter(text)
            .any(|at| self.has_value(text.get(at + self.finder.needle().len()..)))
    }

    fn has_value(&self, after: Option<&[u8]>) -> bool {
        let value = after
            .map(<[u8]>::trim_ascii_start)
            .and_then(|after| after.strip_prefix(b":"))
            .map(<[u8]>::trim_ascii_start);
        value.is_some_and(|value| {
            self.values
                .iter()
                .any(|wanted| value.starts_with(wanted.as_bytes()))
        })
    }
}

/// Something that a rule needs to find.
#[derive(Clone, Debug)]
struct Piece {
    text: Vec<u8>,
    /// A value's text, which is rarer than a key's.
    is_value: bool,
    /// The value, a number or a word, that must follow the key.
    value: Option<Box<str>>,
}

/// All that must stand in a text of which these conditions are true.
fn json_pieces(conditions: &[Condition], paths: &Paths) -> Vec<Piece> {
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
struct Shared {
    rules: Vec<usize>,
    worth: usize,
    text: Vec<u8>,
    values: Vec<Box<str>>,
}

/// A few needles, one of which stands in every text that any of the rules matches. `None` if a rule
/// needs nothing that could be looked for.
fn choose(rules: &[Vec<Piece>]) -> Option<Box<[Needle]>> {
    let mut groups = Vec::new();
    for rule in 0..rules.len() {
        groups.push(share(rules, &[rule])?);
    }
    while let Some((left, right, shared)) = best_union(rules, &groups) {
        // Worth it if it is as rare as a value, or if there are too many.
        if shared.worth < VALUE && groups.len() <= MOST_NEEDLES {
            break;
        }
        groups.remove(right);
        groups[left] = shared;
    }
    let needles = groups.into_iter().map(|group| Needle {
        finder: Finder::new(&group.text).into_owned(),
        values: group.values.into(),
    });
    Some(needles.collect())
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
                    let value = holders().find(|p| p.text.len() == text.len() && p.value.is_some());
                    match value.and_then(|piece| piece.value.clone()) {
                        Some(value) if !values.is_empty() => values.push(value),
                        _ => values.clear(),
                    }
                    holders().next().is_some()
                });
                let rare = is_value || !values.is_empty();
                let worth = text.len() + if rare { VALUE } else { 0 };
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
