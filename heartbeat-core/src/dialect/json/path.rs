//! The place of a value in a JSON text: a JSON Pointer (RFC 6901) of at most five steps.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

/// The most steps of a path. Heartbeats have their facts near the top.
pub(crate) const MAX_DEPTH: usize = 5;

/// One step: a key of an object. A number may also be the index of an array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) key: Box<str>,
    pub(crate) index: Option<usize>,
}

/// A parsed JSON Pointer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path(pub(crate) Box<[Token]>);

impl Path {
    /// Parses a pointer. The error says what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let Some(steps) = text.strip_prefix('/') else {
            return Err("a path is a JSON Pointer: it begins with a slash, such as \"/data/ts\"");
        };
        let tokens = steps.split('/').map(token).collect::<Option<Vec<_>>>();
        let tokens = tokens.ok_or("in a JSON Pointer ~0 stands for ~ and ~1 for /")?;
        if tokens.len() > MAX_DEPTH {
            return Err("a path has at most five steps");
        }
        Ok(Self(tokens.into()))
    }
}

fn token(text: &str) -> Option<Token> {
    let mut key = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        key.push(match letter {
            '~' => match letters.next()? {
                '0' => '~',
                '1' => '/',
                _ => return None,
            },
            letter => letter,
        });
    }
    // RFC 6901 §4: no leading zeros.
    let is_index =
        text == "0" || (!text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit()));
    Some(Token {
        index: is_index.then(|| text.parse().ok()).flatten(),
        key: key.to_owned().into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_json_pointer_of_at_most_five_steps() {
        let keys = |text| {
            let path = Path::parse(text).unwrap();
            path.0
                .iter()
                .map(|token| (token.key.clone().into_string(), token.index))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            keys("/data/0"),
            [("data".into(), None), ("0".into(), Some(0))]
        );
        assert_eq!(keys("/a~1b~0c"), [("a/b~c".into(), None)]);
        assert_eq!(keys("/"), [("".into(), None)], "the empty key");
        assert_eq!(keys("/01"), [("01".into(), None)], "no index");
        assert_eq!(keys("/a/b/c/d/e").len(), 5);
        for bad in ["", "data", "/a/b/c/d/e/f", "/~", "/~2"] {
            assert!(Path::parse(bad).is_err(), "{bad}");
        }
    }
}
