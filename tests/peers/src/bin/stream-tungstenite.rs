//! `stream-tungstenite`: a receive timeout and an exponential backoff. It sends no pings by itself. The
//! driver sends them through the client's sender, as an application can.

use std::sync::Arc;

use heartbeat_peers::driver::{self, Course};
use stream_tungstenite::prelude::*;
use stream_tungstenite::tokio_tungstenite::tungstenite::Message;
use tokio::time;

#[tokio::main(worker_threads = 1)]
async fn main() {
    let course = Course::from_args();
    let config = ClientConfig::new()
        .with_receive_timeout(course.death)
        .with_connect_timeout(course.connect)
        .with_exit_on_first_failure(false)
        .with_nodelay(true);
    let client = WebSocketClient::builder(course.url.as_str())
        .config(config)
        .exponential_backoff(course.backoff, course.backoff * 8, 2.0)
        .build();
    let client = Arc::new(client);
    let mut messages = client.subscribe();
    let mut events = client.subscribe_events();
    tokio::spawn({
        let client = Arc::clone(&client);
        async move {
            let end = client.run().await;
            driver::say("gave_up", &format!("{end:?}"));
        }
    });
    tokio::spawn({
        let client = Arc::clone(&client);
        let course = course.clone();
        async move {
            let mut sends = Some(course.sends());
            while let Ok(event) = events.recv().await {
                let event = format!("{event:?}");
                if event.starts_with("Connected") {
                    driver::connected();
                    if let Some(sends) = sends.take() {
                        tokio::spawn(send_all(Arc::clone(&client), sends));
                    }
                } else {
                    driver::say("event", &event);
                }
            }
        }
    });
    tokio::spawn({
        let client = Arc::clone(&client);
        let ping = course.ping;
        async move {
            loop {
                time::sleep(ping).await;
                // Without a connection there is no peer to ping.
                let _ = client.send(Message::Ping(Vec::new().into())).await;
            }
        }
    });
    loop {
        match messages.recv().await {
            Ok(message) => {
                driver::message(message.to_text().unwrap_or_default());
                if let Some(hold) = course.hold() {
                    time::sleep(hold).await;
                }
            }
            Err(tokio::sync::broadcast::error::RecvError::Lagged(count)) => {
                driver::say("lagged", &count.to_string());
            }
            Err(_) => break,
        }
    }
    std::future::pending::<()>().await;
}

async fn send_all(
    client: Arc<WebSocketClient>,
    sends: impl Iterator<Item = (std::time::Duration, String)>,
) {
    for (pause, text) in sends {
        time::sleep(pause).await;
        driver::sent(client.send_async(Message::text(text)).await.is_ok());
    }
}
