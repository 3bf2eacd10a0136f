//! Sessions, messages held until a session is ready, and the report of the gap between two sessions.

use std::thread;
use std::time::{Duration, SystemTime};

use heartbeat_tokio::core::{Cause, GiveUp};
use heartbeat_tokio::{
    ConnId, Event, Failure, Message, OnConnect, Opening, Options, Progress, SendErrorKind,
};
use tungstenite::{Message as Frame, WebSocket};

use crate::harness::{Case, Client, Server, hang_up};

cases! {
    everywhere: [
        on_connect_goes_first_and_what_is_held_follows_in_order,
        a_login_is_answered_before_the_session_is_ready,
        a_login_that_is_refused_is_judged_as_the_application_says,
        a_session_that_never_becomes_ready_is_dropped_while_pings_are_answered,
        an_application_makes_the_session_ready_in_its_own_loop,
        an_application_may_refuse_a_connection_at_any_time,
        until_the_session_is_ready_messages_are_refused,
        what_is_held_goes_out_on_the_next_connection_and_is_sent_once,
        what_is_held_too_long_comes_back,
        a_gap_comes_before_any_message_of_the_new_connection,
        an_end_and_the_gap_count_what_was_written_after_the_last_byte,
        stop_hands_back_what_is_held,
        stop_waits_for_the_end_and_says_what_was_not_sent,
        stats_count_what_went_over_all_connections,
        what_is_shown_of_a_client_holds_no_message,
    ]
}

const PROMPT: &str = r#"{"backoff": {"base": "50ms", "cap": "50ms", "jitter_percent": 0}}"#;

