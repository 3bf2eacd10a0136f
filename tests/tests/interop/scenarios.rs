//! Faults at either end, and the client's correct reaction.
//!
//! Times are asserted by order and with generous bounds, because these are real programs on a shared
//! machine. Tests in virtual time assert the exact times of the same rules.

use std::time::Duration;

use serde_json::{Value, json};

use crate::Pair;
use crate::server::{Library, Server};
use crate::watch::Client;

/// Short enough for tests, long enough for a busy machine.
const CONFIG: &str = r#"{
    "idle_timeout": "1200ms", "ping": {"after_silence": "300ms"}, "pong_timeout": "1s",
    "check_interval": "250ms", "connect_timeout": "2s", "stable_after": "300ms",
    "backoff": {"base": "100ms", "cap": "400ms", "jitter_percent": 50}
}"#;
const IDLE_TIMEOUT: Duration = Duration::from_millis(1200);
const STABLE_AFTER: Duration = Duration::from_millis(300);
/// No configuration makes the time between two dials shorter.
const SHORTEST_MS: f64 = 25.0;

/// How far a verdict may be off its time, seen through two pipes.
const EARLY: Duration = Duration::from_millis(250);
const LATE: Duration = Duration::from_secs(1);

/// An answer comes at once. This is the time that interpreter, pipe and scheduler may add.
const PROMPT_MS: f64 = 1000.0;

const QUESTIONS: &str = include_str!("../../servers/pings.json");

impl Pair {
    fn server(&self) -> Server {
        Server::start(self.library)
    }

    fn client(&self, server: &Server, path: &str, config: &str) -> Client {
        self.watch.watch(&server.url(path), config)
    }
}

pub(crate) fn answers_every_ping_once_in_order_with_its_bytes(pair: &Pair) {
    let mut server = pair.server();
    let mut client = pair.client(&server, "/pings", CONFIG);
    client.message("asked");
    // Answers stay in order, so a repeated answer would come before this one.
    client.send("over");

    let mut answers = Vec::new();
    let mut slowest = 0.0_f64;
    server.until("open");
    loop {
        let answer = server.next("an answer").json;
        assert_eq!(answer["event"], "answer");
        if answer["text"] == "over" {
            break;
        }
        slowest = slowest.max(answer["delay_ms"].as_f64().expect("an answer to something"));
        answers.push(match &answer["frame"] {
            Value::Null => answer["text"].clone(),
            payload => json!({ "frame": payload }),
        });
    }
    client.interrupt();

    let questions: Vec<Vec<Value>> = serde_json::from_str(QUESTIONS).expect("JSON");
    let (data, pings): (Vec<_>, Vec<_>) = questions
        .concat()
        .into_iter()
        .partition(|q| q.get("data").is_some());
    let expected: Vec<_> = pings
        .into_iter()
        .map(|ping| {
            if ping.get("frame").is_some() {
                ping
            } else {
                json!(r#"{"type":"pong"}"#)
            }
        })
        .collect();
    assert_eq!(answers, expected);
    assert_eq!(client.seen("pong_sent").len(), expected.len());
    assert!(slowest < PROMPT_MS, "an answer took {slowest} ms");

    let mut shown: Vec<_> = client
        .seen("message")
        .iter()
        .map(|line| &line["text"])
        .collect();
    assert_eq!(shown.pop(), Some(&json!("asked")));
    assert_eq!(
        shown,
        data.iter()
            .map(|question| &question["data"])
            .collect::<Vec<_>>()
    );
}

pub(crate) fn silence_of_a_frozen_server_is_noticed_on_time_and_its_successor_found(pair: &Pair) {
    let config = r#"{
        "idle_timeout": "1s", "ping": "never", "check_interval": "250ms", "connect_timeout": "600ms",
        "backoff": {"base": "100ms", "cap": "400ms"}
    }"#;
    frozen(pair, config, "idle_timeout", Duration::from_secs(1));
}

pub(crate) fn an_unanswered_probe_is_noticed_on_time_and_the_successor_found(pair: &Pair) {
    let config = r#"{
        "idle_timeout": "5s", "ping": {"after_silence": "400ms"}, "pong_timeout": "600ms",
        "check_interval": "250ms", "connect_timeout": "600ms", "backoff": {"base": "100ms", "cap": "400ms"}
    }"#;
    frozen(pair, config, "pong_timeout", Duration::from_secs(1));
}

