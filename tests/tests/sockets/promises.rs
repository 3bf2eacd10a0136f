//! Repeated work without end: each wake-up comes, however often it is needed.

use std::io::Read;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use heartbeat_tokio::core::Config;
use heartbeat_tokio::{Event, Options, Request};

use crate::harness::{Case, How, Server};

cases! {
    everywhere: [
        a_slow_factory_delays_the_dial_by_no_more_than_it_takes,
        sending_and_awaiting_the_answer_goes_on,
    ],
    driven: [
        sending_through_room_for_one_goes_on,
    ]
}

/// Calls that were given up meanwhile do not make the next one wait for a further backoff.
fn a_slow_factory_delays_the_dial_by_no_more_than_it_takes(case: Case) {
    let server = Server::start();
    let url = format!("ws://127.0.0.1:{}/", server.port());
    let mut calls = 0;
    let options = Options::from_blocking_factory(move |_| {
        calls += 1;
        if calls == 1 {
            thread::sleep(Duration::from_millis(1500));
        }
        Request::new(&url)
    });
    // Dials: 0 to 500 ms, 600 to 1100, 1300 to 1800.
    let config = r#"{"connect_timeout": "500ms", "backoff": {"base": "100ms", "cap": "200ms", "jitter_percent": 0}}"#;
    let mut client =
        case.start(options.config(Config::from_json(config).expect("a configuration")));
    thread::scope(|scope| {
        let upgrade = scope.spawn(|| server.upgrade());
        client.until(|event| matches!(event, Event::Connecting { .. }).then_some(()));
        let begun = Instant::now();
        client.until_connected();
        let took = begun.elapsed();
        assert!(took < Duration::from_millis(1800), "{took:?}");
        drop(upgrade.join().expect("no panic"));
    });
}

fn sending_and_awaiting_the_answer_goes_on(case: Case) {
    let rounds = if case.how == How::BlockingThread {
        40_000
    } else {
        2_000
    };
    let server = Server::start();
    let mut client = case.connect(&server, "{}");
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut ws = server.upgrade();
            while let Ok(message) = ws.read() {
                if message.is_text() && ws.send(message).is_err() {
                    return;
                }
            }
        });
        client.until_connected();
        let sender = client.sender();
        for round in 0..rounds {
            let text = round.to_string();
            sender.send(text.as_str()).expect("room");
            assert_eq!(client.message(), text.as_str().into());
        }
        client.stop();
    });
}

/// The server counts bytes, and a busy machine takes longer than the default silence, so no ping may come
/// in between.
const QUIET: &str = r#"{"ping": "never", "idle_timeout": "1h"}"#;

fn sending_through_room_for_one_goes_on(case: Case) {
    const MESSAGES: usize = 200_000;
    let server = Server::start();
    let options = server.options(QUIET).send_queue(1, 1000);
    let mut client = case.start(options);
    thread::scope(|scope| {
        let received = scope.spawn(|| {
            let mut ws = server.upgrade();
            let (mut bytes, mut total) = (vec![0; 64 << 10], 0);
            // Each message is a header, a mask and a byte.
            while total < MESSAGES * 7 {
                total += ws.get_mut().read(&mut bytes).expect("the client writes");
            }
            total
        });
        client.until_connected();
        let sender = client.sender();
        let (all, sent) = mpsc::channel();
        // A lookup that is never called would keep a thread of the test for ever.
        thread::spawn(move || {
            for _ in 0..MESSAGES {
                sender.send("x").expect("room");
            }
            all.send(()).expect("somebody waits");
        });
        let sent = sent.recv_timeout(Duration::from_secs(60));
        if sent.is_err() {
            // The server's thread ends with the connection.
            drop(client);
        }
        sent.expect("the sender goes on");
        assert_eq!(received.join().expect("no panic"), MESSAGES * 7);
    });
}
