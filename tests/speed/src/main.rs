//! Speed and memory of heartbeat's clients beside others', on the same track.
//!
//! `cargo run --release --manifest-path tests/speed/Cargo.toml -- --help`

#![allow(
    clippy::disallowed_methods,
    reason = "real time is what is measured here"
)]

mod clients;
mod figures;
mod holding;
mod latency;
mod many;
mod pictures;
mod process;
mod receive;
mod results;
mod sending;
mod server;

use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};

pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const USAGE: &str = "\
usage: heartbeat-speed MODE... [--clients A,B] [--messages N] [--len BYTES] [--rounds N]
                               [--connections N] [--seconds N]

Each mode prints a table and writes target/figures/MODE.json.

receive       CPU time a received message costs each client
tls           the same under TLS, rustls on both sides
sizes         the same for messages of 16 B to 1 MiB, received and sent
instructions  the same in instructions, counted by callgrind as the difference of two run lengths
trickle       the same where every message comes alone, and wakes the client
latency       from the server's write of a message that comes alone until the application has it
ping          from a server's ping to the pong, beside a bare echo
send          CPU time a sent message costs
backpressure  memory while a million messages go to a server that reads slowly
scale         CPU time a message costs with 1 to 10 000 connections in a process
idle          memory, CPU time and wake-ups of connections on which nothing happens
idle-tls      the memory of such connections under TLS
detection     when 1000 of 10 000 servers fall silent at once: how late each is noticed
crowd         100 000 connections with heartbeats for --seconds (600)
all           all of these, about 40 minutes, and then figures
profiles      what LTO and codegen units do to a received message; builds this program four times
figures       docs/speed.md and its pictures, from what the other modes have written
";

/// The options on the command line. A missing one has a default in each mode.
pub(crate) struct Settings {
    clients: Vec<String>,
    pub(crate) messages: Option<u64>,
    pub(crate) connections: Option<usize>,
    pub(crate) seconds: Option<f64>,
    pub(crate) len: usize,
    pub(crate) rounds: usize,
}

impl Settings {
    /// The clients named on the command line, or all of these.
    pub(crate) fn names(&self, all: &[&str]) -> Vec<String> {
        match &self.clients[..] {
            [] => all.iter().map(|&name| name.to_owned()).collect(),
            some => some.to_vec(),
        }
    }

    /// The same for clients that each come with another to compare with.
    pub(crate) fn chosen<'a>(
        &'a self,
        all: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        let is_chosen =
            |name| self.clients.is_empty() || self.clients.iter().any(|one| one == name);
        all.iter()
            .copied()
            .filter(move |(name, _)| is_chosen(*name))
    }

    /// The one client named on the command line, or this one.
    pub(crate) fn only<'a>(&'a self, default: &'a str) -> &'a str {
        self.clients.first().map_or(default, String::as_str)
    }
}

/// Reports the progress of a mode.
pub(crate) fn progress(mode: &str, at: usize, of: usize) {
    eprintln!("{mode}: {} of {of}", at + 1);
}

/// Processor time of this process, user and system.
fn cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn wall_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The cost of one measured stretch.
#[derive(Default)]
pub(crate) struct Meter {
    cpu: u64,
    wall: u64,
    sleeps: f64,
}

impl Meter {
    pub(crate) fn start(&mut self) {
        self.sleeps = sleeps();
        (self.cpu, self.wall) = (cpu_ns(), wall_ns());
    }

    pub(crate) fn stop(&mut self) {
        (self.cpu, self.wall) = (cpu_ns() - self.cpu, wall_ns() - self.wall);
        self.sleeps = sleeps() - self.sleeps;
    }
}

fn sleeps() -> f64 {
    process::Usage::of(std::process::id()).map_or(f64::NAN, |usage| usage.sleeps)
}