/// A server that talks is stopped. The client must notice `bound` after the server's last byte.
fn frozen(pair: &Pair, config: &str, reason: &str, bound: Duration) {
    let server = pair.server();
    let mut client = pair.client(&server, "/chat", config);
    let mut heard = client.event("message").at;
    server.freeze();

    let lost = client.until("the verdict", |line| {
        // Messages sent before the freeze still arrive.
        if line.json["event"] == "message" {
            heard = line.at;
        }
        line.json["event"] == "disconnected"
    });
    assert_eq!(lost.json["reason"], reason);
    let silence = lost.at - heard;
    assert!(
        silence >= bound - EARLY && silence <= bound + LATE,
        "after {silence:?}"
    );
    assert!(number(&lost.json["idle_ms"]) >= millis(bound));

    // The system still completes TCP handshakes for the server, but nothing answers the upgrade.
    let stuck = client.event("disconnected").json;
    assert_eq!(stuck["reason"], "connect_timeout");

    let _successor = server.replace();
    client.event("connected");
    client.event("message");
    client.interrupt();
}

pub(crate) fn a_killed_server_is_dialled_until_it_is_back(pair: &Pair) {
    let mut server = pair.server();
    let mut client = pair.client(&server, "/chat", CONFIG);
    client.event("message");
    server.kill();
    let lost = client.event("disconnected").json;
    assert!(
        lost["reason"] == "eof" || lost["reason"] == "reset",
        "{lost}"
    );
    refused(&mut client, 1, 100.0);
    refused(&mut client, 2, 200.0);

    server = server.replace();
    let open = number(&client.event("connected").json["t"]);
    client.until("a stable connection", |line| {
        line.json["event"] == "message"
            && number(&line.json["t"]) > open + 1.5 * STABLE_AFTER.as_secs_f64()
    });
    // The client had a stable connection, so the count restarts.
    server.kill();
    client.event("disconnected");
    refused(&mut client, 1, 100.0);
    client.interrupt();
}

#[track_caller]
fn refused(client: &mut Client, attempt: u64, longest_ms: f64) {
    let announced = client.event("reconnect").json;
    assert_eq!(announced["attempt"], attempt);
    let delay_ms = number(&announced["delay_ms"]);
    assert!(
        (SHORTEST_MS..=longest_ms).contains(&delay_ms),
        "{announced}"
    );
    client.event("connecting");
    assert_eq!(client.event("disconnected").json["reason"], "refused");
}

pub(crate) fn a_quiet_but_healthy_server_is_never_declared_dead(pair: &Pair) {
    let server = pair.server();
    let mut client = pair.client(&server, "/quiet", CONFIG);
    let start = number(&client.event("connected").json["t"]);
    client.until("three idle timeouts", |line| {
        assert_ne!(line.json["event"], "disconnected");
        number(&line.json["t"]) >= start + 3.0 * IDLE_TIMEOUT.as_secs_f64()
    });
    assert_eq!(client.seen("connecting").len(), 1);
    assert!(client.seen("ping_sent").len() >= 3);
    assert!(client.seen("pong_received").len() >= 3);
    client.interrupt();
}

pub(crate) fn a_line_goes_out_as_text_and_an_interrupt_closes_cleanly(pair: &Pair) {
    let mut server = pair.server();
    let mut client = pair.client(&server, "/echo", CONFIG);
    client.event("connected");
    let text = r#"a "line", with δέλτα ✓"#;
    client.send(text);
    assert_eq!(server.until("message")["text"], text);
    client.message(text);

    client.interrupt();
    let code = &server.until("closed")["code"];
    assert!(*code == 1000 || *code == 1001, "{code}");
}

pub(crate) fn close_1001_is_followed_by_a_new_connection(pair: &Pair) {
    let server = pair.server();
    let mut client = pair.client(&server, "/close/1001", CONFIG);
    assert_eq!(
        client.event("disconnected").json["reason"],
        json!({ "close": 1001 })
    );
    assert_eq!(client.event("reconnect").json["attempt"], 1);
    client.event("connected");
    client.interrupt();
}

