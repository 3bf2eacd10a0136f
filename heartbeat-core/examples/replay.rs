//! Replays a trace: what would the machine have done, and when?
//!
//! Reads JSON Lines on standard input (a header, then one event a line; see `DESIGN.md`, "Trace
//! format") and prints one answer a line. A bad line ends it with status 2, after everything before
//! it was answered.
//!
//! ```sh
//! cargo run -p heartbeat-core --example replay < trace.jsonl
//! ```
//!
//! For people: `heartbeat explain` of heartbeat-cli.

use std::io::{self, BufRead, Write};
use std::process::ExitCode;

use heartbeat_core::trace::{Header, Replay, read_event};

const USAGE: &str = "usage: replay < trace";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {}
        ["--help" | "-h"] => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    }
    match replay(io::stdin().lock(), io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("replay: {error}");
            ExitCode::from(2)
        }
    }
}

fn replay(input: impl BufRead, mut output: impl Write) -> io::Result<()> {
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
                writeln!(output, "{}", replay.answer(&recorded))?;
            }
        }
    }
    output.flush()
}
