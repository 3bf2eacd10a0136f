//! T24 in real time: a client that sends and receives 200 messages a second, over connections that the
//! torture server ends in a random way every 2 to 20 s. Memory, threads and descriptors must stay flat,
//! each end must be followed by a new connection in time, and messages must stay in order.
//!
//! `cargo run --release -p heartbeat-tests --example endurance [MINUTES] [tokio|blocking]` (build the
//! binaries before: `cargo build --release -p heartbeat-tests --bins`).

#![allow(
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    clippy::disallowed_methods,
    reason = "a program for real clocks and real sockets"
)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use heartbeat_tokio::{Config, Event, Message, Options, Ping};

static SENT: AtomicU64 = AtomicU64::new(0);
static REFUSED: AtomicU64 = AtomicU64::new(0);
static UNSENT: AtomicU64 = AtomicU64::new(0);
static MESSAGES: AtomicU64 = AtomicU64::new(0);
static DISORDER: AtomicU64 = AtomicU64::new(0);
static CONNECTS: AtomicU64 = AtomicU64::new(0);
static ENDS: AtomicU64 = AtomicU64::new(0);
static LONGEST_GAP_MS: AtomicU64 = AtomicU64::new(0);

/// A dead connection must be replaced within this time: silence 4 s, a delay of 1 s, and some time for the
/// machine.
const LONGEST_GAP: Duration = Duration::from_secs(3);

struct Watcher {
    next: u64,
    lost: Option<Instant>,
}

impl Watcher {
    fn watch(&mut self, event: &Event) {
        match event {
            Event::Connected { .. } => {
                CONNECTS.fetch_add(1, Ordering::Relaxed);
                self.next = 0;
                if let Some(lost) = self.lost.take() {
                    let gap = lost.elapsed().as_millis() as u64;
                    LONGEST_GAP_MS.fetch_max(gap, Ordering::Relaxed);
                }
            }
            Event::Message { message, .. } => {
                MESSAGES.fetch_add(1, Ordering::Relaxed);
                let text = message.as_text().unwrap_or_default();
                let number = text
                    .strip_prefix(r#"{"n":"#)
                    .and_then(|rest| rest.strip_suffix('}')?.parse::<u64>().ok());
                if number != Some(self.next) {
                    DISORDER.fetch_add(1, Ordering::Relaxed);
                }
                self.next = number.unwrap_or(self.next) + 1;
            }
            Event::Disconnected { unsent, .. } => {
                ENDS.fetch_add(1, Ordering::Relaxed);
                UNSENT.fetch_add(unsent.len() as u64, Ordering::Relaxed);
                self.lost.get_or_insert_with(Instant::now);
            }
            _ => {}
        }
    }
}

fn send(try_send: impl Fn(Message) -> bool) {
    let mut next = Instant::now();
    for number in 0_u64.. {
        let counter = if try_send(format!("{number} {}", ".".repeat(100)).into()) {
            &SENT
        } else {
            &REFUSED
        };
        counter.fetch_add(1, Ordering::Relaxed);
        next += Duration::from_millis(5);
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

fn run(options: Options, adapter: &str) {
    let mut watcher = Watcher {
        next: 0,
        lost: None,
    };
    if adapter == "blocking" {
        let client = heartbeat_blocking::Client::spawn(options).expect("a thread");
        let sender = client.sender().clone();
        thread::spawn(move || send(|message| sender.try_send(message).is_ok()));
        for event in client {
            watcher.watch(&event);
        }
    } else {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let mut client = heartbeat_tokio::Client::spawn(options).expect("no TLS, no error");
            let sender = client.sender().clone();
            thread::spawn(move || send(|message| sender.try_send(message).is_ok()));
            while let Some(event) = client.next().await {
                watcher.watch(&event);
            }
        });
    }
}

/// Resident memory in KiB, threads, descriptors.
fn figures() -> (u64, u64, usize) {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
    };
    let descriptors = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    (
        field("VmRSS:").unwrap_or_default(),
        field("Threads:").unwrap_or_default(),
        descriptors,
    )
}

fn main() {
    let mut args = std::env::args().skip(1);
    let minutes: f64 = args
        .next()
        .map_or(60.0, |text| text.parse().expect("minutes"));
    let adapter = args.next().unwrap_or_else(|| "tokio".into());
    let own = std::env::current_exe().expect("a program has a path");
    let programs = own.ancestors().nth(2).map(PathBuf::from);
    let program = programs.expect("beside it").join("torture-server");
    let mut server = Command::new(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("torture-server is built");
    let mut line = String::new();
    BufReader::new(server.stdout.take().expect("piped"))
        .read_line(&mut line)
        .expect("a line");
    let listening: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    let url = format!("ws://127.0.0.1:{}/@endurance/t24", listening["listening"]);
    let config = Config::builder()
        .idle_timeout(Duration::from_secs(4))
        .ping(Ping::AfterSilence(Duration::from_secs(2)))
        .pong_timeout(Duration::from_secs(2))
        .connect_timeout(Duration::from_secs(3))
        .stable_after(Duration::from_secs(1))
        .backoff(Duration::from_millis(200), Duration::from_secs(1), 50)
        .build()
        .expect("consistent");
    let options = Options::new(&url).expect("a URL").config(config);
    thread::spawn({
        let adapter = adapter.clone();
        move || run(options, &adapter)
    });

    println!(
        "| minute | connections | ended | received | out of order | sent | refused | handed back | longest gap ms | memory KiB | threads | descriptors |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    let begun = Instant::now();
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let mut warm = None;
    let mut last = (0, 0, 0);
    let step = Duration::from_secs_f64((minutes * 60.0 / 15.0).max(1.0));
    while begun.elapsed().as_secs_f64() < minutes * 60.0 {
        thread::sleep(step);
        last = figures();
        let (memory, threads, descriptors) = last;
        warm.get_or_insert(last);
        println!(
            "| {:.1} | {} | {} | {} | {} | {} | {} | {} | {} | {memory} | {threads} | {descriptors} |",
            begun.elapsed().as_secs_f64() / 60.0,
            read(&CONNECTS),
            read(&ENDS),
            read(&MESSAGES),
            read(&DISORDER),
            read(&SENT),
            read(&REFUSED),
            read(&UNSENT),
            read(&LONGEST_GAP_MS),
        );
    }
    let _ = server.kill();
    let _ = server.wait();
    let warm = warm.unwrap_or_default();
    // 2 MiB belong to the allocator. Leaking one buffer of 4 KiB for each connection would be twice that in an
    // hour.
    let flat = last.0 <= warm.0 + 2048 && last.1 <= warm.1 + 1 && last.2 <= warm.2 + 2;
    let gap = Duration::from_millis(read(&LONGEST_GAP_MS));
    let good = flat && read(&DISORDER) == 0 && read(&CONNECTS) > 1 && gap <= LONGEST_GAP;
    println!("\n{adapter}: {}", if good { "passed" } else { "FAILED" });
    // The client ends with the process. Other tests check its own end.
    std::process::exit(i32::from(!good));
}
