//! Servers that break the protocol cause one typed end, the table's policy, and no panic.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;

use heartbeat_tokio::core::{Cause, GiveUp};
use heartbeat_tokio::{Event, Reason};
use tungstenite::Message;

use crate::harness::{BINARY, Case, Client, Server, TEXT, frame, hang_up};

cases! {
    everywhere: [
        a_broken_protocol_ends_in_one_typed_end_and_the_server_is_told,
        a_close_code_that_tungstenite_does_not_know_is_retried,
        a_close_that_cannot_be_read_has_closed_all_the_same,
        half_a_frame_and_the_end_of_the_stream_is_retried,
        fragments_of_nothing_without_end_keep_nobody_from_the_timers,
        an_upgrade_answered_with_garbage_is_one_typed_end,
    ]
}

/// Frames that no server may send, and their close codes.
fn broken() -> Vec<(&'static str, Vec<u8>, &'static [u16])> {
    let length = |bytes: u64| [&[BINARY, 127][..], &bytes.to_be_bytes()].concat();
    vec![
        ("reserved bits", frame(0xf1, b"x"), &[1002]),
        ("a reserved opcode", frame(0x83, b"x"), &[1002]),
        ("a reserved control opcode", frame(0x8b, b"x"), &[1002]),
        ("bad UTF-8", frame(TEXT, &[0xff, 0xfe]), &[1007]),
        (
            "half a character at the end",
            frame(TEXT, "é".as_bytes().split_at(1).0),
            &[1007],
        ),
        ("a fragmented ping", frame(0x09, b"x"), &[1002]),
        ("a ping of 126 bytes", frame(0x89, &[0; 126]), &[1002]),
        ("a length of 2^63", length(1 << 63), &[1002, 1009]),
        ("a length of 2^63 - 1", length((1 << 63) - 1), &[1009]),
        (
            "a length over the limit",
            frame(BINARY, &[0; 1001])[..4].to_vec(),
            &[1009],
        ),
        (
            "fragments over the limit",
            [frame(0x02, &[0; 600]), frame(0x80, &[0; 600])].concat(),
            &[1009],
        ),
        (
            "a masked frame",
            vec![TEXT, 0x81, 1, 2, 3, 4, b'x' ^ 1],
            &[1002],
        ),
        ("a fragment of nothing", frame(0x80, b"x"), &[1002]),
        (
            "a message in a message",
            [frame(0x01, b"x"), frame(TEXT, b"y")].concat(),
            &[1002],
        ),
    ]
}

/// Takes the events up to the one end, and the event after it.
fn ended(client: &mut Client) -> (Reason, Option<GiveUp>) {
    let mut ends = Vec::new();
    let gave_up = client.until(|event| match event {
        Event::Disconnected { reason, .. } => {
            ends.push(reason);
            None
        }
        Event::GaveUp { reason, .. } => Some(Some(reason)),
        Event::Reconnect { .. } => Some(None),
        _ => None,
    });
    assert_eq!(ends.len(), 1, "{ends:?}");
    (ends.remove(0), gave_up)
}

fn a_broken_protocol_ends_in_one_typed_end_and_the_server_is_told(case: Case) {
    for (name, bytes, codes) in broken() {
        let server = Server::start();
        let mut client = case.start(server.options("{}").max_message_size(1000));
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut ws = server.upgrade();
                ws.get_mut().write_all(&bytes).expect("the client reads");
                let close = ws.read();
                let told = matches!(&close, Ok(Message::Close(Some(frame))) if codes.contains(&frame.code.into()));
                assert!(told, "{name}: {close:?}");
            });
            let (reason, gave_up) = ended(&mut client);
            let code = codes
                .iter()
                .find(|code| reason == Reason::Cause(Cause::Protocol(**code)));
            let code = *code.unwrap_or_else(|| panic!("{name}: {reason}"));
            // A message that is too large is a matter of settings. Everything else is corruption, which passes.
            let permanent = (code == 1009).then_some(GiveUp::Cause(Cause::Protocol(code)));
            assert_eq!(gave_up, permanent, "{name}");
        });
    }
}

/// Bad gateway, a code outside any protocol, and one that must not be sent: the server is ending anyway.
fn a_close_code_that_tungstenite_does_not_know_is_retried(case: Case) {
    for code in [1014_u16, 999, 1006] {
        let server = Server::start();
        let config = r#"{"backoff": {"base": "50ms", "cap": "50ms", "jitter_percent": 0}}"#;
        let mut client = case.connect(&server, config);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut ws = server.upgrade();
                let close = frame(0x88, &code.to_be_bytes());
                ws.get_mut().write_all(&close).expect("the client reads");
                assert!(matches!(ws.read(), Ok(Message::Close(Some(_)))), "{code}");
                server
                    .upgrade()
                    .send(Message::text("again"))
                    .expect("the client reads");
            });
            assert_eq!(client.until_disconnected().reason, "close 1014", "{code}");
            assert_eq!(client.message(), "again".into());
        });
    }
}