fn read(ws: &mut WebSocket<std::net::TcpStream>) -> String {
    loop {
        match ws.read().expect("a message") {
            Frame::Text(text) => return text.to_string(),
            Frame::Ping(_) | Frame::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// The next event that is not about heartbeats, as a word.
#[track_caller]
fn word(client: &mut Client) -> String {
    client.until(|event| {
        Some(match event {
            Event::Connecting { .. } => "connecting".into(),
            Event::Connected { .. } => "connected".into(),
            Event::Gap { .. } => "gap".into(),
            Event::Ready { .. } => "ready".into(),
            Event::Message { message, .. } => message.as_text().unwrap_or("?").into(),
            Event::Disconnected { reason, .. } => reason.to_string(),
            Event::Reconnect { .. } => "reconnect".into(),
            Event::GaveUp { .. } => "gave up".into(),
            Event::Expired { .. } => "expired".into(),
            Event::Stopped { .. } => "stopped".into(),
            _ => return None,
        })
    })
}

#[track_caller]
fn assert_words(client: &mut Client, words: &[&str]) {
    for expected in words {
        assert_eq!(word(client), *expected, "of {words:?}");
    }
}

fn subscribe(opening: &mut Opening<'_>) -> Progress {
    opening.send(format!("subscribe {}", opening.conn()));
    Progress::Ready
}

fn on_connect_goes_first_and_what_is_held_follows_in_order(case: Case) {
    let server = Server::start();
    let options = server.options(PROMPT).hold(10, 1000).on_connect(subscribe);
    let mut client = case.start(options);
    // Whether the connection is open now.
    for number in 0..3 {
        client
            .sender()
            .try_send(format!("held {number}"))
            .expect("room");
    }
    thread::scope(|scope| {
        let received = scope.spawn(|| {
            let mut ws = server.upgrade();
            [(); 4].map(|()| read(&mut ws))
        });
        assert_words(&mut client, &["connecting", "connected", "ready"]);
        while !received.is_finished() {
            client.drive_for(Duration::from_millis(5));
        }
        let expected = ["subscribe 1", "held 0", "held 1", "held 2"];
        assert_eq!(received.join().expect("no panic"), expected);
    });
}

/// Logs in with a number that grows with each refresh.
struct Login {
    token: u32,
}

impl OnConnect for Login {
    fn connected(&mut self, opening: &mut Opening<'_>) -> Progress {
        if opening.attempt().refresh {
            self.token += 1;
        }
        opening.send(format!("login {}", self.token));
        Progress::Pending
    }

    fn message(&mut self, message: &Message, opening: &mut Opening<'_>) -> Progress {
        match message.as_text() {
            Some("welcome") => {
                opening.send("subscribe");
                Progress::Ready
            }
            Some("expired") => Progress::Failed(Failure::Refresh),
            Some("banned") => Progress::Failed(Failure::GiveUp),
            _ => Progress::Pending,
        }
    }
}

fn a_login_is_answered_before_the_session_is_ready(case: Case) {
    let server = Server::start();
    let options = server.options(PROMPT).hold(10, 1000);
    let mut client = case.start(options.on_connect(Login { token: 1 }));
    client.sender().try_send("order").expect("room");
    thread::scope(|scope| {
        let server = scope.spawn(|| {
            let mut ws = server.upgrade();
            assert_eq!(read(&mut ws), "login 1");
            ws.send(Frame::text("motd")).expect("the client reads");
            ws.send(Frame::text("welcome")).expect("the client reads");
            assert_eq!(read(&mut ws), "subscribe");
            assert_eq!(read(&mut ws), "order");
            ws.send(Frame::text("done")).expect("the client reads");
            ws
        });
        // The application gets the server's messages, too.
        assert_words(
            &mut client,
            &[
                "connecting",
                "connected",
                "motd",
                "welcome",
                "ready",
                "done",
            ],
        );
        server.join().expect("no panic");
    });
}

fn a_login_that_is_refused_is_judged_as_the_application_says(case: Case) {
    let server = Server::start();
    let options = server.options(PROMPT).hold(10, 1000);
    let mut client = case.start(options.on_connect(Login { token: 1 }));
    client.sender().try_send("order").expect("room");
    thread::scope(|scope| {
        scope.spawn(|| {
            // A client that comes back keeps the session, if the service can resume one.
            for (token, answer, goodbye) in [(1, "expired", 4000), (2, "banned", 1000)] {
                let mut ws = server.upgrade();
                assert_eq!(read(&mut ws), format!("login {token}"));
                ws.send(Frame::text(answer)).expect("the client reads");
                // The client closes first, and no held message was sent before.
                match ws.read().expect("a goodbye") {
                    Frame::Close(Some(frame)) => assert_eq!(u16::from(frame.code), goodbye),
                    other => panic!("{other:?}"),
                }
            }
        });
        let first = ["connecting", "connected", "expired", "session refused"];
        assert_words(&mut client, &first);
        assert_words(&mut client, &["reconnect", "connecting", "connected"]);
        assert_words(&mut client, &["banned", "session refused"]);
    });
    let reason = client.until(|event| match event {
        Event::GaveUp { reason, .. } => Some(reason),
        _ => None,
    });
    assert_eq!(
        reason,
        GiveUp::Cause(Cause::Session(Failure::GiveUp)),
        "a verdict is final"
    );
    let unsent = client.until(|event| match event {
        Event::Stopped { unsent, .. } => Some(unsent),
        _ => None,
    });
    assert_eq!(unsent.into_messages(), ["order".into()]);
}

fn a_session_that_never_becomes_ready_is_dropped_while_pings_are_answered(case: Case) {
    let server = Server::start();
    let config = r#"{"session_timeout": "400ms", "backoff": {"base": "60s", "cap": "60s"}}"#;
    let mut client = case.start(server.options(config).on_connect(Login { token: 1 }));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut ws = server.upgrade();
            ws.send(Frame::text(r#"{"type":"ping"}"#))
                .expect("the client reads");
            assert_eq!(read(&mut ws), "login 1");
            assert_eq!(read(&mut ws), r#"{"type":"pong"}"#);
            assert!(ws.read().is_err(), "no handshake with who does not answer");
        });
        assert_words(&mut client, &["connecting", "connected"]);
        assert_words(&mut client, &["session_timeout", "reconnect"]);
    });
}

fn an_application_makes_the_session_ready_in_its_own_loop(case: Case) {
    let server = Server::start();
    let options = server.options(PROMPT).hold(10, 1000);
    let mut client = case.start(options.session_by_application());
    let sender = client.sender();
    sender.try_send("order").expect("room");
    let early = sender.send_opening(ConnId::new(1), "too early");
    assert!(early.is_err() || client.stats().phase != heartbeat_tokio::core::Phase::Waiting);
    thread::scope(|scope| {
        let server = scope.spawn(|| {
            let mut ws = server.upgrade();
            assert_eq!(read(&mut ws), "login");
            ws.send(Frame::text("welcome")).expect("the client reads");
            assert_eq!(read(&mut ws), "order");
            ws.send(Frame::text("done")).expect("the client reads");
            ws
        });
        let conn = client.until(|event| match event {
            Event::Connected { conn, .. } => Some(conn),
            _ => None,
        });
        let other = sender.send_opening(ConnId::new(9), "for another");
        assert_eq!(
            other.expect_err("not this one").reason,
            SendErrorKind::NotConnected
        );
        // This one was not asked for.
        sender.ready(ConnId::new(9));
        sender.send_opening(conn, "login").expect("it is open");
        assert_words(&mut client, &["welcome"]);
        sender.ready(conn);
        assert_words(&mut client, &["ready", "done"]);
        sender.ready(conn);
        client.drive_for(Duration::from_millis(20));
        server.join().expect("no panic");
    });
}

fn an_application_may_refuse_a_connection_at_any_time(case: Case) {
    let server = Server::start();
    let mut client = case.connect(&server, PROMPT);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut ws = server.upgrade();
            assert!(matches!(ws.read(), Ok(Frame::Close(_))));
        });
        let conn = client.until(|event| match event {
            Event::Connected { conn, .. } => Some(conn),
            _ => None,
        });
        let after = Duration::from_secs(3600);
        client.sender().fail(conn, Failure::RetryAfter(after));
        assert_words(&mut client, &["session refused"]);
        let delay = client.until(|event| match event {
            Event::Reconnect { delay, .. } => Some(delay),
            _ => None,
        });
        assert!(delay >= after, "{delay:?}");
    });
}

