//! A client over tokio-tungstenite against a server of tungstenite's, over TCP.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use heartbeat_tokio::core::{AbortReason, Cause, GiveUp, JsonType};
use heartbeat_tokio::messages::tungstenite::Tungstenite;
use heartbeat_tokio::messages::{Connecting, Counted, Event, Messages};
use heartbeat_tokio::{Attempt, Config, Ping, Reason};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::{WebSocketStream, client_async};
use tungstenite::{Message as Frame, WebSocket};

type Socket = WebSocketStream<Counted<TcpStream>>;
type Client = Messages<Socket, Tungstenite>;

/// Nothing here takes so long, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn client(address: SocketAddr, config: Config) -> Client {
    let connect = move |_: Attempt| -> Connecting<Socket> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let url = format!("ws://{address}/");
            let (socket, _) = client_async(url, Counted::new(stream)).await?;
            Ok(socket)
        })
    };
    Messages::connecting(connect, config, Arc::new(JsonType))
        .traffic(|socket| socket.get_ref().traffic())
}

fn config() -> heartbeat_tokio::core::ConfigBuilder {
    let (base, cap) = (Duration::from_millis(100), Duration::from_secs(1));
    Config::builder().backoff(base, cap, 50)
}

type Served = WebSocket<std::net::TcpStream>;

/// Serves each connection in turn by the next of these.
fn serve(turns: Vec<fn(std::net::TcpStream)>) -> (SocketAddr, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = thread::spawn(move || {
        for turn in turns {
            let (stream, _) = listener.accept().expect("a client");
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            turn(stream);
        }
    });
    (address, server)
}

fn accept(stream: std::net::TcpStream) -> Served {
    tungstenite::accept(stream).expect("an upgrade")
}

async fn next(client: &mut Client) -> Event<Frame> {
    let event = timeout(PATIENCE, client.next()).await.expect("in time");
    event.expect("no end")
}

#[tokio::test]
async fn messages_go_there_and_back_and_each_ping_is_answered_once() {
    let (address, server) = serve(vec![|stream| {
        let mut socket = accept(stream);
        for number in 0..100u8 {
            socket
                .write(Frame::Ping(vec![number].into()))
                .expect("room");
            socket
                .write(Frame::text(r#"{"type":"ping"}"#))
                .expect("room");
        }
        socket.flush().expect("room");
        let (mut pongs, mut texts) = (Vec::new(), 0);
        while let Ok(frame) = socket.read() {
            match frame {
                Frame::Pong(payload) => pongs.push(payload[0]),
                Frame::Text(text) if text == r#"{"type":"pong"}"# => texts += 1,
                Frame::Close(_) => {}
                other => socket.send(other).expect("room"),
            }
        }
        assert_eq!(pongs, (0..100).collect::<Vec<u8>>());
        assert_eq!(texts, 100);
    }]);
    let mut client = client(address, Config::default());
    assert!(matches!(next(&mut client).await, Event::Connected { .. }));
    // Large ones, too: more than the socket's buffers hold.
    let messages: Vec<String> = (0..50)
        .map(|n| format!("{n}").repeat(1 + 2000 * n))
        .collect();
    for message in &messages {
        client.send(Frame::text(message.clone())).expect("room");
    }
    for expected in &messages {
        let Event::Message { message, .. } = next(&mut client).await else {
            panic!("another event");
        };
        assert_eq!(message.to_text().expect("a text"), expected);
    }
    client.stop();
    let Event::Stopped {
        unsent,
        uncertain: 0,
    } = next(&mut client).await
    else {
        panic!("another end");
    };
    assert!(unsent.is_empty());
    server.join().expect("the server's own view");
}

#[tokio::test]
async fn it_comes_back_after_a_close_a_reset_and_a_frozen_server_and_gives_up_at_a_403() {
    let (address, server) = serve(vec![
        |stream| {
            let mut socket = accept(stream);
            socket.close(None).expect("open");
            while socket.read().is_ok() {}
        },
        |stream| drop(accept(stream)),
        |stream| {
            // Frozen: it says nothing, not even to a ping, until the client has gone.
            let mut socket = accept(stream);
            let mut rest = Vec::new();
            let _ = socket.get_mut().read_to_end(&mut rest);
            assert_eq!(rest.first(), Some(&0x89), "it was asked");
        },
        |mut stream| {
            let _ = stream.read(&mut [0; 4096]);
            let answer = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(answer).expect("room");
        },
    ]);
    let config = config()
        .ping(Ping::AfterSilence(Duration::from_millis(300)))
        .pong_timeout(Duration::from_millis(700))
        .build();
    let mut client = client(address, config.expect("a configuration"));
    let mut ends = Vec::new();
    let gave_up = loop {
        match next(&mut client).await {
            Event::Disconnected { reason, .. } => ends.push(reason),
            Event::GaveUp { reason } => break reason,
            _ => {}
        }
    };
    let refused = Cause::Http {
        status: 403,
        retry_after: None,
    };
    assert_eq!(gave_up, GiveUp::Cause(refused));
    let [close, dropped, frozen, last] = ends[..] else {
        panic!("{ends:?}");
    };
    assert_eq!(close, Reason::Cause(Cause::Close(1005)));
    let gone = [Cause::Eof, Cause::Reset].map(Reason::Cause);
    assert!(gone.contains(&dropped), "{dropped:?}");
    assert_eq!(frozen, Reason::Verdict(AbortReason::PongTimeout));
    assert_eq!(last, Reason::Cause(refused));
    server.join().expect("no panic");
}
