//! Exact times: both adapters against the same scripted servers in virtual time, to the millisecond that
//! their timers count.

mod world;

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use heartbeat_driver::{Engine, Turn};
use heartbeat_kit::peer::{Act, End, Reception, accept_key, pipe};
use heartbeat_tokio::core::{Clock, Config, Instant};
use heartbeat_tokio::{Event, Options};
use tungstenite::{HandshakeError, Message, WebSocket};
use world::{Script, User, run_on_blocking, run_on_tokio, seconds, turned_away, visit};

/// Pings after 3 s of silence, declares death after 9 s, and nothing else has a reason to happen.
const PATIENT: &str = r#""idle_timeout": "9s", "ping": {"after_silence": "3s"}, "check_interval": null,
    "backoff": {"base": "100s", "cap": "100s", "jitter_percent": 0}"#;

fn config(more: &str) -> Config {
    Config::from_json(&format!("{{{PATIENT}{more}}}")).expect("a configuration")
}

/// One connection, on which the server does this.
fn script(config: Config, acts: impl IntoIterator<Item = (f64, Act)>) -> Script {
    Script {
        config,
        visits: vec![visit(acts)],
        user: Vec::new(),
        until: seconds(60.0),
    }
}

fn data() -> Act {
    Act::Send(Message::text("data"))
}

/// The application's events, in words, with their times. Both adapters give the same ones.
fn told(script: &Script) -> Vec<(f64, String)> {
    let (tokio, blocking) = (run_on_tokio(script).events, run_on_blocking(script).events);
    assert_eq!(tokio, blocking, "tokio, blocking");
    tokio
        .iter()
        .map(|(at, event)| (at.as_secs_f64(), words(event)))
        .collect()
}

fn words(event: &Event) -> String {
    let text = |span: &Duration| span.as_secs_f64();
    match event {
        Event::Connecting { attempt, .. } => format!("connecting {attempt}"),
        Event::Connected { .. } => "connected".into(),
        Event::Message { message, .. } => format!("message of {}", message.len()),
        Event::PingSent { .. } => "ping".into(),
        Event::PongReceived { .. } => "pong".into(),
        Event::PongSent { .. } => "answer".into(),
        Event::Check { idle, .. } => format!("idle for {}", text(idle)),
        Event::Disconnected {
            reason,
            idle,
            open,
            unsent,
            in_doubt,
            ..
        } => {
            let (idle, open, unsent) = (text(idle), text(open), unsent.len());
            let doubt = match in_doubt {
                0 => String::new(),
                count => format!(", {count} in doubt"),
            };
            format!("{reason}, idle {idle}, open {open}, {unsent} unsent{doubt}")
        }
        Event::Reconnect { attempt, delay } => format!("retry {attempt} in {}", text(delay)),
        Event::Stopped {
            unsent,
            close_timed_out,
            ..
        } => {
            let how = if *close_timed_out {
                "stopped late"
            } else {
                "stopped"
            };
            format!("{how}, {} unsent", unsent.len())
        }
        other => format!("{other:?}"),
    }
}

#[track_caller]
fn assert_told(script: &Script, expected: &[(f64, &str)]) {
    let told = told(script);
    let told: Vec<(f64, &str)> = told
        .iter()
        .map(|(at, words)| (*at, words.as_str()))
        .collect();
    assert_eq!(told, expected);
}

#[test]
fn silence_is_asked_about_and_judged_to_the_millisecond() {
    assert_told(
        &script(config(""), [(2.0, data()), (2.5, Act::Freeze)]),
        &[
            (0.0, "connecting 0"),
            (0.0, "connected"),
            (2.0, "message of 4"),
            (5.0, "ping"),
            (11.0, "idle_timeout, idle 9, open 11, 0 unsent"),
            (11.0, "retry 1 in 100"),
        ],
    );
}

#[test]
fn half_a_message_and_then_silence_is_judged_from_its_last_byte() {
    assert_told(
        &script(
            config(""),
            [(4.0, Act::Bytes(vec![0x81, 5, b'h'])), (4.0, Act::Freeze)],
        ),
        &[
            (0.0, "connecting 0"),
            (0.0, "connected"),
            (3.0, "ping"),
            (3.0, "pong"),
            (7.0, "ping"),
            (13.0, "idle_timeout, idle 9, open 13, 0 unsent"),
            (13.0, "retry 1 in 100"),
        ],
    );
}

