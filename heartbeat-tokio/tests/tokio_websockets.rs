//! A client over tokio-websockets against a server with tungstenite, over TCP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use heartbeat_tests::peer::{
    PATIENCE, accept, assert_four_ends, four_ends, pings_and_echoes, serve,
};
use heartbeat_tokio::core::JsonType;
use heartbeat_tokio::messages::tokio_websockets::TokioWebsockets;
use heartbeat_tokio::messages::{Connecting, Counted, Event, Messages, keep_unsent_short};
use heartbeat_tokio::{Attempt, Config, Ping};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_websockets::{ClientBuilder, Message, WebSocketStream};
use tungstenite::Message as Frame;

type Socket = WebSocketStream<Counted<TcpStream>>;
type Client = Messages<Socket, TokioWebsockets>;

fn client(address: SocketAddr, config: Config) -> Client {
    let connect = move |_: Attempt| -> Connecting<Socket> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            keep_unsent_short(&stream);
            let uri = format!("ws://{address}/").parse().expect("a URI");
            let builder = ClientBuilder::from_uri(uri);
            let (socket, _) = builder.connect_on(Counted::new(stream)).await?;
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

async fn next(client: &mut Client) -> Event<Message> {
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
        client.send(Message::text(message.clone())).expect("room");
    }
    for expected in &messages {
        let Event::Message { message, .. } = next(&mut client).await else {
            panic!("an unexpected event");
        };
        assert_eq!(message.as_text(), Some(expected.as_str()));
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

/// A message arrives while the application keeps the thread busy past a deadline. The library's socket does not know this,
/// because tokio has not polled epoll since. The application calls `then` before it takes the next event.
async fn kept_busy(then: impl FnOnce(&mut Client)) {
    let (mut client, server) = quiet_for_400_ms().await;
    thread::sleep(Duration::from_millis(700));
    then(&mut client);
    let event = next(&mut client).await;
    assert!(matches!(event, Event::Message { .. }), "{event:?}");
    drop(client);
    server.join().expect("no panic");
}

/// Connects a client to a server that sends a message after 400 ms, and lets the client wait for 100 ms.
async fn quiet_for_400_ms() -> (Client, thread::JoinHandle<()>) {
    let (address, server) = serve(vec![|stream| {
        let mut socket = accept(stream);
        thread::sleep(Duration::from_millis(400));
        socket.send(Frame::text("here")).expect("the client reads");
        // Keeps the socket open until the client leaves.
        while socket.read().is_ok() {}
    }]);
    let config = config()
        .ping(Ping::Never)
        .pong_timeout(None)
        .check_interval(None)
        .idle_timeout(Duration::from_millis(600));
    let mut client = client(address, config.build().expect("consistent"));
    while !matches!(next(&mut client).await, Event::Connected { .. }) {}
    let nothing = timeout(Duration::from_millis(100), client.next()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    (client, server)
}

#[tokio::test]
async fn what_arrives_while_the_thread_is_kept_busy_is_heard_before_a_verdict() {
    kept_busy(|_| {}).await;
}

#[tokio::test]
async fn what_arrives_before_a_result_is_sent_is_heard_before_a_verdict() {
    kept_busy(|client| client.send(Message::text("result")).expect("open")).await;
}

#[tokio::test]
async fn what_arrives_before_a_kick_is_heard_before_a_verdict() {
    kept_busy(Messages::kick).await;
}

/// The client is polled again before tokio has polled epoll.
#[tokio::test]
async fn what_arrives_while_other_branches_are_busy_is_heard_before_a_verdict() {
    let (mut client, server) = quiet_for_400_ms().await;
    let (tx, mut jobs) = tokio::sync::mpsc::unbounded_channel();
    for spans in [700, 0, 0] {
        tx.send(Duration::from_millis(spans)).expect("open");
    }
    let event = loop {
        tokio::select! {
            biased;
            event = client.next() => break event.expect("the client goes on"),
            Some(job) = jobs.recv() => thread::sleep(job),
        }
    };
    assert!(matches!(event, Event::Message { .. }), "{event:?}");
    drop(client);
    server.join().expect("no panic");
}
