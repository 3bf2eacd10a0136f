//! `fast_websocket_client`: ping interval, reconnect delay and connect timeout are its settings. It has no
//! setting for a pong timeout.

use fast_websocket_client::{ClientConfig, WebSocketBuilder};
use heartbeat_peers::driver::{self, Course};
use tokio::time;

#[tokio::main(worker_threads = 1)]
async fn main() {
    let course = Course::from_args();
    let config = ClientConfig::new()
        .with_ping_interval(course.ping)
        .with_reconnect_delay(course.backoff)
        .with_connect_timeout(course.connect);
    let holding = course.clone();
    let client = WebSocketBuilder::new()
        .on_open(|_| async { driver::connected() })
        .on_close(|_| async { driver::say("disconnected", "") })
        .on_error(|error| async move { driver::say("error", &error) })
        .on_message(move |text| {
            let hold = holding.hold();
            async move {
                driver::message(&text);
                if let Some(hold) = hold {
                    time::sleep(hold).await;
                }
            }
        })
        .connect_with_config(&course.url, config)
        .await;
    match client {
        Ok(client) => {
            for (pause, text) in course.sends() {
                time::sleep(pause).await;
                driver::sent(client.send(&text).await.is_ok());
            }
            std::future::pending::<()>().await;
        }
        Err(error) => {
            driver::say("gave_up", &error.to_string());
            std::future::pending::<()>().await;
        }
    }
}
