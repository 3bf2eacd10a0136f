//! A scrape has every figure that the dashboard queries.

#[path = "../examples/metrics.rs"]
#[allow(dead_code, reason = "a part of it is tested")]
mod example;

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use heartbeat_tokio::{Client, Config, Event, Options};
use metrics_exporter_prometheus::PrometheusBuilder;
use tungstenite::Message;

/// Returns the names of all our metrics in the dashboard's queries, without the suffixes of histograms.
fn names_in_the_dashboard() -> BTreeSet<String> {
    let dashboard: serde_json::Value =
        serde_json::from_str(include_str!("../docs/grafana.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let queries = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().expect("targets"))
        .map(|target| target["expr"].as_str().expect("a query"));
    let mut names = BTreeSet::new();
    for query in queries {
        let words = query.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let ours: Vec<&str> = words
            .filter(|word| word.starts_with("heartbeat_"))
            .collect();
        assert!(!ours.is_empty(), "{query}");
        names.extend(ours.into_iter().map(str::to_owned));
    }
    names
}

fn scrape(address: std::net::SocketAddr) -> String {
    let mut socket = TcpStream::connect(address).expect("the endpoint");
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("a timeout");
    socket
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .expect("it listens");
    let mut text = String::new();
    socket.read_to_string(&mut text).expect("text");
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn every_figure_of_the_dashboard_is_in_a_scrape() {
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("ws://{}/", server.local_addr().expect("bound"));
    thread::spawn(move || {
        // The server drops the first connection after a message, and keeps the second.
        for stays in [false, true] {
            let (socket, _) = server.accept().expect("a client");
            let mut ws = tungstenite::accept(socket).expect("an upgrade");
            ws.send(Message::text("data")).expect("the client reads");
            if stays {
                while ws.read().is_ok() {}
            }
        }
    });
    let config = r#"{"ping": {"every": "20ms"}, "backoff": {"base": "50ms", "cap": "50ms"}}"#;
    let options = Options::new(&url)
        .expect("a URL")
        .config(Config::from_json(config).expect("a configuration"))
        .name("feed")
        .metrics();
    // With buckets, the exporter exports histograms. Without them it would export quantiles.
    let handle = PrometheusBuilder::new()
        .set_buckets(&[0.001, 0.01, 0.1, 1.0])
        .expect("buckets")
        .install_recorder()
        .expect("the first");
    let endpoint = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = endpoint.local_addr().expect("bound");
    let serving = tokio::spawn(example::serve(endpoint, handle));
    let mut client = Client::spawn(options).expect("a client");
    let (mut pongs, mut gap) = (0, false);
    while pongs < 3 || !gap {
        match client.next().await.expect("the client goes on") {
            Event::PongReceived { rtt: Some(_), .. } if gap => pongs += 1,
            Event::Gap { .. } => {
                gap = true;
                client.sender().try_send("hello").expect("connected");
            }
            _ => {}
        }
    }
    let text = tokio::task::spawn_blocking(move || scrape(address))
        .await
        .expect("no panic");
    let scraped: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.split(['{', ' ']).next())
        .collect();
    let names = names_in_the_dashboard();
    assert!(names.len() >= 12, "{names:?}");
    for name in &names {
        assert!(scraped.contains(name.as_str()), "{name} is not in\n{text}");
    }
    for line in [
        r#"heartbeat_state{client="feed",state="ready"} 1"#,
        r#"heartbeat_state{client="feed",state="waiting"} 0"#,
        r#"heartbeat_reconnects_total{client="feed"} 1"#,
        r#"heartbeat_disconnects_total{client="feed",reason="eof"} 1"#,
        r#"heartbeat_messages_received_total{client="feed"} 2"#,
        r#"heartbeat_messages_sent_total{client="feed"} 1"#,
        r#"heartbeat_verdicts_total{client="feed",reason="idle_timeout"} 0"#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    client.stop().await;
    serving.abort();
}
