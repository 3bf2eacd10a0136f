//! Many connections in one process: one runtime, one budget of dials, a task for each, figures summed up.
//!
//! ```sh
//! cargo run --release -p heartbeat-tokio --example many_connections -- 400    # connections; 300 if not said
//! ```
//!
//! The server says a few words to each and then restarts, so that all are lost at once: they come back at the
//! budget's pace, not as a wave. Each connection takes two descriptors here (`ulimit -n`).

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

/// Dials a second, and how many of them at once, for all clients together.
const RATE: u32 = 200;
const BURST: u32 = 20;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let count = match std::env::args().nth(1) {
        Some(count) => count.parse()?,
        None => 300,
    };
    let restart = watch::Sender::new(0);
    let url = serve(restart.subscribe()).await?;

    // Shared: what each client has of its own is small.
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
    // What the burst does not cover comes at the budget's pace.
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

/// One of them, until the server has restarted twice.
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

#[allow(
    clippy::disallowed_methods,
    reason = "what is measured is how long it took"
)]
fn now() -> Instant {
    Instant::now()
}

/// Greets each client, and drops all of them whenever it is told to restart.
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
