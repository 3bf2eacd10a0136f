//! Speed and memory of heartbeat's clients beside others', on the same track.
//!
//! `cargo run --release --manifest-path tests/speed/Cargo.toml -- --help`

mod clients;
mod server;
mod track;

use std::process::ExitCode;

use rustix::time::{ClockId, clock_gettime};

const USAGE: &str = "\
usage: heartbeat-speed receive      [--clients A,B] [--messages N] [--len BYTES] [--rounds N] [--json]
       heartbeat-speed instructions [--clients A,B] [--len BYTES] [--json]      (needs valgrind)

receive       CPU time a received message costs each client, in a process of its own, pinned; the rounds
              are interleaved, and ratios are taken within a round
instructions  the same in instructions, counted by callgrind as the difference of two run lengths
";

/// Processor time of this process, user and system.
fn cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn wall_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// What one measured stretch cost.
#[derive(Default)]
pub(crate) struct Meter {
    cpu: u64,
    wall: u64,
}

impl Meter {
    pub(crate) fn start(&mut self) {
        (self.cpu, self.wall) = (cpu_ns(), wall_ns());
    }

    pub(crate) fn stop(&mut self) {
        (self.cpu, self.wall) = (cpu_ns() - self.cpu, wall_ns() - self.wall);
    }
}

/// A trade as exchanges send them, padded to `len` bytes; no dialect takes it for a heartbeat.
pub(crate) fn message(len: usize) -> String {
    let head = r#"{"e":"trade","E":1672515782136,"s":"BNBBTC","p":"612.40","#;
    let tail = r#""m":true}"#;
    let fill = len.saturating_sub(head.len() + tail.len() + 7);
    format!(r#"{head}"x":"{}",{tail}"#, "0".repeat(fill))
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("heartbeat-speed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    use lexopt::prelude::*;
    let mut parser = lexopt::Parser::from_env();
    let mut words: Vec<String> = Vec::new();
    let mut settings = track::Settings::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("clients") => {
                settings.clients = parser
                    .value()?
                    .string()?
                    .split(',')
                    .map(str::to_owned)
                    .collect();
            }
            Long("messages") => settings.messages = parser.value()?.parse()?,
            Long("len") => settings.len = parser.value()?.parse()?,
            Long("rounds") => settings.rounds = parser.value()?.parse()?,
            Long("json") => settings.json = true,
            Long("help") | Short('h') => {
                print!("{USAGE}");
                return Ok(());
            }
            Value(word) => words.push(word.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["server"] => Ok(server::run()?),
        ["client", name, url, count] => {
            let mut meter = Meter::default();
            clients::receive(name, url, count.parse()?, &mut meter)?;
            println!("{} {}", meter.cpu, meter.wall);
            Ok(())
        }
        ["receive"] => track::receive(&settings),
        ["instructions"] => track::instructions(&settings),
        _ => Err(format!("nothing to do\n{USAGE}").into()),
    }
}
