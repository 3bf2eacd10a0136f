//! `nautilus-network`'s WebSocket client in handler mode, which reconnects by itself. Its heartbeat is in
//! whole seconds.

use std::sync::Arc;

use heartbeat_peers::driver::{self, Course};
use nautilus_network::websocket::{WebSocketClient, WebSocketConfig, channel_message_handler};
use tokio::time;

#[tokio::main(worker_threads = 1)]
async fn main() {
    let course = Course::from_args();
    let millis = |span: std::time::Duration| span.as_millis() as u64;
    let config = WebSocketConfig::builder()
        .url(course.url.clone())
        .heartbeat(course.ping.as_secs())
        .idle_timeout_ms(millis(course.death))
        .reconnect_timeout_ms(millis(course.connect))
        .reconnect_delay_initial_ms(millis(course.backoff))
        .reconnect_delay_max_ms(millis(course.backoff * 8))
        .reconnect_backoff_factor(2.0)
        .reconnect_jitter_ms(250)
        .backend(nautilus_network::websocket::TransportBackend::default())
        .build();
    // An unbounded channel, as the library offers it: an application that pauses holds nothing up.
    let (handler, mut messages) = channel_message_handler();
    let holding = course.clone();
    tokio::spawn(async move {
        while let Some(message) = messages.recv().await {
            driver::message(message.to_text().unwrap_or_default());
            if let Some(hold) = holding.hold() {
                time::sleep(hold).await;
            }
        }
    });
    let reconnected = Arc::new(driver::connected);
    let client =
        WebSocketClient::connect(config, Some(handler), None, Some(reconnected), Vec::new(), None);
    match client.await {
        Ok(client) => {
            driver::connected();
            for (pause, text) in course.sends() {
                time::sleep(pause).await;
                driver::sent(client.send_text(text, None).await.is_ok());
            }
            std::future::pending::<()>().await;
        }
        Err(error) => {
            driver::say("gave_up", &error.to_string());
            std::future::pending::<()>().await;
        }
    }
}
