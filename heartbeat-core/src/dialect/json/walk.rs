//! A walk over JSON (RFC 8259) in one pass: no tree, no decoding, no allocation. A value is a slice of its text.
//!
//! serde_json decodes, which a heartbeat does not need, and allocates for nested values. Both accept the same
//! texts: a fuzz target and `tests/differential.rs` compare them.

/// The deepest nesting that is read, equal to serde_json's limit. A message with deeper nesting is data.
const DEEPEST: u8 = 127;

/// Walks over one object or array, from its opening bracket on. Every step returns `None` if the text is not JSON.
pub(crate) struct Walk<'a> {
    text: &'a str,
    at: usize,
    /// The number of objects and arrays entered.
    depth: u8,
}

/// A key, as the text between its quotes.
#[derive(Clone, Copy)]
pub(crate) struct Key<'a> {
    inside: &'a str,
    is_escaped: bool,
}

impl Key<'_> {
    #[inline]
    pub(crate) fn is(self, expected: &str) -> bool {
        match self.is_escaped {
            false => self.inside == expected,
            true => super::raw::characters(self.inside).eq(expected.chars()),
        }
    }
}

impl<'a> Walk<'a> {
    /// Starts at the bracket of an object or array. Returns `None` if the text is neither.
    #[inline]
    pub(crate) fn start(text: &'a str) -> Option<Self> {
        let mut walk = Self {
            text,
            at: 0,
            depth: 0,
        };
        matches!(walk.token()?, b'{' | b'[').then_some(walk)
    }

    /// Returns true at the bracket of an array.
    #[cfg(feature = "dialects")]
    pub(crate) fn is_array(&self) -> bool {
        self.text.as_bytes().get(self.at) == Some(&b'[')
    }

    /// Returns true if the rest of the text is white space.
    pub(crate) fn is_at_end(&mut self) -> bool {
        self.token().is_none()
    }

    /// Returns the next byte that is not white space, without consuming it.
    #[inline]
    pub(crate) fn token(&mut self) -> Option<u8> {
        loop {
            let byte = *self.text.as_bytes().get(self.at)?;
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    /// Walks over an object. `take` gets each key, and must walk over its value.
    #[inline]
    pub(crate) fn members(
        &mut self,
        mut take: impl FnMut(&mut Self, Key<'a>) -> Option<()>,
    ) -> Option<()> {
        self.enter()?;
        if self.token()? != b'}' {
            loop {
                let key = self.key()?;
                self.token()?;
                take(self, key)?;
                match self.token()? {
                    b',' => self.at += 1,
                    b'}' => break,
                    _ => return None,
                }
            }
        }
        self.leave();
        Some(())
    }

    /// Walks over an array. `take` gets each index, and must walk over its value.
    #[cfg(feature = "dialects")]
    pub(crate) fn elements(
        &mut self,
        mut take: impl FnMut(&mut Self, usize) -> Option<()>,
    ) -> Option<()> {
        self.enter()?;
        if self.token()? != b']' {
            for index in 0.. {
                self.token()?;
                take(self, index)?;
                match self.token()? {
                    b',' => self.at += 1,
                    b']' => break,
                    _ => return None,
                }
            }
        }
        self.leave();
        Some(())
    }

    fn enter(&mut self) -> Option<()> {
        self.at += 1;
        self.depth += 1;
        (self.depth <= DEEPEST).then_some(())
    }

    fn leave(&mut self) {
        self.at += 1;
        self.depth -= 1;
    }

    /// Returns the text from `from` to here.
    pub(crate) fn since(&self, from: usize) -> Option<&'a str> {
        self.text.get(from..self.at)
    }

    #[cfg(feature = "dialects")]
    pub(crate) const fn at(&self) -> usize {
        self.at
    }

    /// Walks over the value that begins here.
    #[inline]
    pub(crate) fn value(&mut self) -> Option<&'a str> {
        let from = self.at;
        match self.text.as_bytes().get(from)? {
            b'{' | b'[' => self.nested()?,
            _ => self.scalar()?,
        }
        self.since(from)
    }

    /// Walks over an object or array with all its contents. The walk does not recurse, so the sender of a text
    /// cannot determine how much stack the walk takes.
    fn nested(&mut self) -> Option<()> {
        let outside = self.depth;
        // One bit per level: set for an object.
        let mut objects = 0_u128;
        loop {
            // A value begins here.
            match self.token()? {
                bracket @ (b'{' | b'[') => {
                    self.enter()?;
                    objects = objects << 1 | u128::from(bracket == b'{');
                    match (self.token()?, bracket) {
                        (b'}', b'{') | (b']', b'[') => {}
                        (_, b'{') => {
                            self.key()?;
                            continue;
                        }
                        _ => continue,
                    }
                }
                _ => self.scalar()?,
            }
            // The value has ended, and perhaps the objects and arrays around it.
            loop {
                if self.depth == outside {
                    return Some(());
                }
                let is_object = objects & 1 == 1;
                match (self.token()?, is_object) {
                    (b',', _) => {
                        self.at += 1;
                        if is_object {
                            self.key()?;
                        }
                        break;
                    }
                    (b'}', true) | (b']', false) => {
                        self.leave();
                        objects >>= 1;
                    }
                    _ => return None,
                }
            }
        }
    }

    /// Walks over a key and its colon.
    #[inline]
    fn key(&mut self) -> Option<Key<'a>> {
        if self.token()? != b'"' {
            return None;
        }
        let from = self.at + 1;
        let is_escaped = self.string()?;
        let inside = self.text.get(from..self.at - 1)?;
        if self.token()? != b':' {
            return None;
        }
        self.at += 1;
        Some(Key { inside, is_escaped })
    }

