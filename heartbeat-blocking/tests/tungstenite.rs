//! A client over tungstenite against a server with tungstenite, over TCP.

use std::io::Read as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use heartbeat_blocking::core::{AbortReason, Cause, Failure, JsonType};
use heartbeat_blocking::messages::{Counted, Event, Messages, upgrade_error};
use heartbeat_blocking::{Config, Ping, Reason, RecvTimeoutError};
use heartbeat_tests::peer::{
    PATIENCE, accept, assert_four_ends, four_ends, pings_and_echoes, reads_slowly_and_stops, serve,
};
use tungstenite::Message;

#[path = "../examples/tungstenite.rs"]
mod example;

type Client = Messages<Counted<TcpStream>>;

fn client(address: SocketAddr, config: Config) -> Client {
    let connect = move |_| {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let upgraded = tungstenite::client(format!("ws://{address}/"), Counted::new(stream));
        Ok(upgraded.map_err(upgrade_error)?.0)
    };
    let client = Messages::connecting(connect, Counted::get_ref, config, Arc::new(JsonType));
    client.expect("a poll").traffic(Counted::traffic)
}

fn config() -> heartbeat_blocking::core::ConfigBuilder {
    let (base, cap) = (Duration::from_millis(100), Duration::from_secs(1));
    Config::builder().backoff(base, cap, 50)
}

fn next(client: &mut Client) -> Event<Message> {
    client.recv_timeout(PATIENCE).expect("an event in time")
}

#[test]
fn messages_go_there_and_back_and_each_ping_is_answered_once() {
    let (address, server) = serve(vec![pings_and_echoes]);
    let mut client = client(address, Config::default());
    assert!(matches!(next(&mut client), Event::Connected { .. }));
    // Some are larger than the socket's buffers.
    let messages: Vec<String> = (0..50)
        .map(|n| format!("{n}").repeat(1 + 20_000 * n))
        .collect();
    for message in &messages {
        client.send(Message::text(message.clone())).expect("room");
    }
    for expected in &messages {
        let Event::Message { message, .. } = next(&mut client) else {
            panic!("an unexpected event");
        };
        assert_eq!(message.to_text().expect("a text"), expected);
    }
    client.stop();
    let Event::Stopped {
        unsent,
        uncertain: 0,
        ..
    } = next(&mut client)
    else {
        panic!("an unexpected end");
    };
    assert!(unsent.is_empty());
    assert_eq!(client.recv_timeout(PATIENCE), Err(RecvTimeoutError::Ended));
    server.join().expect("the server's checks hold");
}

#[test]
fn it_comes_back_after_a_close_a_reset_and_a_frozen_server_and_gives_up_at_a_403() {
    let (address, server) = serve(four_ends());
    let config = config()
        .ping(Ping::AfterSilence(Duration::from_millis(300)))
        .pong_timeout(Duration::from_millis(700))
        .build();
    let mut client = client(address, config.expect("a configuration"));
    let mut ends = Vec::new();
    let gave_up = loop {
        match next(&mut client) {
            Event::Disconnected { reason, .. } => ends.push(reason),
            Event::GaveUp { reason, .. } => break reason,
            _ => {}
        }
    };
    assert_four_ends(&ends, gave_up);
    server.join().expect("no panic");
}

/// The ping falls due two seconds after the server's last message. The client's kernel may still accept some bytes then,
/// and tungstenite may write some while it reads. Neither must count as life of the server.
#[cfg(unix)]
#[test]
fn an_upload_is_alive_as_long_as_it_moves_and_dead_its_time_after_that() {
    const IDLE: Duration = Duration::from_secs(3);
    let server = reads_slowly_and_stops(IDLE + Duration::from_secs(1));
    let config = config()
        .idle_timeout(IDLE)
        .ping(Ping::AfterSilence(Duration::from_secs(2)))
        .pong_timeout(IDLE);
    let mut client = client(server.address, config.build().expect("a configuration"));
    assert!(matches!(next(&mut client), Event::Connected { .. }));
    client
        .send(Message::binary(vec![7; 8 << 20]))
        .expect("room");
    let reason = loop {
        if let Event::Disconnected { reason, .. } = next(&mut client) {
            break reason;
        }
    };
    let stopped = server.stopped.try_recv().expect("alive while it moved");
    assert_eq!(reason, Reason::Aborted(AbortReason::IdleTimeout));
    let took = stopped.elapsed();
    assert!(took < IDLE + Duration::from_secs(1), "{took:?}");
    drop(server.held);
}

