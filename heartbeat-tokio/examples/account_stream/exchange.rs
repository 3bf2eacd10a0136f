//! A minimal exchange with one account.

use std::future::pending;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::{Router, routing::any};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio::time::{interval, sleep};

pub(crate) struct Exchange {
    /// All changes of the balance. The first one has number 1.
    changes: Mutex<Vec<i64>>,
    stream: broadcast::Sender<String>,
    connections: AtomicU32,
}

impl Exchange {
    /// Starts the exchange on a free port. It trades until the program ends.
    pub(crate) async fn start() -> std::io::Result<(String, Arc<Self>)> {
        let exchange = Arc::new(Self {
            changes: Mutex::default(),
            stream: broadcast::Sender::new(1024),
            connections: AtomicU32::new(0),
        });
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("ws://{}/account", listener.local_addr()?);
        let serve = Arc::clone(&exchange);
        let upgrade = async move |upgrade: WebSocketUpgrade| {
            upgrade.on_upgrade(async move |socket| {
                let _ = serve.serve(socket).await;
            })
        };
        let router = Router::new().route("/account", any(upgrade));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let trade = Arc::clone(&exchange);
        tokio::spawn(async move { trade.trade().await });
        Ok((url, exchange))
    }

    /// Returns the number of the last change, and the balance. Takes 100 ms, like a slow request.
    pub(crate) async fn snapshot(&self) -> (u64, i64) {
        let at = self.changes().len() as u64;
        sleep(Duration::from_millis(100)).await;
        (at, self.balance_at(at))
    }

    pub(crate) fn balance_at(&self, at: u64) -> i64 {
        self.changes().iter().take(at as usize).sum()
    }

    fn changes(&self) -> MutexGuard<'_, Vec<i64>> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn trade(&self) {
        let mut clock = interval(Duration::from_millis(20));
        loop {
            clock.tick().await;
            let mut changes = self.changes();
            let change = (changes.len() as i64 * 7) % 11 - 4;
            changes.push(change);
            let message = json!({"seq": changes.len(), "change": change});
            // An error means that no client is subscribed.
            let _ = self.stream.send(message.to_string());
        }
    }

    async fn serve(&self, mut socket: WebSocket) -> Option<()> {
        let number = self.connections.fetch_add(1, Ordering::Relaxed) + 1;
        let auth = receive(&mut socket).await?;
        // Token 1 expires after the first login.
        if auth["token"] != if number == 1 { 1 } else { 2 } {
            say(&mut socket, r#"{"auth":"expired"}"#).await?;
            return receive(&mut socket).await.map(drop);
        }
        say(&mut socket, r#"{"auth":"ok"}"#).await?;
        receive(&mut socket).await?;
        let mut changes = self.stream.subscribe();
        say(&mut socket, r#"{"subscribed":"account"}"#).await?;

        let mut pings = interval(Duration::from_millis(250));
        let end = sleep(Duration::from_secs(1));
        tokio::pin!(end);
        loop {
            tokio::select! {
                change = changes.recv() => say(&mut socket, &change.ok()?).await?,
                _ = pings.tick() => say(&mut socket, r#"{"op":"ping","ts":17}"#).await?,
                message = receive(&mut socket) => {
                    let message = message?;
                    if message["op"] == "ping" {
                        let pong = json!({"op": "pong", "req_id": message["req_id"]});
                        say(&mut socket, &pong.to_string()).await?;
                    }
                }
                () = &mut end, if number <= 3 => match number {
                    1 => {
                        println!("exchange: freezes");
                        return pending().await; // with the socket, which stays open
                    }
                    _ => {
                        println!("exchange: drops");
                        return None;
                    }
                },
            }
        }
    }
}

async fn say(socket: &mut WebSocket, text: &str) -> Option<()> {
    socket.send(Message::text(text)).await.ok()
}

/// Returns the next message, or `None` if the client has left.
async fn receive(socket: &mut WebSocket) -> Option<Value> {
    loop {
        match socket.recv().await?.ok()? {
            Message::Text(text) => return serde_json::from_str(&text).ok(),
            Message::Close(_) => return None,
            Message::Binary(_) | Message::Ping(_) | Message::Pong(_) => {}
        }
    }
}
