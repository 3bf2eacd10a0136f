//! A client over a Unix socket, with `Compat`.
#![cfg(unix)]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::thread;

use heartbeat_tokio::{
    Compat, Dial, Dialing, Event, InPlace, Message, Options, Request, Transport,
};
use tokio::net::UnixStream;
use tungstenite::Message as Frame;
use tungstenite::handshake::derive_accept_key;

#[tokio::test]
async fn a_client_runs_over_any_asynchronous_stream() {
    let (ours, theirs) = StdUnixStream::pair().expect("a pair of sockets");
    let server = thread::spawn(move || {
        let mut ws = tungstenite::accept(theirs).expect("an upgrade");
        ws.send(Frame::Ping(vec![7].into()))
            .expect("room for a ping");
        // The pong and the large message come in either order. The large one does not fit into the socket's buffers, so
        // both sides must wait for each other.
        let (first, second) = (ws.read().expect("a message"), ws.read().expect("another"));
        let (pong, large) = if first.is_pong() {
            (first, second)
        } else {
            (second, first)
        };
        ws.send(large).expect("room for an echo");
        (pong, ws.read())
    });

    let mut ours = Some(ours);
    let dialer = move |_: &Dial| -> Dialing {
        let ours = ours.take();
        Box::pin(async move {
            let stream = ours.ok_or(std::io::ErrorKind::ConnectionRefused)?;
            stream.set_nonblocking(true)?;
            Ok(Box::new(Compat::new(UnixStream::from_std(stream)?)) as Box<dyn Transport>)
        })
    };
    let options = Options::new("ws://localhost/").expect("a URL");
    let mut client = InPlace::with_dialer(options, dialer).expect("a client");

    let text = "x".repeat(4 << 20);
    while let Some(event) = client.next().await {
        match event {
            Event::Connected { .. } => client.sender().try_send(text.as_str()).expect("room"),
            Event::Message { message, .. } => {
                assert_eq!(message, Message::from(text.as_str()));
                client.sender().stop();
            }
            _ => {}
        }
    }
    let (pong, end) = server.join().expect("no panic");
    assert_eq!(pong, Frame::Pong(vec![7].into()));
    assert!(matches!(end, Ok(Frame::Close(Some(frame))) if u16::from(frame.code) == 1000));
}

/// The request does not fit into the stream, so the upgrade must wait and be woken many times.
#[tokio::test]
async fn a_request_larger_than_the_stream_holds_is_sent_as_it_is_read() {
    let (ours, mut theirs) = StdUnixStream::pair().expect("a pair of sockets");
    let server = thread::spawn(move || {
        let (mut head, mut buffer) = (Vec::new(), [0; 4096]);
        while !head.ends_with(b"\r\n\r\n") {
            let count = theirs.read(&mut buffer).expect("the client's request");
            assert!(count > 0, "the client hung up after {} bytes", head.len());
            head.extend_from_slice(&buffer[..count]);
        }
        let head = String::from_utf8(head).expect("ASCII");
        let key = head
            .lines()
            .find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
        let accept = derive_accept_key(key.expect("a key").as_bytes());
        write!(
            theirs,
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        )
        .expect("the client reads");
        (head.len(), theirs)
    });
    let mut ours = Some(ours);
    let dialer = move |_: &Dial| -> Dialing {
        let ours = ours.take();
        Box::pin(async move {
            let stream = ours.ok_or(std::io::ErrorKind::ConnectionRefused)?;
            stream.set_nonblocking(true)?;
            Ok(Box::new(Compat::new(UnixStream::from_std(stream)?)) as Box<dyn Transport>)
        })
    };
    let request = Request::new("ws://localhost/")
        .and_then(|request| request.header("X-Large", &"x".repeat(600_000)))
        .expect("a request");
    let mut client = InPlace::with_dialer(Options::from_request(request), dialer);
    let client = client.as_mut().expect("a client");
    loop {
        match client.next().await.expect("the client goes on") {
            // Without the wake-ups, `connect_timeout` would end the dial.
            Event::Connected { .. } => break,
            Event::Disconnected { reason, detail, .. } => panic!("{reason}: {detail:?}"),
            _ => {}
        }
    }
    let (len, _open) = server.join().expect("no panic");
    assert!(len > 600_000);
}
