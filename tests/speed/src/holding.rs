//! Many connections that send little: their cost, whether all of them stay, and when a dead one is noticed.
//! Clients and servers are in processes of their own, each with 20 000 descriptors at most.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::many;
use crate::process::{Process, Server, Usage, remove_certificate};
use crate::results::{Results, median, quantile};
use crate::{Result, Settings, progress};

/// Starts a process for connections of `name`. It has none yet.
fn start(
    processor: Option<usize>,
    name: &str,
    server: &Server,
    path: &str,
    count: usize,
    rate: f64,
    (block, times): (usize, &str),
) -> Result<Process> {
    let (count, rate, block) = (count.to_string(), rate.to_string(), block.to_string());
    let port = server.port();
    let scheme = server.scheme();
    let arguments = [
        "many", name, scheme, &port, path, &count, &rate, &block, times,
    ];
    let mut process = Process::start(processor, &arguments)?;
    process.numbers("ready")?;
    Ok(process)
}

/// Opens all of them.
fn open(process: &mut Process) -> Result<()> {
    process.tell("go")?;
    process.numbers("open").map(drop)
}

/// Connections opened, lost, pongs heard and messages taken so far.
fn tally(process: &mut Process) -> Result<[f64; 4]> {
    let figures = process.ask("stats")?;
    figures
        .try_into()
        .map_err(|_| "no four figures".to_owned().into())
}

fn sleep(seconds: f64) {
    std::thread::sleep(Duration::from_secs_f64(seconds));
}

/// Memory, processor time and wake-ups of connections on which nothing happens. All clients run at the same
/// time, because none has anything to do.
pub(crate) fn idle(settings: &Settings) -> Result<()> {
    /// By then the dial's deadline of 10 s has passed, for which a timer was set.
    const SETTLED: f64 = 11.0;
    /// One whole interval of the default configuration.
    const CYCLE: f64 = 30.0;
    let count = settings.connections.unwrap_or(2000);
    let names = settings.names(many::ALL);
    let about = json!({"connections": count, "interval_seconds": CYCLE});
    let columns = [
        ("bytes each", 0),
        ("by PSS", 0),
        ("wakes, quiet", 0),
        ("wakes each/s", 3),
        ("CPU us each/s", 2),
        ("lost", 0),
    ];
    let mut results = Results::new("idle", about, &columns);
    progress("idle", 0, 1);
    let server = Server::start(None)?;
    let one = |block: usize, name: &str| -> Result<[f64; 6]> {
        let rate = count as f64 / 4.0;
        let mut process = start(None, name, &server, "/idle", count, rate, (block, "-"))?;
        let empty = process.usage()?;
        let begun = Instant::now();
        open(&mut process)?;
        let opened = Instant::now();
        sleep(SETTLED);
        let full = process.usage()?;
        // Until shortly before the first connection's first heartbeat.
        sleep((CYCLE - 1.0 - begun.elapsed().as_secs_f64()).max(1.0));
        let quiet = process.usage()?.since(full);
        sleep((CYCLE - opened.elapsed().as_secs_f64()).max(0.0) + CYCLE);
        let cycle = process.usage()?.since(full);
        let seconds = opened.elapsed().as_secs_f64() - SETTLED;
        let each = count as f64;
        let [_, lost, ..] = tally(&mut process)?;
        // The first thread of the blocking client belongs to the application, and looks about every second.
        let sleeps = |usage: Usage| match name {
            "heartbeat-blocking-thread" => usage.sleeps_of_others,
            _ => usage.sleeps,
        };
        Ok([
            full.since(empty).rss / each,
            full.since(empty).pss / each,
            sleeps(quiet),
            sleeps(cycle) / each / seconds,
            cycle.cpu / 1000.0 / each / seconds,
            lost,
        ])
    };
    let figures = std::thread::scope(|scope| {
        let started: Vec<_> = names
            .iter()
            .enumerate()
            .map(|(block, name)| (name, scope.spawn(move || one(block, name))))
            .collect();
        let joined = started
            .into_iter()
            .map(|(name, thread)| (name, thread.join().map_err(|_| "it has panicked")));
        joined.collect::<Vec<_>>()
    });
    for (name, figures) in figures {
        results.row(name, &figures??);
    }
    results.finish()
}

