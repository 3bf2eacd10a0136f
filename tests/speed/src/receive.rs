//! The cost of a received message, of a sent one, and of one that comes alone: a client in a process of its
//! own on the second processor, a server on the first. The rounds are interleaved, and ratios are taken
//! within a round.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::process::{Process, Server, remove_certificate};
use crate::results::{Results, median};
use crate::{Result, Settings, clients, progress, sending};

/// The results of several rounds of several clients, each with the name of the client that it is compared
/// with.
#[derive(Default)]
struct Rounds(BTreeMap<String, Vec<f64>>);

impl Rounds {
    fn add(&mut self, name: &str, value: f64) {
        self.0.entry(name.to_owned()).or_default().push(value);
    }

    fn of(&self, name: &str) -> &[f64] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// Median, least, most, and the median of the ratios within a round.
    fn figures(&self, name: &str, base: &str) -> [f64; 4] {
        let own = self.of(name);
        let pairs = own.iter().zip(self.of(base));
        let ratios: Vec<f64> = pairs.map(|(own, base)| own / base).collect();
        let least = own.iter().copied().fold(f64::MAX, f64::min);
        let most = own.iter().copied().fold(0.0, f64::max);
        [median(own), least, most, median(&ratios)]
    }
}

const COLUMNS: [(&str, usize); 4] = [
    ("CPU ns", 0),
    ("least", 0),
    ("most", 0),
    ("x the raw one", 2),
];

/// CPU time, wall time and sleeps of one client with one server.
fn took(path: &str, arguments: &[&str]) -> Result<[f64; 3]> {
    took_of(
        Server::start(Some(0))?,
        &std::env::current_exe()?,
        path,
        arguments,
    )
}

/// The same for this server and a client that may be built with other settings.
fn took_of(server: Server, program: &Path, path: &str, arguments: &[&str]) -> Result<[f64; 3]> {
    let url = server.url(path);
    let mut all = vec![arguments[0], arguments[1], &url];
    all.extend(&arguments[2..]);
    let figures = Process::start_as(program, Some(1), &all)?.numbers("took")?;
    figures
        .try_into()
        .map_err(|_| "no three figures".to_owned().into())
}

pub(crate) fn receive(settings: &Settings) -> Result<()> {
    let messages = settings.messages.unwrap_or(1_000_000);
    let names = settings.names(clients::ALL);
    let about = json!({"messages": messages, "bytes": settings.len, "rounds": settings.rounds});
    let mut columns = COLUMNS.to_vec();
    columns.extend([("x raw sync", 2), ("x raw in a task", 2)]);
    let mut results = Results::new("receive", about, &columns);
    let mut rounds = Rounds::default();
    for round in 0..settings.rounds {
        progress("receive", round, settings.rounds);
        for name in &names {
            let path = format!("/flood/{messages}/{}", settings.len);
            let [cpu, ..] = took(&path, &["client", name, &messages.to_string()])?;
            rounds.add(name, cpu / messages as f64);
        }
    }
    for name in &names {
        let [cpu, least, most, ratio] = rounds.figures(name, &names[0]);
        let [.., sync] = rounds.figures(name, "raw-tungstenite");
        let [.., task] = rounds.figures(name, "raw-tokio-tungstenite-task");
        results.row(name, &[cpu, least, most, ratio, sync, task]);
    }
    results.finish()
}