/// A trade in the form that exchanges send, padded to `len` bytes. No dialect takes it for a heartbeat. If
/// `len` is too short for it, only digits.
pub(crate) fn message(len: usize) -> String {
    if len < 80 {
        return "7".repeat(len);
    }
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

fn run() -> Result<()> {
    use lexopt::prelude::*;
    let mut parser = lexopt::Parser::from_env();
    let mut words: Vec<String> = Vec::new();
    let mut settings = Settings {
        clients: Vec::new(),
        messages: None,
        connections: None,
        seconds: None,
        len: 150,
        rounds: 5,
    };
    while let Some(argument) = parser.next()? {
        match argument {
            Long("clients") => {
                let names = parser.value()?.string()?;
                settings.clients = names.split(',').map(str::to_owned).collect();
            }
            Long("messages") => settings.messages = Some(parser.value()?.parse()?),
            Long("connections") => settings.connections = Some(parser.value()?.parse()?),
            Long("seconds") => settings.seconds = Some(parser.value()?.parse()?),
            Long("len") => settings.len = parser.value()?.parse()?,
            Long("rounds") => settings.rounds = parser.value()?.parse()?,
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
        [] => Err(format!("nothing to do\n{USAGE}").into()),
        ["server", ref certificate @ ..] => server::run(certificate.first().copied()),
        ["many", ref arguments @ ..] => many::run(arguments),
        ["client", name, url, count] => {
            let mut meter = Meter::default();
            let is_stamped = url.contains("/stamp/");
            latency::ARE_NOTED.store(is_stamped, Ordering::Relaxed);
            clients::receive(name, url, count.parse()?, &mut meter)?;
            if is_stamped {
                let [p50, p99] = latency::figures();
                println!("took {p50} {p99} {}", meter.sleeps);
            } else {
                println!("took {} {} {}", meter.cpu, meter.wall, meter.sleeps);
            }
            Ok(())
        }
        ["send", name, url, count, len, at_once] => {
            let plan = sending::Plan {
                count: count.parse()?,
                len: len.parse()?,
                at_once: at_once.parse()?,
            };
            send(name, url, &plan)
        }
        ref modes => modes.iter().try_for_each(|name| mode(name, &settings)),
    }
}

type Mode = fn(&Settings) -> Result<()>;

/// Modes in the order of `all`: the quickest first.
const MODES: &[(&str, Mode)] = &[
    ("receive", receive::receive),
    ("tls", receive::tls),
    ("sizes", receive::sizes),
    ("latency", receive::latency),
    ("trickle", receive::trickle),
    ("ping", receive::ping),
    ("send", receive::send),
    ("backpressure", receive::backpressure),
    ("scale", holding::scale),
    ("idle", holding::idle),
    ("idle-tls", holding::idle_tls),
    ("detection", holding::detection),
    ("instructions", receive::instructions),
    ("crowd", holding::crowd),
];

fn mode(name: &str, settings: &Settings) -> Result<()> {
    if name == "all" {
        let begun = Instant::now();
        for (name, mode) in MODES {
            eprintln!("== {name}, after {:.0} s", begun.elapsed().as_secs_f64());
            mode(settings).map_err(|error| format!("{name}: {error}"))?;
        }
        eprintln!("== done after {:.0} s", begun.elapsed().as_secs_f64());
        return figures::write();
    }
    if name == "figures" {
        return figures::write();
    }
    if name == "profiles" {
        return receive::profiles(settings);
    }
    match MODES.iter().find(|(known, _)| *known == name) {
        Some((_, mode)) => mode(settings),
        None => Err(format!("{name:?} is no mode\n{USAGE}").into()),
    }
}

/// A sender's process: reports when a tenth is accepted and when everything is written, and waits to be
/// measured.
fn send(name: &str, url: &str, plan: &sending::Plan) -> Result<()> {
    let mut meter = Meter::default();
    let slow = url.contains("/slow/");
    let mut each = |number: u64| {
        if slow && number == plan.count / 10 {
            println!("tenth");
        }
    };
    sending::send(name, url, plan, &mut meter, &mut each)?;
    if slow {
        println!("sent");
        // Until the measuring process is done.
        std::io::stdin().read_line(&mut String::new())?;
    } else {
        println!("took {} {} {}", meter.cpu, meter.wall, meter.sleeps);
    }
    Ok(())
}