pub(crate) fn close_1012_spreads_the_clients_over_half_a_minute(pair: &Pair) {
    let server = pair.server();
    let mut client = pair.client(&server, "/close/1012", CONFIG);
    assert_eq!(
        client.event("disconnected").json["reason"],
        json!({ "close": 1012 })
    );
    let delay = number(&client.event("reconnect").json["delay_ms"]);
    assert!((5_000.0..=30_000.0).contains(&delay), "{delay} ms");
    client.interrupt();
}

pub(crate) fn http_401_is_tried_once_more_with_fresh_credentials(pair: &Pair) {
    let server = pair.server();
    let mut client = pair.client(&server, "/status/401", CONFIG);
    assert_eq!(client.end().code(), Some(1));
    assert_eq!(client.events(), TWICE);
    for lost in client.seen("disconnected") {
        assert_eq!(lost["reason"]["http"], 401);
    }
    assert_eq!(
        server
            .end()
            .iter()
            .filter(|line| line["event"] == "refused")
            .count(),
        2
    );
}

const TWICE: [&str; 7] = [
    "connecting",
    "disconnected",
    "reconnect",
    "connecting",
    "disconnected",
    "gave_up",
    "stopped",
];

pub(crate) fn http_403_and_404_are_final(pair: &Pair) {
    let server = pair.server();
    for status in [403, 404] {
        let mut client = pair.client(&server, &format!("/status/{status}"), CONFIG);
        assert_eq!(client.end().code(), Some(1));
        assert_eq!(
            client.events(),
            ["connecting", "disconnected", "gave_up", "stopped"]
        );
        assert_eq!(client.seen("disconnected")[0]["reason"]["http"], status);
    }
    assert_eq!(
        server
            .end()
            .iter()
            .filter(|line| line["event"] == "refused")
            .count(),
        2
    );
}

pub(crate) fn http_503_is_retried_when_the_server_says_so(pair: &Pair) {
    let server = pair.server();
    let mut client = pair.client(&server, "/status/503", CONFIG);
    let lost = client.event("disconnected").json;
    assert_eq!(lost["reason"], json!({ "http": 503, "retry_after": "2s" }));
    let delay = number(&client.event("reconnect").json["delay_ms"]);
    // Jitter is added, as much as the ordinary backoff would have had.
    assert!((2_000.0..=2_100.0).contains(&delay), "{delay} ms");
    client.interrupt();
}

fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{value} is not a number"))
}

fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1000.0
}

pub(crate) fn a_proxy_carries_the_connection_by_http_and_socks(pair: &Pair) {
    let Some(mut proxy) = proxy(pair) else { return };
    let server = pair.server();
    for scheme in ["http", "socks5"] {
        let mut client = through(pair, &proxy.proxy_url(scheme, "me:p%40ss"), &server);
        client.event("connected");
        client.send("there and back");
        client.message("there and back");
        let way = proxy.until("message");
        let way = way["text"].as_str().expect("text");
        assert!(way.starts_with(scheme), "{way}");
        client.interrupt();
    }
}

pub(crate) fn a_proxy_that_wants_another_password_is_final(pair: &Pair) {
    let Some(proxy) = proxy(pair) else { return };
    let server = pair.server();
    // With SOCKS the proxy hangs up without an answer, which is no reason to give up.
    let mut client = through(pair, &proxy.proxy_url("http", "me:SECRET"), &server);
    // The dial is tried once more with the factory's credentials, which are the same.
    client.event("gave_up");
    assert_eq!(client.end().code(), Some(1));
    assert_eq!(client.seen("disconnected").len(), 2);
    assert!(!client.stderr().contains("SECRET"), "{}", client.stderr());
}

/// The proxy, if it is available.
fn proxy(pair: &Pair) -> Option<Server> {
    match Library::Pproxy.install() {
        Ok(()) => Some(Server::start(Library::Pproxy)),
        Err(why) => {
            crate::skip(&format!("a proxy for {:?}", pair.library), why);
            None
        }
    }
}

fn through(pair: &Pair, proxy: &str, server: &Server) -> Client {
    let url = server.url("/echo");
    let arguments = [
        &url, "--json", "--config", CONFIG, "--for", "60s", "--proxy", proxy,
    ];
    pair.watch.start(arguments)
}
