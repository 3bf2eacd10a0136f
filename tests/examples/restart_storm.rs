//! T18: a server with 2 000 real connections of ours is killed and started again. All clients must recover,
//! and no 100 ms may see more than 5 times the connects of a uniform spread.
//!
//! `cargo run --release -p heartbeat-tests --example restart_storm [CLIENTS]` (build the binaries before:
//! `cargo build --release -p heartbeat-tests --bins`).

#![allow(
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    clippy::disallowed_methods,
    reason = "a program for real clocks and real sockets"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use heartbeat_tokio::{Client, Config, Event, Options};
use serde_json::Value;

const BASE: Duration = Duration::from_secs(2);
const DOWN: Duration = Duration::from_millis(500);

struct Server(Child);

impl Server {
    fn start(port: u16) -> (Self, u16) {
        let own = std::env::current_exe().expect("a program has a path");
        let programs = own.ancestors().nth(2).map(PathBuf::from);
        let program = programs.expect("beside it").join("torture-server");
        let mut child = Command::new(&program)
            .args(["--port", &port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let listening: Value = serde_json::from_str(&line).expect("JSON");
        let port = listening["listening"].as_u64().expect("a port") as u16;
        (Self(child), port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn report(port: u16) -> Value {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("the server");
    write!(socket, "GET /report/fleet HTTP/1.1\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("an answer");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head");
    serde_json::from_str(body).expect("JSON")
}

fn main() {
    let clients = std::env::args()
        .nth(1)
        .map_or(2000, |text| text.parse().expect("the number of clients"));
    let (first, port) = Server::start(0);
    let config = Config::builder()
        .backoff(BASE, Duration::from_secs(60), 50)
        .build()
        .expect("consistent");
    let config = Arc::new(config);
    let open = Arc::new(AtomicUsize::new(0));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    for number in 0..clients {
        let (config, open) = (Arc::clone(&config), Arc::clone(&open));
        runtime.spawn(async move {
            // Nor did all clients come at once.
            tokio::time::sleep(Duration::from_millis(number as u64 % 4000)).await;
            let options =
                Options::new(&format!("ws://127.0.0.1:{port}/@fleet/t18")).expect("a URL");
            let mut client = Client::spawn(options.config(config)).expect("no TLS, no error");
            while let Some(event) = client.next().await {
                if matches!(event, Event::Connected { .. }) {
                    open.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    wait("the fleet is connected", || {
        open.load(Ordering::Relaxed) >= clients
    });

    open.store(0, Ordering::Relaxed);
    let killed = Instant::now();
    drop(first);
    std::thread::sleep(DOWN);
    let (second, _) = Server::start(port);
    wait("the fleet is back", || {
        open.load(Ordering::Relaxed) >= clients
    });
    let recovered = killed.elapsed();

    let report = report(port);
    let mut times: Vec<f64> = report["connections"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|connection| connection["accepted"].as_f64())
        .collect();
    times.sort_by(f64::total_cmp);
    let (begin, end) = (times[0], times[times.len() - 1]);
    // The spread of the first delay: with jitter of 50 %, half of the base.
    let uniform = clients as f64 * 100.0 / (BASE.as_secs_f64() * 1000.0 / 2.0);
    let densest = times
        .iter()
        .enumerate()
        .map(|(index, time)| times[index..].partition_point(|other| *other < time + 100.0))
        .max()
        .unwrap_or_default();
    drop(second);
    println!(
        "{} of {clients} clients back {:.2} s after the kill; {} connects over {:.2} s; at most {densest} in any \
         100 ms, {:.2} times the uniform share of {uniform:.0}",
        open.load(Ordering::Relaxed),
        recovered.as_secs_f64(),
        times.len(),
        (end - begin) / 1000.0,
        densest as f64 / uniform,
    );
    if densest as f64 > 5.0 * uniform {
        std::process::exit(1);
    }
}

fn wait(what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(120), "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
