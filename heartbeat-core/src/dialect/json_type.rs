//! The default dialect, compiled in: a `{"type":"ping"}` is answered `{"type":"pong"}`.

use core::fmt;
use core::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{Class, Dialect, Reply};

/// `{"type":"ping"}` is answered `{"type":"pong"}`. Trace name: `json-type`.
///
/// A ping is a JSON object whose top-level `type` is the string `ping`; what else it holds does
/// not matter, and of duplicate keys the last one counts. Everything else is data: invalid JSON,
/// a text longer than [`JsonType::MAX_LEN`], and `{"type":"pong"}`, for this dialect's own
/// questions are WebSocket pings, so that such a pong answers the application.
///
/// ```
/// use heartbeat_core::{Class, Dialect, JsonType, Reply};
/// let dialect = JsonType;
/// let ping = Class::Ping(Reply::Text(r#"{"type":"pong"}"#));
/// assert_eq!(dialect.classify_text(r#"{"type":"ping"}"#), ping);
/// assert_eq!(dialect.classify_text(r#" {"id": 7, "t\u0079pe" : "\u0070ing"} "#), ping);
/// assert_eq!(dialect.classify_text(r#"{"data":{"type":"ping"}}"#), Class::Data);
/// assert_eq!(dialect.classify_text(r#"{"type":"ping""#), Class::Data);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JsonType;

impl JsonType {
    /// Texts longer than this many bytes are data: 4096. A heartbeat is a few dozen bytes long;
    /// the limit bounds what a peer can make us parse.
    pub const MAX_LEN: usize = 4096;

    const PONG: &str = r#"{"type":"pong"}"#;
}

impl Dialect for JsonType {
    fn classify_text<'a>(&self, text: &'a str) -> Class<'a> {
        if !may_be_ping(text.as_bytes()) {
            return Class::Data;
        }
        if is_ping(text) {
            Class::Ping(Reply::Text(Self::PONG))
        } else {
            Class::Data
        }
    }

    fn classify_binary<'a>(&self, _: &'a [u8]) -> Class<'a> {
        Class::Data
    }
}

/// False for most data, in a few nanoseconds; never false for a ping: an object starts with a brace
/// (JSON's white space before it), and the string `ping` is there literally or behind an escape.
fn may_be_ping(text: &[u8]) -> bool {
    if text.len() > JsonType::MAX_LEN {
        return false;
    }
    let blank = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    text.iter().find(|byte| !blank(byte)) == Some(&b'{')
        && memchr::memchr2_iter(b'g', b'\\', text).any(|at| match text[at] {
            // The rarest letter of the word, with the rest around it; or an escape that may hide one.
            b'g' => text[..at].ends_with(b"\"pin") && text.get(at + 1) == Some(&b'"'),
            _ => text.get(at + 1) == Some(&b'u'),
        })
}

fn is_ping(text: &str) -> bool {
    let mut parser = serde_json::Deserializer::from_str(text);
    let is_ping = parser.deserialize_map(TopLevel).unwrap_or(false);
    is_ping && parser.end().is_ok()
}

struct TopLevel;

impl<'de> Visitor<'de> for TopLevel {
    /// Whether the last `type` is `ping`.
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut is_ping = false;
        while let Some(Is::<TypeKey>(is_type, ..)) = map.next_key()? {
            if is_type {
                let Is::<PingWord>(is, ..) = map.next_value()?;
                is_ping = is;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(is_ping)
    }
}

trait Word {
    const WORD: &str;
}

enum TypeKey {}
enum PingWord {}

impl Word for TypeKey {
    const WORD: &str = "type";
}

impl Word for PingWord {
    const WORD: &str = "ping";
}

/// A JSON value of any kind, reduced to whether it is that string.
struct Is<W>(bool, PhantomData<W>);

impl<'de, W: Word> Deserialize<'de> for Is<W> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(IsVisitor::<W>(PhantomData))
            .map(|is| Self(is, PhantomData))
    }
}

struct IsVisitor<W>(PhantomData<W>);

impl<'de, W: Word> Visitor<'de> for IsVisitor<W> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_str<E>(self, word: &str) -> Result<bool, E> {
        Ok(word == W::WORD)
    }

    fn visit_bool<E>(self, _: bool) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_i64<E>(self, _: i64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_u64<E>(self, _: u64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_f64<E>(self, _: f64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<bool, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(false)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: Class<'_> = Class::Ping(Reply::Text(r#"{"type":"pong"}"#));

    #[test]
    fn any_object_whose_type_is_ping_is_a_ping() {
        for text in [
            r#"{"type":"ping"}"#,
            " \t\r\n{ \"type\" : \"ping\" }\n",
            r#"{"type":"\u0070ing"}"#,
            r#"{"\u0074ype":"p\u0069ng"}"#,
            r#"{"id":17,"nested":{"type":"pong","deep":[[{}]]},"type":"ping"}"#,
            r#"{"type":"pong","type":"ping"}"#,
            r#"{"type":7,"type":"ping"}"#,
            r#"{"type":"ping","n":123456789012345678901234567890}"#,
        ] {
            assert_eq!(JsonType.classify_text(text), PING, "{text}");
        }
    }

    #[test]
    fn look_alikes_are_data() {
        for text in [
            "",
            "ping",
            "\"ping\"",
            r#"["type","ping"]"#,
            r#"[{"type":"ping"}]"#,
            r#"{"data":{"type":"ping"}}"#,
            r#"{"type":{"type":"ping"}}"#,
            r#"{"type":["ping"]}"#,
            r#"{"type":"pong"}"#,
            r#"{"type":"ping","type":"pong"}"#,
            r#"{"type":"ping","type":"trade"}"#,
            r#"{"type":"ping","type":null}"#,
            r#"{"type":"PING"}"#,
            r#"{"type":"ping "}"#,
            r#"{"Type":"ping"}"#,
            r#"{"type":"ping"}x"#,
            r#"{"type":"ping"} {}"#,
            r#"{"type":"ping",}"#,
            r#"{"type":"ping""#,
            r#"{'type':'ping'}"#,
            r#"{"type":"pi\nng"}"#,
            r#"{"msg":"say \"ping\""}"#,
            "\u{feff}{\"type\":\"ping\"}",
        ] {
            assert_eq!(JsonType.classify_text(text), Class::Data, "{text}");
        }
    }

    #[test]
    fn a_bottomless_nesting_costs_bounded_stack() {
        let mut text = alloc::string::String::from(r#"{"type":"ping","a":"#);
        text.extend(core::iter::repeat_n('[', JsonType::MAX_LEN - text.len()));
        assert_eq!(JsonType.classify_text(&text), Class::Data);
    }

    #[test]
    fn a_text_beyond_the_limit_is_data() {
        let mut text = alloc::string::String::from(r#"{"type":"ping"}"#);
        text.extend(core::iter::repeat_n(' ', JsonType::MAX_LEN - text.len()));
        assert_eq!(JsonType.classify_text(&text), PING);
        text.push(' ');
        assert_eq!(JsonType.classify_text(&text), Class::Data);
    }
}
