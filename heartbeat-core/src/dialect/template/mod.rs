//! Templates: messages with placeholders that a dialect sends.

mod bytes;
mod values;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write as _};

pub(crate) use self::bytes::{BytesTemplate, Pattern};
use self::values::variable;
pub use self::values::{Buffer, Outgoing, Values, Variables};
pub(crate) use self::values::{MAX_CAPTURES, NOT_KNOWN, Source, Track, is_name};
use crate::dialect::at::{At, Result};
use crate::dialect::template_ref::TemplateRef;

/// The longest template, in bytes of its text.
pub(crate) const MAX_TEMPLATE: usize = 1024;

#[derive(Clone, Debug)]
pub(crate) enum Template {
    Text {
        parts: Box<[Part]>,
        captures: Box<[Source]>,
    },
    Binary(BytesTemplate),
}

#[derive(Clone, Debug)]
pub(crate) enum Part {
    Literal(Box<str>),
    /// A captured value, by its number.
    Capture(usize),
    Id,
    Seconds,
    Millis,
    Micros,
    Nanos,
    /// A time in ISO 8601 form, with this many digits after the second.
    Iso(usize),
    Uuid,
    Variable(Box<str>),
}

/// A function that returns the number of a path.
pub(crate) type FindPath<'f> = &'f mut dyn FnMut(&At, &str) -> Result<usize>;

impl Template {
    /// Reads a text template. `slot` returns the number of a path, if there is a message to capture from.
    pub(crate) fn parse(
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
            // `$${` stands for a literal `${`.
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
                ("now_us", _) => Part::Micros,
                ("now_ns", _) => Part::Nanos,
                ("now_iso", _) => Part::Iso(3),
                ("now_iso_s", _) => Part::Iso(0),
                ("now_iso_us", _) => Part::Iso(6),
                ("uuid", _) => Part::Uuid,
                ("message", Some(_)) => Part::Capture(capture(Source::Message)),
                ("rest", Some(_)) if has_prefix => Part::Capture(capture(Source::Rest)),
                ("rest", Some(_)) => {
                    return Err(at.placeholder(name, "needs a rule with a prefix"));
                }
                (path, Some(slot)) if path.starts_with('/') => {
                    Part::Capture(capture(match path.strip_suffix(":bare") {
                        Some(path) => Source::Bare(slot(at, path)?),
                        None => Source::Slot(slot(at, path)?),
                    }))
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

    pub(crate) fn captures(&self) -> &[Source] {
        match self {
            Self::Text { captures, .. } => captures,
            Self::Binary(template) => &template.captures,
        }
    }

    /// Iterates over the variables that the template needs.
    pub(crate) fn variables(&self) -> impl Iterator<Item = &str> {
        let (parts, binary): (&[Part], _) = match self {
            Self::Text { parts, .. } => (parts, None),
            Self::Binary(template) => (&[], Some(template)),
        };
        let in_text = parts.iter().filter_map(|part| match part {
            Part::Variable(name) => Some(&**name),
            _ => None,
        });
        in_text.chain(binary.into_iter().flat_map(BytesTemplate::variables))
    }

    /// Fills in the template. Returns `None` if a variable is not known (yet).
    pub(crate) fn render<'d>(
        &'d self,
        draft: &TemplateRef<'_>,
        values: &Values<'_>,
        buffer: &'d mut Buffer,
        tracks: &[Track],
    ) -> Option<Outgoing<'d>> {
        let parts = match self {
            Self::Text { parts, .. } => parts,
            Self::Binary(template) => {
                let bytes = template.render(draft, values, &mut buffer.bytes, tracks);
                return bytes.map(Outgoing::Binary);
            }
        };
        let buffer = &mut buffer.text;
        buffer.clear();
        let now = values.unix_ms;
        for part in parts {
            // Writing to a string cannot fail.
            let _ = match part {
                Part::Literal(text) => buffer.write_str(text),
                Part::Capture(number) => {
                    buffer.write_str(core::str::from_utf8(draft.capture(*number)).ok()?)
                }
                Part::Id => write!(buffer, "{}", draft.id),
                Part::Seconds => write!(buffer, "{}", now / 1000),
                Part::Millis => write!(buffer, "{now}"),
                Part::Micros => write!(buffer, "{}", u128::from(now) * 1_000),
                Part::Nanos => write!(buffer, "{}", u128::from(now) * 1_000_000),
                Part::Iso(digits) => write_iso(buffer, now, *digits),
                Part::Uuid => write_uuid(buffer, now, draft.id),
                Part::Variable(name) => buffer.write_str(variable(name, values, tracks)?),
            };
        }
        Some(Outgoing::Text(buffer))
    }
}

/// Writes a time in RFC 3339 form, in UTC, with none, three or six digits after the second.
fn write_iso(out: &mut String, unix_ms: u64, digits: usize) -> fmt::Result {
    let (days, ms) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    // Count the days from March 1st of the year 0, in eras of 400 years. Such years end with their leap day.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let of_month = day - (153 * month + 2) / 5 + 1;
    let (year, month) = match month {
        0..10 => (year + era * 400, month + 3),
        _ => (year + era * 400 + 1, month - 9),
    };
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
    write!(
        out,
        "{year:04}-{month:02}-{of_month:02}T{hour:02}:{minute:02}:{second:02}"
    )?;
    match digits {
        0 => out.write_str("Z"),
        3 => write!(out, ".{:03}Z", ms % 1_000),
        _ => write!(out, ".{:03}000Z", ms % 1_000),
    }
}

/// Writes a UUID of version 8 (RFC 9562 §5.8) from the time and the running number, so that a client never repeats
/// one.
fn write_uuid(out: &mut String, unix_ms: u64, id: u64) -> fmt::Result {
    write!(
        out,
        "{:08x}-{:04x}-8000-{:04x}-{:012x}",
        unix_ms >> 16 & 0xffff_ffff,
        unix_ms & 0xffff,
        0x8000 | (id >> 48 & 0x3fff),
        id & 0xffff_ffff_ffff
    )
}

fn push_literal(parts: &mut Vec<Part>, text: &str) {
    if !text.is_empty() {
        parts.push(Part::Literal(text.into()));
    }
}