    #[inline]
    fn scalar(&mut self) -> Option<()> {
        match self.text.as_bytes().get(self.at)? {
            b'"' => self.string().map(|_| ()),
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            _ => None,
        }
    }

    fn word(&mut self, word: &str) -> Option<()> {
        let rest = self.text.as_bytes().get(self.at..)?;
        self.at += word.len();
        rest.starts_with(word.as_bytes()).then_some(())
    }

    /// Walks over a string, from quote to quote. Returns true if the string contains an escape.
    #[inline]
    fn string(&mut self) -> Option<bool> {
        let bytes = self.text.as_bytes();
        let mut at = self.at + 1;
        let mut is_escaped = false;
        loop {
            while let Some(word) = bytes.get(at..).and_then(|rest| rest.first_chunk()) {
                let plain = plain_bytes(*word);
                at += plain;
                if plain < word.len() {
                    break;
                }
            }
            match *bytes.get(at)? {
                b'"' => break,
                b'\\' => {
                    is_escaped = true;
                    at += match bytes.get(at + 1)? {
                        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => 2,
                        b'u' if bytes.get(at + 2..at + 6)?.iter().all(u8::is_ascii_hexdigit) => 6,
                        _ => return None,
                    };
                }
                // JSON requires escapes for control characters.
                0..b' ' => return None,
                _ => at += 1,
            }
        }
        self.at = at + 1;
        Some(is_escaped)
    }

    #[inline]
    fn number(&mut self) -> Option<()> {
        let bytes = self.text.as_bytes();
        let digits = |mut at: usize| {
            let from = at;
            while bytes.get(at).is_some_and(u8::is_ascii_digit) {
                at += 1;
            }
            (at > from).then_some(at)
        };
        let mut at = self.at + usize::from(bytes.get(self.at) == Some(&b'-'));
        at = match bytes.get(at)? {
            b'0' => at + 1,
            _ => digits(at)?,
        };
        if bytes.get(at) == Some(&b'.') {
            at = digits(at + 1)?;
        }
        if let Some(b'e' | b'E') = bytes.get(at) {
            let sign = matches!(bytes.get(at + 1), Some(b'+' | b'-'));
            at = digits(at + 1 + usize::from(sign))?;
        }
        self.at = at;
        Some(())
    }
}