/// The same under TLS, with rustls on both sides.
pub(crate) fn tls(settings: &Settings) -> Result<()> {
    let messages = settings.messages.unwrap_or(1_000_000);
    let names = settings.names(&[
        "raw-tokio-tungstenite",
        "raw-tokio-tungstenite-4k",
        "raw-tokio-tungstenite-task",
        "raw-tungstenite",
        "raw-tungstenite-4k",
        "heartbeat-tokio-in-place",
        "heartbeat-tokio-lent",
        "heartbeat-tokio-task",
        "heartbeat-blocking-in-place",
        "heartbeat-blocking-thread",
    ]);
    let about = json!({"messages": messages, "bytes": settings.len, "rounds": settings.rounds});
    let mut columns = COLUMNS.to_vec();
    columns.extend([
        ("x raw, 4 KiB", 2),
        ("x raw sync, 4 KiB", 2),
        ("x raw in a task", 2),
    ]);
    let mut results = Results::new("tls", about, &columns);
    let mut rounds = Rounds::default();
    for round in 0..settings.rounds {
        progress("tls", round, settings.rounds);
        for name in &names {
            let path = format!("/flood/{messages}/{}", settings.len);
            let arguments = ["client", name, &messages.to_string()];
            let server = Server::start_tls(Some(0))?;
            let [cpu, ..] = took_of(server, &std::env::current_exe()?, &path, &arguments)?;
            rounds.add(name, cpu / messages as f64);
        }
    }
    remove_certificate();
    for name in &names {
        let mut figures = rounds.figures(name, &names[0]).to_vec();
        for base in [
            "raw-tokio-tungstenite-4k",
            "raw-tungstenite-4k",
            "raw-tokio-tungstenite-task",
        ] {
            figures.push(rounds.figures(name, base)[3]);
        }
        results.row(name, &figures);
    }
    results.finish()
}

/// Lengths of messages in bytes, and the columns of their cost and of the ratio to the raw client.
const SIZES: [(usize, &str, &str); 5] = [
    (16, "16 B", "x, 16 B"),
    (1 << 10, "1 KiB", "x, 1 KiB"),
    (16 << 10, "16 KiB", "x, 16 KiB"),
    (100 << 10, "100 KiB", "x, 100 KiB"),
    (1 << 20, "1 MiB", "x, 1 MiB"),
];

/// The cost of messages of several lengths, received and sent.
pub(crate) fn sizes(settings: &Settings) -> Result<()> {
    /// This many bytes of each length, or this many messages, whichever is less.
    const BYTES: usize = 400 << 20;
    const MESSAGES: usize = 500_000;
    let rounds_of_each = settings.rounds;
    let about = json!({"rounds": rounds_of_each});
    let columns: Vec<(&str, usize)> = SIZES
        .iter()
        .flat_map(|(_, cost, ratio)| [(*cost, 0), (*ratio, 2)])
        .collect();
    let mut results = Results::new("sizes", about, &columns);
    let names = settings.names(&[
        "raw-tokio-tungstenite",
        "heartbeat-tokio-in-place",
        "heartbeat-tokio-task",
    ]);
    let key = |name: &str, way: &str, len: usize| format!("{name}, {way}, {len}");
    let mut rounds = Rounds::default();
    for round in 0..rounds_of_each {
        progress("sizes", round, rounds_of_each);
        for (len, ..) in SIZES {
            let count = (BYTES / len).min(MESSAGES) as u64;
            for name in &names {
                let path = format!("/flood/{count}/{len}");
                let [cpu, ..] = took(&path, &["client", name, &count.to_string()])?;
                rounds.add(&key(name, "received", len), cpu / count as f64);
                // Small messages share a write, like those that a program sends in a row.
                let at_once = (64 * 1024 / len).clamp(1, 64).to_string();
                let (count_text, len_text) = (count.to_string(), len.to_string());
                let arguments = ["send", name, &count_text, &len_text, &at_once];
                let [cpu, ..] = took("/sink", &arguments)?;
                rounds.add(&key(name, "sent", len), cpu / count as f64);
            }
        }
    }
    for way in ["received", "sent"] {
        for name in &names {
            let mut figures = Vec::new();
            for (len, ..) in SIZES {
                let of = rounds.figures(&key(name, way, len), &key(&names[0], way, len));
                figures.extend([of[0], of[3]]);
            }
            results.row(&format!("{name}, {way}"), &figures);
        }
    }
    results.finish()
}

