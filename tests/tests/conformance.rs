//! The same scripts run through core, tokio and blocking. The machine gets the same events at the same
//! times and gives the same actions, byte for byte.

mod world;

use std::time::Duration;

use heartbeat_kit::peer::{Act, Reception};
use heartbeat_tokio::core::{Config, PermanentErrors};
use tungstenite::Message;
use world::{Script, User, replay, run_on_blocking, run_on_tokio, seconds, turned_away, visit};

type NamedScript = (&'static str, fn() -> Script);

const SCRIPTS: [NamedScript; 7] = [
    ("pings of both kinds, then silence", pings_then_silence),
    ("dials that fail in every way", failing_dials),
    ("quiet but alive", quiet_but_alive),
    ("half a message at a time", half_a_message_at_a_time),
    ("close codes", close_codes),
    ("kick, send and stop", kick_send_and_stop),
    ("a host that stalls", a_host_that_stalls),
];

/// A configuration as the adapters complete it for a client of a fixed URL.
fn config(text: &str) -> Config {
    let config = Config::from_json(text).expect("a configuration");
    let builder = config.to_builder().fixed_credentials(true);
    builder.build().expect("consistent before")
}

fn brisk() -> Config {
    config(
        r#"{"idle_timeout": "3s", "check_interval": "1s", "ping": {"after_silence": "1s"}, "pong_timeout": "2s",
            "connect_timeout": "2s", "backoff": {"base": "250ms", "cap": "2s", "jitter_percent": 50},
            "stable_after": "5s"}"#,
    )
}

fn pings_then_silence() -> Script {
    let ping = || Act::Send(Message::text(r#"{"type":"ping"}"#));
    Script {
        config: config("{}"),
        visits: vec![
            visit([
                (1.0, Act::Send(Message::Ping(vec![1, 2, 3].into()))),
                (2.5, ping()),
                (2.5, ping()),
                (4.0, Act::Send(Message::text("data"))),
                (29.3, Act::Send(Message::binary(vec![0; 100]))),
                (29.4, Act::Freeze),
            ]),
            visit([(0.5, ping()), (3.0, Act::HangUp)]),
            visit([]),
        ],
        user: Vec::new(),
        until: seconds(400.0),
    }
}

fn failing_dials() -> Script {
    let believes = brisk()
        .to_builder()
        .permanent_errors(PermanentErrors::GiveUp);
    Script {
        config: believes.build().expect("consistent before"),
        visits: vec![
            turned_away(Reception::Refused),
            turned_away(Reception::Silence),
            turned_away(Reception::Http(
                "HTTP/1.1 503 Busy\r\nRetry-After: 3\r\nContent-Length: 0\r\n\r\n",
            )),
            turned_away(Reception::Http("HTTP/1.1 101 Switching")),
            visit([(6.05, Act::HangUp)]),
            turned_away(Reception::Http(
                "HTTP/1.1 401 Who are you\r\nContent-Length: 0\r\n\r\n",
            )),
            turned_away(Reception::Http(
                "HTTP/1.1 401 Who are you\r\nContent-Length: 0\r\n\r\n",
            )),
        ],
        user: Vec::new(),
        until: seconds(60.0),
    }
}

fn quiet_but_alive() -> Script {
    Script {
        config: brisk(),
        visits: vec![visit([])],
        user: Vec::new(),
        until: seconds(20.0),
    }
}

fn half_a_message_at_a_time() -> Script {
    // A text frame of 40 bytes (RFC 6455 §5.2: FIN and opcode 1, length), one byte every 0.907 s (so that no
    // two events come at one moment), with no pong in between: a server whose writer is busy with the frame.
    let mut frame = vec![0x81, 40];
    frame.extend([b'x'; 40]);
    let bytes = frame
        .into_iter()
        .enumerate()
        .map(|(index, byte)| (0.907 * (index as f64 + 1.0), Act::Bytes(vec![byte])));
    Script {
        config: brisk(),
        visits: vec![visit(bytes)],
        user: Vec::new(),
        until: seconds(60.0),
    }
}

fn close_codes() -> Script {
    let closes = [1000, 1001, 1011, 1012, 1013, 4000, 1008, 4401];
    Script {
        config: brisk(),
        visits: closes
            .into_iter()
            .map(|code| visit([(0.2, Act::Close(code))]))
            .collect(),
        user: Vec::new(),
        until: seconds(120.0),
    }
}

fn kick_send_and_stop() -> Script {
    Script {
        config: config(r#"{"backoff": {"base": "30s", "cap": "60s", "jitter_percent": 10}}"#),
        visits: vec![turned_away(Reception::Refused), visit([])],
        user: vec![
            (seconds(5.0), User::Kick),
            (seconds(6.0), User::Send("hello")),
            (seconds(7.0), User::Kick),
            (seconds(9.0), User::Stop),
        ],
        until: seconds(60.0),
    }
}

fn a_host_that_stalls() -> Script {
    Script {
        config: brisk(),
        visits: vec![visit([(12.0, Act::Freeze)]), visit([])],
        user: vec![
            (seconds(2.5), User::Stall(seconds(7.0))),
            (seconds(12.2), User::Stall(seconds(100.0))),
        ],
        until: seconds(130.0),
    }
}

/// The first place where two traces differ.
fn first_difference(left: &Trace, right: &Trace) -> Option<(Step, Step)> {
    let ended = || ("(end)".to_owned(), String::new());
    let longest = left.len().max(right.len());
    let pair = |index: usize| {
        (
            left.get(index).cloned().unwrap_or_else(ended),
            right.get(index).cloned().unwrap_or_else(ended),
        )
    };
    (0..longest).map(pair).find(|(left, right)| left != right)
}

type Step = (String, String);
type Trace = [Step];

#[test]
fn core_tokio_and_blocking_give_the_same_actions_byte_for_byte() {
    for (name, script) in SCRIPTS {
        let script = script();
        let (tokio, blocking) = (run_on_tokio(&script), run_on_blocking(&script));
        assert!(tokio.trace.len() > 3, "{name}: something happens");
        assert_eq!(
            first_difference(&tokio.trace, &blocking.trace),
            None,
            "{name}: tokio, blocking"
        );
        assert_eq!(
            first_difference(&tokio.trace, &replay(&script, &tokio)),
            None,
            "{name}: tokio, core"
        );
        assert_eq!(tokio.events, blocking.events, "{name}");
    }
}

#[test]
fn a_run_can_be_repeated() {
    for (name, script) in SCRIPTS {
        let script = script();
        assert_eq!(run_on_tokio(&script), run_on_tokio(&script), "{name}");
    }
}

#[test]
fn a_message_that_trickles_in_slower_than_every_timeout_is_life() {
    let log = run_on_tokio(&half_a_message_at_a_time());
    let first = log.events.iter().find_map(|(at, event)| match event {
        heartbeat_tokio::Event::Message { message, .. } => Some((*at, message.len())),
        heartbeat_tokio::Event::Disconnected { .. } => Some((*at, 0)),
        _ => None,
    });
    assert_eq!(first, Some((Duration::from_millis(38_094), 40)));
}
