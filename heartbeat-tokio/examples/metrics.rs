//! Serves a client's figures to Prometheus: `curl http://127.0.0.1:9100/metrics`.
//!
//! ```sh
//! cargo run -p heartbeat-tokio --features metrics --example metrics -- wss://HOST/ 127.0.0.1:9100
//! ```
//!
//! `docs/grafana.json` is a dashboard for these figures. Ctrl-C stops the client gracefully.

use std::error::Error;

use heartbeat_tokio::{Client, Event, Options};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

#[tokio::main]
#[allow(dead_code, reason = "the test of the dashboard uses only `serve`")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(url), Some(address)) = (arguments.next(), arguments.next()) else {
        return Err("usage: metrics WEBSOCKET-URL ADDRESS:PORT".into());
    };
    let handle = PrometheusBuilder::new().install_recorder()?;
    let listener = TcpListener::bind(address).await?;
    let client = Client::spawn(Options::new(&url)?.name("example").metrics())?;
    tokio::select! {
        result = serve(listener, handle) => result?,
        client = watch(client) => {
            let unsent = client.stop().await;
            println!("stopped, {} messages unsent", unsent.len());
        }
    }
    Ok(())
}

/// Takes the client's events until Ctrl-C.
async fn watch(mut client: Client) -> Client {
    loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => return client,
            event = client.next() => match event {
                Some(Event::Disconnected { reason, .. }) => println!("disconnected: {reason}"),
                Some(Event::GaveUp { reason, .. }) => println!("gave up: {reason:?}"),
                Some(_) => {}
                None => return client,
            },
        }
    }
}

/// Answers every request with the figures in Prometheus' text format.
pub(crate) async fn serve(listener: TcpListener, handle: PrometheusHandle) -> std::io::Result<()> {
    loop {
        let (mut socket, _) = listener.accept().await?;
        // The content of the request does not matter, because there is only one answer.
        let mut request = [0; 1024];
        if socket.read(&mut request).await.is_err() {
            continue;
        }
        let body = handle.render();
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        // An error means that the requester has left.
        let _ = socket.write_all((head + &body).as_bytes()).await;
    }
}