/// The age of a message that comes alone when the application has it.
pub(crate) fn latency(settings: &Settings) -> Result<()> {
    const RATE: u64 = 2000;
    let messages = settings.messages.unwrap_or(5000);
    let about = json!({
        "messages": messages, "bytes": settings.len, "rounds": settings.rounds, "a_second": RATE,
    });
    let columns = [
        ("p50 us", 2),
        ("least", 2),
        ("most", 2),
        ("x the raw one", 2),
        ("p99 us", 1),
        ("p99, x the raw one", 2),
    ];
    let mut results = Results::new("latency", about, &columns);
    let (mut medians, mut tails) = (Rounds::default(), Rounds::default());
    for round in 0..settings.rounds {
        progress("latency", round, settings.rounds);
        for (name, _) in settings.chosen(ALONE) {
            let path = format!("/stamp/{messages}/{}/{RATE}", settings.len);
            let [p50, p99, _] = took(&path, &["client", name, &messages.to_string()])?;
            medians.add(name, p50 / 1000.0);
            tails.add(name, p99 / 1000.0);
        }
    }
    for (name, base) in settings.chosen(ALONE) {
        let mut figures = medians.figures(name, base).to_vec();
        let tail = tails.figures(name, base);
        figures.extend([tail[0], tail[3]]);
        results.row(name, &figures);
    }
    results.finish()
}

/// Cargo's profiles in this project, the one of `--release` first, with their settings.
const PROFILES: &[(&str, &str)] = &[
    ("release", "thin LTO, 1 unit"),
    ("units", "no LTO, 16 units"),
    ("unit", "no LTO, 1 unit"),
    ("fat", "fat LTO, 1 unit"),
];

/// The effect of the compiler's settings on a received message.
pub(crate) fn profiles(settings: &Settings) -> Result<()> {
    let messages = settings.messages.unwrap_or(1_000_000);
    let names = settings.names(&[
        "raw-tokio-tungstenite",
        "heartbeat-tokio-in-place",
        "heartbeat-tokio-task",
        "heartbeat-blocking-in-place",
    ]);
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let target = concat!(env!("CARGO_MANIFEST_DIR"), "/target");
    // The first one is the running program.
    for (profile, _) in &PROFILES[1..] {
        let build = Command::new(env!("CARGO"))
            .args(["build", "--locked", "--profile", profile])
            .args(["--manifest-path", manifest, "--target-dir", target])
            .status()?;
        if !build.success() {
            return Err(format!("the profile {profile} does not build").into());
        }
    }
    let about = json!({"messages": messages, "bytes": settings.len, "rounds": settings.rounds});
    let columns = [COLUMNS[0], COLUMNS[1], COLUMNS[2], ("x the first one", 2)];
    let mut results = Results::new("profiles", about, &columns);
    let mut rounds = Rounds::default();
    for round in 0..settings.rounds {
        progress("profiles", round, settings.rounds);
        for name in &names {
            for (profile, what) in PROFILES {
                let program = Path::new(target).join(profile).join("heartbeat-speed");
                let path = format!("/flood/{messages}/{}", settings.len);
                let [cpu, ..] = took_of(
                    Server::start(Some(0))?,
                    &program,
                    &path,
                    &["client", name, &messages.to_string()],
                )?;
                rounds.add(&format!("{name}, {what}"), cpu / messages as f64);
            }
        }
    }
    for name in &names {
        let base = format!("{name}, {}", PROFILES[0].1);
        for (_, what) in PROFILES {
            let row = format!("{name}, {what}");
            results.row(&row, &rounds.figures(&row, &base));
        }
    }
    results.finish()
}

/// Message counts whose difference is counted.
const SHORT: u64 = 20_000;
const LONG: u64 = 120_000;

pub(crate) fn instructions(settings: &Settings) -> Result<()> {
    let names = settings.names(clients::ALL);
    let about = json!({"messages": LONG - SHORT, "bytes": settings.len});
    let mut results = Results::new("instructions", about, &[("instructions", 0)]);
    for (at, name) in names.iter().enumerate() {
        progress("instructions", at, names.len());
        let (short, long) = (count(name, SHORT, settings)?, count(name, LONG, settings)?);
        results.row(name, &[(long - short) / (LONG - SHORT) as f64]);
    }
    results.finish()
}

