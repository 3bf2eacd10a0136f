//! Messages with placeholders: what a dialect sends.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write as _;

use super::Draft;
use super::at::{At, Result};
use super::description::Track;

/// The most values of a message that one reply may repeat.
pub(super) const MAX_CAPTURES: usize = 4;

/// The longest template, in bytes of its text.
pub(super) const MAX_TEMPLATE: usize = 1024;

/// Values that the application knows and templates ask for (`${session}`), and values that a dialect
/// tracks (`${seq}`). Each is put in as it is: a JSON string has its quotes in here.
pub type Variables = BTreeMap<String, String>;

/// What a template is filled in with, besides the message it answers.
#[derive(Clone, Copy, Debug)]
pub struct Values<'v> {
    /// Milliseconds since 1970: `${now_ms}`, and without the last three digits `${now_s}`.
    pub unix_ms: u64,
    /// `${name}` for every other name.
    pub variables: &'v Variables,
}

/// A message to send, as a template came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outgoing<'d> {
    /// A text message.
    Text(&'d str),
    /// A binary message.
    Binary(&'d [u8]),
}

#[derive(Clone, Debug)]
pub(super) enum Template {
    Text {
        parts: Box<[Part]>,
        captures: Box<[Source]>,
    },
    Binary(Box<[u8]>),
}

#[derive(Clone, Debug)]
pub(super) enum Part {
    Literal(Box<str>),
    /// By its number among the captures.
    Capture(usize),
    Id,
    Millis,
    Seconds,
    Variable(Box<str>),
}

/// Names that stand for something in every template.
const BUILT_IN: [&str; 5] = ["id", "now_ms", "now_s", "message", "rest"];

const NOT_KNOWN: &str = "is nothing that could be filled in: it is none of id, now_ms, now_s, and neither listed in \"variables\" \
    nor tracked";

/// Gives a path its number.
pub(super) type FindPath<'f> = &'f mut dyn FnMut(&At, &str) -> Result<usize>;

/// Where a captured slice comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The value at the path of this number.
    Slot(usize),
    /// What follows the rule's prefix.
    Rest,
    /// The whole message.
    Message,
}

impl Template {
    /// Reads a text template. `slot` gives a path its number, if a message is there to capture from.
    pub(super) fn parse(
        at: &At,
        text: &str,
        mut slot: Option<FindPath<'_>>,
        has_prefix: bool,
        known: &[String],
    ) -> Result<Self> {
        if text.len() > MAX_TEMPLATE {
            return Err(at.too_many(alloc::format!("{} bytes", text.len()), MAX_TEMPLATE));
        }
        let mut parts = Vec::new();
        let mut captures: Vec<Source> = Vec::new();
        let mut rest = text;
        while let Some((literal, after)) = rest.split_once("${") {
            // `$${` is how a literal `${` is written.
            if let Some(literal) = literal.strip_suffix('$') {
                push_literal(&mut parts, literal);
                push_literal(&mut parts, "${");
                rest = after;
                continue;
            }
            push_literal(&mut parts, literal);
            let Some((name, after)) = after.split_once('}') else {
                return Err(at.placeholder(after, "has no closing brace"));
            };
            rest = after;
            let mut capture = |source| {
                if !captures.contains(&source) {
                    captures.push(source);
                }
                captures
                    .iter()
                    .position(|known| *known == source)
                    .unwrap_or_default()
            };
            parts.push(match (name, &mut slot) {
                ("id", _) => Part::Id,
                ("now_ms", _) => Part::Millis,
                ("now_s", _) => Part::Seconds,
                ("message", Some(_)) => Part::Capture(capture(Source::Message)),
                ("rest", Some(_)) if has_prefix => Part::Capture(capture(Source::Rest)),
                ("rest", Some(_)) => {
                    return Err(at.placeholder(name, "needs a rule with a prefix"));
                }
                (path, Some(slot)) if path.starts_with('/') => {
                    Part::Capture(capture(Source::Slot(slot(at, path)?)))
                }
                ("message" | "rest", None) => {
                    return Err(at.placeholder(name, "needs a message to take it from"));
                }
                (path, None) if path.starts_with('/') => {
                    return Err(at.placeholder(name, "needs a message to take it from"));
                }
                (name, _) if known.iter().any(|known| known == name) => Part::Variable(name.into()),
                (name, _) if is_name(name) => {
                    return Err(at.placeholder(name, NOT_KNOWN));
                }
                _ => {
                    return Err(
                        at.placeholder(name, "is neither a path nor a name of a-z, 0-9 and _")
                    );
                }
            });
        }
        push_literal(&mut parts, rest);
        if captures.len() > MAX_CAPTURES {
            return Err(at.too_many(
                alloc::format!("{} captured values", captures.len()),
                MAX_CAPTURES,
            ));
        }
        Ok(Self::Text {
            parts: parts.into(),
            captures: captures.into(),
        })
    }

    pub(super) fn captures(&self) -> &[Source] {
        match self {
            Self::Text { captures, .. } => captures,
            Self::Binary(_) => &[],
        }
    }

    /// The variables that it asks for.
    pub(super) fn variables(&self) -> impl Iterator<Item = &str> {
        let parts: &[Part] = match self {
            Self::Text { parts, .. } => parts,
            Self::Binary(_) => &[],
        };
        parts.iter().filter_map(|part| match part {
            Part::Variable(name) => Some(&**name),
            _ => None,
        })
    }

    /// Fills it in. `None` if a variable is not known (yet).
    pub(super) fn render<'d>(
        &'d self,
        draft: &Draft<'_>,
        values: &Values<'_>,
        buffer: &'d mut String,
        tracks: &[Track],
    ) -> Option<Outgoing<'d>> {
        let parts = match self {
            Self::Text { parts, .. } => parts,
            Self::Binary(bytes) => return Some(Outgoing::Binary(bytes)),
        };
        buffer.clear();
        for part in parts {
            // Writing to a string cannot fail.
            let _ = match part {
                Part::Literal(text) => buffer.write_str(text),
                Part::Capture(number) => buffer.write_str(draft.capture(*number)),
                Part::Id => write!(buffer, "{}", draft.id),
                Part::Millis => write!(buffer, "{}", values.unix_ms),
                Part::Seconds => write!(buffer, "{}", values.unix_ms / 1000),
                Part::Variable(name) => buffer.write_str(variable(name, values, tracks)?),
            };
        }
        Some(Outgoing::Text(buffer))
    }
}

fn variable<'v>(name: &str, values: &Values<'v>, tracks: &'v [Track]) -> Option<&'v str> {
    let initial = || {
        let track = tracks.iter().find(|track| *track.name == *name)?;
        track.initial.as_deref()
    };
    values
        .variables
        .get(name)
        .map(String::as_str)
        .or_else(initial)
}

fn push_literal(parts: &mut Vec<Part>, text: &str) {
    if !text.is_empty() {
        parts.push(Part::Literal(text.into()));
    }
}

/// Whether a description may call a value of its own so.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !BUILT_IN.contains(&name)
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}
