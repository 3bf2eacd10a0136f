//! Sessions and what is held, to the nanosecond: the engine over an in-memory stream, with a clock that
//! is set by hand. The adapters add nothing but waiting.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use heartbeat_driver::core::trace::{Header, answer, read_event};
use heartbeat_driver::core::{AnyDialect, Clock, Config, ConnId, Description, Failure, Instant};
use heartbeat_driver::{
    Engine, Event, InvalidClose, Opening, Options, Progress, SendErrorKind, Turn,
};
use heartbeat_kit::peer::{End, pipe};
use heartbeat_tests::lines::{self, log_at};
use tungstenite::{HandshakeError, Message, WebSocket};

const S: u64 = 1_000_000_000;

/// A clock that stands still, so many nanoseconds after its origin.
#[derive(Clone, Copy)]
struct At(u64);

impl Clock for At {
    fn now(&self) -> Instant {
        Instant::from_nanos(self.0)
    }
}

const CONFIG: &str = r#"{"idle_timeout": "900s", "ping": "never", "check_interval": null, "pong_timeout": null,
    "backoff": {"base": "2s", "cap": "60s", "jitter_percent": 0}, "time_to_live": "5s""#;

fn options(more: &str) -> Options {
    let config = Config::from_json(&format!("{CONFIG}{more}}}")).expect("a configuration");
    Options::new("ws://server.test/")
        .expect("a URL")
        .config(config)
}

struct Rig {
    engine: Engine<End>,
    dial: Option<ConnId>,
}

impl Rig {
    fn new(options: Options) -> Self {
        lines::listen();
        let nobody = || Box::new(|| {});
        let engine = Engine::new(options, At(0).now(), nobody());
        Self {
            engine: engine.expect("no TLS, no error"),
            dial: None,
        }
    }

    /// What there is to tell at that moment, in words.
    fn turn(&mut self, at: u64) -> Vec<String> {
        let mut words = Vec::new();
        loop {
            match self.engine.turn(&At(at)) {
                Turn::Event(event) => words.push(tell(event)),
                Turn::Dial(dial) => self.dial = Some(dial.conn),
                Turn::Again => {}
                Turn::Idle | Turn::Ended => return words,
            }
        }
    }

    /// The dial succeeds at that moment.
    fn connect(&mut self, at: u64, capacity: usize) -> (WebSocket<End>, Vec<String>) {
        let (ours, theirs) = pipe(capacity);
        let conn = self.dial.take().expect("a dial");
        self.engine.dialed(conn, Ok(ours), &At(at));
        let mut words = self.turn(at);
        let ws = match tungstenite::accept(theirs) {
            Ok(ws) => ws,
            Err(HandshakeError::Interrupted(_)) => panic!("half a request"),
            Err(HandshakeError::Failure(error)) => panic!("{error}"),
        };
        words.extend(self.turn(at));
        (ws, words)
    }

    fn send(&self, text: &str) {
        self.engine
            .send_queue()
            .try_send(text.into())
            .expect("room");
    }

    fn wake(&self) -> Option<u64> {
        self.engine.wake().map(Instant::as_nanos)
    }
}

fn tell(event: Event) -> String {
    match event {
        Event::Connecting { attempt, .. } => format!("connecting {attempt}"),
        Event::Connected { .. } => "connected".into(),
        Event::Gap {
            down_for,
            cause,
            attempts,
            unsent,
            ..
        } => format!("gap of {down_for:?} by {cause}, {attempts} dials, {unsent} unsent"),
        Event::Ready { .. } => "ready".into(),
        Event::Message { message, .. } => message.as_text().unwrap_or("?").into(),
        Event::Disconnected { reason, detail, .. } => match detail {
            Some(detail) => format!("{reason} ({detail})"),
            None => reason.to_string(),
        },
        Event::Reconnect { delay, .. } => format!("retry in {delay:?}"),
        Event::Expired { unsent } => {
            let texts = unsent.into_messages();
            let texts = texts.iter().map(|message| message.as_text().unwrap_or("?"));
            format!("expired: {}", texts.collect::<Vec<_>>().join(", "))
        }
        Event::GaveUp { reason, .. } => format!("gave up: {reason}"),
        Event::Stopped { unsent, .. } => format!("stopped, {} unsent", unsent.len()),
        other => format!("{other:?}"),
    }
}

fn texts(ws: &mut WebSocket<End>) -> Vec<String> {
    let mut texts = Vec::new();
    while let Ok(message) = ws.read() {
        if let Message::Text(text) = message {
            texts.push(text.to_string());
        }
    }
    texts
}

