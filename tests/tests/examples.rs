//! The examples work as documented: each is run as a newcomer runs it, and its output is checked.
//!
//! `cargo test --workspace` builds them. For this file alone, build them first:
//! `cargo build -p heartbeat-core -p heartbeat-tokio --examples && cargo test -p heartbeat-tests --test examples`.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use heartbeat_blocking::{Client, Event, Options};

/// No example takes a tenth of this time, except on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The compiled example, up to date.
fn built(crate_name: &str, name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the test's own path");
    let profile = test.ancestors().nth(2).expect("target/debug/deps/test");
    let binary = profile
        .join("examples")
        .join(name)
        .with_extension(std::env::consts::EXE_EXTENSION);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    let source = root.expect("the workspace").join(crate_name);
    let source = source.join("examples").join(name).with_extension("rs");
    let changed = |path: &Path| path.metadata().and_then(|metadata| metadata.modified());
    let source = changed(&source).expect("the example's source");
    assert!(
        changed(&binary).is_ok_and(|built| built >= source),
        "{} is missing or old: cargo build -p {crate_name} --example {name}",
        binary.display()
    );
    binary
}

/// Ends with its test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(crate_name: &str, name: &str, arguments: &[&str]) -> Process {
    let child = Command::new(built(crate_name, name))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn();
    Process(child.expect("the example starts"))
}

/// Its output until it ends, which must happen by itself and with success.
fn printed(crate_name: &str, name: &str, arguments: &[&str]) -> String {
    let mut process = start(crate_name, name, arguments);
    let mut stdout = process.0.stdout.take().expect("piped");
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let mut text = String::new();
        let result = stdout.read_to_string(&mut text);
        tell.send(result.map(|_| text))
    });
    let text = told.recv_timeout(PATIENCE).expect("it ends in time");
    let text = text.expect("text");
    let status = process.0.wait().expect("its status");
    assert!(status.success(), "{name}: {status}\n{text}");
    text
}

/// All of these texts, each in a line after the previous one.
fn in_order(text: &str, wanted: &[&str]) {
    let mut lines = text.lines();
    for part in wanted {
        assert!(
            lines.any(|line| line.contains(part)),
            "{part:?} is missing, or not where it should be, in:\n{text}"
        );
    }
}

/// The drivers of the core have the same server and print the same story.
fn own_driver(name: &str) {
    let text = printed("heartbeat-core", name, &[]);
    in_order(
        &text,
        &[
            "connected (1)",
            "dropped (1): idle_timeout",
            "ended (2): Http { status: 503, retry_after: Some(1s) }",
            "connected (3)",
            "ended (3): Close(1001)",
            "connected (4)",
            "received welcome",
            "received how are you?",
            "ended (4): Close(1000)",
            "stopped after 4 dials",
        ],
    );
    in_order(
        &text,
        &[
            r#"server: answered by Pong(b"17")"#,
            r#"server: answered by {"type":"pong"}, and freezes"#,
            "server: refused a dial",
            "server: the client says goodbye",
        ],
    );
}

#[test]
fn the_core_in_a_loop_on_mio() {
    own_driver("mio_loop");
}

#[test]
fn the_core_under_smol() {
    own_driver("smol_client");
}

#[test]
fn the_core_in_a_page_whose_timers_are_throttled() {
    let text = printed("heartbeat-core", "browser_like", &[]);
    in_order(
        &text,
        &[
            "10.000 a ping answered",
            "20.000 the tab is in the background",
            // A minute late each time, and no verdict.
            "60.000 a ping sent",
            "120.000 a ping sent",
            "180.000 a ping sent",
            "200.000 the network is gone",
            "240.000 a ping sent",
            // The verdict would be due, but the timer came late, so the peer is asked once more.
            "300.000 a ping sent",
            "310.000 the tab is seen again",
            "310.000 dropped (1): pong_timeout",
            "connected (5)",
            "340.000 ended (1): 1006",
            "340.000 which was an old connection: it changes nothing",
            "ended (5): 1000",
        ],
    );
    assert!(!text.contains("dropped (5)"), "{text}");
}

