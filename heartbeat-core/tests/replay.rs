//! `replay` from outside: each `traces/NAME.jsonl` is a scenario, and `traces/NAME.answers.jsonl` is
//! what the machine must answer, line by line. Read them side by side; they are the shortest
//! description of what the machine does. `UPDATE_SNAPSHOTS=1` writes the answers anew.

mod support;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use heartbeat_core::AnyDialect;
use heartbeat_core::trace::{Header, Replay, read_event};
use serde_json::Value;

use support::compare::Pair;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces")
}

/// Each scenario: its name, its text, and the file of its answers.
fn scenarios() -> Vec<(String, String, PathBuf)> {
    let mut names: Vec<String> = fs::read_dir(folder())
        .expect("traces")
        .map(|entry| {
            let name = entry.expect("a trace").file_name();
            name.into_string().expect("a name in Unicode")
        })
        .filter_map(|name| Some(name.strip_suffix(".jsonl")?.to_owned()))
        .filter(|name| !name.ends_with(".answers"))
        .collect();
    names.sort();
    assert!(names.len() >= 12, "{names:?}");
    names
        .into_iter()
        .map(|name| {
            let text = fs::read_to_string(folder().join(format!("{name}.jsonl"))).expect("a trace");
            let answers = folder().join(format!("{name}.answers.jsonl"));
            (name, text, answers)
        })
        .collect()
}

/// What `replay` prints, computed in place.
fn answers(text: &str) -> String {
    let mut lines = text.lines();
    let header = Header::read(lines.next().expect("a header")).expect("a header");
    let mut replay = Replay::new(header);
    let mut answers = String::new();
    for line in lines {
        let recorded = read_event(line).expect(line);
        answers += &replay.answer(&recorded);
        answers.push('\n');
    }
    answers
}

#[test]
fn each_scenario_gets_the_answers_that_stand_beside_it() {
    for (name, text, file) in scenarios() {
        let answers = answers(&text);
        if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
            fs::write(&file, answers).expect("written");
            continue;
        }
        let expected = fs::read_to_string(&file).expect(&name);
        let events = text.lines().skip(1);
        for ((event, answer), expected) in events.zip(answers.lines()).zip(expected.lines()) {
            assert_eq!(answer, expected, "{name}: the answer to {event}");
        }
        assert_eq!(answers, expected, "{name}");
    }
}

#[test]
fn the_reference_model_gives_the_same_answers_to_each_scenario() {
    for (name, text, _) in scenarios() {
        let mut lines = text.lines();
        let header = Header::read(lines.next().unwrap()).unwrap();
        if header.dialect != AnyDialect::JsonType {
            // The model speaks no other one.
            continue;
        }
        let mut pair = Pair::new(header);
        for line in lines {
            let recorded = read_event(line).unwrap();
            if let Err(difference) = pair.step(recorded.at, recorded.event()) {
                panic!("{name}: after {line}\n{difference}");
            }
        }
    }
}

/// Header and events survive being written and read: a recorded trace is a trace.
#[test]
fn a_trace_that_is_written_again_gets_the_same_answers() {
    for (name, text, _) in scenarios() {
        let mut again = String::new();
        for (number, line) in text.lines().enumerate() {
            again += &if number == 0 {
                Header::read(line).unwrap().line()
            } else {
                let recorded = read_event(line).unwrap();
                recorded.line()
            };
            again.push('\n');
        }
        assert_eq!(answers(&again), answers(&text), "{name}");
    }
}

/// The trace format of DESIGN: exactly these keys, of these kinds, with these words.
#[test]
fn each_answer_has_the_form_that_the_design_promises() {
    for (name, text, _) in scenarios() {
        for line in answers(&text).lines() {
            let answer: Value = serde_json::from_str(line).expect(line);
            assert_eq!(keys(&answer), ["actions", "at", "phase", "stale", "wake"]);
            assert!(answer["at"].is_u64() && answer["stale"].is_boolean());
            assert!(answer["wake"].is_u64() || answer["wake"].is_null());
            let phases = ["waiting", "connecting", "open", "closing", "stopped"];
            assert!(phases.contains(&answer["phase"].as_str().unwrap()));
            for action in answer["actions"].as_array().expect(line) {
                assert_action(action, &name);
            }
        }
    }
}

