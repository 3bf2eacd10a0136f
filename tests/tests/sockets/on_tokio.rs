//! Cases that only tokio has: its scheduler, its runtimes that end, and dropped futures.

use std::io::Write;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use heartbeat_tokio::core::{Class, Dialect, FramesOnly};
use heartbeat_tokio::{Client, Event, InPlace, Message, SendErrorKind};
use tokio::runtime::{Builder, Runtime};

use crate::harness::{BINARY, PATIENCE, PING, Server, TEXT, frame, read_to_the_end};

fn one_thread() -> Runtime {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

/// What tokio knows of a socket is as old as its last look at epoll. Here the application keeps the thread
/// busy from that look until after a deadline. Bytes that arrived before count as life, because the driver
/// asks the socket itself.
#[test]
fn what_arrives_while_the_thread_is_kept_busy_is_heard_before_a_verdict() {
    let server = Server::start();
    let options = server.options(
        r#"{"idle_timeout": "600ms", "ping": "never", "check_interval": "400ms", "pong_timeout": null}"#,
    );
    let (ask, asked) = std::sync::mpsc::channel();
    thread::scope(|scope| {
        let server = &server;
        scope.spawn(move || {
            let mut ws = server.upgrade();
            asked.recv().expect("the client checks");
            ws.get_mut()
                .write_all(&frame(TEXT, b"here"))
                .expect("the client reads");
            read_to_the_end(ws.get_mut());
        });
        one_thread().block_on(async {
            let mut client = InPlace::new(options).expect("no TLS, no error");
            loop {
                match client.next().await.expect("no end") {
                    Event::Check { .. } => {
                        ask.send(()).expect("the server waits");
                        thread::sleep(Duration::from_millis(500));
                    }
                    Event::Message { .. } => return,
                    Event::Disconnected { reason, .. } => panic!("{reason}"),
                    _ => {}
                }
            }
        });
    });
}

/// The same for a write that was stuck, on a client that had paused reading. Its first action after the
/// deadline is to resume.
#[test]
fn what_the_peer_makes_room_for_while_the_thread_is_kept_busy_is_written_before_a_verdict() {
    const LARGE: usize = 8 << 20;
    let server = Server::start();
    let options = server
        .options(
            r#"{"idle_timeout": "60s", "ping": "never", "pong_timeout": null, "write_timeout": "600ms"}"#,
        )
        .queue(1);
    let (drain, drained) = std::sync::mpsc::channel();
    thread::scope(|scope| {
        let server = &server;
        scope.spawn(move || {
            let mut ws = server.upgrade();
            let mut flood = frame(TEXT, b"one of many").repeat(100);
            flood.extend(frame(TEXT, b"last"));
            ws.get_mut().write_all(&flood).expect("the client reads");
            drained.recv().expect("the client is stuck");
            read_to_the_end(ws.get_mut());
        });
        one_thread().block_on(async {
            let mut client = Client::spawn(options).expect("no TLS, no error");
            while !matches!(client.next().await, Some(Event::Connected { .. })) {}
            client
                .sender()
                .send(Message::Binary(vec![0; LARGE].into()))
                .await
                .expect("room");
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert!(client.stats().reading_paused_since.is_some());
            drain.send(()).expect("the server waits");
            thread::sleep(Duration::from_millis(700));
            loop {
                match client.next().await.expect("no end") {
                    Event::Message {
                        message: Message::Text(text),
                        ..
                    } if text == "last" => return,
                    Event::Disconnected { reason, .. } => panic!("{reason}"),
                    _ => {}
                }
            }
        });
    });
}

/// Every binary message is a sign of life and nothing more.
struct Beats;

impl Dialect for Beats {
    fn classify_text<'a>(&self, _: &'a str) -> Class<'a> {
        Class::Data
    }

    fn classify_binary<'a>(&self, _: &'a [u8]) -> Class<'a> {
        Class::Beat
    }
}

/// Counts another task's turns while `flood` comes in without a pause.
fn turns_of_others(
    flood: Vec<u8>,
    in_place: bool,
    dialect: impl Dialect + Send + Sync + 'static,
) -> u64 {
    let server = Server::start();
    let options = server.options("{}").dialect(dialect);
    let turns = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut ws = server.upgrade();
            let mut reader = ws.get_ref().try_clone().expect("a second handle");
            scope.spawn(move || read_to_the_end(&mut reader));
            for _ in 0..10 {
                if ws.get_mut().write_all(&flood).is_err() {
                    return;
                }
            }
            ws.get_mut()
                .write_all(&frame(TEXT, b"end"))
                .expect("the client reads");
        });
        one_thread().block_on(async {
            let others = async {
                loop {
                    turns.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                }
            };
            let ours = async {
                let end = |event: Option<Event>| {
                    matches!(
                        event,
                        Some(Event::Message {
                            message: Message::Text(_),
                            ..
                        })
                    )
                };
                if in_place {
                    let mut client = InPlace::new(options).expect("no TLS, no error");
                    while !end(client.next().await) {}
                } else {
                    let mut client = Client::spawn(options).expect("no TLS, no error");
                    while !end(client.next().await) {}
                }
            };
            tokio::select! {
                () = others => {}
                () = ours => {}
            }
        });
    });
    turns.into_inner()
}

#[test]
fn a_flood_does_not_starve_other_tasks_of_its_thread() {
    for in_place in [true, false] {
        let data = turns_of_others(frame(BINARY, b"data").repeat(10_000), in_place, FramesOnly);
        // 100 000 messages, with a budget of 2048, make about 48 turns.
        assert!(data >= 25, "data, in place: {in_place}: {data} turns");
        let pings = turns_of_others(frame(PING, b"ping").repeat(2_000), in_place, FramesOnly);
        // None of these reaches the application.
        let beats = turns_of_others(frame(BINARY, b"beat").repeat(10_000), in_place, Beats);
        assert!(beats >= 5, "beats, in place: {in_place}: {beats} turns");
        assert!(pings >= 5, "pings, in place: {in_place}: {pings} turns");
    }
}

