//! An application that takes no events: its heartbeats go on, an end is noticed at once, and messages are
//! handled as configured.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use heartbeat_tokio::{Event, Message, Options, Overflow};
use tungstenite::WebSocket;

use crate::harness::{BINARY, Case, Client, PATIENCE, PING, Server, frame, reset};
use crate::tls;

cases! {
    everywhere: [
        a_client_that_wants_no_messages_hears_pings_and_ends_and_tells_no_message,
        heartbeat_events_are_told_only_where_they_are_wanted,
    ],
    driven: [
        pings_without_end_are_answered_while_nobody_takes_an_event,
        a_fin_is_noticed_at_once_while_reading_is_paused_and_what_came_before_is_told,
        a_reset_is_noticed_at_once_while_reading_is_paused_and_what_came_before_is_told,
        a_fin_under_tls_is_noticed_at_once_while_reading_is_paused,
        what_arrived_before_the_pause_ended_is_read_once_however_often_reading_pauses,
        a_program_that_only_sends_is_connected_again_and_again,
        a_pause_is_a_figure_with_its_time_until_it_ends,
        the_oldest_or_the_newest_messages_go_and_pings_are_answered_behind_them,
        what_arrived_before_the_close_is_told_after_a_stop,
    ]
}

const CONFIG: &str =
    r#"{"backoff": {"base": "100ms", "cap": "100ms", "jitter_percent": 0}, "idle_timeout": "60s"}"#;

/// A notice within less than this counts as at once: `write_timeout` and `idle_timeout` are 60 s.
const AT_ONCE: Duration = Duration::from_secs(5);

fn numbered(n: u32) -> Vec<u8> {
    let mut payload = n.to_be_bytes().to_vec();
    payload.resize(1000, b'.');
    payload
}

fn all_numbered(count: u32) -> Vec<u8> {
    (0..count)
        .flat_map(|n| frame(BINARY, &numbered(n)))
        .collect()
}

/// Takes these messages and then the connection's end.
#[track_caller]
fn takes_all(client: &mut Client, count: u32) -> String {
    for n in 0..count {
        assert!(client.message() == numbered(n).into(), "message {n}");
    }
    client.until(|event| match event {
        Event::Disconnected { reason, .. } => Some(reason.to_string()),
        Event::Message { .. } => panic!("one more"),
        _ => None,
    })
}

/// Waits until this is true.
#[track_caller]
fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(1));
    }
}

fn paused(client: &Client) -> bool {
    client.stats().reading_paused_since.is_some()
}

fn pings_without_end_are_answered_while_nobody_takes_an_event(case: Case) {
    const PINGS: u32 = 5000;
    let server = Server::start();
    let client = case.start(server.options(CONFIG).queue(16));
    let mut ws = server.upgrade();
    for n in 0..PINGS {
        ws.get_mut()
            .write_all(&frame(PING, &n.to_be_bytes()))
            .expect("the client reads");
        let pong = ws.read().expect("a pong");
        assert_eq!(pong.into_data()[..], n.to_be_bytes());
    }
    until("counted", || client.stats().machine.pongs_sent == PINGS);
    let left_out = u64::from(PINGS) - 64;
    until("told", || {
        client.stats().heartbeat_events_dropped >= left_out
    });
    assert_eq!(client.stats().reading_paused_since, None);
    // Nor does its end have to wait for anything.
    drop(ws);
    drop(server.upgrade());
}

fn an_end(case: Case, end: impl FnOnce(WebSocket<TcpStream>), reason: &str) {
    const MESSAGES: u32 = 100;
    let server = Server::start();
    let mut client = case.start(server.options(CONFIG).queue(16));
    let mut ws = server.upgrade();
    ws.get_mut()
        .write_all(&all_numbered(MESSAGES))
        .expect("room");
    until("reading pauses", || paused(&client));
    let ended = Instant::now();
    end(ws);
    // The next dial, although no event has been taken yet.
    let next = server.upgrade();
    assert!(ended.elapsed() < AT_ONCE, "{:?}", ended.elapsed());
    assert_eq!(takes_all(&mut client, MESSAGES), reason);
    client.until_connected();
    drop(next);
}

fn a_fin_is_noticed_at_once_while_reading_is_paused_and_what_came_before_is_told(case: Case) {
    an_end(case, drop, "eof");
}

