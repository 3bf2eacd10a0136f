//! `tokio-tungstenite` as many programs use it: a loop with a read timeout, a ping timer, a backoff
//! that a connect resets, and a `select!` between reading, pinging and sending.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use heartbeat_peers::driver::{self, Course};
use tokio::sync::mpsc;
use tokio::time::{self, Instant};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

async fn live(course: &Course, send_queue: &mut mpsc::Receiver<String>) -> Result<(), String> {
    let dial = time::timeout(course.connect, connect_async(&course.url));
    let (mut ws, _) = match dial.await {
        Ok(result) => result.map_err(|error| error.to_string())?,
        Err(_) => return Err("dial timeout".into()),
    };
    driver::connected();
    if let Some(hold) = course.hold() {
        time::sleep(hold).await;
    }
    let mut pings = time::interval_at(Instant::now() + course.ping, course.ping);
    let mut heard = Instant::now();
    loop {
        tokio::select! {
            message = time::timeout_at(heard + course.death, ws.next()) => match message {
                Err(_) => return Err("silent".into()),
                Ok(None) => return Err("end of stream".into()),
                Ok(Some(Err(error))) => return Err(error.to_string()),
                Ok(Some(Ok(message))) => {
                    heard = Instant::now();
                    match message {
                        Message::Text(text) => driver::message(&text),
                        Message::Binary(_) => driver::message(""),
                        _ => {}
                    }
                }
            },
            _ = pings.tick() => ws.send(Message::Ping(Vec::new().into())).await.map_err(|error| error.to_string())?,
            Some(text) = send_queue.recv() => {
                let sent = ws.send(Message::text(text)).await;
                driver::sent(sent.is_ok());
                sent.map_err(|error| error.to_string())?;
            }
        }
    }
}

#[tokio::main(worker_threads = 1)]
async fn main() {
    let course = Course::from_args();
    let (tx, mut send_queue) = mpsc::channel(64);
    let sends = course.sends();
    tokio::spawn(async move {
        for (pause, text) in sends {
            time::sleep(pause).await;
            if tx.send(text).await.is_err() {
                break;
            }
        }
    });
    let mut delay = course.backoff;
    loop {
        let begun = Instant::now();
        if let Err(error) = live(&course, &mut send_queue).await {
            driver::say("disconnected", &error);
        }
        // A connect resets the backoff, as is common: after a connection that lasted longer than a dial takes.
        if begun.elapsed() > Duration::from_millis(100) {
            delay = course.backoff;
        }
        time::sleep(delay).await;
        delay = (delay * 2).min(course.backoff * 8);
    }
}
