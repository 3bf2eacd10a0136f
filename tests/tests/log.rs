//! The log's lines, in virtual time, so that every figure is exact.

mod world;

use std::cell::Cell;
use std::collections::VecDeque;
use std::io::{self, Cursor};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use heartbeat_driver::core::{CatalogueEntry, Cause, Clock, ConnId, FramesOnly, Instant};
use heartbeat_driver::messages::{Codec, Frame, Socket, Watched};
use heartbeat_driver::{Engine, Event, EventQueue, Options, Overflow};
use heartbeat_kit::peer::{Act, Reception};
use heartbeat_tests::lines::log_at;
use heartbeat_tokio::core::Config;
use tungstenite::Message;
use world::{Log, Script, run_on_blocking, run_on_tokio, seconds, turned_away, visit};

fn log_of(run: fn(&Script) -> Log, script: &Script) -> String {
    log_while(|| drop(run(script)))
}

fn log_while(run: impl FnOnce()) -> String {
    log_at("debug", run)
}

#[test]
fn the_log_tells_monitor_checks_answers_verdicts_and_retries() {
    let ping = Act::Send(Message::text(r#"{"type":"ping"}"#));
    let script = Script {
        config: Config::default(),
        visits: vec![visit([(4.7, ping), (4.8, Act::Freeze)]), visit([])],
        user: Vec::new(),
        until: seconds(100.0),
    };
    for run in [run_on_tokio, run_on_blocking] {
        let log = log_of(run, &script);
        for words in [
            "name=\"server.test\"}:connection{conn=1}: heartbeat_driver::engine::dialing: connecting attempt=0",
            "name=\"server.test\"}:connection{conn=1 host=\"server.test\"}",
            "connected after 0 s",
            "monitor started",
            "ping_after=30 s idle_timeout=90 s",
            "ping answered",
            "idle for 25.3 s",
            "ping sent",
            "disconnected: idle_timeout, idle for 90 s, open for 94.7 s",
            "retry 1 in 1.",
            "connection{conn=2 host=\"server.test\"}: heartbeat_driver::engine::dialing: connected after 0 s",
        ] {
            assert!(log.contains(words), "{words:?} is not in the log:\n{log}");
        }
        assert_each_line_is_whole(&log);
    }
}

/// Each line names its client. Nothing in it is empty or appears twice. Each figure has a unit.
fn assert_each_line_is_whole(log: &str) {
    for line in log.lines() {
        assert_eq!(line.matches("client{id=").count(), 1, "{line}");
        assert_eq!(line.matches(" name=\"").count(), 1, "{line}");
        assert!(!line.contains("=\"\""), "{line}");
        let key = |word: &str| Some(word.split_once('=')?.0.rsplit('{').next()?.to_owned());
        let mut keys: Vec<_> = line.split(' ').filter_map(key).collect();
        let all = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), all, "{line}");
    }
}

/// A dead server, a refused retry, a retry that leads to a dead server again, and the end.
fn a_bad_night() -> Script {
    Script {
        config: Config::from_json(r#"{"max_attempts": 2}"#).expect("consistent"),
        visits: vec![
            visit([(0.1, Act::Freeze)]),
            turned_away(Reception::Refused),
            turned_away(Reception::Refused),
        ],
        user: Vec::new(),
        until: seconds(200.0),
    }
}

#[test]
fn at_warn_the_log_says_who_what_why_and_what_follows() {
    for run in [run_on_tokio, run_on_blocking] {
        let log = log_at("warn", || drop(run(&a_bad_night())));
        let expected = [
            "conn=1 host=\"server.test\"}: heartbeat_driver::log: disconnected: idle_timeout, idle for 90 s, open for 90 s",
            "name=\"server.test\"}: heartbeat_driver::log: retry 1 in 1.",
            "conn=2 host=\"server.test\"}: heartbeat_driver::log: dial failed: refused detail=\"connection refused\"",
            "name=\"server.test\"}: heartbeat_driver::log: retry 2 in ",
            "conn=3 host=\"server.test\"}: heartbeat_driver::log: dial failed: refused detail=\"connection refused\"",
            "name=\"server.test\"}: heartbeat_driver::log: gave up: max_attempts reached, the last attempt ended with refused",
        ];
        assert_eq!(log.lines().count(), expected.len(), "{log}");
        for (line, words) in log.lines().zip(expected) {
            assert!(line.contains(words), "{words:?} is not in {line:?}");
        }
        assert_each_line_is_whole(&log);
    }
}

#[test]
fn at_info_only_the_check_repeats_by_itself_and_can_be_turned_off_alone() {
    let script = Script {
        config: Config::default(),
        visits: vec![visit([])],
        user: Vec::new(),
        until: seconds(1000.0),
    };
    for run in [run_on_tokio, run_on_blocking] {
        let checks = log_at("info", || drop(run(&script)));
        assert!(checks.matches("idle for ").count() > 30, "{checks}");
        let rest = log_at("info,heartbeat_driver::check=off", || drop(run(&script)));
        let rest: Vec<_> = rest.lines().collect();
        assert_eq!(rest.len(), 3, "{rest:?}");
        for (line, words) in rest
            .iter()
            .zip(["connecting", "connected after", "monitor started"])
        {
            assert!(line.contains(words), "{line}");
        }
    }
}

/// Messages that nobody takes.
struct Bytes;

impl Codec for Bytes {
    type Message = Vec<u8>;
    type Error = io::Error;
    const ANSWERS_PINGS: bool = true;

    fn frame(message: &Vec<u8>) -> Option<Frame<'_>> {
        Some(Frame::Binary(message))
    }

    fn message(_: Frame<'_>) -> Vec<u8> {
        Vec::new()
    }
}

