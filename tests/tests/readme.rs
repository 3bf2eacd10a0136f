//! The translation has the same commands, code, links and sections as the README, in the same order. And
//! every file that the README links to exists.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

const ORIGINAL: &str = include_str!("../../README.md");
const CHINESE: &str = include_str!("../../README.zh-CN.md");

const OURS: [&str; 4] = [
    "tokio-task",
    "tokio-in-place",
    "blocking-thread",
    "blocking-in-place",
];

/// The parts that a translation keeps: code blocks, inline code, link targets, the levels of headings, the
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

/// Inline code. A translation may reorder it, but must not drop any.
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

/// For each case, how many third-party clients failed, and how many took part.
fn course() -> BTreeMap<String, (u32, u32)> {
    let mut cases = BTreeMap::new();
    for line in include_str!("../../docs/torture.json").lines() {
        let row: Value = serde_json::from_str(line).expect("JSON");
        let [case, client] = ["case", "client"].map(|key| row[key].as_str().expect("a name"));
        let [passed, trials] = ["passed", "trials"].map(|key| row[key].as_u64().expect("a number"));
        if trials > 0 && !OURS.contains(&client) {
            let (failed, all) = cases.entry(case.to_owned()).or_insert((0, 0));
            *failed += u32::from(passed < trials);
            *all += 1;
        }
    }
    cases
}

#[test]
fn what_the_readme_says_of_other_clients_is_what_the_course_has_measured() {
    let course = course();
    let cells = |text: &'static str| text.lines().filter_map(|line| line.split('|').nth(3));
    let mut told = 0;
    for (one, other) in cells(ORIGINAL).zip(cells(CHINESE)) {
        if !one.contains(" fail (T") {
            continue;
        }
        for (one, other) in one.split(',').zip(other.split('，')) {
            let case = one.split(['(', ')']).nth(1).expect("a case");
            let (failed, all) = course[case];
            assert_eq!(one.trim(), format!("{failed} of {all} fail ({case})"));
            assert_eq!(
                other.trim(),
                format!("{all} 个中 {failed} 个失败（{case}）")
            );
            told += 1;
        }
    }
    assert!(told > 10, "{told}");
}