#[test]
fn a_missing_pong_is_judged_after_pong_timeout() {
    assert_told(
        &script(
            config(r#", "pong_timeout": "1500ms""#),
            [(2.0, data()), (2.5, Act::Freeze)],
        ),
        &[
            (0.0, "connecting 0"),
            (0.0, "connected"),
            (2.0, "message of 4"),
            (5.0, "ping"),
            (6.5, "pong_timeout, idle 4.5, open 6.5, 0 unsent"),
            (6.5, "retry 1 in 100"),
        ],
    );
}

#[test]
fn a_pong_just_in_time_saves_the_connection() {
    let mut script = script(
        config(r#", "pong_timeout": "1500ms""#),
        [(2.5, Act::Freeze), (4.499, Act::Thaw)],
    );
    script.until = seconds(7.0);
    assert_told(
        &script,
        &[
            (0.0, "connecting 0"),
            (0.0, "connected"),
            (3.0, "ping"),
            (4.499, "pong"),
        ],
    );
}

#[test]
fn missing_data_is_judged_although_pongs_go_on() {
    assert_told(
        &script(config(r#", "data_timeout": "8s""#), [(1.0, data())]),
        &[
            (0.0, "connecting 0"),
            (0.0, "connected"),
            (1.0, "message of 4"),
            (4.0, "ping"),
            (4.0, "pong"),
            (7.0, "ping"),
            (7.0, "pong"),
            (9.0, "data_timeout, idle 2, open 9, 0 unsent"),
            (9.0, "retry 1 in 100"),
        ],
    );
}

#[test]
fn keepalive_counts_from_what_we_sent_last_whatever_is_heard() {
    let mut script = script(
        config(r#", "keepalive": "4s""#),
        (1..14).map(|second| (f64::from(second) + 0.5, data())),
    );
    script.user = vec![(seconds(6.0), User::Send("hello"))];
    script.until = seconds(14.5);
    let pings: Vec<f64> = told(&script)
        .iter()
        .filter_map(|(at, words)| (words == "ping").then_some(*at))
        .collect();
    assert_eq!(pings, [4.0, 10.0, 14.0]);
}

#[test]
fn checks_come_at_their_interval_and_tell_the_silence() {
    let mut script = script(
        Config::from_json(r#"{"idle_timeout": "9s", "ping": "never", "check_interval": "2s"}"#)
            .expect("a configuration"),
        [(2.5, data()), (5.75, data())],
    );
    script.until = seconds(8.5);
    assert_told(
        &script,
        &[
            (0.0, "connecting 0"),
            (0.0, "connected"),
            (2.0, "idle for 2"),
            (2.5, "message of 4"),
            (4.0, "idle for 1.5"),
            (5.75, "message of 4"),
            (6.0, "idle for 0.25"),
            (8.0, "idle for 2.25"),
        ],
    );
}

/// More than the in-memory stream and the client's own buffers hold.
fn large() -> &'static str {
    Box::leak("x".repeat(200_000).into_boxed_str())
}

#[test]
fn a_stuck_write_is_judged_after_write_timeout_and_handed_back() {
    let mut script = script(config(r#", "write_timeout": "4s""#), [(0.5, Act::Freeze)]);
    script.user = vec![
        (seconds(1.0), User::Send(large())),
        (seconds(2.0), User::Send("second")),
    ];
    assert_told(
        &script,
        &[
            (0.0, "connecting 0"),
            (0.0, "connected"),
            (3.0, "ping"),
            (5.0, "write_timeout, idle 5, open 5, 2 unsent"),
            (5.0, "retry 1 in 100"),
        ],
    );
}

/// A message that was written before the last byte was heard is not in doubt, nor is one that was not
/// written.
#[test]
fn messages_written_after_the_last_byte_are_in_doubt() {
    let acts = [(2.0, data()), (3.5, Act::Freeze)];
    let mut script = script(config(r#", "write_timeout": "4s""#), acts);
    let send = |at, text| (seconds(at), User::Send(text));
    script.user = vec![
        send(1.0, "before"),
        send(2.5, "one"),
        send(3.0, "two"),
        send(4.0, large()),
        send(4.5, "waits"),
    ];
    assert_told(
        &script,
        &[
            (0.0, "connecting 0"),
            (0.0, "connected"),
            (2.0, "message of 4"),
            (5.0, "ping"),
            (8.0, "write_timeout, idle 6, open 8, 2 unsent, 2 in doubt"),
            (8.0, "retry 1 in 100"),
        ],
    );
}

#[test]
fn a_stuck_write_does_not_move_the_verdict_on_silence() {
    let mut script = script(config(r#", "write_timeout": "60s""#), [(0.5, Act::Freeze)]);
    // The application keeps writing all the time.
    script.user = vec![(seconds(1.0), User::Send(large()))];
    script
        .user
        .extend((2..9).map(|second| (seconds(f64::from(second) + 0.1), User::Send("more"))));
    assert_told(
        &script,
        &[
            (0.0, "connecting 0"),
            (0.0, "connected"),
            (3.0, "ping"),
            (9.0, "idle_timeout, idle 9, open 9, 8 unsent"),
            (9.0, "retry 1 in 100"),
        ],
    );
}

#[test]
fn a_hanging_dial_ends_at_connect_timeout_and_the_backoff_is_exact() {
    let text =
        r#"{"connect_timeout": "2s", "backoff": {"base": "1s", "cap": "3s", "jitter_percent": 0}}"#;
    let silence = || turned_away(Reception::Silence);
    let script = Script {
        config: Config::from_json(text).expect("a configuration"),
        visits: vec![
            silence(),
            silence(),
            turned_away(Reception::Refused),
            silence(),
        ],
        user: Vec::new(),
        until: seconds(13.5),
    };
    assert_told(
        &script,
        &[
            (0.0, "connecting 0"),
            (2.0, "connect_timeout, idle 0, open 0, 0 unsent"),
            (2.0, "retry 1 in 1"),
            (3.0, "connecting 1"),
            (5.0, "connect_timeout, idle 0, open 0, 0 unsent"),
            (5.0, "retry 2 in 2"),
            (7.0, "connecting 2"),
            (7.0, "refused, idle 0, open 0, 0 unsent"),
            (7.0, "retry 3 in 3"),
            (10.0, "connecting 3"),
            (12.0, "connect_timeout, idle 0, open 0, 0 unsent"),
            (12.0, "retry 4 in 3"),
        ],
    );
}

#[test]
fn stop_waits_for_close_timeout_and_no_longer() {
    let mut script = script(
        config(r#", "close_timeout": "1200ms""#),
        [(0.5, Act::Freeze)],
    );
    script.user = vec![
        (seconds(1.0), User::Send(large())),
        (seconds(2.0), User::Stop),
    ];
    assert_told(
        &script,
        &[
            (0.0, "connecting 0"),
            (0.0, "connected"),
            (3.2, "stopped late, 1 unsent"),
        ],
    );
    script.visits = vec![visit([])];
    assert_told(
        &script,
        &[
            (0.0, "connecting 0"),
            (0.0, "connected"),
            (2.0, "stopped, 0 unsent"),
        ],
    );
}

#[test]
fn a_host_that_stalls_asks_once_more_before_it_judges() {
    let mut alive = script(config(r#", "pong_timeout": "2s""#), []);
    alive.user = vec![(seconds(4.0), User::Stall(seconds(20.0)))];
    alive.until = seconds(25.0);
    assert_told(
        &alive,
        &[
            (0.0, "connecting 0"),
            (0.0, "connected"),
            (3.0, "ping"),
            (3.0, "pong"),
            (24.0, "ping"),
            (24.0, "pong"),
        ],
    );
    let mut dead = script(config(r#", "pong_timeout": "2s""#), [(3.5, Act::Freeze)]);
    dead.user = alive.user;
    assert_told(
        &dead,
        &[
            (0.0, "connecting 0"),
            (0.0, "connected"),
            (3.0, "ping"),
            (3.0, "pong"),
            (24.0, "ping"),
            (26.0, "pong_timeout, idle 23, open 26, 0 unsent"),
            (26.0, "retry 1 in 100"),
        ],
    );
}

/// A clock that stands still, this many seconds after its origin.
struct Still(u64);

impl Clock for Still {
    fn now(&self) -> Instant {
        Instant::from_nanos(self.0 * 1_000_000_000)
    }
}

/// The engine's events at that moment.
fn turn_until_idle<S: Read + Write>(engine: &mut Engine<S>, seconds: u64) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        match engine.turn(&Still(seconds)) {
            Turn::Event(event) => events.push(event),
            Turn::Idle => return events,
            _ => {}
        }
    }
}

/// An open connection over a narrow stream, and its server's side.
fn narrow() -> (Engine<End>, WebSocket<End>) {
    let options = Options::new("ws://server.test/").expect("a URL");
    let nobody = || Box::new(|| {});
    let mut engine = Engine::new(options, Still(0).now(), nobody()).expect("no TLS, no error");
    let (ours, theirs) = pipe(4096);
    let conn = loop {
        if let Turn::Dial(dial) = engine.turn(&Still(0)) {
            break dial.conn;
        }
    };
    engine.dialed(conn, Ok(ours), &Still(0));
    turn_until_idle(&mut engine, 0);
    let ws = match tungstenite::accept(theirs) {
        Ok(ws) => ws,
        Err(HandshakeError::Interrupted(_)) => panic!("half a request"),
        Err(HandshakeError::Failure(error)) => panic!("{error}"),
    };
    turn_until_idle(&mut engine, 0);
    (engine, ws)
}

#[test]
fn pongs_go_on_however_long_the_send_path_stays_full() {
    let (mut engine, mut server) = narrow();
    // Together their answers are far more than a client holds at once.
    for number in 0_u64..5_000 {
        let payload = [&number.to_be_bytes()[..], &[0; 100]].concat();
        server
            .send(Message::Ping(payload.clone().into()))
            .expect("the client reads");
        let answered = (0..20).any(|_| {
            // The application's own messages keep the path full all the time.
            while engine.send_queue().try_send(vec![0; 3000].into()).is_ok() {}
            turn_until_idle(&mut engine, 0);
            let mut answered = false;
            while let Ok(message) = server.read() {
                if let Message::Pong(pong) = message {
                    assert_eq!(pong[..], payload);
                    answered = true;
                }
            }
            answered
        });
        assert!(answered, "ping {number} is not answered");
    }
}

#[test]
fn what_has_arrived_beats_the_deadline_whatever_the_user_does_at_that_moment() {
    let acts: [fn(&Engine<End>); 2] = [
        |engine| engine.send_queue().kick(),
        |engine| {
            engine
                .send_queue()
                .try_send("an order".into())
                .expect("room")
        },
    ];
    for act in acts {
        let (mut engine, mut server) = narrow();
        for seconds in [30, 60] {
            turn_until_idle(&mut engine, seconds);
        }
        server.send(Message::text("life")).expect("room");
        act(&engine);
        let events = turn_until_idle(&mut engine, 90);
        let gone = |event: &Event| matches!(event, Event::Disconnected { .. });
        assert!(!events.iter().any(gone), "{events:?}");
        assert!(
            events
                .iter()
                .any(|event| matches!(event, Event::Message { .. }))
        );
    }
}

/// A stream whose peer takes as many bytes as there is room for, and sends only the bytes put here.
#[derive(Clone, Default)]
struct Spacious(Arc<Mutex<Far>>);

#[derive(Default)]
struct Far {
    said: VecDeque<u8>,
    room: usize,
    taken: Vec<u8>,
}

impl Spacious {
    fn says(&self, bytes: &[u8]) {
        self.0.lock().expect("no panic").said.extend(bytes);
    }

    fn has_room_for(&self, bytes: usize) {
        self.0.lock().expect("no panic").room = bytes;
    }

    /// The upgrade is answered.
    fn accepts(&self) {
        let request = std::mem::take(&mut self.0.lock().expect("no panic").taken);
        let request = String::from_utf8(request).expect("a request");
        let key = request
            .lines()
            .find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "))
            .expect("a key");
        let accept = accept_key(key);
        self.says(
            format!("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n").as_bytes(),
        );
    }
}

impl Read for Spacious {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let said = &mut self.0.lock().expect("no panic").said;
        if said.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        said.read(buffer)
    }
}

impl Write for Spacious {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Far { room, taken, .. } = &mut *self.0.lock().expect("no panic");
        let count = bytes.len().min(*room);
        *room -= count;
        if taken.len() < 4096 {
            taken.extend(&bytes[..count]);
        }
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An open connection over such a stream.
fn spacious(config: Config) -> (Engine<Spacious>, Spacious) {
    let options = Options::new("ws://server.test/").expect("a URL");
    let options = options.config(config);
    let nobody = || Box::new(|| {});
    let mut engine = Engine::new(options, Still(0).now(), nobody()).expect("no TLS, no error");
    let conn = loop {
        if let Turn::Dial(dial) = engine.turn(&Still(0)) {
            break dial.conn;
        }
    };
    let peer = Spacious::default();
    peer.has_room_for(usize::MAX);
    engine.dialed(conn, Ok(peer.clone()), &Still(0));
    turn_until_idle(&mut engine, 0);
    peer.accepts();
    turn_until_idle(&mut engine, 0);
    (engine, peer)
}

fn has_lost(events: &[Event]) -> bool {
    let lost = |event: &Event| matches!(event, Event::Disconnected { .. });
    events.iter().any(lost)
}

#[test]
fn bytes_that_did_not_have_to_wait_are_no_sign_of_life_however_many_they_are() {
    let (mut engine, _peer) = spacious(Config::default());
    turn_until_idle(&mut engine, 30);
    // More than is written before others get their turn. The system takes all of it.
    let large = vec![0; 8 << 20];
    engine.send_queue().try_send(large.into()).expect("room");
    assert!(!has_lost(&turn_until_idle(&mut engine, 80)));
    assert!(has_lost(&turn_until_idle(&mut engine, 90)));
}

#[test]
fn bytes_that_wait_are_tried_once_more_before_a_late_step_judges() {
    // What has arrived meanwhile: nothing, data, or a ping.
    for said in [&b""[..], &[0x81, 0x01, b'd'], &[0x89, 0x00]] {
        let (mut engine, peer) = spacious(Config::default());
        peer.has_room_for(1000);
        engine
            .send_queue()
            .try_send(vec![0; 200_000].into())
            .expect("room");
        assert!(!has_lost(&turn_until_idle(&mut engine, 1)));
        // The host sleeps. Meanwhile the peer has taken everything that was on its way.
        peer.has_room_for(1000);
        peer.says(said);
        assert!(!has_lost(&turn_until_idle(&mut engine, 600)), "{said:?}");
        assert!(!has_lost(&turn_until_idle(&mut engine, 659)), "{said:?}");
        assert!(has_lost(&turn_until_idle(&mut engine, 660)), "{said:?}");
    }
}

#[test]
fn a_question_that_leaves_when_the_next_one_falls_due_counts_from_then() {
    let text = r#"{"idle_timeout": "60s", "ping": {"every": "10s"}, "pong_timeout": "5s"}"#;
    let config = Config::from_json(text).expect("a configuration");
    let (mut engine, peer) = spacious(config);
    peer.has_room_for(1000);
    engine
        .send_queue()
        .try_send(vec![0; 20_000].into())
        .expect("room");
    for seconds in 1..20 {
        assert!(!has_lost(&turn_until_idle(&mut engine, seconds)));
    }
    peer.has_room_for(usize::MAX);
    for seconds in 20..25 {
        assert!(!has_lost(&turn_until_idle(&mut engine, seconds)));
    }
    assert!(has_lost(&turn_until_idle(&mut engine, 25)));
}

#[test]
fn a_bad_gateway_is_no_broken_protocol() {
    // tungstenite does not know 1014, and reports 1002 instead.
    assert_told(
        &script(config(""), [(2.0, Act::Close(1014))]),
        &[
            (0.0, "connecting 0"),
            (0.0, "connected"),
            (2.0, "close 1014, idle 0, open 2, 0 unsent"),
            (2.0, "retry 1 in 100"),
        ],
    );
}
