//! The server of the example `axum_server` drops dead clients in time, and keeps healthy ones.
#![cfg(unix)]
#![allow(
    clippy::disallowed_methods,
    reason = "what is measured is how long it took"
)]

#[allow(dead_code, reason = "it is a program of its own, too")]
#[path = "../examples/axum_server.rs"]
mod server;

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Path;
use axum::extract::ws::WebSocketUpgrade;
use axum::routing::any;
use heartbeat_tokio::core::{AbortReason, JsonType};
use heartbeat_tokio::{Client, Config, Event, Message, Options, Ping, Reason, SharedDialect};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;
use tungstenite::Message as Frame;

/// Longer than any step takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// The server's `idle_timeout`.
const IDLE: Duration = Duration::from_secs(3);

/// The path of a connection, and the reason of its end.
type End = (String, Option<Reason>);

async fn serve() -> (SocketAddr, UnboundedReceiver<End>) {
    let config = Config::builder()
        .idle_timeout(IDLE)
        .ping(Ping::AfterSilence(IDLE / 3))
        .pong_timeout(None)
        .build();
    let (config, dialect): (_, SharedDialect) = (Arc::new(config.unwrap()), Arc::new(JsonType));
    let (tell, ends) = unbounded_channel();
    let upgrade = async move |Path(who): Path<String>, upgrade: WebSocketUpgrade| {
        upgrade.on_upgrade(async move |socket| {
            let reason = server::serve(socket, config, dialect).await;
            let _ = tell.send((who, reason));
        })
    };
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let router = Router::new().route("/{who}", any(upgrade));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, ends)
}

async fn client(address: SocketAddr, who: &str) -> Client {
    let options = Options::new(&format!("ws://{address}/{who}")).expect("a URL");
    let mut client = Client::spawn(options).expect("a client");
    until(&mut client, |event| {
        matches!(event, Event::Connected { .. })
    })
    .await;
    client
}

async fn until(client: &mut Client, wanted: impl Fn(&Event) -> bool) {
    let found = async {
        loop {
            let event = client.next().await.expect("the client goes on");
            assert!(!matches!(event, Event::Disconnected { .. }), "{event:?}");
            if wanted(&event) {
                return;
            }
        }
    };
    timeout(PATIENCE, found).await.expect("in time");
}

/// Opens a WebSocket that only the test reads and writes, so that nothing answers pings.
fn raw(address: SocketAddr, who: &str) -> tungstenite::WebSocket<TcpStream> {
    let stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let (socket, _) = tungstenite::client(format!("ws://{address}/{who}"), stream).expect("101");
    socket
}

/// A process that is killed when the test ends, even if it is frozen.
struct Process(Child);

impl Process {
    fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([name, &self.0.id().to_string()])
            .status();
        assert!(status.expect("kill").success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_clients_are_dropped_at_the_bound_and_healthy_ones_live() {
    let (address, mut ends) = serve().await;
    // One client only answers pings, and the other never stops sending.
    let mut quiet = client(address, "quiet").await;
    let mut busy = client(address, "busy").await;
    let sender = busy.sender().clone();
    let talk = tokio::spawn(async move {
        while sender.send("trade").await.is_ok() {
            tokio::time::sleep(IDLE / 30).await;
        }
    });
    let listen = tokio::spawn(async move {
        until(&mut busy, |event| {
            matches!(event, Event::Message { message, .. } if message.as_text() == Some("last"))
        })
        .await;
        busy
    });

    let mut child = Process(
        Command::new(std::env::current_exe().expect("a path"))
            .args(["--exact", "the_client_that_is_frozen", "--nocapture"])
            .env("AXUM_SERVER", format!("ws://{address}/frozen"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process"),
    );
    let mut lines = BufReader::new(child.0.stdout.take().expect("a pipe")).lines();
    let mut says = |word: &str| {
        let mut line = String::new();
        while !line.ends_with(word) {
            line = lines.next().expect("more lines").expect("a line");
        }
    };
    says("connected");
    child.signal("-STOP");
    let frozen_at = Instant::now();
    let mut mute = raw(address, "mute");
    let mute_since = Instant::now();

    let dead = Some(Reason::Aborted(AbortReason::IdleTimeout));
    for _ in 0..2 {
        let (who, reason) = timeout(PATIENCE, ends.recv())
            .await
            .expect("in time")
            .unwrap();
        assert_eq!(reason, dead, "{who}");
        // The frozen client's last byte came up to one ping interval before it was frozen.
        let (since, least) = match who.as_str() {
            "frozen" => (frozen_at, IDLE * 2 / 3 - Duration::from_millis(100)),
            "mute" => (mute_since, IDLE - Duration::from_millis(100)),
            other => panic!("{other} was dropped"),
        };
        let took = since.elapsed();
        assert!(took >= least, "{who} after {took:?}");
        println!("{who}: dropped after {took:?}");
    }

    // The server has closed the socket.
    let mut rest = Vec::new();
    let _ = mute.get_mut().read_to_end(&mut rest);
    assert!(
        rest.starts_with(&[0x89, 8]),
        "the server pinged first: {rest:?}"
    );
    child.signal("-CONT");
    says("disconnected");

    talk.abort();
    quiet.sender().try_send("still here").expect("open");
    until(&mut quiet, |event| {
        matches!(event, Event::Message { message, .. } if *message == Message::from("still here"))
    })
    .await;
    assert_eq!(
        quiet.stats().machine.connects,
        1,
        "one connection all the time"
    );
    // The thawed client comes back by itself, and no healthy client has been dropped.
    if let Ok((who, _)) = ends.try_recv() {
        panic!("{who} ended");
    }
    listen.abort();
}

/// The program of the other process: a healthy client, which the test freezes.
#[test]
fn the_client_that_is_frozen() {
    let Ok(url) = std::env::var("AXUM_SERVER") else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        let mut client = Client::spawn(Options::new(&url).expect("a URL")).expect("a client");
        while let Some(event) = client.next().await {
            match event {
                Event::Connected { .. } => println!("\nconnected"),
                Event::Disconnected { .. } => println!("\ndisconnected"),
                _ => {}
            }
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_ping_is_answered_once_in_either_form_and_a_goodbye_is_returned() {
    let (address, mut ends) = serve().await;
    let answers = tokio::task::spawn_blocking(move || {
        let mut socket = raw(address, "asks");
        for number in 0..100u8 {
            socket
                .write(Frame::Ping(vec![number].into()))
                .expect("room");
            socket
                .write(Frame::text(r#"{"type":"ping"}"#))
                .expect("room");
        }
        socket.send(Frame::text("echo")).expect("room");
        let mut answers = Vec::new();
        loop {
            let frame = socket.read().expect("a frame");
            answers.push(frame.clone());
            if frame == Frame::text("echo") {
                break;
            }
        }
        socket.close(None).expect("open");
        while socket.read().is_ok() {}
        answers
    })
    .await
    .expect("no panic");
    let pongs = answers
        .iter()
        .filter(|frame| matches!(frame, Frame::Pong(_)));
    let numbers: Vec<u8> = pongs.map(|frame| frame.clone().into_data()[0]).collect();
    assert_eq!(numbers, (0..100).collect::<Vec<u8>>());
    let texts = answers
        .iter()
        .filter(|frame| **frame == Frame::text(r#"{"type":"pong"}"#));
    assert_eq!((texts.count(), answers.len()), (100, 201));
    let (_, reason) = timeout(PATIENCE, ends.recv())
        .await
        .expect("in time")
        .unwrap();
    let reason = reason.expect("an end").to_string();
    assert_eq!(reason, "close 1005");
}
