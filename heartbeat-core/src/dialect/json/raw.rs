//! JSON values as slices of their text, decoded only where necessary.

/// Returns the characters of a JSON string, from the text between its quotes. An unpaired surrogate, which is no
/// character, becomes U+FFFD.
pub(crate) fn characters(inside: &str) -> impl Iterator<Item = char> + '_ {
    Characters(inside)
}

/// Returns the text between the quotes of a raw JSON value, or `None` if the value is no string.
pub(crate) fn unquoted(raw: &str) -> Option<&str> {
    raw.strip_prefix('"')?.strip_suffix('"')
}

/// Returns true if a raw JSON value is the string `expected`.
pub(crate) fn is_string(raw: &str, expected: &str) -> bool {
    unquoted(raw).is_some_and(|inside| match inside.contains('\\') {
        false => inside == expected,
        true => characters(inside).eq(expected.chars()),
    })
}

struct Characters<'a>(&'a str);

impl Characters<'_> {
    fn take(&mut self) -> Option<char> {
        let mut letters = self.0.chars();
        let letter = letters.next();
        self.0 = letters.as_str();
        letter
    }

    fn unit(&mut self) -> Option<u32> {
        let (digits, rest) = self.0.split_at_checked(4)?;
        self.0 = rest;
        u32::from_str_radix(digits, 16).ok()
    }

    fn escaped(&mut self) -> Option<char> {
        Some(match self.take()? {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let first = self.unit()?;
                if !(0xD800..0xDC00).contains(&first) {
                    return Some(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER));
                }
                let rest = self.0;
                let second = self.0.strip_prefix("\\u").and_then(|rest| {
                    self.0 = rest;
                    self.unit()
                });
                match second {
                    Some(second) if (0xDC00..0xE000).contains(&second) => {
                        char::from_u32(0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00))?
                    }
                    _ => {
                        self.0 = rest;
                        char::REPLACEMENT_CHARACTER
                    }
                }
            }
            plain => plain,
        })
    }
}

impl Iterator for Characters<'_> {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        match self.take()? {
            '\\' => self.escaped(),
            letter => Some(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use super::*;

    #[test]
    fn a_raw_string_is_compared_by_its_characters() {
        for (raw, text) in [
            (r#""ping""#, "ping"),
            (r#""\u0070in\u0067""#, "ping"),
            (r#""a\"b\\c\/d\b\f\n\r\t""#, "a\"b\\c/d\u{8}\u{c}\n\r\t"),
            (r#""\ud83d\ude00é""#, "😀é"),
            (r#""\ud83dx""#, "\u{fffd}x"),
            (r#""\ud83d\u0041""#, "\u{fffd}A"),
            (r#""""#, ""),
        ] {
            assert!(is_string(raw, text), "{raw}");
            assert_eq!(characters(unquoted(raw).unwrap()).collect::<String>(), text);
            assert!(!is_string(raw, "other"));
        }
        // An escape stands for another character than the ones that spell it.
        assert!(!is_string(r#""a\/b""#, r"a\/b"));
        for other in ["1", "null", "{}", "ping", "\""] {
            assert!(!is_string(other, other), "{other}");
        }
    }
}