#[test]
fn a_message_is_held_exactly_for_its_time_to_live() {
    let mut rig = Rig::new(options(r#", "connect_timeout": "600s""#).hold(10, 100));
    assert_eq!(rig.turn(0), ["connecting 0"]);
    rig.send("a");
    assert!(rig.turn(S).is_empty());
    rig.send("b");
    assert!(rig.turn(2 * S).is_empty());
    assert_eq!(rig.wake(), Some(6 * S));
    assert!(rig.turn(6 * S - 1).is_empty());
    assert_eq!(rig.turn(6 * S), ["expired: a"]);
    assert_eq!(rig.wake(), Some(7 * S));
    // A connection that is there in time takes what is left.
    let (mut ws, words) = rig.connect(7 * S - 1, 4096);
    assert_eq!(words, ["connected"]);
    assert_eq!(texts(&mut ws), ["b"]);
    assert!(rig.turn(7 * S).is_empty());
}

#[test]
fn no_message_goes_to_a_connection_after_its_time_to_live() {
    let mut rig = Rig::new(options(r#", "connect_timeout": "600s""#).hold(10, 100));
    rig.turn(0);
    rig.send("late");
    rig.turn(S);
    // Nobody has turned the engine in between: the host slept.
    let (mut ws, words) = rig.connect(6 * S, 4096);
    assert_eq!(words, ["expired: late", "connected"]);
    assert!(texts(&mut ws).is_empty());
}

#[test]
fn a_session_has_exactly_its_time_and_ttl_goes_on_meanwhile() {
    let options = options(r#", "session_timeout": "7s""#).hold(10, 100);
    let mut rig = Rig::new(options.session_by_application());
    rig.turn(0);
    rig.send("held");
    let (mut ws, words) = rig.connect(S, 4096);
    assert_eq!(words, ["connected"]);
    assert_eq!(rig.turn(5 * S), [] as [&str; 0]);
    assert_eq!(rig.turn(6 * S), ["expired: held"]);
    assert_eq!(rig.wake(), Some(8 * S));
    assert!(rig.turn(8 * S - 1).is_empty());
    assert_eq!(rig.turn(8 * S), ["session_timeout", "retry in 2s"]);
    assert!(texts(&mut ws).is_empty());
}

/// What the peer said last is told first, though the application has left no room for it.
#[test]
fn a_write_that_fails_while_nothing_is_read_ends_the_connection_at_once() {
    let mut rig = Rig::new(options(r#", "write_timeout": "10s""#));
    rig.turn(0);
    let (mut ws, _) = rig.connect(0, 4096);
    rig.engine.pause_reading(&At(S));
    ws.send(Message::text("the last words")).expect("room");
    assert!(rig.turn(S).is_empty());
    drop(ws);
    rig.send("nobody takes this");
    let told = ["the last words", "eof", "retry in 2s"];
    assert_eq!(rig.turn(2 * S), told);
}

/// FIN and RST are noticed by the operating system also where nobody reads.
#[test]
fn an_end_of_which_the_adapter_knows_is_told_at_once_and_a_mere_rumour_pauses_again() {
    let mut rig = Rig::new(options(""));
    rig.turn(0);
    let (mut ws, _) = rig.connect(0, 4096);
    rig.engine.pause_reading(&At(S));
    assert!(rig.engine.watches_hang_up());
    ws.send(Message::text("the last words")).expect("room");
    rig.engine.hung_up();
    assert_eq!(rig.turn(S), ["the last words"], "a rumour");
    assert!(!rig.engine.watches_hang_up(), "once");
    ws.send(Message::text("unread")).expect("room");
    assert!(rig.turn(S).is_empty());
    drop(ws);
    rig.engine.hung_up();
    assert_eq!(rig.turn(2 * S), ["unread", "eof", "retry in 2s"]);
}

/// Who has the engine writes without a turn, and nothing overtakes what waits.
#[test]
fn a_message_sent_in_place_is_written_at_once_behind_what_waits() {
    let mut rig = Rig::new(options(""));
    rig.turn(0);
    let (mut ws, _) = rig.connect(0, 4096);
    rig.engine.try_send("at once".into()).expect("room");
    assert_eq!(texts(&mut ws), ["at once"]);
    assert_eq!(rig.engine.stats().messages_sent, 1);
    rig.send("waits");
    rig.engine.try_send("behind it".into()).expect("room");
    assert_eq!(texts(&mut ws), [] as [&str; 0]);
    rig.turn(S);
    assert_eq!(texts(&mut ws), ["waits", "behind it"]);
    rig.engine.try_send("again at once".into()).expect("room");
    assert_eq!(texts(&mut ws), ["again at once"]);
}

#[test]
fn a_message_sent_in_place_is_refused_by_the_rules_of_the_queue() {
    let options = options(r#", "session_timeout": "7s""#).session_by_application();
    let mut rig = Rig::new(options.max_message_size(10).send_queue(2, 100));
    let refusal = |rig: &mut Rig, text: &str| {
        let error = rig.engine.try_send(text.into()).expect_err("not now");
        assert_eq!(error.message, text.into(), "handed back");
        error.reason
    };
    assert_eq!(refusal(&mut rig, "early"), SendErrorKind::NotConnected);
    rig.turn(0);
    let (mut ws, _) = rig.connect(0, 300);
    assert_eq!(refusal(&mut rig, "not yet"), SendErrorKind::NotReady);
    rig.engine.send_queue().session(ConnId::new(1), Ok(()));
    assert_eq!(rig.turn(S), ["ready"]);
    let too_large = SendErrorKind::TooLarge { len: 11, max: 10 };
    assert_eq!(refusal(&mut rig, "01234567890"), too_large);
    // What a peer that does not read leaves with us is bounded.
    let mut accepted = 0;
    while rig.engine.try_send("0123456789".into()).is_ok() {
        accepted += 1;
        assert!(accepted < 2000, "bounded");
    }
    assert_eq!(refusal(&mut rig, "full"), SendErrorKind::Full);
    let mut arrived = 0;
    for _ in 0..accepted {
        arrived += texts(&mut ws).len();
        rig.turn(S);
    }
    assert_eq!(arrived, accepted, "each that was accepted, once");
    rig.engine.send_queue().stop();
    assert_eq!(refusal(&mut rig, "late"), SendErrorKind::Ended);
}

/// The machine is told of the write in the next turn, and not before: no rule of time is in a send.
#[test]
fn a_message_sent_in_place_that_is_not_taken_has_the_time_of_any_other_and_is_handed_back() {
    let mut rig = Rig::new(options(r#", "write_timeout": "10s""#));
    rig.turn(0);
    let (_ws, _) = rig.connect(0, 300);
    let [whole, in_two, nothing] = ["whole", "in two", "nothing"].map(|text| text.repeat(30));
    for text in [&whole, &in_two, &nothing] {
        rig.engine.try_send(text.as_str().into()).expect("room");
    }
    assert!(rig.turn(2 * S).is_empty());
    assert_eq!(rig.wake(), Some(12 * S));
    assert!(rig.turn(12 * S - 1).is_empty());
    let mut unsent = Vec::new();
    while let Turn::Event(event) = rig.engine.turn(&At(12 * S)) {
        unsent.extend(event.into_unsent());
    }
    let unsent = unsent.into_iter().map(|back| (back.cut, back.message));
    let expected = [(true, in_two.into()), (false, nothing.into())];
    assert_eq!(unsent.collect::<Vec<_>>(), expected);
}

/// That the socket had run dry is no news any more when the application comes back from an event.
#[test]
fn what_arrives_while_an_event_is_handled_is_heard_before_a_verdict() {
    let mut rig = Rig::new(options(""));
    rig.turn(0);
    let (mut ws, _) = rig.connect(0, 4096);
    assert!(rig.engine.message(&At(S)).is_none());
    rig.engine.send_queue().kick();
    let Turn::Event(Event::PingSent { .. }) = rig.engine.turn(&At(S)) else {
        panic!("a kick asks");
    };
    ws.send(Message::text("alive")).expect("room");
    assert_eq!(rig.turn(900 * S), ["alive"]);
}

/// The application has stopped the client and takes nothing: whoever queues the events bounds and counts them.
#[test]
fn while_closing_every_message_is_told_though_reading_is_paused() {
    let mut rig = Rig::new(options(""));
    rig.turn(0);
    let (mut ws, _) = rig.connect(0, 4096);
    rig.engine.pause_reading(&At(S));
    ws.send(Message::text("before")).expect("room");
    rig.engine.send_queue().stop();
    ws.send(Message::text("after")).expect("room");
    assert_eq!(rig.turn(S), ["before", "after"]);
}

/// There is no room for what a dial or an expiry would hand back.
#[test]
fn while_dials_are_withheld_nothing_is_dialled_and_nothing_expires_and_a_ready_session_gets_nothing_too_old()
 {
    let mut rig = Rig::new(options("").hold(10, 100));
    rig.turn(0);
    let (ws, _) = rig.connect(0, 4096);
    drop(ws);
    assert_eq!(rig.turn(S), ["eof", "retry in 2s"]);
    rig.send("held");
    rig.engine.withhold_dials(true);
    assert!(rig.turn(S).is_empty());
    assert_eq!(rig.wake(), None);
    assert!(rig.turn(100 * S).is_empty());
    rig.engine.withhold_dials(false);
    assert_eq!(rig.turn(100 * S), ["expired: held", "connecting 1"]);
    rig.engine.withhold_dials(true);
    rig.send("too old");
    assert!(rig.turn(101 * S).is_empty());
    let (mut ws, words) = rig.connect(107 * S, 4096);
    assert!(words.contains(&"expired: too old".into()), "{words:?}");
    assert!(texts(&mut ws).is_empty());
}

/// The gap runs from the last ready session to the next one, whatever lies in between.
#[test]
fn a_session_that_fails_in_between_is_part_of_the_same_gap() {
    let mut rig = Rig::new(options("").session_by_application());
    rig.turn(0);
    let (mut ws, _) = rig.connect(0, 4096);
    rig.engine.send_queue().session(ConnId::new(1), Ok(()));
    assert_eq!(rig.turn(0), ["ready"]);
    ws.send(Message::text("data")).expect("room");
    assert_eq!(rig.turn(10 * S), ["data"]);
    drop(ws);
    assert_eq!(rig.turn(13 * S), ["eof", "retry in 2s"]);
    assert_eq!(rig.turn(15 * S), ["connecting 1"]);
    let (ws, words) = rig.connect(15 * S, 4096);
    let gap = "gap of 5s by eof, 1 dials, 0 unsent";
    assert_eq!(words, ["connected", gap]);
    // Never ready: the gap goes on.
    drop(ws);
    assert_eq!(rig.turn(16 * S), ["eof", "retry in 4s"]);
    rig.turn(20 * S);
    let (_ws, words) = rig.connect(20 * S, 4096);
    let gap = "gap of 10s by eof, 2 dials, 0 unsent";
    assert_eq!(words, ["connected", gap]);
    rig.engine.send_queue().session(ConnId::new(3), Ok(()));
    assert_eq!(rig.turn(20 * S), ["ready"]);
}

/// What got too old while there was no session was handed back, too.
#[test]
fn a_gap_counts_what_expired_within_it() {
    let mut rig = Rig::new(options("").hold(10, 100));
    rig.turn(0);
    let (ws, _) = rig.connect(0, 4096);
    drop(ws);
    assert_eq!(rig.turn(S), ["eof", "retry in 2s"]);
    rig.send("held");
    assert_eq!(rig.turn(3 * S), ["connecting 1"]);
    assert_eq!(rig.turn(8 * S), ["expired: held"]);
    let (_ws, words) = rig.connect(9 * S, 4096);
    assert_eq!(words, ["connected", "gap of 9s by eof, 1 dials, 1 unsent"]);
}

#[test]
fn a_panic_in_on_connect_gives_up_and_hands_back_what_was_held() {
    let options = options("").hold(10, 100);
    let mut rig = Rig::new(options.on_connect(|opening: &mut Opening<'_>| -> Progress {
        opening.send("half a login");
        panic!("a mistake of the application's")
    }));
    rig.turn(0);
    rig.send("held");
    let (_ws, words) = rig.connect(0, 4096);
    let told = [
        "connected",
        "session refused (on_connect panicked: a mistake of the application's)",
        "gave up: session refused",
        "stopped, 1 unsent",
    ];
    assert_eq!(words, told);
}

/// However long ago the life began: what `explain` gives is answered as the machine answered then.
#[test]
fn what_explain_keeps_is_replayed_to_the_same_answers() {
    for keep in [1, 3, 16] {
        let told = Arc::new(Mutex::new(Vec::new()));
        let observed = Arc::clone(&told);
        let options = options(r#", "session_timeout": "7s", "keepalive": "1s""#)
            .explain(keep)
            .session_by_application()
            .observer(move |at, _, step, phase| {
                observed
                    .lock()
                    .expect("no panic")
                    .push(answer(at, step, phase));
            });
        let mut rig = Rig::new(options);
        for round in 0..5 {
            let mut now = round * 100 * S;
            rig.turn(now);
            let (mut ws, _) = rig.connect(now, 4096);
            ws.send(Message::text(r#"{"type":"ping"}"#)).expect("room");
            for _ in 0..round {
                now += S;
                rig.turn(now);
            }
            drop(ws);
            rig.turn(now);
        }
        let trace = rig.engine.shared_stats().explain().expect("it is kept");
        let mut lines = trace.lines();
        let header = Header::read(lines.next().expect("a header")).expect("it is read");
        let mut machine = header.heartbeat();
        let replayed: Vec<String> = lines
            .map(|line| {
                let event = read_event(line).expect("it is read");
                let step = machine.step(event.at, event.event());
                answer(event.at, &step, machine.phase())
            })
            .collect();
        let told = told.lock().expect("no panic");
        assert!(
            (keep..=2 * keep).contains(&replayed.len()),
            "{}",
            replayed.len()
        );
        assert_eq!(replayed, told[told.len() - replayed.len()..]);
    }
}

/// A trace names the dialect that the client speaks, given as it is or as one that was chosen at run time.
#[test]
fn what_explain_keeps_has_the_described_dialect() {
    let text = r#"{"rules": [{"text": "are you there?", "reply": "yes"}]}"#;
    let described = Description::from_json(text).expect("valid");
    let any = AnyDialect::Described(Box::new(described.clone()));
    let told = |options: Options| {
        let mut rig = Rig::new(options.explain(1));
        rig.turn(0);
        let trace = rig.engine.shared_stats().explain().expect("it is kept");
        let header = trace.lines().next().expect("a header");
        Header::read(header).expect("it is read").dialect
    };
    assert_eq!(told(options("").dialect(described)), any);
    assert_eq!(told(options("").dialect(any.clone())), any);
}

#[test]
fn the_default_time_of_a_session_is_there_where_one_is_asked_for_and_nowhere_else() {
    let pending = |_: &mut Opening<'_>| Progress::Pending;
    let timeout = |options| {
        let mut rig = Rig::new(options);
        rig.turn(0);
        let (_ws, _) = rig.connect(0, 4096);
        rig.wake()
    };
    assert_eq!(timeout(options("").on_connect(pending)), Some(15 * S));
    assert_eq!(timeout(options("").session_by_application()), Some(15 * S));
    assert_eq!(timeout(options("")), Some(900 * S));
    let own = options(r#", "session_timeout": "3s""#);
    assert_eq!(timeout(own.on_connect(pending)), Some(3 * S));
}

#[test]
fn a_connection_that_takes_nothing_more_gives_back_what_was_cut_and_holds_the_rest() {
    let mut rig = Rig::new(options("").hold(10, 100_000).send_queue(10, 100_000));
    rig.turn(0);
    let (ws, _) = rig.connect(0, 4096);
    for text in ["x".repeat(5000), "y".repeat(20_000), "z".to_owned()] {
        rig.send(&text);
    }
    rig.turn(S);
    drop(ws);
    let mut cut = Vec::new();
    while let Turn::Event(event) = rig.engine.turn(&At(2 * S)) {
        cut.extend(event.into_unsent());
    }
    assert_eq!(cut.len(), 1);
    assert!(cut[0].cut && cut[0].message.len() == 5000);
    rig.turn(4 * S);
    let (mut ws, _) = rig.connect(4 * S, 1 << 20);
    let lengths: Vec<usize> = texts(&mut ws).iter().map(String::len).collect();
    assert_eq!(lengths, [20_000, 1]);
}

/// However often an application is behind, a log line a connection is enough.
#[test]
fn a_pause_is_told_by_one_warning_a_connection() {
    let log = log_at("warn", || {
        let mut rig = Rig::new(options(""));
        rig.turn(0);
        for begun in [0, 10 * S] {
            let (ws, _) = rig.connect(begun, 4096);
            for at in 1..4 {
                rig.engine.pause_reading(&At(begun + at * S));
                rig.engine.pause_reading(&At(begun + at * S));
                rig.engine.resume_reading(&At(begun + at * S + S / 2));
            }
            drop(ws);
            rig.turn(begun + 5 * S);
            rig.turn(begun + 10 * S);
        }
        assert_eq!(rig.engine.stats().reading_pauses, 6);
    });
    assert_eq!(log.matches("reading is paused").count(), 2, "{log}");
    assert_eq!(
        log.matches("reading goes on after 0.5 s").count(),
        2,
        "{log}"
    );
    let sum = "reading was paused 3 times on this connection, for 1.5 s in all";
    assert_eq!(log.matches(sum).count(), 2, "{log}");
    assert!(log.contains("Options::overflow"), "what to do: {log}");
}

/// The same bounds as those of `Messages` in heartbeat-tokio, whose tests are the same.
#[test]
fn of_70_joined_records_each_is_read_and_the_bound_counts_heartbeats() {
    let data = "{\"push\":{}}\n";
    for (records, answered) in [
        (data.repeat(64) + &"{}\n".repeat(6), 6),
        (data.repeat(70) + "{}\n", 1),
        ("{}\n".repeat(70) + data, 64),
    ] {
        let dialect = AnyDialect::named("centrifugo").expect("in the catalogue");
        let mut rig = Rig::new(options("").dialect(dialect));
        rig.turn(0);
        let (mut ws, _) = rig.connect(0, 1 << 16);
        ws.send(Message::text(records.as_str())).expect("room");
        let told = rig.turn(S);
        let delivered: Vec<_> = told
            .iter()
            .filter(|word| !word.starts_with("PongSent"))
            .collect();
        assert_eq!(delivered, [&records], "delivered once");
        assert_eq!(texts(&mut ws), vec!["{}"; answered]);
        assert_eq!(rig.engine.stats().messages_received, 1);
    }
}

/// An adapter that shares its thread learns when others are due: after large messages, and within one of many records.
#[test]
fn work_is_counted_in_bytes_and_a_message_of_records_is_read_in_pieces() {
    let dialect = AnyDialect::named("centrifugo").expect("in the catalogue");
    let mut rig = Rig::new(options("").dialect(dialect));
    rig.turn(0);
    let (mut ws, _) = rig.connect(0, 8 << 20);
    for _ in 0..3 {
        ws.send(Message::text("x".repeat(1 << 20))).expect("room");
    }
    let mut turns = 0;
    for _ in 0..3 {
        let mut has_worked = false;
        while rig.engine.message(&At(S)).is_none()
            && !matches!(rig.engine.turn(&At(S)), Turn::Event(Event::Message { .. }))
        {
            has_worked |= rig.engine.has_worked();
            turns += 1;
            assert!(turns < 10_000, "work that nobody counts never ends");
        }
        assert!(has_worked | rig.engine.has_worked());
        assert!(!rig.engine.has_worked(), "once");
    }
    ws.send(Message::text("\n".repeat(1 << 20))).expect("room");
    ws.send(Message::text("behind it")).expect("room");
    let mut pieces = 0;
    loop {
        turns += 1;
        assert!(turns < 10_000, "work that nobody counts never ends");
        // The short way does not overtake it.
        assert!(pieces == 0 || rig.engine.message(&At(S)).is_none());
        match rig.engine.turn(&At(S)) {
            Turn::Again => pieces += u32::from(rig.engine.has_worked()),
            Turn::Event(Event::Message { message, .. }) => {
                break assert_eq!(message.len(), 1 << 20);
            }
            other => panic!("{other:?}"),
        }
    }
    // 32 bytes of work each, 256 KiB at a time, and what it took to read it.
    assert!((128..=160).contains(&pieces), "{pieces}");
}

/// Whoever never stops sending does not keep the client from hearing, nor does hearing keep it from the rest.
#[test]
fn much_that_waits_to_be_sent_is_written_in_pieces_between_which_the_peer_is_heard() {
    const MESSAGES: usize = 20_000;
    let mut rig = Rig::new(options("").send_queue(MESSAGES, 64 << 20));
    rig.turn(0);
    let (mut ws, _) = rig.connect(0, 64 << 20);
    for _ in 0..MESSAGES {
        rig.send("0123456789");
    }
    ws.send(Message::text("heard")).expect("room");
    let Turn::Event(Event::Message { .. }) = rig.engine.turn(&At(S)) else {
        panic!("not heard");
    };
    let before = texts(&mut ws).len();
    // 128 KiB, each counted as its length and 128 bytes.
    assert!(
        (900..=1100).contains(&before),
        "{before} were written first"
    );
    // Nobody tells the engine again: it has to remember that there is more.
    let mut all = before;
    while all < MESSAGES {
        let send_queue = std::sync::Arc::clone(rig.engine.send_queue());
        assert!(send_queue.is_pending(), "the rest is forgotten");
        assert!(rig.turn(S).is_empty());
        all += texts(&mut ws).len();
    }
    assert_eq!(all, MESSAGES);
    rig.turn(S);
    assert!(!rig.engine.send_queue().is_pending());
}

/// The code and the reason of the Close frame that the peer gets next.
fn goodbye(ws: &mut WebSocket<End>) -> Option<(u16, String)> {
    loop {
        match ws.read() {
            Ok(Message::Close(frame)) => {
                return frame.map(|frame| (frame.code.into(), frame.reason.to_string()));
            }
            Ok(_) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// To a service that can resume a session, 1000 says that it is over.
#[test]
fn who_comes_back_does_not_say_1000_and_whoever_wants_says_what_they_want() {
    let comes_back = [
        Failure::Retry,
        Failure::RetryAfter(Duration::from_secs(1)),
        Failure::Refresh,
    ];
    for (failure, code) in comes_back
        .map(|failure| (failure, 4000))
        .into_iter()
        .chain([(Failure::GiveUp, 1000)])
    {
        let mut rig = Rig::new(options(""));
        rig.turn(0);
        let (mut ws, _) = rig.connect(0, 4096);
        rig.engine
            .send_queue()
            .session(ConnId::new(1), Err(failure));
        rig.turn(S);
        assert_eq!(goodbye(&mut ws), Some((code, String::new())), "{failure:?}");

        let mut rig = Rig::new(options(""));
        rig.turn(0);
        let (mut ws, _) = rig.connect(0, 4096);
        let send_queue = Arc::clone(rig.engine.send_queue());
        send_queue
            .fail_session(ConnId::new(1), failure, 4242, "resume")
            .expect("valid");
        rig.turn(S);
        assert_eq!(
            goodbye(&mut ws),
            Some((4242, "resume".into())),
            "{failure:?}"
        );
    }
}

#[test]
fn a_stop_says_1000_or_what_it_is_told_after_all_that_was_accepted() {
    for (with, said) in [(None, (1000, "")), (Some((3000, "later")), (3000, "later"))] {
        let mut rig = Rig::new(options(""));
        rig.turn(0);
        let (mut ws, _) = rig.connect(0, 4096);
        rig.send("accepted");
        let send_queue = Arc::clone(rig.engine.send_queue());
        for invalid in [1005, 1006, 2999, 5000] {
            let refused = send_queue
                .stop_with(invalid, "")
                .expect_err("not to be sent");
            assert_eq!(refused, InvalidClose::Code { code: invalid });
        }
        assert!(rig.turn(S).is_empty(), "it goes on");
        match with {
            None => send_queue.stop(),
            Some((code, reason)) => send_queue.stop_with(code, reason).expect("valid"),
        }
        // To wait for the end.
        send_queue.stop();
        send_queue.stop_with(4000, "too late").expect("valid");
        rig.turn(S);
        assert_eq!(ws.read().expect("a message"), Message::text("accepted"));
        assert_eq!(goodbye(&mut ws), Some((said.0, said.1.into())));
    }
}

/// Binance: 5 a second, or the connection is ended.
#[test]
fn held_and_new_messages_go_out_at_the_rate_and_heartbeats_at_once() {
    const MS: u64 = 1_000_000;
    let rate = options(r#", "close_timeout": "5s""#).hold(100, 10_000);
    let rate = rate.send_rate(5, Duration::from_secs(1)).expect("a rate");
    let mut rig = Rig::new(rate);
    rig.turn(0);
    for n in 0..8 {
        rig.send(&n.to_string());
    }
    let (mut ws, _) = rig.connect(0, 1 << 16);
    assert_eq!(texts(&mut ws), ["0"]);
    assert_eq!(rig.engine.stats().waiting, 7);
    rig.send("8");
    assert_eq!(rig.engine.try_send("9".into()), Ok(()), "behind them");
    for n in 1..4 {
        let at = n * 200 * MS;
        rig.turn(at - 1);
        assert_eq!(texts(&mut ws), [] as [&str; 0]);
        assert_eq!(rig.wake(), Some(at));
        ws.send(Message::text(r#"{"type":"ping"}"#)).expect("room");
        rig.turn(at - 1);
        assert_eq!(texts(&mut ws), [r#"{"type":"pong"}"#], "at once");
        rig.turn(at);
        assert_eq!(texts(&mut ws), [n.to_string()]);
    }
    // What was held for its time to live comes back, the rest goes on.
    assert_eq!(rig.turn(5 * S), ["expired: 4, 5, 6, 7"]);
    assert_eq!(texts(&mut ws), ["8"]);
    rig.send("10");
    rig.engine.send_queue().stop();
    let told = rig.turn(5 * S + 200 * MS);
    assert_eq!(texts(&mut ws), ["9"]);
    assert!(told.is_empty(), "{told:?}");
    drop(ws);
    assert_eq!(rig.turn(6 * S), ["stopped, 1 unsent"]);
}

#[test]
fn a_rate_that_is_none_is_refused() {
    let refused = options("")
        .send_rate(0, Duration::from_secs(1))
        .expect_err("never");
    assert_eq!(refused.to_string(), "`count` is 0: it must be at least 1");
}

/// Each loss is a gap of its own, also where `on_connect` is done at once.
#[test]
fn three_losses_with_on_connect_are_three_gaps_of_the_same_length() {
    const MS: u64 = 1_000_000;
    let config = r#"{"idle_timeout": "900s", "ping": "never", "check_interval": null, "pong_timeout": null,
        "backoff": {"base": "800ms", "cap": "60s", "jitter_percent": 0}, "stable_after": "30s"}"#;
    let config = Config::from_json(config).expect("a configuration");
    let options = Options::new("ws://server.test/")
        .expect("a URL")
        .config(config);
    let mut rig = Rig::new(options.on_connect(|_: &mut Opening<'_>| Progress::Ready));
    rig.turn(0);
    let mut at = 0;
    let (mut ws, words) = rig.connect(at, 4096);
    assert_eq!(words, ["connected", "ready"]);
    for _ in 0..3 {
        at += 100 * S;
        ws.send(Message::text("still here")).expect("room");
        assert_eq!(rig.turn(at), ["still here"]);
        drop(ws);
        assert_eq!(rig.turn(at), ["eof", "retry in 800ms"]);
        at += 800 * MS;
        assert_eq!(rig.turn(at), ["connecting 1"]);
        let (next, words) = rig.connect(at, 4096);
        assert_eq!(
            words,
            [
                "connected",
                "gap of 800ms by eof, 1 dials, 0 unsent",
                "ready"
            ]
        );
        ws = next;
    }
}

/// The way is full; the peer takes all of it, and then says what is no frame: what was written is not handed back.
#[test]
fn what_leaves_with_the_last_write_before_an_end_is_not_handed_back() {
    let mut rig = Rig::new(options(""));
    rig.turn(0);
    let (mut ws, _) = rig.connect(0, 300);
    let text = "x".repeat(400);
    rig.engine.try_send(text.as_str().into()).expect("room");
    assert!(rig.turn(S).is_empty());
    let mut bytes = vec![0; 300];
    let mut got = std::io::Read::read(ws.get_mut(), &mut bytes).expect("a part");
    assert_eq!(got, 300, "the way was full");
    std::io::Write::write_all(ws.get_mut(), &[0xff; 10]).expect("room");
    let mut unsent = None;
    while let Turn::Event(event) = rig.engine.turn(&At(2 * S)) {
        if let Event::Disconnected { .. } = &event {
            unsent = Some(event.into_unsent().len());
        }
    }
    got += std::io::Read::read(ws.get_mut(), &mut bytes).expect("the rest");
    assert!(got > 400, "{got}");
    assert_eq!(unsent, Some(0));
    assert_eq!(rig.engine.stats().messages_sent, 1);
}

/// A wake-up within a turn calls nobody who drives: the turn itself says that it goes on.
#[test]
fn a_factory_that_wakes_itself_while_it_is_polled_is_polled_again() {
    let options = Options::from_async_factory(|_| {
        let mut was_polled = false;
        std::future::poll_fn(move |cx| {
            if std::mem::replace(&mut was_polled, true) {
                return std::task::Poll::Ready(heartbeat_driver::Request::new("ws://server.test/"));
            }
            cx.waker().wake_by_ref();
            std::task::Poll::Pending
        })
    });
    lines::listen();
    let made = Engine::<End>::new(options, At(0).now(), Box::new(|| {}));
    let mut engine = made.expect("no TLS, no error");
    let dialled = loop {
        match engine.turn(&At(0)) {
            Turn::Dial(dial) => break Some(dial.conn),
            Turn::Event(_) | Turn::Again => {}
            Turn::Idle | Turn::Ended => break None,
        }
    };
    assert_eq!(dialled, Some(ConnId::new(1)));
}

/// An embedding of one thread may turn the engine where it is woken, and not later.
#[test]
fn an_engine_that_is_turned_inside_its_own_wake_up_dials() {
    #[derive(Default)]
    struct Factory {
        is_done: bool,
        waker: Option<std::task::Waker>,
    }

    fn turn(engine: &Mutex<Option<Engine<End>>>, dials: &Mutex<Vec<ConnId>>) {
        let Ok(mut engine) = engine.try_lock() else {
            return;
        };
        while let Some(engine) = engine.as_mut() {
            match engine.turn(&At(0)) {
                Turn::Dial(dial) => dials.lock().expect("no panic").push(dial.conn),
                Turn::Idle | Turn::Ended => return,
                Turn::Event(_) | Turn::Again => {}
            }
        }
    }

    let factory = Arc::new(Mutex::new(Factory::default()));
    let theirs = Arc::clone(&factory);
    let options = Options::from_async_factory(move |_| {
        let shared = Arc::clone(&theirs);
        std::future::poll_fn(move |cx| {
            let mut factory = shared.lock().expect("no panic");
            factory.waker = Some(cx.waker().clone());
            if factory.is_done {
                std::task::Poll::Ready(heartbeat_driver::Request::new("ws://server.test/"))
            } else {
                std::task::Poll::Pending
            }
        })
    });
    let engine = Arc::new(Mutex::new(None));
    let dials = Arc::new(Mutex::new(Vec::new()));
    let (ours, told) = (Arc::clone(&engine), Arc::clone(&dials));
    let wake = Box::new(move || turn(&ours, &told));
    lines::listen();
    let made = Engine::new(options, At(0).now(), wake);
    *engine.lock().expect("no panic") = Some(made.expect("no TLS, no error"));
    turn(&engine, &dials);
    assert!(dials.lock().expect("no panic").is_empty());
    let waker = {
        let mut factory = factory.lock().expect("no panic");
        factory.is_done = true;
        factory.waker.take().expect("it was polled")
    };
    waker.wake();
    assert_eq!(*dials.lock().expect("no panic"), [ConnId::new(1)]);
    // No circle.
    engine.lock().expect("no panic").take();
}