fn until_the_session_is_ready_messages_are_refused(case: Case) {
    let server = Server::start();
    let mut client = case.start(server.options(PROMPT).session_by_application());
    let _open = thread::scope(|scope| {
        let upgrade = scope.spawn(|| server.upgrade());
        client.until_connected();
        upgrade.join().expect("no panic")
    });
    let refusal = client.sender().try_send("order").expect_err("not ready");
    assert_eq!(
        (refusal.reason, refusal.message),
        (SendErrorKind::NotReady, "order".into())
    );
    let refusal = client.sender().send("order").expect_err("not ready");
    assert_eq!(refusal.reason, SendErrorKind::NotReady);
}

/// More than a narrow path holds: some of it is on its way, some waits, and one message is cut.
fn what_is_held_goes_out_on_the_next_connection_and_is_sent_once(case: Case) {
    const MESSAGES: u32 = 600;
    let numbered = |number: u32| {
        let mut bytes = number.to_be_bytes().to_vec();
        bytes.resize(3001, 0);
        bytes
    };
    let server = Server::narrow();
    let options = server.options(PROMPT).send_queue(2000, 8 << 20);
    let mut client = case.start(options.hold(2000, 8 << 20));
    thread::scope(|scope| {
        let received = scope.spawn(|| {
            // The first connection hangs up during a burst. The second takes the remaining messages.
            let mut numbers = Vec::new();
            let mut take = |ws: &mut WebSocket<_>| match ws.read() {
                Ok(Frame::Binary(bytes)) => {
                    numbers.push(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
                    bytes.len() == 3001
                }
                _ => false,
            };
            let mut ws = server.upgrade();
            for _ in 0..50 {
                assert!(take(&mut ws));
            }
            // Bytes that the operating system has taken still arrive.
            ws.get_ref()
                .shutdown(std::net::Shutdown::Write)
                .expect("an open socket");
            while take(&mut ws) {}
            let mut ws = server.upgrade();
            while take(&mut ws) {}
            numbers
        });
        client.until_connected();
        for number in 0..MESSAGES {
            client.sender().try_send(numbered(number)).expect("room");
        }
        let back: Vec<_> = client.until(|event| match event {
            Event::Disconnected { unsent, .. } => Some(unsent.into_iter().collect()),
            _ => None,
        });
        assert!(back.len() <= 1 && back.iter().all(|returned| returned.cut));
        client.until_connected();
        while client.stats().waiting > 0 {
            client.drive_for(Duration::from_millis(5));
        }
        client.sender().stop();
        let unsent = client.until(|event| match event {
            Event::Stopped { unsent, .. } => Some(unsent),
            _ => None,
        });
        assert!(unsent.is_empty());
        let received = received.join().expect("no panic");
        let mut all = received.clone();
        all.extend(back.iter().map(|returned| {
            let Message::Binary(bytes) = &returned.message else {
                panic!("binary")
            };
            u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
        }));
        assert!(
            received.windows(2).all(|pair| pair[0] < pair[1]),
            "in order"
        );
        all.sort_unstable();
        assert!(all == (0..MESSAGES).collect::<Vec<_>>(), "each one once");
    });
}

fn what_is_held_too_long_comes_back(case: Case) {
    let server = Server::start();
    let config = r#"{"time_to_live": "300ms", "connect_timeout": "60s"}"#;
    // Accepted by the kernel and never answered.
    let mut client = case.start(server.options(config).hold(10, 1000));
    assert_words(&mut client, &["connecting"]);
    for text in ["first", "second"] {
        client.sender().try_send(text).expect("room");
    }
    let mut expired = Vec::new();
    while expired.len() < 2 {
        client.until(|event| {
            matches!(event, Event::Expired { .. })
                .then(|| expired.extend(event.into_unsent().into_messages()))
        });
    }
    assert_eq!(expired, ["first".into(), "second".into()]);
    assert_eq!((client.stats().waiting, client.stats().unsent), (0, 2));
}

fn a_gap_comes_before_any_message_of_the_new_connection(case: Case) {
    let server = Server::start();
    let begin = SystemTime::now();
    let mut client = case.connect(&server, PROMPT);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut ws = server.upgrade();
            ws.send(Frame::text("one")).expect("the client reads");
            thread::sleep(Duration::from_millis(100));
            hang_up(ws.get_ref());
            // A dial that leads to nothing.
            hang_up(&server.accept());
            let mut ws = server.upgrade();
            ws.send(Frame::text("two")).expect("the client reads");
            let _ = ws.read();
        });
        assert_words(&mut client, &["connecting", "connected", "one", "eof"]);
        assert_words(&mut client, &["reconnect", "connecting"]);
        client.until(|event| matches!(event, Event::Connected { .. }).then_some(()));
        let Some(Event::Gap {
            conn,
            since,
            down_for,
            cause,
            attempts,
            unsent,
            in_doubt,
        }) = client.next()
        else {
            panic!("no gap right after the connection")
        };
        assert_eq!((conn.get(), attempts, unsent, in_doubt), (3, 2, 0, 0));
        assert_eq!(cause.to_string(), "eof");
        // Two delays of 50 ms. The machine's load decides how much silence there was before we saw the end.
        assert!(down_for >= Duration::from_millis(100), "{down_for:?}");
        let now = SystemTime::now();
        assert!(begin <= since && since + down_for <= now + Duration::from_millis(50));
        assert_words(&mut client, &["two"]);
        client.stop();
    });
}

