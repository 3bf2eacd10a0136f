//! Each test exists that `PROOF.md` names for a rule or promise, or `SECURITY.md` for a cost.

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
            // Each case is one test for each way of driving a client.
            let cases = text.split("\ncases! {").nth(1);
            let cases = cases.and_then(|cases| cases.split("\n}").next());
            let words = cases.unwrap_or_default().split([',', '[', ']', ':', '\n']);
            names.extend(words.map(|word| word.trim().to_owned()));
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

/// All tests that a document may name.
fn all() -> Vec<String> {
    tests(&[
        "heartbeat-core/tests",
        "heartbeat-core/src",
        "heartbeat-driver/src",
        "heartbeat-tokio",
        "heartbeat-blocking",
        "tests/tests",
    ])
}

/// Cells of a row of a table.
fn cells(row: &str) -> Vec<&str> {
    row.trim_matches('|').split('|').map(str::trim).collect()
}

/// The names in this cell. Each is checked to be a test.
fn named<'a>(cell: &'a str, known: &[String]) -> Vec<&'a str> {
    let names: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
    for name in &names {
        assert!(known.iter().any(|known| known == name), "no test {name}");
    }
    names
}

#[test]
fn whatever_can_cost_something_has_its_test() {
    let (text, known) = (include_str!("../../SECURITY.md"), all());
    let (_, table) = text
        .split_once("| who | tries |")
        .expect("the table of costs");
    let (table, _) = table.split_once("\n\n").expect("its end");
    let mut rows = 0;
    for row in table.lines().skip(2) {
        let cells = cells(row);
        assert!(!named(cells[3], &known).is_empty(), "{row}");
        rows += 1;
    }
    assert!(rows > 0);
}

#[test]
fn each_invariant_has_tests_and_each_test_that_is_named_exists() {
    let text = include_str!("../PROOF.md");
    let known = all();
    let (mut invariants, mut promises) = (0, 0);
    for row in text.lines().filter(|line| line.starts_with("| ")) {
        let cells = cells(row);
        let next = if cells[0] == (invariants + 1).to_string() {
            &mut invariants
        } else if cells[0] == format!("P{}", promises + 1) {
            &mut promises
        } else {
            continue;
        };
        *next += 1;
        let named = named(cells[2], &known);
        assert!(!named.is_empty(), "{} has no test", cells[0]);
    }
    assert_eq!(invariants, 29, "liveness among them");
    assert_eq!(promises, 16, "of the driver and the adapters");
}
