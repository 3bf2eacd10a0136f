//! Replays a trace: what would the machine have done, and when?
//!
//! Reads JSON Lines on standard input (a header, then one event a line; see `DESIGN.md`, "Trace
//! format") and prints one answer a line. A bad line ends it with status 2, after everything before
//! it was answered.
//!
//! ```sh
//! cargo run -p heartbeat-core --example replay < trace.jsonl
//! cargo run -p heartbeat-core --example replay -- --why < trace.jsonl    # for people
//! ```
//!
//! `--why` shows only events that had consequences, each with these beside it.

use std::fmt::Write as _;
use std::io::{self, BufRead, Write};
use std::process::ExitCode;
use std::time::Duration;

use heartbeat_core::trace::{Header, Replay, read_event};
use serde_json::Value;

const USAGE: &str = "usage: replay [--why] < trace";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let why = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => false,
        ["--why"] => true,
        ["--help" | "-h"] => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match replay(io::stdin().lock(), io::stdout().lock(), why) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("replay: {error}");
            ExitCode::from(2)
        }
    }
}

fn replay(input: impl BufRead, mut output: impl Write, why: bool) -> io::Result<()> {
    let mut replay = None;
    for (index, line) in input.lines().enumerate() {
        let at_line = |error: &dyn std::fmt::Display| {
            io::Error::other(format!("line {}: {error}", index + 1))
        };
        let line = line.map_err(|error| at_line(&error))?;
        if line.trim().is_empty() {
            continue;
        }
        match &mut replay {
            None => {
                let header = Header::read(&line).map_err(|error| at_line(&error))?;
                replay = Some(Replay::new(header));
            }
            Some(replay) => {
                let recorded = read_event(&line).map_err(|error| at_line(&error))?;
                let answer = replay.answer(&recorded);
                match why {
                    false => writeln!(output, "{answer}")?,
                    true => output.write_all(told(&line, &answer)?.as_bytes())?,
                }
            }
        }
    }
    output.flush()
}

/// `1.821  closed conn=1 cause="eof": reconnect_at attempt=1 delay=1.2s`, or nothing if nothing followed.
fn told(event: &str, answer: &str) -> io::Result<String> {
    let (event, answer): (Value, Value) =
        (serde_json::from_str(event)?, serde_json::from_str(answer)?);
    let actions: Vec<String> = (answer["actions"].as_array().into_iter().flatten())
        .map(|action| words("action", action))
        .collect();
    if actions.is_empty() {
        return Ok(String::new());
    }
    let at = seconds(&answer["at"]).as_secs_f64();
    Ok(format!(
        "{at:>10.3}  {}: {}\n",
        words("event", &event),
        actions.join(", ")
    ))
}

/// What it is called, and what is said of it but when.
fn words(name: &str, value: &Value) -> String {
    let mut words = value[name].as_str().unwrap_or_default().to_owned();
    for (key, value) in value.as_object().into_iter().flatten() {
        // Writing to a string cannot fail.
        let _ = match key.as_str() {
            "at" => Ok(()),
            key if key == name => Ok(()),
            "delay" | "idle" => write!(words, " {key}={:.3?}", seconds(value)),
            key => write!(words, " {key}={value}"),
        };
    }
    words
}

/// Times in traces are nanoseconds.
fn seconds(value: &Value) -> Duration {
    Duration::from_nanos(value.as_u64().unwrap_or_default())
}