#[test]
fn what_was_flushed_after_the_last_byte_is_in_doubt() {
    let (address, server) = serve(vec![|stream| {
        let mut socket = accept(stream);
        socket.read().expect("the first");
        socket.send(Message::text("heard")).expect("room");
        for _ in 0..2 {
            socket.read().expect("two more");
        }
    }]);
    let mut client = client(address, Config::default());
    assert!(matches!(next(&mut client), Event::Connected { .. }));
    client.send(Message::text("before")).expect("room");
    assert!(matches!(next(&mut client), Event::Message { .. }));
    for text in ["one", "two"] {
        client.send(Message::text(text)).expect("room");
    }
    let Event::Disconnected {
        uncertain,
        in_doubt,
        ..
    } = next(&mut client)
    else {
        panic!("an unexpected event");
    };
    assert_eq!((uncertain, in_doubt), (0, 2));
    server.join().expect("no panic");
}

#[test]
fn a_server_drops_a_client_that_is_silent_and_a_wait_ends_at_its_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let peer = thread::spawn(move || {
        let stream = TcpStream::connect(address).expect("a server");
        let (mut socket, _) =
            tungstenite::client(format!("ws://{address}/"), stream).expect("an upgrade");
        socket.send(Message::text("hello")).expect("room");
        let mut rest = Vec::new();
        let _ = socket.get_mut().read_to_end(&mut rest);
        assert_eq!(rest.first(), Some(&0x89), "the server pinged");
    });
    let (stream, _) = listener.accept().expect("a client");
    let config = config()
        .ping(Ping::AfterSilence(Duration::from_millis(500)))
        .pong_timeout(Duration::from_millis(500))
        .build();
    let config = config.expect("a configuration");
    let mut server =
        Messages::accepted(accept(stream), |tcp| tcp, config, Arc::new(JsonType)).expect("a poll");
    let Ok(Event::Message { message, .. }) = server.recv_timeout(PATIENCE) else {
        panic!("an unexpected event");
    };
    assert_eq!(message, Message::text("hello"));
    let waited = server.recv_timeout(Duration::from_millis(50));
    assert_eq!(waited, Err(RecvTimeoutError::Timeout));
    let Ok(Event::Disconnected { reason, .. }) = server.recv_timeout(PATIENCE) else {
        panic!("an unexpected event");
    };
    assert_eq!(reason, Reason::Aborted(AbortReason::PongTimeout));
    assert!(matches!(server.recv(), Some(Event::Stopped { .. })));
    assert!(server.recv().is_none());
    drop(server);
    peer.join().expect("the peer's checks hold");
}

#[test]
fn a_dial_that_hangs_is_given_up_at_its_timeout_and_one_that_panics_ends_the_client() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    // The kernel accepts the first connection, but nothing answers its upgrade.
    let connect = move |attempt: heartbeat_blocking::Attempt| {
        assert!(attempt.last.is_none(), "a panic on purpose");
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let upgraded = tungstenite::client(format!("ws://{address}/"), stream);
        Ok(upgraded.map_err(upgrade_error)?.0)
    };
    // Long enough to print a panic with its backtrace on a busy machine.
    let config = config().connect_timeout(Duration::from_secs(3)).build();
    let config = config.expect("a configuration");
    let mut client =
        Messages::connecting(connect, |tcp| tcp, config, Arc::new(JsonType)).expect("a poll");
    let events: Vec<_> = client.by_ref().collect();
    let told: Vec<_> = events.iter().map(|event| format!("{event:?}")).collect();
    let [
        Event::Disconnected { reason: first, .. },
        Event::Reconnect { attempt: 1, .. },
        Event::Disconnected { reason, detail, .. },
        Event::GaveUp { .. },
        Event::Stopped { .. },
    ] = &events[..]
    else {
        panic!("{told:?}");
    };
    assert_eq!(*first, Reason::Aborted(AbortReason::ConnectTimeout));
    assert_eq!(*reason, Reason::Cause(Cause::Session(Failure::GiveUp)));
    let words = detail.as_deref().unwrap_or_default();
    assert!(words.contains("connect panicked"), "{words}");
}

#[test]
fn the_example_comes_back_from_a_frozen_server_and_ends_at_the_4000() {
    example::main().expect("it ends by itself");
}