fn an_end_and_the_gap_count_what_was_written_after_the_last_byte(case: Case) {
    let server = Server::start();
    let mut client = case.connect(&server, PROMPT);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut ws = server.upgrade();
            ws.read().expect("the first");
            ws.send(Frame::text("heard")).expect("the client reads");
            for _ in 0..2 {
                ws.read().expect("two more");
            }
            hang_up(ws.get_ref());
            let mut ws = server.upgrade();
            let _ = ws.read();
        });
        client.until_connected();
        client.sender().try_send("answered").expect("room");
        client.message();
        for text in ["one", "two"] {
            client.sender().try_send(text).expect("room");
        }
        let ended = client.until(|event| match event {
            Event::Disconnected {
                in_doubt, unsent, ..
            } => Some((in_doubt, unsent.len())),
            _ => None,
        });
        assert_eq!(ended, (2, 0));
        let gap = client.until(|event| match event {
            Event::Gap { in_doubt, .. } => Some(in_doubt),
            _ => None,
        });
        assert_eq!(gap, 2);
        client.stop();
    });
}

fn stop_hands_back_what_is_held(case: Case) {
    let server = Server::start();
    let options = server.options(PROMPT).hold(10, 1000);
    let mut client = case.start(options.session_by_application());
    client.sender().try_send("before").expect("room");
    thread::scope(|scope| {
        let upgrade = scope.spawn(|| server.upgrade());
        client.until_connected();
        client.sender().try_send("after").expect("room");
        let server = scope.spawn(|| {
            let mut ws = upgrade.join().expect("no panic");
            assert!(matches!(ws.read(), Ok(Frame::Close(_))), "nothing but that");
            let _ = ws.flush();
        });
        let unsent = client.stop();
        assert_eq!(unsent.into_messages(), ["before".into(), "after".into()]);
        server.join().expect("no panic");
    });
}