fn a_reset_is_noticed_at_once_while_reading_is_paused_and_what_came_before_is_told(case: Case) {
    an_end(case, |ws| reset(ws.into_inner()), "reset");
}

fn a_fin_under_tls_is_noticed_at_once_while_reading_is_paused(case: Case) {
    let server = Server::start();
    let (server_tls, client_tls) = tls::for_name("localhost");
    let options = Options::new(&format!("wss://localhost:{}/", server.port())).expect("a URL");
    let config = heartbeat_tokio::Config::from_json(CONFIG).expect("a configuration");
    let mut client = case.start(options.config(config).queue(16).tls(client_tls));
    let mut ws = tls::upgrade(&server, server_tls.clone());
    ws.get_mut().write_all(&all_numbered(100)).expect("room");
    until("reading pauses", || paused(&client));
    let ended = Instant::now();
    drop(ws);
    let next = tls::upgrade(&server, server_tls);
    assert!(ended.elapsed() < AT_ONCE, "{:?}", ended.elapsed());
    takes_all(&mut client, 100);
    drop(next);
}

/// While reading is paused, the operating system's readiness events are used up, so nothing may depend on
/// them.
fn what_arrived_before_the_pause_ended_is_read_once_however_often_reading_pauses(case: Case) {
    let server = Server::start();
    let mut client = case.start(server.options(CONFIG).queue(2));
    let mut ws = server.upgrade();
    let mut n = 0;
    for round in 0..50 {
        let burst: Vec<u8> = (n..n + 6)
            .flat_map(|n| frame(BINARY, &numbered(n)))
            .collect();
        ws.get_mut().write_all(&burst).expect("room");
        if round % 3 > 0 {
            until("reading pauses", || paused(&client));
        }
        for _ in 0..6 {
            assert!(client.message() == numbered(n).into(), "message {n}");
            n += 1;
        }
    }
}

fn a_program_that_only_sends_is_connected_again_and_again(case: Case) {
    let server = Server::start();
    let config = CONFIG.replace("100ms", "50ms");
    let mut client = case.start(server.options(&config).queue(4));
    let sender = client.sender();
    for n in 0..150 {
        let mut ws = server.upgrade();
        // Never taken, so reading is paused from the first connection on.
        ws.get_mut().write_all(&all_numbered(6)).expect("room");
        if n % 50 == 0 {
            until("accepted", || sender.try_send(format!("{n}")).is_ok());
            assert_eq!(
                ws.read().expect("a message"),
                tungstenite::Message::text(format!("{n}"))
            );
        }
    }
    let mut events = 0;
    let mut messages = 0;
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE && messages < 4 {
        match client.next() {
            Some(Event::Message { .. }) => messages += 1,
            Some(_) => events += 1,
            None => break,
        }
    }
    assert_eq!(messages, 4);
    assert!(events < 10, "{events}");
}

fn a_pause_is_a_figure_with_its_time_until_it_ends(case: Case) {
    let server = Server::start();
    let before = std::time::SystemTime::now();
    let mut client = case.start(server.options(CONFIG).queue(2));
    let mut ws = server.upgrade();
    assert_eq!(client.stats().reading_paused_since, None);
    ws.get_mut().write_all(&all_numbered(3)).expect("room");
    until("reading pauses", || paused(&client));
    let stats = client.stats();
    let since = stats.reading_paused_since.expect("paused");
    assert!(before <= since && since <= std::time::SystemTime::now());
    assert_eq!(stats.reading_pauses, 1);
    for _ in 0..3 {
        client.message();
    }
    until("reading goes on", || !paused(&client));
}

