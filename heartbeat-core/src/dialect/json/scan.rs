//! Finds the values at a few paths of a JSON text, as raw slices, in one pass.
//!
//! Of duplicate keys the last one counts, as a whole: values below an earlier one are forgotten.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::path::{Path, Token};
use super::walk::Walk;

/// The most different paths of one dialect.
pub(crate) const MAX_PATHS: usize = 16;

/// The values found, by the number of their path.
pub(crate) type Slots<'a> = [Option<&'a str>; MAX_PATHS];

/// All paths of a dialect as a tree, so that one pass finds all values.
#[derive(Clone, Debug, Default)]
pub(crate) struct Paths {
    list: Vec<Path>,
    roots: Box<[Node]>,
}

#[derive(Clone, Debug)]
struct Node {
    token: Token,
    slot: Option<usize>,
    children: Box<[Node]>,
}

impl Paths {
    /// Adds a path and returns its number; `None` if there are too many.
    pub(crate) fn add(&mut self, path: Path) -> Option<usize> {
        let known = self.list.iter().position(|other| *other == path);
        if known.is_none() && self.list.len() < MAX_PATHS {
            self.list.push(path);
            self.roots = nodes(&self.list, 0, &[]);
            return Some(self.list.len() - 1);
        }
        known
    }

    /// Returns the steps of the path with this number.
    pub(crate) fn tokens(&self, slot: usize) -> &[Token] {
        self.list.get(slot).map_or(&[], |path| &path.0)
    }

    /// Fills slots that are empty. Returns false if `text` is no JSON object or array.
    pub(crate) fn scan<'a>(&self, text: &'a str, slots: &mut Slots<'a>) -> bool {
        Walk::start(text).is_some_and(|mut walk| {
            inside(&mut walk, &self.roots, slots).is_some() && walk.is_at_end()
        })
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

/// Walks over a value and takes the values at these nodes. Goes no deeper than a path does.
fn inside<'a>(walk: &mut Walk<'a>, nodes: &[Node], slots: &mut Slots<'a>) -> Option<()> {
    match walk.token()? {
        b'{' => walk.members(|walk, key| {
            let node = nodes.iter().find(|node| key.is(&node.token.key));
            take(walk, node, slots)
        }),
        b'[' => walk.elements(|walk, index| {
            let node = nodes.iter().find(|node| node.token.index == Some(index));
            take(walk, node, slots)
        }),
        _ => walk.value().map(|_| ()),
    }
}

/// Walks over the value at this node.
fn take<'a>(walk: &mut Walk<'a>, node: Option<&Node>, slots: &mut Slots<'a>) -> Option<()> {
    let Some(node) = node else {
        return walk.value().map(|_| ());
    };
    let from = walk.at();
    if node.children.is_empty() {
        walk.value()?;
    } else {
        node.forget(slots);
        inside(walk, &node.children, slots)?;
    }
    if let Some(slot) = node.slot {
        slots[slot] = walk.since(from);
    }
    Some(())
}

impl Node {
    fn forget(&self, slots: &mut Slots<'_>) {
        for child in &self.children {
            if let Some(slot) = child.slot {
                slots[slot] = None;
            }
            child.forget(slots);
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::{String, ToString};

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
    fn each_step_of_the_paths_is_there_once() {
        let mut paths = Paths::default();
        for path in ["/a/b", "/a/c", "/d/e", "/d/e/f", "/a"] {
            paths.add(Path::parse(path).unwrap());
        }
        fn shown(nodes: &[Node]) -> String {
            let one = |node: &Node| match &*node.children {
                [] => node.token.key.to_string(),
                children => format!("{}({})", node.token.key, shown(children)),
            };
            nodes.iter().map(one).collect::<Vec<_>>().join(" ")
        }
        assert_eq!(shown(&paths.roots), "a(b c) d(e(f))");
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