/// Returns the number of leading bytes that stand for themselves in a string.
#[inline]
fn plain_bytes(bytes: [u8; 8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    let word = u64::from_le_bytes(bytes);
    // Sets the sign bit of each byte that is less than the other. Bytes above the first such byte carry no meaning.
    let less = |word: u64, than: u8| word.wrapping_sub(ONES * u64::from(than)) & !word;
    let is = |byte: u8| less(word ^ (ONES * u64::from(byte)), 1);
    let special = (less(word, b' ') | is(b'"') | is(b'\\')) & (ONES << 7);
    special.trailing_zeros() as usize / 8
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    fn is_json(text: &str) -> bool {
        Walk::start(text).is_some_and(|mut walk| walk.value().is_some() && walk.is_at_end())
    }

    #[test]
    fn what_is_json_to_serde_json_is_json_here() {
        #[rustfmt::skip]
        let values = [
            "0", "-0", "7", "-12", "1.5", "-0.25e10", "1E+2", "1e-2", "12345678901234567890123",
            "01", "-", "1.", ".5", "1e", "1e+", "+1", "--1", "0x1", "1.e3", "- 1", "1 2", "NaN",
            "true", "false", "null", "tru", "truex", "nul", "True", "",
            r#""""#, r#""a""#, r#""\"""#, r#""\\""#, r#""\/\b\f\n\r\t""#, r#""é\u00e9""#,
            r#""\u12G4""#, r#""\u123""#, r#""\x""#, r#"""#, r#""\""#, "\"\t\"", "\"\u{7f}\"", "'a'",
            r#""eight by""#, r#""eight by eight and""#, "\"eight b\u{1f}y\"", r#""1234567\"""#,
            "{}", "[]", "[[],{}]", "[1,2]", "[1,]", "[,1]", "[1 2]", "[", "]", "{", "}", "[}", "{]",
            r#"{"a":1}"#, r#"{"a":1,"a":2}"#, r#"{"a":1,}"#, r#"{,"a":1}"#, r#"{"a"}"#, r#"{"a":}"#,
            r#"{a:1}"#, r#"{1:1}"#, r#"{"a":1 "b":2}"#, r#"{ "a" : [ { "b" : [ ] } ] }"#,
            r#"{"a":[}"#, r#"{"a":{]}"#, r#"[{"a":1],2}"#, r#"{"a":1}}"#, r#"[1]]"#, r#"{"a":1}x"#,
            "\u{a0}{}", "/**/{}", "[\u{b}1]",
        ];
        for value in values {
            for text in [
                value.into(),
                format!("[{value}]"),
                format!(" \t{{\"k\" : {value}\n}}\r"),
                format!("[[{value},{value}],{{\"\":{value}}}]"),
            ] {
                let theirs = serde_json::from_str::<serde_json::Value>(&text);
                let is_wanted = theirs.is_ok_and(|value| value.is_object() || value.is_array());
                assert_eq!(is_json(&text), is_wanted, "{text}");
            }
        }
    }

    #[test]
    fn nesting_is_as_deep_as_serde_json_goes() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            for (depth, is_wanted) in [(127, true), (128, false), (100_000, false)] {
                let text = format!("{}1{}", open.repeat(depth), close.repeat(depth));
                assert_eq!(is_json(&text), is_wanted, "{depth} levels");
                assert_eq!(
                    serde_json::from_str::<serde_json::Value>(&text).is_ok(),
                    is_wanted
                );
            }
        }
    }

    #[test]
    fn plain_bytes_are_those_before_the_first_quote_backslash_or_control_character() {
        let is_plain = |byte: &u8| !matches!(byte, 0..b' ' | b'"' | b'\\');
        for filler in [b' ', b'!', b'#', b'a', 0x7f, 0x80, 0xa0, 0xa2, 0xdc, 0xff] {
            for (byte, at, behind) in (0..=u8::MAX)
                .flat_map(|byte| (0..8).map(move |at| (byte, at)))
                .flat_map(|(byte, at)| [filler, 0, b'"', b'\\'].map(|behind| (byte, at, behind)))
            {
                let mut bytes = [filler; 8];
                bytes[at..].fill(behind);
                bytes[at] = byte;
                let count = bytes.iter().take_while(|byte| is_plain(byte)).count();
                assert_eq!(plain_bytes(bytes), count, "{bytes:x?}");
            }
        }
    }
}
