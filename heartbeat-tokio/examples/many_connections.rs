//! Many connections in one process, with one runtime, one dial budget, a task for each, and totals of their figures.
//!
//! ```sh
//! cargo run --release -p heartbeat-tokio --example many_connections -- 400    # number of connections, default 300
//! ```
//!
//! The server greets each client and then restarts, so that all connections are lost at once. The clients come back at the
//! budget's rate, not in one wave. Each connection uses two file descriptors in this program (`ulimit -n`).

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{Message as Frame, WebSocket, WebSocketUpgrade};
use axum::{Router, routing::any};
use heartbeat_tokio::{Client, ClientStats, Config, DialLimiter, Event, Options, StartError};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Dials a second, for all clients together.
const RATE: u32 = 200;
/// Dials that may begin at once.
const BURST: u32 = 20;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let count = match std::env::args().nth(1) {
        Some(count) => count.parse()?,
        None => 300,
    };
    let restart = watch::Sender::new(0);
    let url = serve(restart.subscribe()).await?;

    // All clients share the configuration and the budget.
    let config = Config::builder().backoff(Duration::from_millis(200), Duration::from_secs(5), 50);
    let config = Arc::new(config.build()?);
    let dials = Arc::new(DialLimiter::new(RATE, Duration::from_secs(1), BURST)?);
    let (tell, mut told) = mpsc::channel(count);
    let mut clients = JoinSet::new();
    let mut start = now();
    for _ in 0..count {
        let options = Options::new(&url)?
            .config(Arc::clone(&config))
            .dial_budget(Arc::clone(&dials))
            .queue(16);
        clients.spawn(run(options, tell.clone()));
    }
    // Dials beyond the burst begin at the budget's rate.
    let least = f64::from((count as u32).saturating_sub(BURST)) / f64::from(RATE);
    for round in ["connected", "connected again"] {
        for _ in 0..count {
            told.recv().await;
        }
        let took = start.elapsed().as_secs_f64();
        println!("all {count} {round} after {took:.2} s; the budget alone asks for {least:.2} s");
        start = now();
        restart.send_modify(|number| *number += 1);
    }

    let mut all = Sum::default();
    while let Some(stats) = clients.join_next().await {
        all.add(&stats??);
    }
    println!("{all:?}");
    Ok(())
}

/// Runs a client until the server has restarted twice.
async fn run(options: Options, tell: mpsc::Sender<()>) -> Result<ClientStats, StartError> {
    let mut client = Client::spawn(options)?;
    let mut losses = 0;
    while let Some(event) = client.next().await {
        match event {
            Event::Message { .. } => drop(tell.send(()).await),
            Event::Disconnected { .. } => losses += 1,
            _ => {}
        }
        if losses == 2 {
            client.sender().stop();
        }
    }
    Ok(client.stats())
}

#[derive(Debug, Default)]
struct Sum {
    dials: u64,
    connects: u64,
    messages_received: u64,
    bytes_received: u64,
}

impl Sum {
    fn add(&mut self, stats: &ClientStats) {
        self.dials += u64::from(stats.machine.dials);
        self.connects += u64::from(stats.machine.connects);
        self.messages_received += stats.messages_received;
        self.bytes_received += stats.bytes_received;
    }
}

#[allow(clippy::disallowed_methods, reason = "the example measures real time")]
fn now() -> Instant {
    Instant::now()
}

/// Starts a server that greets each client, and drops all clients at each restart.
async fn serve(restart: watch::Receiver<u32>) -> io::Result<String> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let url = format!("ws://{}/", listener.local_addr()?);
    let upgrade = async move |upgrade: WebSocketUpgrade| {
        let mut restart = restart.clone();
        restart.mark_unchanged();
        upgrade.on_upgrade(async move |mut socket: WebSocket| {
            if socket.send(Frame::text("welcome")).await.is_ok() {
                let _ = restart.changed().await;
            }
        })
    };
    let router = Router::new().route("/", any(upgrade));
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(url)
}
