//! The machine against the reference model of `support/model.rs`, action by action, over random
//! configurations and traces; the auditor of `heartbeat-kit` looks on.
//!
//! `PROPTEST_CASES=200000 cargo test --release -p heartbeat-core --test reference` runs long. A
//! failure prints the shortest trace that shows it, to be replayed.

mod support;

use std::fs;

use heartbeat_core::trace::{Header, RecordedEvent, read_event};
use heartbeat_kit::{Resolver, Script, scripts};
use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, TestCaseError};

use support::compare::{Pair, compare, report};

/// A short run is fast enough for every commit.
fn cases(fewer: u32) -> Cases {
    let mut cases = Cases {
        failure_persistence: None,
        ..Cases::default()
    };
    if std::env::var_os("PROPTEST_MAX_SHRINK_ITERS").is_none() {
        cases.max_shrink_iters = 50_000;
    }
    if std::env::var_os("PROPTEST_CASES").is_none() {
        cases.cases = fewer;
    }
    cases
}

fn agree(script: &Script) -> Result<(), TestCaseError> {
    let mut ops = script.ops.iter();
    let mut resolver = Resolver::new(script.header.start);
    compare(&script.header, |machine| {
        ops.next().map(|op| resolver.resolve(machine, *op))
    })
    .map_err(TestCaseError::fail)
}

proptest! {
    #![proptest_config(cases(1000))]

    #[test]
    fn machine_and_model_agree_on_short_traces(script in scripts(24)) {
        agree(&script)?;
    }
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn machine_and_model_agree_on_long_traces(script in scripts(160)) {
        agree(&script)?;
    }
}

/// `TRACE=FILE` names a trace as a failure prints it, or as a driver recorded it.
#[test]
fn the_model_agrees_with_a_given_trace() {
    let Some(path) = std::env::var_os("TRACE") else {
        return;
    };
    let text = fs::read_to_string(&path).expect("TRACE names a readable file");
    if let Err(difference) = compare_text(&text) {
        panic!("{difference}");
    }
}

fn compare_text(text: &str) -> Result<(), String> {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let header = Header::read(lines.next().unwrap_or("{}")).map_err(|error| error.to_string())?;
    let mut pair = Pair::new(header);
    let mut so_far = String::new();
    for line in lines {
        so_far.push_str(line);
        so_far.push('\n');
        let recorded: RecordedEvent = read_event(line).map_err(|error| error.to_string())?;
        pair.step(recorded.at, recorded.event())
            .map_err(|difference| report(&difference, &so_far))?;
    }
    Ok(())
}
