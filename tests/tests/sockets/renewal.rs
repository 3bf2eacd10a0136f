//! Connections that are renewed before their service ends them.

use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use heartbeat_tokio::core::{Description, Renewal};
use heartbeat_tokio::{Event, Options, Reason};
use tungstenite::{Message as Frame, WebSocket};

use crate::harness::{Case, Client, Server};

cases! {
    everywhere: [
        a_connection_is_renewed_before_its_lifetime_ends_and_every_message_arrives_once,
        an_announced_end_is_told_and_the_connection_renewed,
        a_stop_while_the_connection_is_renewed_is_the_end,
        a_renewal_that_is_not_answered_is_told_after_the_close_timeout,
    ]
}

/// Reads everything until the peer's Close, answers it, and returns its code.
fn read_to_the_close(ws: &mut WebSocket<TcpStream>) -> (Vec<String>, u16) {
    let (mut texts, mut code) = (Vec::new(), 0);
    loop {
        match ws.read() {
            Ok(Frame::Text(text)) => texts.push(text.to_string()),
            Ok(Frame::Close(Some(close))) => code = close.code.into(),
            Ok(_) => {}
            Err(_) => return (texts, code),
        }
    }
}

/// Takes events until the client is connected, and returns the others.
#[track_caller]
fn until_connected(client: &mut Client) -> Vec<String> {
    let mut words = Vec::new();
    client.until(|event| {
        match event {
            Event::Connected { .. } => return Some(()),
            Event::Ending { why, .. } => words.push(format!("ending: {why}")),
            Event::Disconnected { reason, unsent, .. } => {
                words.push(format!("{reason}, {} unsent", unsent.len()));
            }
            Event::Reconnect { attempt, delay } => {
                words.push(format!("retry {attempt} in {delay:?}"))
            }
            Event::Message { message, .. } => words.push(message.as_text().unwrap_or("?").into()),
            _ => {}
        }
        None
    });
    words
}

fn a_connection_is_renewed_before_its_lifetime_ends_and_every_message_arrives_once(case: Case) {
    let server = Server::start();
    let options = server.options(r#"{"lifetime": "2s"}"#).hold(100, 1 << 20);
    let mut client = case.start(options);
    thread::scope(|scope| {
        let received = scope.spawn(|| {
            let mut first = server.upgrade();
            first.send(Frame::text("hello")).expect("open");
            let (mut texts, code) = read_to_the_close(&mut first);
            let mut second = server.upgrade();
            while texts.len() < 30 {
                if let Frame::Text(text) = second.read().expect("a message") {
                    texts.push(text.to_string());
                }
            }
            (texts, code, second)
        });
        let sender = client.sender();
        let sending = scope.spawn(move || {
            for number in 0..30 {
                sender.try_send(number.to_string()).expect("held or sent");
                thread::sleep(Duration::from_millis(100));
            }
        });
        assert_eq!(until_connected(&mut client), [] as [&str; 0]);
        assert_eq!(
            until_connected(&mut client),
            [
                "hello",
                "ending: lifetime",
                "renewal (lifetime), 0 unsent",
                "retry 0 in 25ms"
            ]
        );
        while !(received.is_finished() && sending.is_finished()) {
            client.drive_for(Duration::from_millis(5));
        }
        let (texts, code, _second) = received.join().expect("no panic");
        let expected: Vec<_> = (0..30).map(|number| number.to_string()).collect();
        assert_eq!((texts, code), (expected, 4000));
        let stats = client.stats().machine;
        assert_eq!((stats.renewals, stats.losses), (1, 0));
    });
}

fn announcing(server: &Server) -> Options {
    let service = r#"{"rules": [{"text": "bye", "ending": "1s"}]}"#;
    let service = Description::from_json(service).expect("a description");
    server
        .options(r#"{"stable_after": "1ms", "close_timeout": "200ms"}"#)
        .of_service(service)
}

fn an_announced_end_is_told_and_the_connection_renewed(case: Case) {
    let server = Server::start();
    let mut client = case.start(announcing(&server));
    thread::scope(|scope| {
        let served = scope.spawn(|| {
            let mut first = server.upgrade();
            thread::sleep(Duration::from_millis(50));
            first.send(Frame::text("bye")).expect("open");
            let code = read_to_the_close(&mut first).1;
            (code, server.upgrade())
        });
        assert_eq!(until_connected(&mut client), [] as [&str; 0]);
        assert_eq!(
            until_connected(&mut client),
            [
                "bye",
                "ending: announced",
                "renewal (announced), 0 unsent",
                "retry 0 in 25ms"
            ]
        );
        let (cause, gap) = client.until(|event| match event {
            Event::Gap { cause, unsent, .. } => Some((cause, unsent)),
            _ => None,
        });
        assert_eq!((cause, gap), (Reason::Renewal(Renewal::Announced), 0));
        assert_eq!(served.join().expect("no panic").0, 4000);
    });
}

fn a_stop_while_the_connection_is_renewed_is_the_end(case: Case) {
    let server = Server::start();
    let mut client = case.start(announcing(&server));
    thread::scope(|scope| {
        let served = scope.spawn(|| {
            let mut first = server.upgrade();
            thread::sleep(Duration::from_millis(50));
            first.send(Frame::text("bye")).expect("open");
            // Its Close stays unanswered.
            first
        });
        client.until(|event| matches!(event, Event::Ending { .. }).then_some(()));
        while client.stats().phase != heartbeat_tokio::core::Phase::Closing {
            client.drive_for(Duration::from_millis(5));
        }
        client.sender().stop();
        let ends: Vec<_> = std::iter::from_fn(|| client.next()).collect();
        assert!(matches!(ends[..], [Event::Stopped { .. }]), "{ends:?}");
        drop(served.join());
    });
}

fn a_renewal_that_is_not_answered_is_told_after_the_close_timeout(case: Case) {
    let server = Server::start();
    let mut client = case.start(announcing(&server));
    thread::scope(|scope| {
        let served = scope.spawn(|| {
            let mut first = server.upgrade();
            thread::sleep(Duration::from_millis(50));
            first.send(Frame::text("bye")).expect("open");
            let second = server.upgrade();
            (first, second)
        });
        until_connected(&mut client);
        let words = until_connected(&mut client);
        assert_eq!(
            words[2..],
            ["renewal (announced), 0 unsent", "retry 0 in 25ms"]
        );
        drop(served.join());
    });
}