#[test]
fn an_account_is_in_step_after_every_gap() {
    let text = printed("heartbeat-tokio", "account_stream", &[]);
    in_order(
        &text,
        &[
            "in step with snapshot 1",
            "disconnected (1): idle_timeout",
            "disconnected (2): session refused",
            "gap after idle_timeout",
            "logged in and subscribed (3)",
            "in step with snapshot 2",
            "disconnected (3): eof",
            "gap after eof",
            "logged in and subscribed (4)",
            "in step with snapshot 3",
        ],
    );
    let last = text.lines().last().expect("a line");
    let last = last.strip_prefix("balance ").expect("the end");
    let ours = last.split(' ').next();
    let theirs = last.rsplit(' ').next();
    assert_eq!(ours, theirs, "{text}");
}

#[test]
fn graphql_subscriptions_outlive_their_connections() {
    let text = printed("heartbeat-tokio", "graphql_transport_ws", &[]);
    in_order(
        &text,
        &[
            "disconnected (1): close 4408",
            r#"acknowledged (2): subscribing to ["1", "2"]"#,
            r#"next 2: {"countdown":0}"#,
            "complete 2",
            "pong (2)",
            "ping answered (2)",
            "disconnected (2): pong_timeout",
            r#"acknowledged (3): subscribing to ["1"]"#,
            r#"next 1: {"price":304}"#,
            "disconnected (3): close 4429",
            "gave up: Cause(Close(4429))",
        ],
    );
}

#[test]
fn a_gateways_session_is_resumed_and_loses_nothing() {
    let text = printed("heartbeat-tokio", "gateway", &[]);
    in_order(
        &text,
        &[
            "gateway: connection 1 comes to /gateway",
            "disconnected (1): pong_timeout",
            "gateway: connection 2 comes to /resume",
            r#"gateway: resumes "session 1" behind 5"#,
            "asked to reconnect (2)",
            "gateway: closed with Some(4000)",
            "gateway: connection 3 comes to /resume",
            "the session is invalid (3)",
            "gateway: connection 4 comes to /gateway",
        ],
    );
    in_order(&text, &["gateway: heartbeat with", "acknowledged (4)"]);
    let counts: Vec<_> = (1..=15).collect();
    assert!(text.ends_with(&format!("events {counts:?}\n")), "{text}");
}

#[test]
fn many_connections_come_back_at_their_budgets_pace() {
    let text = printed("heartbeat-tokio", "many_connections", &["120"]);
    let rounds: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("all 120"))
        .collect();
    assert_eq!(rounds.len(), 2, "{text}");
    for round in rounds {
        let figures: Vec<f64> = round
            .split(' ')
            .filter_map(|word| word.parse().ok())
            .collect();
        let [count, took, least] = figures[..] else {
            panic!("{round}");
        };
        // (120 - 20) / 200
        assert_eq!((count, least), (120.0, 0.5));
        assert!(took >= least, "{round}");
    }
    // A client that was slow to say that it has enough may have come back once more.
    let figures: Vec<u32> = text
        .lines()
        .last()
        .expect("a line")
        .split([' ', ','])
        .filter_map(|word| word.parse().ok())
        .collect();
    let [dials, connects, messages, _bytes] = figures[..] else {
        panic!("{text}");
    };
    assert!(
        dials >= connects && connects >= 240 && messages >= 240,
        "{text}"
    );
}

/// `heartbeat-tokio/tests/axum.rs` tests it with clients that die.
#[test]
fn the_axum_server_serves() {
    let mut process = start("heartbeat-tokio", "axum_server", &["127.0.0.1:0"]);
    let mut lines = BufReader::new(process.0.stdout.take().expect("piped")).lines();
    let url = lines.next().expect("a line").expect("text");
    let mut client = Client::spawn(Options::new(&url).expect("a URL")).expect("no TLS, no error");
    loop {
        match client.recv_timeout(PATIENCE).expect("an event in time") {
            Event::Connected { .. } => client.sender().try_send("hello").expect("it is open"),
            Event::Message { message, .. } => {
                assert_eq!(message.as_text(), Some("hello"));
                break;
            }
            Event::Disconnected { reason, .. } => panic!("{reason}"),
            _ => {}
        }
    }
}
