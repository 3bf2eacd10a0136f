//! A client over a stream that is not TCP: a Unix socket, through the compat shim.
#![cfg(unix)]

use std::os::unix::net::UnixStream as StdUnixStream;
use std::thread;

use heartbeat_tokio::{Compat, Dial, Dialing, Event, InPlace, Message, Options, Transport};
use tokio::net::UnixStream;
use tungstenite::Message as Frame;

#[tokio::test]
async fn a_client_runs_over_any_asynchronous_stream() {
    let (ours, theirs) = StdUnixStream::pair().expect("a pair of sockets");
    let server = thread::spawn(move || {
        let mut ws = tungstenite::accept(theirs).expect("an upgrade");
        ws.send(Frame::Ping(vec![7].into()))
            .expect("room for a ping");
        // In either order; the large one is more than the socket's buffers hold, so that both sides
        // have to wait for each other.
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
    let mut client = InPlace::with_dialer(options, dialer).expect("no TLS, no error");

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