/// The server is told what was wrong, and the client comes back as after any other loss.
fn a_close_that_cannot_be_read_has_closed_all_the_same(case: Case) {
    let cases: [(&[u8], u16, &str); 4] = [
        (&[3], 1002, "close 1005"),
        (&[3, 0xe8, 0xff], 1007, "close 1000"),
        (&[3, 0xe8, b'b', b'y', 0xc3], 1007, "close 1000"),
        (&[0x0f, 0xa0, 0x80], 1007, "close 4000"),
    ];
    for (payload, answer, reason) in cases {
        let server = Server::start();
        let config = r#"{"backoff": {"base": "50ms", "cap": "50ms", "jitter_percent": 0}}"#;
        let mut client = case.connect(&server, config);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut ws = server.upgrade();
                let close = frame(0x88, payload);
                ws.get_mut().write_all(&close).expect("the client reads");
                let told = ws.read();
                assert!(
                    matches!(&told, Ok(Message::Close(Some(frame))) if u16::from(frame.code) == answer),
                    "{payload:x?}: {told:?}"
                );
                server
                    .upgrade()
                    .send(Message::text("again"))
                    .expect("the client reads");
            });
            let end = client.until_disconnected();
            assert_eq!((end.reason.as_str(), end.detail.as_str()), (reason, ""));
            assert_eq!(client.message(), "again".into());
        });
    }
}

/// A message that never ends and has no bytes, so there is always something to read.
fn fragments_of_nothing_without_end_keep_nobody_from_the_timers(case: Case) {
    let server = Server::start();
    let config = r#"{"ping": {"every": "50ms"}, "close_timeout": "200ms"}"#;
    let mut client = case.connect(&server, config);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut ws = server.upgrade();
            let socket = ws.get_mut();
            let row = frame(0x00, b"").repeat(32 << 10);
            let mut is_there = socket.write_all(&frame(0x01, b"")).is_ok();
            while is_there {
                is_there = socket.write_all(&row).is_ok();
            }
        });
        for _ in 0..5 {
            client.until(|event| matches!(event, Event::PingSent { .. }).then_some(()));
        }
        assert!(client.stop().is_empty());
    });
}

fn half_a_frame_and_the_end_of_the_stream_is_retried(case: Case) {
    let server = Server::start();
    let config = r#"{"backoff": {"base": "50ms", "cap": "50ms", "jitter_percent": 0}}"#;
    let mut client = case.connect(&server, config);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut ws = server.upgrade();
            ws.get_mut()
                .write_all(&frame(TEXT, b"hello")[..4])
                .expect("the client reads");
            hang_up(ws.get_ref());
            server
                .upgrade()
                .send(Message::text("again"))
                .expect("the client reads");
        });
        assert_eq!(client.until_disconnected().reason, "eof");
        assert_eq!(client.message(), "again".into());
    });
}

fn an_upgrade_answered_with_garbage_is_one_typed_end(case: Case) {
    let config = r#"{"connect_timeout": "10s", "backoff": {"base": "50ms", "cap": "50ms", "jitter_percent": 0}}"#;
    let answers: [(&str, &[u8], &str); 4] = [
        ("not HTTP", b"SSH-2.0-OpenSSH_9.9\r\n\r\n", "close 1002"),
        (
            "somebody else's key",
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
              Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
            "close 1002",
        ),
        (
            "a web page",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
            "http 200",
        ),
        ("half an answer", b"HTTP/1.1 101 Switching", "eof"),
    ];
    for (name, answer, expected) in answers {
        let server = Server::start();
        let mut client = case.connect(&server, config);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut socket = server.accept();
                read_head(&mut socket);
                socket.write_all(answer).expect("the client reads");
                hang_up(&socket);
            });
            assert_eq!(client.until_disconnected().reason, expected, "{name}");
        });
    }
    // A head without an end is bounded, and not collected for ever.
    let server = Server::start();
    let mut client = case.connect(&server, config);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut socket = server.accept();
            read_head(&mut socket);
            let mut sent = 0;
            let header = b"X-Padding: 0123456789012345678901234567890123456789\r\n".repeat(100);
            socket
                .write_all(b"HTTP/1.1 101 Switching Protocols\r\n")
                .expect("the client reads");
            while socket.write_all(&header).is_ok() {
                sent += header.len();
                assert!(
                    sent < 64 << 20,
                    "the client collects headers without bounds"
                );
            }
        });
        assert_eq!(client.until_disconnected().reason, "close 1009");
    });
}

/// The client's upgrade request.
pub(crate) fn read_head(socket: &mut TcpStream) -> Vec<u8> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        assert_eq!(
            socket.read(&mut byte).expect("a request"),
            1,
            "the client left"
        );
        head.push(byte[0]);
    }
    head
}