fn count(client: &str, messages: u64, settings: &Settings) -> Result<f64> {
    let server = Server::start(Some(0))?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["client", client])
        .arg(server.url(&format!("/flood/{messages}/{}", settings.len)))
        .arg(messages.to_string())
        .output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{client} under valgrind: {text}").into());
    }
    let total = text
        .lines()
        .find_map(|line| line.split("Collected :").nth(1))
        .ok_or_else(|| format!("{client}: callgrind said nothing of a count:\n{text}"))?;
    Ok(total.trim().parse()?)
}

/// The clients of the modes in which every message comes alone, each with the client that it is compared
/// with.
const ALONE: &[(&str, &str)] = &[
    ("raw-tokio-tungstenite-4k", "raw-tokio-tungstenite-4k"),
    ("raw-tokio-tungstenite-task", "raw-tokio-tungstenite-4k"),
    ("heartbeat-tokio-in-place", "raw-tokio-tungstenite-4k"),
    ("heartbeat-tokio-task", "raw-tokio-tungstenite-4k"),
    ("heartbeat-messages", "raw-tokio-tungstenite-4k"),
    ("tokio-websockets", "raw-tokio-tungstenite-4k"),
    ("fastwebsockets", "raw-tokio-tungstenite-4k"),
    ("ezsockets", "raw-tokio-tungstenite-4k"),
    ("raw-tungstenite-4k", "raw-tungstenite-4k"),
    ("heartbeat-blocking-in-place", "raw-tungstenite-4k"),
    ("heartbeat-blocking-thread", "raw-tungstenite-4k"),
];

/// A wake-up for every message.
pub(crate) fn trickle(settings: &Settings) -> Result<()> {
    const RATE: u64 = 10_000;
    let messages = settings.messages.unwrap_or(20_000);
    let about = json!({
        "messages": messages, "bytes": settings.len, "rounds": settings.rounds, "a_second": RATE,
    });
    let mut columns = COLUMNS.to_vec();
    columns.push(("sleeps a message", 2));
    let mut results = Results::new("trickle", about, &columns);
    let (mut rounds, mut sleeps) = (Rounds::default(), Rounds::default());
    for round in 0..settings.rounds {
        progress("trickle", round, settings.rounds);
        for (name, _) in settings.chosen(ALONE) {
            let path = format!("/trickle/{messages}/{}/{RATE}", settings.len);
            let [cpu, _, slept] = took(&path, &["client", name, &messages.to_string()])?;
            rounds.add(name, cpu / messages as f64);
            sleeps.add(name, slept / messages as f64);
        }
    }
    for (name, base) in settings.chosen(ALONE) {
        let mut figures = rounds.figures(name, base).to_vec();
        figures.push(median(sleeps.of(name)));
        results.row(name, &figures);
    }
    results.finish()
}

/// The clients that answer pings, each with the client that it is compared with.
const ANSWERING: &[(&str, &str)] = &[
    ("bare-echo", "bare-echo"),
    ("raw-tokio-tungstenite-4k", "bare-echo"),
    ("heartbeat-tokio-in-place", "bare-echo"),
    ("heartbeat-tokio-task", "bare-echo"),
    ("heartbeat-messages", "bare-echo"),
    ("tokio-websockets", "bare-echo"),
    ("fastwebsockets", "bare-echo"),
    ("bare-echo-blocking", "bare-echo-blocking"),
    ("raw-tungstenite-4k", "bare-echo-blocking"),
    ("heartbeat-blocking-in-place", "bare-echo-blocking"),
    ("heartbeat-blocking-thread", "bare-echo-blocking"),
];