/// The memory of connections under TLS on which nothing happens.
pub(crate) fn idle_tls(settings: &Settings) -> Result<()> {
    /// By then the dial's deadline of 10 s has passed, for which a timer was set.
    const SETTLED: f64 = 11.0;
    let count = settings.connections.unwrap_or(1000);
    let names = settings.names(&[
        "raw-tokio-tungstenite-4k",
        "raw-tokio-tungstenite",
        "heartbeat-tokio-in-place",
        "heartbeat-tokio-task",
    ]);
    let about = json!({"connections": count});
    let columns = [("bytes each", 0), ("by PSS", 0)];
    let mut results = Results::new("idle-tls", about, &columns);
    for (at, name) in names.iter().enumerate() {
        progress("idle-tls", at, names.len());
        let server = Server::start_tls(None)?;
        let mut process = start(None, name, &server, "/idle", count, 200.0, (0, "-"))?;
        let empty = process.usage()?;
        open(&mut process)?;
        sleep(SETTLED);
        let held = process.usage()?.since(empty);
        results.row(name, &[held.rss / count as f64, held.pss / count as f64]);
    }
    remove_certificate();
    results.finish()
}

/// A hundred thousand connections with their heartbeats.
pub(crate) fn crowd(settings: &Settings) -> Result<()> {
    /// A process has at most 20 000 descriptors, and a dial needs some.
    const EACH: usize = 16_700;
    /// All are opened within one interval, so that their pings are spread over it.
    const OPENING: f64 = 30.0;
    let count = settings.connections.unwrap_or(100_000);
    let seconds = settings.seconds.unwrap_or(600.0);
    let name = settings.only("heartbeat-tokio-in-place");
    let processes = count.div_ceil(EACH);
    let about = json!({"connections": count, "seconds": seconds, "processes": processes});
    let columns = [
        ("open at the end", 0),
        ("lost", 0),
        ("GB RSS", 3),
        ("GB PSS", 3),
        ("pongs", 0),
        ("CPU us a pong", 1),
        ("CPU us a pong, server", 1),
    ];
    let mut results = Results::new("crowd", about, &columns);
    let (mut servers, mut clients) = (Vec::new(), Vec::new());
    for block in 0..processes {
        let share = count / processes + usize::from(block < count % processes);
        let server = Server::start(None)?;
        let rate = share as f64 / OPENING;
        clients.push(start(
            None,
            name,
            &server,
            "/idle",
            share,
            rate,
            (block, "-"),
        )?);
        servers.push(server);
    }
    for client in &mut clients {
        client.tell("go")?;
    }
    for client in &mut clients {
        client.numbers("open")?;
    }
    let all = |clients: &mut [Process], servers: &mut [Server]| -> Result<_> {
        let (mut tallies, mut usage, mut theirs) = ([0.0; 4], Usage::default(), Usage::default());
        for client in clients {
            let of = tally(client)?;
            tallies = std::array::from_fn(|at| tallies[at] + of[at]);
            usage = usage.plus(client.usage()?);
        }
        let mut open = 0.0;
        for server in servers {
            open += server.process.ask("stats")?[0];
            theirs = theirs.plus(server.process.usage()?);
        }
        Ok((tallies, usage, theirs, open))
    };
    let begun = Instant::now();
    let (before, used, server_used, _) = all(&mut clients, &mut servers)?;
    while begun.elapsed().as_secs_f64() < seconds {
        let left = seconds - begun.elapsed().as_secs_f64();
        sleep(left.clamp(0.0, 30.0));
        let ([_, lost, pongs, _], usage, ..) = all(&mut clients, &mut servers)?;
        let at = begun.elapsed().as_secs_f64();
        eprintln!(
            "crowd: {at:.0} of {seconds:.0} s, {lost} lost, {pongs} pongs, {:.3} GB",
            usage.rss / 1e9
        );
    }
    let (after, usage, theirs, open) = all(&mut clients, &mut servers)?;
    let pongs = after[2] - before[2];
    results.row(
        name,
        &[
            open,
            after[1],
            usage.rss / 1e9,
            usage.pss / 1e9,
            pongs,
            usage.since(used).cpu / 1000.0 / pongs,
            theirs.since(server_used).cpu / 1000.0 / pongs,
        ],
    );
    results.finish()
}

