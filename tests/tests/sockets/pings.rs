//! Every ping is answered, once, in order, and before anything else happens.

use std::io::Write;
use std::thread;
use std::time::Duration;

use heartbeat_tokio::Event;
use tungstenite::Message;
use tungstenite::protocol::CloseFrame;

use crate::harness::{Case, PATIENCE, PING, Server, TEXT, frame, hang_up, write_until_full};

cases! {
    everywhere: [
        a_json_ping_in_a_burst_is_answered_before_later_messages_are_handed_out,
        pings_between_the_fragments_of_a_message_are_answered_and_it_arrives_whole,
        a_close_is_answered_with_its_code,
    ],
    driven: [
        a_flood_of_100_000_pings_is_answered_one_by_one_in_order,
        pings_of_a_server_that_does_not_listen_are_bounded_and_answered_once_it_does,
        a_server_that_floods_pings_and_never_listens_gets_its_verdict,
    ]
}

fn a_flood_of_100_000_pings_is_answered_one_by_one_in_order(case: Case) {
    const PINGS: u32 = 100_000;
    let server = Server::start();
    let mut client = case.connect(&server, "{}");
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut ws = server.upgrade();
            let mut writer = ws.get_ref().try_clone().expect("a second handle");
            scope.spawn(move || {
                let all: Vec<u8> = (0..PINGS)
                    .flat_map(|n| frame(PING, &n.to_be_bytes()))
                    .collect();
                writer.write_all(&all).expect("the client reads");
            });
            for n in 0..PINGS {
                let pong = ws.read().expect("a pong");
                assert_eq!(pong, Message::Pong(n.to_be_bytes().to_vec().into()));
            }
            hang_up(ws.get_ref());
        });
        assert_eq!(client.until_disconnected().reason, "eof");
    });
}

/// Writes pings until the path is full in both directions. Returns how many are written whole, and the rest
/// of the one that is not.
fn flood(socket: &mut std::net::TcpStream) -> (u64, Vec<u8>) {
    let ping = |n: u64| {
        let mut payload = [b'.'; 125];
        payload[..8].copy_from_slice(&n.to_be_bytes());
        frame(PING, &payload)
    };
    socket
        .set_write_timeout(Some(Duration::from_millis(500)))
        .expect("a timeout");
    for n in 0.. {
        let bytes = ping(n);
        let written = write_until_full(socket, &bytes);
        if written < bytes.len() {
            socket.set_write_timeout(Some(PATIENCE)).expect("a timeout");
            return (n + 1, bytes[written..].to_vec());
        }
        assert!(n < 1_000_000, "the client takes pings without bounds");
    }
    unreachable!()
}

fn pings_of_a_server_that_does_not_listen_are_bounded_and_answered_once_it_does(case: Case) {
    let server = Server::narrow();
    let mut client = case.connect(&server, "{}");
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut ws = server.upgrade();
            let (pings, rest) = flood(ws.get_mut());
            let mut writer = ws.get_ref().try_clone().expect("a second handle");
            scope.spawn(move || writer.write_all(&rest).expect("the client reads again"));
            for n in 0..pings {
                match ws.read().expect("a pong") {
                    Message::Pong(payload) => assert_eq!(payload[..8], n.to_be_bytes()),
                    other => panic!("{other:?} instead of pong {n} of {pings}"),
                }
            }
            ws.send(Message::text("done")).expect("the client reads");
            assert_eq!(ws.read().expect("an echo"), Message::text("done"));
        });
        assert_eq!(client.message(), "done".into());
        client.sender().try_send("done").expect("connected");
        assert_eq!(client.until_disconnected().reason, "eof");
    });
}

fn a_server_that_floods_pings_and_never_listens_gets_its_verdict(case: Case) {
    let server = Server::narrow();
    let config = r#"{"idle_timeout": "60s", "write_timeout": "700ms"}"#;
    let mut client = case.connect(&server, config);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut ws = server.upgrade();
            flood(ws.get_mut());
            crate::harness::read_to_the_end(ws.get_mut());
        });
        assert_eq!(client.until_disconnected().reason, "write_timeout");
        drop(client);
    });
}

fn a_json_ping_in_a_burst_is_answered_before_later_messages_are_handed_out(case: Case) {
    let server = Server::start();
    let mut client = case.connect(&server, "{}");
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut ws = server.upgrade();
            let mut burst = frame(TEXT, b"before").repeat(100);
            burst.extend(frame(TEXT, br#"{"type":"ping"}"#));
            burst.extend(frame(TEXT, b"after").repeat(100));
            ws.get_mut().write_all(&burst).expect("the client reads");
            let pong = ws.read().expect("a pong");
            assert_eq!(pong, Message::text(r#"{"type":"pong"}"#));
            ws.send(Message::text("the answer was here"))
                .expect("the client reads");
            assert!(ws.read().is_err(), "one ping, one answer");
        });
        client.until_connected();
        let (mut before, mut after) = (0, 0);
        client.until(|event| {
            match &event {
                Event::Message { message, .. } if message.as_text() == Some("before") => {
                    before += 1
                }
                Event::Message { .. } => after += 1,
                _ => {}
            }
            matches!(event, Event::PongSent { .. }).then_some(())
        });
        assert_eq!((before, after), (100, 0));
        // The in-place client is not driven now: its answer has left already.
        client.until(|event| match event {
            Event::Message { message, .. } => (message.as_text() != Some("after")).then_some(()),
            _ => None,
        });
        drop(client);
    });
}

fn pings_between_the_fragments_of_a_message_are_answered_and_it_arrives_whole(case: Case) {
    let server = Server::start();
    let mut client = case.connect(&server, "{}");
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut ws = server.upgrade();
            // A first fragment, a middle one, and the last one (RFC 6455 §5.4).
            for (first, fragment) in [(0x01, "he"), (0x00, "l"), (0x80, "lo")] {
                let mut bytes = frame(PING, fragment.as_bytes());
                bytes.extend(frame(first, fragment.as_bytes()));
                ws.get_mut().write_all(&bytes).expect("the client reads");
                assert_eq!(ws.read().expect("a pong"), Message::Pong(fragment.into()));
            }
            assert!(ws.read().is_err(), "nothing else is said");
        });
        assert_eq!(client.message(), "hello".into());
        drop(client);
    });
}

fn a_close_is_answered_with_its_code(case: Case) {
    let server = Server::start();
    let mut client = case.connect(&server, "{}");
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut ws = server.upgrade();
            let close = CloseFrame {
                code: 1001.into(),
                reason: "going".into(),
            };
            ws.close(Some(close.clone())).expect("the client reads");
            assert_eq!(ws.read().expect("the answer"), Message::Close(Some(close)));
        });
        let end = client.until_disconnected();
        assert_eq!(
            (end.reason.as_str(), end.detail.as_str()),
            ("close 1001", "going")
        );
    });
}