fn stop_waits_for_the_end_and_says_what_was_not_sent(case: Case) {
    let server = Server::start();
    let mut client = case.connect(&server, PROMPT);
    thread::scope(|scope| {
        let received = scope.spawn(|| {
            let mut ws = server.upgrade();
            let mut received = 0;
            while let Ok(Frame::Text(_)) = ws.read() {
                received += 1;
            }
            let _ = ws.flush();
            received
        });
        client.until_connected();
        let accepted = (0..100)
            .take_while(|_| client.sender().try_send("message").is_ok())
            .count();
        let unsent = client.stop();
        assert!(unsent.is_empty());
        assert_eq!(received.join().expect("no panic"), accepted);
    });
    // The upgrade is never answered.
    let mut client = case.start(
        Options::new(&format!("ws://127.0.0.1:{}/", server.port()))
            .expect("a URL")
            .hold(10, 1000),
    );
    assert_words(&mut client, &["connecting"]);
    client.sender().try_send("never").expect("room");
    assert_eq!(client.stop().into_messages(), ["never".into()]);
}

fn stats_count_what_went_over_all_connections(case: Case) {
    let server = Server::start();
    let mut client = case.connect(&server, PROMPT);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..2 {
                let mut ws = server.upgrade();
                ws.send(Frame::text("0123456789"))
                    .expect("the client reads");
                assert_eq!(read(&mut ws), "hello");
                ws.send(Frame::text("bye")).expect("the client reads");
                hang_up(ws.get_ref());
            }
        });
        for _ in 0..2 {
            client.until_connected();
            client.sender().try_send("hello").expect("connected");
            let until = |event: Event| matches!(event, Event::Disconnected { .. }).then_some(());
            client.until(until);
        }
        client.until(|event| matches!(event, Event::Reconnect { .. }).then_some(()));
        let stats = client.stats();
        assert_eq!((stats.messages_received, stats.messages_sent), (4, 2));
        assert_eq!(
            (stats.machine.sessions, stats.machine.losses, stats.ready),
            (2, 2, false)
        );
        // Two answers to the upgrade (RFC 6455 §1.3: over 100 bytes), two frames of 2 + 10 and 2 + 3 bytes.
        assert!(stats.bytes_received > 2 * (100 + 12 + 5), "{stats:?}");
        assert!(stats.bytes_sent > 2 * (100 + 6 + 5), "{stats:?}");
        assert_eq!(
            (stats.unsent, stats.waiting, stats.waiting_bytes),
            (0, 0, 0)
        );
    });
}

fn what_is_shown_of_a_client_holds_no_message(case: Case) {
    let server = Server::start();
    let options = server
        .options(PROMPT)
        .hold(10, 1000)
        .on_connect(|opening: &mut Opening<'_>| {
            opening.send("secret");
            Progress::Pending
        });
    let mut client = case.start(options);
    client.sender().try_send("secret").expect("room");
    let refused = client.sender().send_opening(ConnId::new(7), "secret");
    assert_words(&mut client, &["connecting"]);
    let shown = format!("{} {refused:?}", client.shown());
    let stopped = client.stop();
    let shown = format!("{shown} {stopped:?}");
    assert!(!shown.contains("secret"), "{shown}");
    assert_eq!(stopped.len(), 1);
}
