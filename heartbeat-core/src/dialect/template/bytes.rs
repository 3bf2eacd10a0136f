//! Patterns and templates of binary messages. Both are hex. A pattern has `??` for any byte and `*` at the end for
//! any further bytes. A template has placeholders.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde_json::Value;

use super::values::{MAX_CAPTURES, NOT_KNOWN, Source, Track, Values, variable};
use crate::dialect::at::{At, MAX_LITERAL, Result};
use crate::dialect::template_ref::TemplateRef;

/// A pattern for a binary message, byte by byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    /// `None`: any byte.
    bytes: Box<[Option<u8>]>,
    /// Further bytes may follow.
    pub(crate) is_open: bool,
}

impl Pattern {
    pub(crate) fn read(at: &At, value: &Value) -> Result<Self> {
        let expected = "bytes in hex, two digits each, ?? for any byte, * at the end for any more";
        let text = at.string(Some(value), expected)?;
        let (digits, is_open) = match text.strip_suffix('*') {
            Some(digits) => (digits, true),
            None => (text, false),
        };
        if digits.len() > 2 * MAX_LITERAL {
            return Err(at.too_many(format!("{} hex digits", digits.len()), 2 * MAX_LITERAL));
        }
        let one = |pair: &[u8]| match pair {
            b"??" => Some(None),
            pair => byte(pair).map(Some),
        };
        let bytes = digits.as_bytes().chunks(2).map(one).collect::<Option<_>>();
        let bytes = bytes.ok_or_else(|| at.wrong(Some(value), expected))?;
        Ok(Self { bytes, is_open })
    }

    /// Returns the length of the shortest message that the pattern matches.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Returns the pattern's bytes if it matches only one message.
    pub(crate) fn exact(&self) -> Option<Box<[u8]>> {
        let bytes = self.bytes.iter().copied().collect::<Option<_>>();
        bytes.filter(|_| !self.is_open)
    }

    pub(crate) fn matches(&self, bytes: &[u8]) -> bool {
        let has_len = match self.is_open {
            true => bytes.len() >= self.bytes.len(),
            false => bytes.len() == self.bytes.len(),
        };
        let mut pairs = self.bytes.iter().zip(bytes);
        has_len && pairs.all(|(wanted, byte)| wanted.is_none_or(|wanted| wanted == *byte))
    }

    /// Returns true if this pattern certainly matches every message that the other one matches.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        let has_len = match self.is_open {
            true => other.bytes.len() >= self.bytes.len(),
            false => other.bytes.len() == self.bytes.len() && !other.is_open,
        };
        let mut pairs = self.bytes.iter().zip(&other.bytes);
        has_len && pairs.all(|(one, other)| one.is_none() || one == other)
    }
}

fn byte(pair: &[u8]) -> Option<u8> {
    let digit = |digit: &u8| char::from(*digit).to_digit(16);
    match pair {
        [high, low] => u8::try_from(digit(high)? * 16 + digit(low)?).ok(),
        _ => None,
    }
}

/// The format of a number, or a numeric variable, in a binary message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    U32Be,
    U32Le,
    U64Be,
    U64Le,
    /// Protobuf's form of whole numbers: seven bits a byte, the lowest first.
    Varint,
    /// The digits of a number, or a variable's text.
    Text,
}

impl Format {
    const WORDS: &str = "has no format: it is written with one of :u32be, :u32le, :u64be, :u64le, :varint and :text behind it";

    fn named(word: &str) -> Option<Self> {
        Some(match word {
            "u32be" => Self::U32Be,
            "u32le" => Self::U32Le,
            "u64be" => Self::U64Be,
            "u64le" => Self::U64Le,
            "varint" => Self::Varint,
            "text" => Self::Text,
            _ => return None,
        })
    }

    /// Writes a number. Formats of 32 bits drop the highest bits.
    fn write(self, number: u64, out: &mut Vec<u8>) {
        let low = number.to_be_bytes();
        match self {
            Self::U32Be => out.extend_from_slice(&low[4..]),
            Self::U32Le => out.extend_from_slice(&number.to_le_bytes()[..4]),
            Self::U64Be => out.extend_from_slice(&low),
            Self::U64Le => out.extend_from_slice(&number.to_le_bytes()),
            Self::Varint => {
                let mut left = number;
                while left > 0x7f {
                    out.push(low_bits(left) | 0x80);
                    left >>= 7;
                }
                out.push(low_bits(left));
            }
            Self::Text => out.extend_from_slice(format!("{number}").as_bytes()),
        }
    }
}

fn low_bits(number: u64) -> u8 {
    number.to_le_bytes()[0] & 0x7f
}

/// One piece of a binary message to send.
#[derive(Clone, Debug)]
pub(crate) enum Piece {
    Literal(Box<[u8]>),
    /// A captured slice, by its number.
    Capture(usize),
    Id(Format),
    /// The time since 1970, in units of `nanos` nanoseconds.
    Now {
        nanos: u64,
        format: Format,
    },
    Variable(Box<str>, Format),
}

