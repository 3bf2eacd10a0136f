//! The translation says the same as the README: the same commands, code, links and sections, in the same order. And what
//! the README points at is there.

use std::fs;
use std::path::Path;

const ORIGINAL: &str = include_str!("../../README.md");
const CHINESE: &str = include_str!("../../README.zh-CN.md");

/// What no translation changes: code blocks, code in lines, targets of links, the levels of headings, the
/// number of cells of a table's row.
fn skeleton(text: &str) -> Vec<String> {
    let mut parts = Vec::new();
    let mut block = false;
    for line in text.lines() {
        if line.starts_with("```") {
            block = !block;
            parts.push(line.to_owned());
        } else if block {
            parts.push(line.to_owned());
        } else {
            if line.starts_with('#') {
                parts.push(line.chars().take_while(|c| *c == '#').collect());
            }
            if line.starts_with('|') {
                parts.push(format!("{} cells", line.matches('|').count() - 1));
            }
            let mut targets = links(line);
            targets.retain(|target| !target.starts_with("README"));
            targets.sort_unstable();
            parts.extend(targets.into_iter().map(str::to_owned));
        }
    }
    parts
}

fn links(line: &str) -> Vec<&str> {
    let after = line.split("](").skip(1);
    after.filter_map(|rest| rest.split(')').next()).collect()
}

/// Code within lines: in a translation it may come in another order, but not be missing.
fn spans(text: &str) -> Vec<&str> {
    let mut block = false;
    let mut spans: Vec<&str> = text
        .lines()
        .filter(|line| {
            let fence = line.starts_with("```");
            block ^= fence;
            !block && !fence
        })
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .collect();
    spans.sort_unstable();
    spans
}

#[test]
fn the_chinese_readme_has_the_same_code_links_and_sections() {
    let (ours, theirs) = (skeleton(ORIGINAL), skeleton(CHINESE));
    for (index, (one, other)) in ours.iter().zip(&theirs).enumerate() {
        assert_eq!(
            one,
            other,
            "part {index}, after {:?}",
            &ours[..index].last()
        );
    }
    assert_eq!(ours.len(), theirs.len());
    assert_eq!(spans(ORIGINAL), spans(CHINESE));
}

#[test]
fn each_file_that_the_readme_points_at_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace");
    for target in ORIGINAL.lines().flat_map(links) {
        if !target.starts_with("http") {
            assert!(fs::exists(root.join(target)).expect("readable"), "{target}");
        }
    }
}
