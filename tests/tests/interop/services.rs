//! `watch --dialect NAME` against a server that behaves like that service, and closes a client that breaks
//! its rules. In real time: order, and generous bounds.

use std::time::Duration;

use serde_json::json;

use crate::Pair;
use crate::server::Server;
use crate::watch::Client;

fn start(pair: &Pair, name: &str, more: &[&str]) -> (Server, Client) {
    let server = Server::start(pair.library);
    let url = server.url(&format!("/services/{name}"));
    let arguments = [&url, "--json", "--dialect", name, "--for", "60s"];
    let client = pair
        .watch
        .start(arguments.into_iter().chain(more.iter().copied()));
    (server, client)
}

/// The service has finished its part. Returns what the client sent in that time.
#[track_caller]
fn done(server: &mut Server) -> Vec<String> {
    let mut heard = Vec::new();
    loop {
        let line = server.next("the end of the part").json;
        match line["event"].as_str() {
            Some("message") => heard.push(line["text"].as_str().unwrap_or_default().to_owned()),
            Some("done") => return heard,
            Some("open") => {}
            _ => panic!("{line}, after {heard:?}"),
        }
    }
}

pub(crate) fn discord_hears_the_last_number_at_the_interval_it_announced(pair: &Pair) {
    let (mut server, mut client) = start(pair, "discord", &[]);
    let heard = done(&mut server);
    let beats = [7, 8, 8].map(|s| format!(r#"{{"op":1,"d":{s}}}"#));
    assert_eq!(heard, beats);
    client.interrupt();
    // Acknowledgements stay within the client. Hello and events go to the application.
    assert_eq!(client.seen("message").len(), 3);
    assert_eq!(client.seen("pong_received").len(), 2);
    assert_eq!(client.seen("pong_sent").len(), 1);
}

pub(crate) fn engine_io_is_answered_and_missed_when_its_own_times_are_over(pair: &Pair) {
    let (mut server, mut client) = start(pair, "engine-io", &[]);
    assert_eq!(done(&mut server), ["3"; 3]);
    let answered = client.until("the last answer", |line| line.json["event"] == "pong_sent");
    // Then the service is silent. It must be declared dead 300 ms and 1 s later, and not after the catalogue's
    // 45 s.
    let lost = client.event("disconnected");
    assert_eq!(lost.json["reason"], "idle_timeout");
    let idle = lost.json["idle_ms"].as_f64().expect("a number");
    assert!((1_300.0..5_000.0).contains(&idle), "{idle} ms");
    assert!(lost.at - answered.at < Duration::from_secs(10));
    client.event("connected");
    client.interrupt();
}

pub(crate) fn deribit_is_asked_for_heartbeats_and_answered(pair: &Pair) {
    let (mut server, mut client) = start(pair, "deribit", &[]);
    let heard = done(&mut server);
    let set =
        r#"{"jsonrpc":"2.0","id":1,"method":"public/set_heartbeat","params":{"interval":30}}"#;
    let test =
        |id| format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"public/test","params":{{}}}}"#);
    assert_eq!(heard, [set.to_owned(), test(2), test(3)]);
    client.interrupt();
    assert_eq!(client.seen("pong_sent").len(), 2);
    let shown: Vec<_> = client
        .seen("message")
        .iter()
        .map(|line| line["text"].clone())
        .collect();
    assert_eq!(
        shown,
        [json!(r#"{"jsonrpc": "2.0", "id": 1, "result": "ok"}"#)]
    );
}

pub(crate) fn home_assistant_hears_pings_with_growing_ids(pair: &Pair) {
    let config = r#"{"ping": {"every": "500ms"}, "pong_timeout": "5s", "idle_timeout": "20s"}"#;
    let (mut server, mut client) = start(pair, "home-assistant", &["--config", config]);
    client.send(r#"{"type":"auth","access_token":"x"}"#);
    let heard = done(&mut server);
    let pings = heard.iter().filter(|text| text.contains("ping")).count();
    assert!(pings >= 3, "{heard:?}");
    client.event("pong_received");
    client.interrupt();
}