/// A socket of another library that sends and takes nothing.
struct Silent;

impl Socket<Bytes> for Silent {
    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<io::Result<Vec<u8>>>> {
        Poll::Pending
    }

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn give(&mut self, _: Vec<u8>) -> io::Result<()> {
        Ok(())
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

/// The driver of `Messages`: its first dial is refused, and the second leads to a silent socket.
#[test]
fn the_log_of_messages_has_the_same_words() {
    let config = Config::from_json(
        r#"{"max_attempts": 2, "stable_after": "10m", "backoff": {"base": "100ms", "cap": "100ms", "jitter_percent": 0}}"#,
    );
    let log = log_at("debug", || {
        let clock = Rc::new(Cell::new(Instant::ORIGIN));
        let mut watched = Watched::<_, Bytes, _>::connecting(
            Arc::new(config.expect("consistent")),
            Arc::new(FramesOnly),
            Shared(Rc::clone(&clock)),
        );
        watched.set_name("desk");
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..100 {
            while watched.event().is_some() {}
            watched.turn(watched.is_due(), &mut cx);
            if let Some(dial) = watched.take_dial() {
                let refused = (Cause::Refused, Some("nobody is there".into()));
                let dialed = if dial.attempt == 0 {
                    Err(refused)
                } else {
                    Ok(Silent)
                };
                watched.dialed(dial.conn, dialed, &mut cx);
                let _ = watched.send(Vec::new());
            }
            if let Some(wake) = watched.machine().wake() {
                clock.set(wake);
            }
        }
    });
    assert_each_line_is_whole(&log);
    let (one, two) = (
        "name=\"desk\"}:connection{conn=1}",
        "name=\"desk\"}:connection{conn=2}",
    );
    let expected = [
        ("INFO", one, "connecting attempt=0"),
        (
            "WARN",
            one,
            "dial failed: refused detail=\"nobody is there\"",
        ),
        ("WARN", "name=\"desk\"}", "retry 1 in 0.1 s"),
        ("INFO", two, "connecting attempt=1"),
        ("INFO", two, "connected"),
        ("INFO", two, "idle for 30 s"),
        ("DEBUG", two, "ping sent"),
        ("INFO", two, "idle for 60 s"),
        (
            "WARN",
            two,
            "disconnected: idle_timeout, idle for 90 s, open for 90 s unsent=1",
        ),
        (
            "WARN",
            "name=\"desk\"}",
            "gave up: max_attempts reached, the last attempt ended with idle_timeout",
        ),
        ("INFO", "name=\"desk\"}", "stopped"),
    ];
    assert_eq!(log.lines().count(), expected.len(), "{log}");
    for (line, (level, who, words)) in log.lines().zip(expected) {
        for part in [level, who, words] {
            assert!(line.contains(part), "{part:?} is not in {line:?}");
        }
    }
}

/// A warning at the first drop of a connection, and one with the count when events are taken again.
#[test]
fn messages_that_are_dropped_are_a_warning_with_an_end_and_a_count() {
    let text = |conn| Event::Message {
        conn: ConnId::new(conn),
        message: "tick".into(),
    };
    let log = log_at("warn", || {
        let event_queue = EventQueue::new(
            2,
            Overflow::DropOldest,
            Arc::default(),
            Box::new(|| ()),
            Box::new(|| ()),
        );
        let mut taken = VecDeque::new();
        for _ in 0..3 {
            for _ in 0..4 {
                event_queue.push(&mut VecDeque::from(vec![text(1); 5]));
            }
            event_queue.take(&mut taken);
        }
    });
    let expected = [
        "messages are dropped: the application takes no events",
        "Options::queue",
        "18 messages were dropped in ",
        "takes events again",
    ];
    assert_eq!(log.lines().count(), 2, "{log}");
    for words in expected {
        assert!(log.contains(words), "{words:?} is not in {log}");
    }
}

/// Two clients of one name, and one whose maker has put it into a span.
#[test]
fn clients_of_one_name_are_told_apart_and_the_makers_span_is_the_parent() {
    let options = || Options::new("ws://127.0.0.1:9/feed").expect("a URL");
    let engine = |options| {
        let engine = Engine::<Cursor<Vec<u8>>>::new(options, Instant::ORIGIN, Box::new(|| ()))
            .expect("no TLS");
        assert_eq!(&*engine.stats().name, "127.0.0.1:9/feed");
        engine
    };
    let log = log_while(|| {
        let mut first = engine(options());
        let span = tracing::error_span!("desk", number = 3);
        let mut second = span.in_scope(|| engine(options()));
        drop(span);
        for engine in [&mut first, &mut second] {
            engine.turn(&Shared::default());
        }
    });
    let clients = |line: &str| {
        Some(
            line.split_once("client{id=")?
                .1
                .split_once(' ')?
                .0
                .to_owned(),
        )
    };
    let lines: Vec<_> = log.lines().collect();
    assert_eq!(lines.len(), 2, "{log}");
    assert!(lines[1].contains("desk{number=3}:client{id="), "{log}");
    assert_ne!(clients(lines[0]), clients(lines[1]), "{log}");
    assert_each_line_is_whole(&log);
}

/// A clock that is moved by hand.
#[derive(Default)]
struct Shared(Rc<Cell<Instant>>);

impl Clock for Shared {
    fn now(&self) -> Instant {
        self.0.get()
    }
}

#[test]
fn what_a_service_may_object_to_is_one_warning() {
    let mut okx = CatalogueEntry::named("okx").expect("in the catalogue");
    // The entry does not know how often OKX wants pings, only that OKX accepts 30 s of silence.
    okx.interval = None;
    let warning =
        "name=\"127.0.0.1:9\"}: heartbeat_driver::options: the configuration does not suit okx: ";
    for (ping, warnings) in [("14s", 0), ("26s", 1)] {
        let config = Config::from_json(&format!(r#"{{"ping": {{"every": "{ping}"}}}}"#));
        let options = Options::new("ws://127.0.0.1:9/").expect("a URL");
        let options = options
            .of_service(okx.clone())
            .config(config.expect("consistent"));
        let log = log_while(|| {
            let engine = Engine::<Cursor<Vec<u8>>>::new(options, Instant::ORIGIN, Box::new(|| ()));
            assert!(engine.is_ok(), "{ping}");
        });
        assert_eq!(log.matches(warning).count(), warnings, "{ping}:\n{log}");
        assert_eq!(log.matches("26s").count(), warnings, "{ping}:\n{log}");
    }
}

#[test]
fn more_clients_than_a_service_allows_connections_are_a_warning_with_both_numbers() {
    let engine = |name: &str| {
        let options = Options::service(name, "ws://127.0.0.1:9/").expect("in the catalogue");
        Engine::<Cursor<Vec<u8>>>::new(options, Instant::ORIGIN, Box::new(|| ())).expect("fits")
    };
    let soniox = CatalogueEntry::named("soniox-tts").expect("in the catalogue");
    assert_eq!(soniox.dialect.limits().connections, Some(3));
    let words = "name=\"127.0.0.1:9\"}: heartbeat_driver::options: soniox-tts allows 3 connections at once, and this is \
                 its client number 4 in this process";
    let mut living = Vec::new();
    let log = log_while(|| {
        living = (0..3).map(|_| engine("soniox-tts")).collect();
        // Clients of another service, and of one without a limit.
        living.push(engine("hyperliquid"));
        living.push(engine("kucoin"));
    });
    assert!(!log.contains("at once"), "{log}");
    let log = log_while(|| living.push(engine("soniox-tts")));
    assert_eq!(log.matches(words).count(), 1, "{log}");
    // A client that has ended is not counted.
    living.drain(..2);
    let log = log_while(|| living.push(engine("soniox-tts")));
    assert!(!log.contains("at once"), "{log}");
}
