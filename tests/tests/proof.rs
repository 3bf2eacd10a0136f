//! `PROOF.md` names a test for each rule: each of them is there.

use std::fs;
use std::path::Path;

/// The names of all tests under these folders.
fn tests(folders: &[&str]) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut open: Vec<_> = folders.iter().map(|folder| root.join(folder)).collect();
    let mut names = Vec::new();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(
                fs::read_dir(path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(path).unwrap();
            let mut is_test = false;
            for line in text.lines().map(str::trim) {
                if line == "#[test]" || line.starts_with("#[tokio::test") {
                    is_test = true;
                } else if let Some(name) = line.split_once("fn ").map(|(_, name)| name)
                    && std::mem::take(&mut is_test)
                {
                    names.extend(name.split(['(', '<']).next().map(str::to_owned));
                }
            }
        }
    }
    names
}

#[test]
fn each_invariant_has_tests_and_each_test_that_is_named_exists() {
    let text = include_str!("../PROOF.md");
    let names = tests(&[
        "heartbeat-core/tests",
        "heartbeat-core/src",
        "heartbeat-driver/src",
        "tests/tests",
    ]);
    let mut next = 1;
    for row in text.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        if cells[0].parse() != Ok(next) {
            continue;
        }
        let named: Vec<&str> = cells[2].split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "invariant {next} has no test");
        for name in named {
            assert!(names.iter().any(|known| known == name), "no test {name}");
        }
        next += 1;
    }
    assert_eq!(next, 29, "28 invariants, liveness among them");
}