fn keys(value: &Value) -> Vec<&str> {
    let object = value.as_object().expect("an object");
    let mut keys: Vec<&str> = object.keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

fn assert_action(action: &Value, name: &str) {
    let expected: &[&str] = match action["action"].as_str().expect("a name") {
        "connect" => &["action", "attempt", "conn"],
        "send_pong" | "send_ping" if action.get("text").is_some() => &["action", "conn", "text"],
        "send_pong" | "send_ping" => &["action", "conn", "frame"],
        "close" => &["action", "code", "conn"],
        "abort" => {
            let reasons = [
                "connect_timeout",
                "idle_timeout",
                "pong_timeout",
                "data_timeout",
                "write_timeout",
                "close_timeout",
                "stale",
            ];
            assert!(
                reasons.contains(&action["reason"].as_str().unwrap()),
                "{name}"
            );
            &["action", "conn", "reason"]
        }
        "reconnect_at" => &["action", "at", "attempt", "delay"],
        "check" => &["action", "conn", "idle"],
        "gave_up" => &["action", "reason"],
        other => panic!("{name}: {other}"),
    };
    assert_eq!(keys(action), expected, "{name}");
    for (key, value) in action.as_object().unwrap() {
        let is_text = ["action", "text", "frame", "reason"].contains(&key.as_str());
        assert!(
            if is_text {
                // A message that needs a variable which is not known.
                let is_unknown = key == "text" && name == "janus" && value.is_null();
                value.is_string() || key == "reason" || is_unknown
            } else {
                value.is_u64()
            },
            "{name}: {action}"
        );
    }
}

// ---- the program itself ------------------------------------------------------------------------

/// Runs `replay` as its documentation says, in the way a user would.
fn replay(input: impl AsRef<[u8]>) -> Output {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut child = Command::new(cargo)
        .args(["run", "--quiet", "-p", "heartbeat-core"])
        .args(["--example", "replay", "--"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("cargo runs");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(input.as_ref()).expect("written");
    drop(stdin);
    child.wait_with_output().expect("the program ends")
}

#[test]
fn the_program_prints_the_answers() {
    // Each run asks cargo whether the program is up to date: a few scenarios are enough.
    for (name, text, file) in scenarios().into_iter().step_by(8) {
        let output = replay(&text);
        assert!(output.status.success(), "{name}: {output:?}");
        let expected = fs::read_to_string(file).expect(&name);
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{name}");
        assert!(output.stderr.is_empty(), "{name}: {output:?}");
    }
}

#[test]
fn a_bad_line_is_named_by_its_number_after_everything_before_it_was_answered() {
    const HEADER: &str = r#"{"seed": 7}"#;
    const TICK: &str = r#"{"at": 0, "event": "tick"}"#;
    for (input, printed, complaint) in [
        (
            format!("{HEADER}\n{TICK}\nnonsense\n{TICK}\n"),
            1,
            "line 3: not JSON",
        ),
        // Empty lines are skipped, and counted.
        (
            format!("\n{HEADER}\n\n{TICK}\n{TICK}\n{{\"at\": 1}}\n"),
            2,
            "line 6: `event` is missing: expected tick, connected",
        ),
        (
            format!("{HEADER}\n{{\"at\": 0, \"event\": \"closed\", \"conn\": 1, \"cause\": 7}}\n"),
            0,
            "line 2: `cause` is 7: expected {\"close\": 1012}",
        ),
        (
            r#"{"config": {"idle_timeout": "20s", "ping": {"every": "30s"}}}"#.to_owned(),
            0,
            "line 1: config: `ping` is 30s: it must be shorter than `idle_timeout`, which is 20s",
        ),
        (
            r#"{"config": {"idle": "20s"}}"#.to_owned(),
            0,
            "line 1: config: unknown key `idle`; known are idle_timeout",
        ),
        (
            format!("{TICK}\n"),
            0,
            "line 1: unknown key `at`: expected an object such as",
        ),
    ] {
        let output = replay(&input);
        assert_eq!(output.status.code(), Some(2), "{input}: {output:?}");
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert_eq!(stdout.lines().count(), printed, "{input}: {stdout}");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains(complaint), "{input}: {stderr}");
    }
}

#[test]
fn no_input_is_no_error_and_bytes_that_are_no_text_are_one() {
    let output = replay("");
    assert!(output.status.success() && output.stdout.is_empty());
    let output = replay(b"{}\n\xff\xfe\n");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.starts_with("replay: line 2: "), "{stderr}");
}