/// One in ten of many servers falls silent at the same moment. When does each client notice?
pub(crate) fn detection(settings: &Settings) -> Result<()> {
    /// The ping after this much silence, and death this long after the ping, in milliseconds. The third value
    /// does not matter.
    const TIMES: (&str, f64) = ("5000/5000/20000", 10_000.0);
    const EVERY: f64 = 10.0;
    let count = settings.connections.unwrap_or(10_000);
    let about = json!({"connections": count, "frozen": count / 10, "bound_ms": TIMES.1});
    let columns = [
        ("dead", 0),
        ("p50 ms late", 2),
        ("p99 ms late", 2),
        ("most", 2),
        ("early", 0),
        ("others lost", 0),
        ("others' pings", 2),
    ];
    let mut results = Results::new("detection", about, &columns);
    let names = settings.names(&["heartbeat-tokio-in-place", "heartbeat-tokio-task"]);
    for (at, name) in names.iter().enumerate() {
        progress("detection", at, names.len());
        let mut server = Server::start(None)?;
        let rate = count as f64 / 5.0;
        let mut client = start(None, name, &server, "/idle", count, rate, (0, TIMES.0))?;
        open(&mut client)?;
        sleep(7.0);
        let before = server
            .process
            .ask(&format!("freeze {EVERY}"))
            .and_then(|_| {
                let begun = Instant::now();
                Ok((begun, server.process.ask("stats")?[2]))
            })?;
        sleep(TIMES.1 / 1000.0 + 2.0);
        let pings = server.process.ask("stats")?[2] - before.1;
        let seconds = before.0.elapsed().as_secs_f64();
        let deaths = server.process.ask("deaths")?;
        let late: Vec<f64> = deaths.iter().map(|us| us / 1000.0 - TIMES.1).collect();
        let [_, lost, ..] = tally(&mut client)?;
        // Each of the other connections sends a ping every five seconds. Those that came back do, too.
        let others = count as f64 * (1.0 - 1.0 / EVERY);
        let expected = others * seconds / 5.0;
        results.row(
            name,
            &[
                late.len() as f64,
                median(&late),
                quantile(&late, 0.99),
                quantile(&late, 1.0),
                late.iter().filter(|late| **late < 0.0).count() as f64,
                lost - late.len() as f64,
                pings / expected,
            ],
        );
        results.more("late_ms", json!(late));
    }
    results.finish()
}

/// The cost of a message, when each goes to another of this many connections.
pub(crate) fn scale(settings: &Settings) -> Result<()> {
    const CONNECTIONS: [usize; 5] = [1, 10, 100, 1000, 10_000];
    const RATE: u64 = 10_000;
    let messages = settings.messages.unwrap_or(20_000);
    let rounds = settings.rounds.min(3);
    let about = json!({
        "messages": messages, "bytes": settings.len, "rounds": rounds, "a_second": RATE,
    });
    let columns = [
        ("at 1", 0),
        ("at 10", 0),
        ("at 100", 0),
        ("at 1000", 0),
        ("at 10000", 0),
        ("most/least", 2),
    ];
    let mut results = Results::new("scale", about, &columns);
    let names = settings.names(&[
        "raw-tokio-tungstenite-4k",
        "heartbeat-tokio-in-place",
        "heartbeat-tokio-task",
    ]);
    let mut costs = vec![[const { Vec::new() }; CONNECTIONS.len()]; names.len()];
    for round in 0..rounds {
        for (at, count) in CONNECTIONS.into_iter().enumerate() {
            progress(
                "scale",
                round * CONNECTIONS.len() + at,
                rounds * CONNECTIONS.len(),
            );
            for (name, costs) in names.iter().zip(&mut costs) {
                let mut server = Server::start(Some(0))?;
                let mut client = start(Some(1), name, &server, "/fan", count, 4000.0, (0, "-"))?;
                open(&mut client)?;
                sleep(0.3);
                let before = client.usage()?;
                server
                    .process
                    .ask(&format!("fan {messages} {} {RATE}", settings.len))?;
                sleep(0.2);
                let used = client.usage()?.since(before);
                let [_, lost, _, taken] = tally(&mut client)?;
                if lost > 0.0 || taken != messages as f64 {
                    return Err(format!("{name}: {taken} of {messages}, {lost} lost").into());
                }
                costs[at].push(used.cpu / messages as f64);
            }
        }
    }
    for (name, costs) in names.iter().zip(&costs) {
        let mut figures: Vec<f64> = costs.iter().map(|of| median(of)).collect();
        let (least, most) = (quantile(&figures, 0.0), quantile(&figures, 1.0));
        figures.push(most / least);
        results.row(name, &figures);
    }
    results.finish()
}