fn the_oldest_or_the_newest_messages_go_and_pings_are_answered_behind_them(case: Case) {
    const MESSAGES: u32 = 1000;
    for (overflow, first) in [
        (Overflow::DropOldest, MESSAGES - 16),
        (Overflow::DropNewest, 0),
    ] {
        let server = Server::start();
        let mut client = case.start(server.options(CONFIG).queue(16).overflow(overflow));
        let mut ws = server.upgrade();
        ws.get_mut()
            .write_all(&all_numbered(MESSAGES))
            .expect("the client reads");
        ws.get_mut()
            .write_all(&frame(PING, b"?"))
            .expect("the client reads");
        assert_eq!(ws.read().expect("a pong").into_data()[..], *b"?");
        let missing = u64::from(MESSAGES) - 16;
        until("all have come", || {
            client.stats().messages_dropped == missing
        });
        let (mut kept, mut lagged) = (Vec::new(), Vec::new());
        while kept.len() < 16 || lagged.is_empty() {
            match client.next().expect("an event") {
                Event::Message { message, .. } => kept.push(message),
                Event::Lagged { dropped } => lagged.push((kept.len(), dropped)),
                _ => {}
            }
        }
        let at = if first > 0 { 0 } else { 16 };
        assert_eq!(lagged, [(at, missing)], "{overflow:?}");
        let expected: Vec<Message> = (first..first + 16).map(|n| numbered(n).into()).collect();
        assert!(kept == expected, "{overflow:?}");
        assert_eq!(client.stats().reading_pauses, 0);
    }
}

fn a_client_that_wants_no_messages_hears_pings_and_ends_and_tells_no_message(case: Case) {
    const MESSAGES: u32 = 3000;
    let server = Server::start();
    let options = server.options(CONFIG).queue(1).overflow(Overflow::Discard);
    let mut client = case.start(options);
    thread::scope(|scope| {
        let serving = scope.spawn(|| {
            let mut ws = server.upgrade();
            let mut writer = ws.get_ref().try_clone().expect("a second handle");
            writer
                .write_all(&all_numbered(MESSAGES))
                .expect("the client reads");
            writer
                .write_all(&frame(PING, b"?"))
                .expect("the client reads");
            assert_eq!(ws.read().expect("a pong").into_data()[..], *b"?");
            ws.get_ref().shutdown(Shutdown::Write).expect("open");
            let _ = ws.get_mut().read(&mut [0; 64]);
            server.upgrade()
        });
        let mut ends = 0;
        while ends < 1 {
            match client.next().expect("an event") {
                Event::Message { .. } => panic!("not wanted"),
                Event::Disconnected { reason, .. } => {
                    assert_eq!(reason.to_string(), "eof");
                    ends += 1;
                }
                _ => {}
            }
        }
        client.until_connected();
        drop(serving.join().expect("no panic"));
    });
    let stats = client.stats();
    assert_eq!(stats.messages_received, u64::from(MESSAGES));
    assert_eq!((stats.messages_dropped, stats.reading_pauses), (0, 0));
}

fn heartbeat_events_are_told_only_where_they_are_wanted(case: Case) {
    for told in [true, false] {
        let server = Server::start();
        let mut client = case.start(server.options(CONFIG).heartbeat_events(told));
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut ws = server.upgrade();
                ws.get_mut().write_all(&frame(PING, b"?")).expect("room");
                assert!(ws.read().expect("a pong").is_pong());
                ws.get_mut().write_all(&frame(BINARY, b"!")).expect("room");
                let _ = ws.read();
            });
            let mut notes = 0;
            client.until(|event| {
                notes += u32::from(matches!(event, Event::PongSent { .. }));
                matches!(event, Event::Message { .. }).then_some(())
            });
            assert_eq!(notes, u32::from(told));
            drop(client);
        });
    }
}

/// The messages that had arrived, and those that the server still sends until it sees our Close.
fn what_arrived_before_the_close_is_told_after_a_stop(case: Case) {
    const MESSAGES: u32 = 20_000;
    let server = Server::start();
    let mut client = case.start(server.options(CONFIG).queue(64));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut ws = server.upgrade();
            let mut writer = ws.get_ref().try_clone().expect("a second handle");
            scope.spawn(move || {
                let small: Vec<u8> = (0..MESSAGES)
                    .flat_map(|n| frame(BINARY, &n.to_be_bytes()))
                    .collect();
                writer.write_all(&small).expect("the client reads");
            });
            // The server's Close, which is answered behind all of them.
            while ws.read().is_ok() {}
        });
        client.message();
        client.sender().stop();
        let (mut taken, mut dropped) = (1_u32, 0);
        while let Some(event) = client.next() {
            match event {
                Event::Message { message, .. } => {
                    assert!(message == taken.to_be_bytes().to_vec().into(), "in order");
                    taken += 1;
                }
                Event::Lagged { dropped: more } => dropped += more,
                _ => {}
            }
        }
        assert_eq!((taken, dropped), (MESSAGES, 0));
    });
}
