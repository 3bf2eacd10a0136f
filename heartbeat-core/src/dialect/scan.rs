//! The values at a few paths of a JSON text, as raw slices, in one pass of serde_json.
//!
//! Of duplicate keys the last one counts, as a whole: what an earlier one held below is forgotten.
//! Everything is JSON's: white space, key order, escapes. A number may have any size.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::value::RawValue;

use super::path::{Path, Token};

/// The most different paths that one dialect may name.
pub(super) const MAX_PATHS: usize = 16;

/// The values found, by the number of their path.
pub(super) type Slots<'a> = [Option<&'a str>; MAX_PATHS];

/// All paths of a dialect as a tree, so that one pass finds them all.
#[derive(Clone, Debug, Default)]
pub(super) struct Paths {
    list: Vec<Path>,
    roots: Vec<Node>,
}

#[derive(Clone, Debug)]
struct Node {
    token: Token,
    slot: Option<usize>,
    children: Box<[Node]>,
}

impl Paths {
    /// The number of this path; `None` if there are too many.
    pub(super) fn add(&mut self, path: Path) -> Option<usize> {
        let known = self.list.iter().position(|other| *other == path);
        if known.is_none() && self.list.len() < MAX_PATHS {
            self.list.push(path);
            self.roots = nodes(&self.list, 0, &[]).into();
            return Some(self.list.len() - 1);
        }
        known
    }

    /// The steps to the path of this number.
    pub(super) fn tokens(&self, slot: usize) -> &[Token] {
        self.list.get(slot).map_or(&[], |path| &path.0)
    }

    /// Finds the values, for slots that are empty. False if `text` is no JSON object or array.
    pub(super) fn scan<'a>(&self, text: &'a str, slots: &mut Slots<'a>) -> bool {
        if !matches!(first_byte(text), Some(b'{' | b'[')) {
            return false;
        }
        let mut parser = serde_json::Deserializer::from_str(text);
        let inside = Inside {
            nodes: &self.roots,
            slots,
        };
        parser.deserialize_any(inside).is_ok() && parser.end().is_ok()
    }
}

fn nodes(paths: &[Path], depth: usize, above: &[Token]) -> Box<[Node]> {
    let mut found: Vec<Node> = Vec::new();
    for path in paths {
        let Some(token) = path.0.get(depth) else {
            continue;
        };
        if !path.0.starts_with(above) || found.iter().any(|node| node.token == *token) {
            continue;
        }
        let mut here = above.to_vec();
        here.push(token.clone());
        found.push(Node {
            token: token.clone(),
            slot: paths.iter().position(|path| *path.0 == *here),
            children: nodes(paths, depth + 1, &here),
        });
    }
    found.into()
}

/// The first byte that is not JSON's white space.
pub(super) fn first_byte(text: &str) -> Option<u8> {
    text.bytes()
        .find(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r'))
}

impl Node {
    /// This node's value is `raw`, whatever it was before.
    fn found<'a>(&self, raw: &'a str, slots: &mut Slots<'a>) {
        self.forget(slots);
        if let Some(slot) = self.slot {
            slots[slot] = Some(raw);
        }
        if !self.children.is_empty() && matches!(raw.as_bytes().first(), Some(b'{' | b'[')) {
            let mut parser = serde_json::Deserializer::from_str(raw);
            // Accepted once already.
            let _ = parser.deserialize_any(Inside {
                nodes: &self.children,
                slots,
            });
        }
    }

    fn forget(&self, slots: &mut Slots<'_>) {
        if let Some(slot) = self.slot {
            slots[slot] = None;
        }
        for child in &self.children {
            child.forget(slots);
        }
    }
}

/// Visits one object or array and picks out what stands at the nodes.
struct Inside<'n, 's, 'a> {
    nodes: &'n [Node],
    slots: &'s mut Slots<'a>,
}

impl<'de> Visitor<'de> for Inside<'_, '_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(node) = map.next_key_seed(Key(self.nodes))? {
            match node {
                Some(node) => node.found(map.next_value::<Raw<'de>>()?.0, self.slots),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        for index in 0.. {
            match self
                .nodes
                .iter()
                .find(|node| node.token.index == Some(index))
            {
                Some(node) => match seq.next_element::<Raw<'de>>()? {
                    Some(raw) => node.found(raw.0, self.slots),
                    None => break,
                },
                None => {
                    if seq.next_element::<IgnoredAny>()?.is_none() {
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}

/// A key, as the node that it leads to.
struct Key<'n>(&'n [Node]);

impl<'de, 'n> DeserializeSeed<'de> for Key<'n> {
    type Value = Option<&'n Node>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'n> Visitor<'_> for Key<'n> {
    type Value = Option<&'n Node>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().find(|node| *node.token.key == *key))
    }
}

/// A value's own text.
struct Raw<'a>(&'a str);

impl<'de> Deserialize<'de> for Raw<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&RawValue>::deserialize(deserializer).map(|raw| Self(raw.get()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(text: &str) -> Option<[Option<&str>; 4]> {
        let mut paths = Paths::default();
        for (slot, path) in ["/op", "/data", "/data/ts", "/1/x"].iter().enumerate() {
            assert_eq!(paths.add(Path::parse(path).unwrap()), Some(slot));
        }
        assert_eq!(paths.add(Path::parse("/data").unwrap()), Some(1), "known");
        let mut slots = [None; MAX_PATHS];
        let valid = paths.scan(text, &mut slots);
        valid.then(|| [slots[0], slots[1], slots[2], slots[3]])
    }

    #[test]
    fn values_are_found_as_they_were_written() {
        assert_eq!(
            scan(r#" {"o\u0070" : "p\u0069ng", "data": { "ts" : 18446744073709551616.0e9 } }"#),
            Some([
                Some(r#""p\u0069ng""#),
                Some(r#"{ "ts" : 18446744073709551616.0e9 }"#),
                Some("18446744073709551616.0e9"),
                None
            ])
        );
        assert_eq!(
            scan(r#"[0, {"x": [1, 2]}, 3]"#),
            Some([None, None, None, Some("[1, 2]")])
        );
        assert_eq!(
            scan(r#"{"1": {"x": 5}}"#),
            Some([None, None, None, Some("5")])
        );
    }

    #[test]
    fn the_last_of_duplicate_keys_counts_as_a_whole() {
        let text = r#"{"data": {"ts": 1}, "data": {"other": 2}}"#;
        assert_eq!(
            scan(text),
            Some([None, Some(r#"{"other": 2}"#), None, None])
        );
        let text = r#"{"data": {"ts": 1}, "data": 7, "op": 1, "op": null}"#;
        assert_eq!(scan(text), Some([Some("null"), Some("7"), None, None]));
    }

    #[test]
    fn what_is_no_object_or_array_has_no_values() {
        for text in [
            "",
            " ",
            "7",
            "\"op\"",
            "{",
            "{\"op\":1}x",
            "[1,]",
            "{\"op\":01}",
            "{\"op\":\"\n\"}",
        ] {
            assert_eq!(scan(text), None, "{text}");
        }
    }
}