/// From the server's ping to the client's pong, as the server sees it.
pub(crate) fn ping(settings: &Settings) -> Result<()> {
    const PINGS: u64 = 10_000;
    let about = json!({"pings": PINGS, "rounds": settings.rounds});
    let columns = [
        ("p50 us", 2),
        ("least", 2),
        ("most", 2),
        ("x a bare echo", 2),
        ("p99 us", 1),
    ];
    let mut results = Results::new("ping", about, &columns);
    let (mut rounds, mut tails) = (Rounds::default(), Rounds::default());
    for round in 0..settings.rounds {
        progress("ping", round, settings.rounds);
        for (name, _) in settings.chosen(ANSWERING) {
            let mut server = Server::start(Some(0))?;
            let url = server.url(&format!("/ask/{PINGS}"));
            // It waits for a message that never comes.
            let client = Process::start(Some(1), &["client", name, &url, &u64::MAX.to_string()])?;
            let times = server.process.numbers("asked")?;
            drop(client);
            let [p50, p99] = times[..] else {
                return Err("no two figures".into());
            };
            rounds.add(name, p50 / 1000.0);
            tails.add(name, p99 / 1000.0);
        }
    }
    for (name, base) in settings.chosen(ANSWERING) {
        let mut figures = rounds.figures(name, base).to_vec();
        figures.push(median(tails.of(name)));
        results.row(name, &figures);
    }
    results.finish()
}

/// Messages sent one by one, and 64 at once.
pub(crate) fn send(settings: &Settings) -> Result<()> {
    let messages = settings.messages.unwrap_or(200_000);
    let about = json!({"messages": messages, "bytes": 150, "rounds": settings.rounds});
    let mut results = Results::new("send", about, &COLUMNS);
    let mut rounds = Rounds::default();
    let variants = || {
        let of = |(name, base)| [1, 64].map(|at_once| (name, base, at_once));
        settings.chosen(sending::ALL).flat_map(of)
    };
    let key = |name: &str, at_once: u64| match at_once {
        1 => format!("{name}, one by one"),
        _ => format!("{name}, {at_once} at once"),
    };
    for round in 0..settings.rounds {
        progress("send", round, settings.rounds);
        for (name, _, at_once) in variants() {
            let arguments = [
                "send",
                name,
                &messages.to_string(),
                "150",
                &at_once.to_string(),
            ];
            let [cpu, ..] = took("/sink", &arguments)?;
            rounds.add(&key(name, at_once), cpu / messages as f64);
        }
    }
    for (name, base, at_once) in variants() {
        let (name, base) = (key(name, at_once), key(base, at_once));
        results.row(&name, &rounds.figures(&name, &base));
    }
    results.finish()
}

/// A million messages to a server that reads slowly: the memory of waiting messages is bounded.
pub(crate) fn backpressure(settings: &Settings) -> Result<()> {
    const BYTES_A_SECOND: u64 = 32 << 20;
    let messages = settings.messages.unwrap_or(1_000_000);
    let about =
        json!({"messages": messages, "bytes": 150, "server_reads_a_second": BYTES_A_SECOND});
    let columns = [("KiB at 10%", 0), ("KiB more", 0), ("arrived", 0)];
    let mut results = Results::new("backpressure", about, &columns);
    let of_all = settings.chosen(sending::ALL).count();
    for (at, (name, _)) in settings.chosen(sending::ALL).enumerate() {
        progress("backpressure", at, of_all);
        let mut server = Server::start(Some(0))?;
        let url = server.url(&format!("/slow/{BYTES_A_SECOND}"));
        let arguments = ["send", name, &url, &messages.to_string(), "150", "64"];
        let mut client = Process::start(Some(1), &arguments)?;
        client.numbers("tenth")?;
        let before = client.usage()?;
        client.numbers("sent")?;
        let after = client.usage()?;
        // The bytes in the kernel are still to be read.
        let mut arrived = 0.0;
        for _ in 0..100 {
            arrived = server.process.ask("stats")?[1];
            if arrived >= messages as f64 {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        let kib = |bytes: f64| bytes / 1024.0;
        results.row(
            name,
            &[kib(before.rss), kib(after.peak - before.rss), arrived],
        );
    }
    results.finish()
}
