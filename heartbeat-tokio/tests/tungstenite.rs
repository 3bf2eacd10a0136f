//! A client over tokio-tungstenite against a server with tungstenite, over TCP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use heartbeat_tests::peer::{
    PATIENCE, assert_four_ends, four_ends, pings_and_echoes, reads_slowly_and_stops, serve,
};
use heartbeat_tokio::core::{AbortReason, JsonType};
use heartbeat_tokio::messages::tungstenite::Tungstenite;
use heartbeat_tokio::messages::{Connecting, Counted, Event, Messages, keep_unsent_short};
use heartbeat_tokio::{Attempt, Config, Ping, Reason};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::{WebSocketStream, client_async};
use tungstenite::Message as Frame;

type Socket = WebSocketStream<Counted<TcpStream>>;
type Client = Messages<Socket, Tungstenite>;

fn client(address: SocketAddr, config: Config) -> Client {
    let connect = move |_: Attempt| -> Connecting<Socket> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            keep_unsent_short(&stream);
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

async fn next(client: &mut Client) -> Event<Frame> {
    let event = timeout(PATIENCE, client.next()).await.expect("in time");
    event.expect("the client goes on")
}

#[tokio::test]
async fn messages_go_there_and_back_and_each_ping_is_answered_once() {
    let (address, server) = serve(vec![pings_and_echoes]);
    let mut client = client(address, Config::default());
    assert!(matches!(next(&mut client).await, Event::Connected { .. }));
    // Some are larger than the socket's buffers.
    let messages: Vec<String> = (0..50)
        .map(|n| format!("{n}").repeat(1 + 2000 * n))
        .collect();
    for message in &messages {
        client.send(Frame::text(message.clone())).expect("room");
    }
    for expected in &messages {
        let Event::Message { message, .. } = next(&mut client).await else {
            panic!("an unexpected event");
        };
        assert_eq!(message.to_text().expect("a text"), expected);
    }
    client.stop();
    let Event::Stopped {
        unsent,
        uncertain: 0,
        ..
    } = next(&mut client).await
    else {
        panic!("an unexpected end");
    };
    assert!(unsent.is_empty());
    server.join().expect("the server's checks hold");
}

/// The ping falls due two seconds after the server's last message. The client's kernel may still accept some bytes then,
/// which must not count as life of the server.
#[cfg(unix)]
#[tokio::test]
async fn an_upload_is_alive_as_long_as_it_moves_and_dead_its_time_after_that() {
    const IDLE: Duration = Duration::from_secs(3);
    let server = reads_slowly_and_stops(IDLE + Duration::from_secs(1));
    let config = config()
        .idle_timeout(IDLE)
        .ping(Ping::AfterSilence(Duration::from_secs(2)))
        .pong_timeout(IDLE);
    let mut client = client(server.address, config.build().expect("a configuration"));
    assert!(matches!(next(&mut client).await, Event::Connected { .. }));
    client.send(Frame::binary(vec![7; 8 << 20])).expect("room");
    let reason = loop {
        if let Event::Disconnected { reason, .. } = next(&mut client).await {
            break reason;
        }
    };
    let stopped = server.stopped.try_recv().expect("alive while it moved");
    assert_eq!(reason, Reason::Aborted(AbortReason::IdleTimeout));
    let took = stopped.elapsed();
    assert!(took < IDLE + Duration::from_secs(1), "{took:?}");
    drop(server.held);
}

#[tokio::test]
async fn it_comes_back_after_a_close_a_reset_and_a_frozen_server_and_gives_up_at_a_403() {
    let (address, server) = serve(four_ends());
    let config = config()
        .ping(Ping::AfterSilence(Duration::from_millis(300)))
        .pong_timeout(Duration::from_millis(700))
        .build();
    let mut client = client(address, config.expect("a configuration"));
    let mut ends = Vec::new();
    let gave_up = loop {
        match next(&mut client).await {
            Event::Disconnected { reason, .. } => ends.push(reason),
            Event::GaveUp { reason, .. } => break reason,
            _ => {}
        }
    };
    assert_four_ends(&ends, gave_up);
    server.join().expect("no panic");
}
