//! alloy's WebSocket transport below its JSON-RPC client: each message is a request that is never answered.

use alloy_rpc_client::RpcClient;
use alloy_transport_ws::WsConnect;
use heartbeat_peers::driver::{self, Course};
use tokio::time;

#[tokio::main(worker_threads = 1)]
async fn main() {
    let course = Course::from_args();
    let connect = WsConnect::new(course.url.as_str())
        .with_keepalive_interval(course.ping)
        .with_max_retries(u32::MAX)
        .with_retry_interval(course.backoff);
    match RpcClient::connect_pubsub(connect).await {
        Ok(client) => {
            driver::connected();
            for (pause, text) in course.sends() {
                time::sleep(pause).await;
                let client = client.clone();
                tokio::spawn(async move {
                    let answer = client.request::<_, String>("echo", (text,)).await;
                    driver::sent(answer.is_ok());
                });
            }
            std::future::pending::<()>().await;
        }
        Err(error) => {
            driver::say("gave_up", &error.to_string());
            std::future::pending::<()>().await;
        }
    }
}
