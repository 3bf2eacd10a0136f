//! Messages that are lent where they were received: the same messages, in the same order, with the same
//! ends.

use std::io::Write as _;
use std::net::TcpListener;
use std::thread;

use heartbeat_blocking::{Event, MessageRef, Options};
use heartbeat_tests::frames::{BINARY, PING, TEXT, encode as frame};

/// A server that sends this, and reads until the client is gone.
fn server(said: Vec<u8>) -> (Options, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("ws://{}/", listener.local_addr().expect("bound"));
    let server = thread::spawn(move || {
        let (socket, _) = listener.accept().expect("a client");
        let mut ws = tungstenite::accept(socket).expect("an upgrade");
        ws.get_mut().write_all(&said).expect("the client reads");
        while ws.read().is_ok() {}
    });
    (Options::new(&url).expect("a URL"), server)
}

/// All kinds: small, large, fragmented, heartbeats between them, and a last one that is not text.
fn said() -> Vec<u8> {
    let small = (0..3000).map(|n| frame(TEXT, format!("message {n}").as_bytes()));
    let small: Vec<u8> = small.flatten().collect();
    [
        small,
        frame(PING, b"?"),
        frame(TEXT, br#"{"type":"ping"}"#),
        frame(BINARY, &[7; 60_000]),
        frame(0x01, b"in t\xc3"),
        frame(0x80, b"\xa9wo"),
        frame(BINARY, b""),
        frame(TEXT, b"last"),
        frame(TEXT, b"\xff"),
    ]
    .concat()
}

fn shown(message: MessageRef<'_>) -> String {
    match message {
        MessageRef::Text(text) => text.to_owned(),
        MessageRef::Binary(bytes) => format!("{} bytes, {:?}", bytes.len(), bytes.first()),
    }
}

fn expected() -> Vec<String> {
    let small = (0..3000).map(|n| format!("message {n}"));
    let rest = [
        "60000 bytes, Some(7)",
        "in té",
        "wo",
        "0 bytes, None",
        "last",
    ];
    let mut all: Vec<String> = small.collect();
    all.push(rest[0].into());
    all.push(format!("{}{}", rest[1], rest[2]));
    all.extend(rest[3..].iter().map(|text| (*text).to_owned()));
    all
}

/// The other events: pongs and the end.
fn note(event: &Event, notes: &mut Vec<String>) {
    match event {
        Event::PongSent { .. } => notes.push("pong".into()),
        Event::Disconnected { reason, .. } => notes.push(reason.to_string()),
        Event::Message { .. } => notes.push("a message that was not lent".into()),
        _ => {}
    }
}

const NOTES: [&str; 3] = ["pong", "pong", "protocol error, close 1007"];

#[test]
fn a_blocking_client_lends_each_message_once_and_in_order() {
    let (options, server) = server(said());
    let mut client = heartbeat_blocking::InPlace::new(options).expect("a poll");
    let (mut all, mut notes) = (Vec::new(), Vec::new());
    while let Some(event) = client.recv_lent(|_, message| all.push(shown(message))) {
        note(&event, &mut notes);
        if let Event::Disconnected { .. } = event {
            break;
        }
    }
    server.join().expect("no panic");
    assert!(all == expected());
    assert_eq!(notes, NOTES);
    assert_eq!(client.stats().messages_received, 3004);
}

#[tokio::test]
async fn a_tokio_client_lends_each_message_once_and_in_order() {
    let (options, server) = server(said());
    let mut client = heartbeat_tokio::InPlace::new(options).expect("no TLS");
    let (mut all, mut notes) = (Vec::new(), Vec::new());
    while let Some(event) = client
        .next_lent(|_, message| all.push(shown(message)))
        .await
    {
        note(&event, &mut notes);
        if let Event::Disconnected { .. } = event {
            break;
        }
    }
    server.join().expect("no panic");
    assert!(all == expected());
    assert_eq!(notes, NOTES);
    assert_eq!(client.stats().messages_received, 3004);
}