/// Its client is in another thread, which always has more messages.
#[test]
fn an_application_that_is_slower_than_its_client_lets_others_have_their_turn() {
    const MESSAGES: usize = 100_000;
    let server = Server::start();
    let options = server.options("{}");
    let flood = frame(BINARY, &[7; 300]).repeat(1000);
    let (turns, mut taken) = (AtomicU64::new(0), 0);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut ws = server.upgrade();
            for _ in 0..MESSAGES / 1000 {
                ws.get_mut().write_all(&flood).expect("the client reads");
            }
            read_to_the_end(ws.get_mut());
        });
        one_thread().block_on(async {
            let others = async {
                loop {
                    turns.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                }
            };
            let ours = async {
                let mut client = Client::spawn_thread(options).expect("no TLS, no error");
                while taken < MESSAGES {
                    if let Event::Message { message, .. } = client.next().await.expect("messages") {
                        taken += 1;
                        // Some microseconds, in which the client brings the next messages.
                        let sum = (0..10)
                            .flat_map(|_| message.as_bytes())
                            .map(|byte| u64::from(*byte));
                        assert_eq!(sum.sum::<u64>(), 21_000);
                        if taken == 5000 {
                            turns.store(0, Ordering::Relaxed);
                        }
                    }
                }
            };
            tokio::select! {
                biased;
                () = ours => {}
                () = others => {}
            }
        });
    });
    // 95 000 messages, with a budget of 2048, make 46 turns.
    assert!(turns.into_inner() >= 40, "others starve");
}

#[test]
fn a_runtime_that_ends_takes_its_clients_with_it_and_whoever_waits_is_told() {
    let server = Server::start();
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let mut client = runtime
        .block_on(async { Client::spawn(server.options("{}")) })
        .expect("no TLS, no error");
    let mut ws = thread::scope(|scope| {
        let upgrade = scope.spawn(|| server.upgrade());
        runtime.block_on(async {
            while !matches!(client.next().await, Some(Event::Connected { .. })) {}
        });
        upgrade.join().expect("no panic")
    });
    let sender = client.sender().clone();
    runtime.shutdown_timeout(PATIENCE);
    read_to_the_end(ws.get_mut());
    one_thread().block_on(async {
        while tokio::time::timeout(PATIENCE, client.next())
            .await
            .expect("in time")
            .is_some()
        {}
    });
    assert_eq!(
        sender.try_send("anybody?").expect_err("nobody").reason,
        SendErrorKind::Ended
    );
}

/// Polls once and drops the future, like a `select!` that took another branch.
fn poll_once<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

#[test]
fn dropping_next_loses_no_event_and_dropping_send_sends_nothing_or_all() {
    let server = Server::narrow();
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let _inside = runtime.enter();
    let options = server.options("{}").send_queue(2, 1 << 20);
    let mut client = Client::spawn(options).expect("no TLS, no error");
    thread::scope(|scope| {
        let received = scope.spawn(|| {
            let mut ws = server.upgrade();
            for n in 0_u32..1000 {
                ws.send(tungstenite::Message::binary(n.to_be_bytes().to_vec()))
                    .expect("the client reads");
            }
            let mut received = Vec::new();
            while let Ok(message) = ws.read() {
                if let tungstenite::Message::Binary(bytes) = message {
                    received.push(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
                }
            }
            received
        });
        let mut expected = 0_u32;
        while expected < 1000 {
            if let Some(event) = poll_once(client.next())
                && let Event::Message {
                    message: Message::Binary(bytes),
                    ..
                } = event.expect("it lives")
            {
                assert_eq!(bytes[..], expected.to_be_bytes());
                expected += 1;
            }
        }
        let sender = client.sender().clone();
        let (mut accepted, mut dropped) = (Vec::new(), 0);
        for n in 0_u32..2000 {
            let mut bytes = n.to_be_bytes().to_vec();
            bytes.resize(5000, 0);
            match poll_once(sender.send(bytes)) {
                Some(result) => {
                    result.expect("connected");
                    accepted.push(n);
                }
                None => dropped += 1,
            }
        }
        assert!(dropped > 0, "it never waited");
        sender.stop();
        runtime.block_on(async {
            let end = async { while client.next().await.is_some() {} };
            tokio::time::timeout(PATIENCE, end).await.expect("in time");
        });
        assert_eq!(received.join().expect("no panic"), accepted);
    });
}

#[test]
fn a_client_moves_between_tasks_and_is_woken_in_the_last_one() {
    let server = Server::start();
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    thread::scope(|scope| {
        let upgrade = scope.spawn(|| server.upgrade());
        let client = runtime.block_on(async {
            let mut client = InPlace::new(server.options("{}")).expect("no TLS, no error");
            while !matches!(client.next().await, Some(Event::Connected { .. })) {}
            client
        });
        let mut ws = upgrade.join().expect("no panic");
        let mut client = runtime.block_on(async move {
            let mut client = client;
            // This task waits for the end, and is gone then.
            let waiting = tokio::spawn(async move {
                let _ = tokio::time::timeout(Duration::from_millis(20), client.next()).await;
                client
            });
            waiting.await.expect("no panic")
        });
        ws.send(tungstenite::Message::text("for the second"))
            .expect("the client reads");
        let event = runtime.block_on(async { tokio::time::timeout(PATIENCE, client.next()).await });
        assert!(
            matches!(event, Ok(Some(Event::Message { .. }))),
            "{event:?}"
        );
    });
}