/// A template for a binary message.
#[derive(Clone, Debug)]
pub(crate) struct BytesTemplate {
    pub(crate) pieces: Box<[Piece]>,
    pub(crate) captures: Box<[Source]>,
}

/// The longest template, in bytes of its text.
const MAX_TEXT: usize = 1024;

impl BytesTemplate {
    /// Reads a template. `message` is the pattern of the binary message to answer, if there is one.
    pub(crate) fn parse(
        at: &At,
        value: &Value,
        message: Option<&Pattern>,
        known: &[String],
    ) -> Result<Self> {
        let expected =
            "bytes in hex, two digits each, with placeholders such as ${4..} or ${now_ms:u64le}";
        let text = at.string(Some(value), expected)?;
        if text.len() > MAX_TEXT {
            return Err(at.too_many(format!("{} bytes", text.len()), MAX_TEXT));
        }
        let literal = |digits: &str| -> Result<Box<[u8]>> {
            let bytes = digits.as_bytes().chunks(2).map(byte).collect::<Option<_>>();
            bytes.ok_or_else(|| at.wrong(Some(value), expected))
        };
        let mut pieces = Vec::new();
        let mut captures: Vec<Source> = Vec::new();
        let mut left = text;
        while let Some((before, after)) = left.split_once("${") {
            let Some((name, after)) = after.split_once('}') else {
                return Err(at.placeholder(after, "has no closing brace"));
            };
            left = after;
            if !before.is_empty() {
                pieces.push(Piece::Literal(literal(before)?));
            }
            let piece = match slice(name) {
                Some((from, to)) => {
                    let Some(message) = message else {
                        return Err(at.placeholder(name, "needs a binary message to take it from"));
                    };
                    let most = message.len();
                    let is_inside = usize::from(from) <= most
                        && to.map_or(message.is_open || usize::from(from) < most, |to| {
                            from < to && usize::from(to) <= most
                        });
                    if !is_inside {
                        return Err(at.placeholder(
                            name,
                            "is not inside of every message that the rule matches",
                        ));
                    }
                    let source = Source::Range(from, to);
                    let known = captures.iter().position(|known| *known == source);
                    Piece::Capture(known.unwrap_or_else(|| {
                        captures.push(source);
                        captures.len() - 1
                    }))
                }
                None => named(at, name, known)?,
            };
            pieces.push(piece);
        }
        if !left.is_empty() || pieces.is_empty() {
            pieces.push(Piece::Literal(literal(left)?));
        }
        if captures.len() > MAX_CAPTURES {
            return Err(at.too_many(format!("{} captured values", captures.len()), MAX_CAPTURES));
        }
        Ok(Self {
            pieces: pieces.into(),
            captures: captures.into(),
        })
    }

    /// Iterates over the variables that the template needs.
    pub(crate) fn variables(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Variable(name, _) => Some(&**name),
            _ => None,
        })
    }

    /// Fills in the template. Returns `None` if a variable is unknown, or if a variable to be written as a number is
    /// not a number.
    pub(crate) fn render<'d>(
        &'d self,
        draft: &TemplateRef<'_>,
        values: &Values<'_>,
        out: &'d mut Vec<u8>,
        tracks: &[Track],
    ) -> Option<&'d [u8]> {
        if let [Piece::Literal(bytes)] = &*self.pieces {
            return Some(bytes);
        }
        out.clear();
        for piece in &self.pieces {
            match piece {
                Piece::Literal(bytes) => out.extend_from_slice(bytes),
                Piece::Capture(number) => out.extend_from_slice(draft.capture(*number)),
                Piece::Id(format) => format.write(draft.id, out),
                Piece::Now { nanos, format } => {
                    let now = u128::from(values.unix_ms) * 1_000_000 / u128::from(*nanos);
                    format.write(u64::try_from(now).unwrap_or(u64::MAX), out);
                }
                Piece::Variable(name, format) => {
                    let text = variable(name, values, tracks)?;
                    match format {
                        Format::Text => out.extend_from_slice(text.as_bytes()),
                        format => format.write(text.parse().ok()?, out),
                    }
                }
            }
        }
        Some(out)
    }
}

/// Reads `2..10` or `4..`: bytes of the message to answer.
fn slice(name: &str) -> Option<(u16, Option<u16>)> {
    let (from, to) = name.split_once("..")?;
    let to = match to {
        "" => None,
        to => Some(to.parse().ok()?),
    };
    Some((from.parse().ok()?, to))
}

fn named(at: &At, name: &str, known: &[String]) -> Result<Piece> {
    let (word, format) = name.split_once(':').unwrap_or((name, ""));
    let format = || Format::named(format).ok_or_else(|| at.placeholder(name, Format::WORDS));
    let now = |nanos| format().map(|format| Piece::Now { nanos, format });
    match word {
        "id" => format().map(Piece::Id),
        "now_s" => now(1_000_000_000),
        "now_ms" => now(1_000_000),
        "now_us" => now(1_000),
        "now_ns" => now(1),
        word if known.iter().any(|known| known == word) => {
            format().map(|format| Piece::Variable(word.into(), format))
        }
        _ => Err(at.placeholder(name, NOT_KNOWN)),
    }
}
