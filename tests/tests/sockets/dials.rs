//! Dials that fail: the backoff is kept, and a dial that hangs ends at `connect_timeout`.

use std::fs;
use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use heartbeat_tokio::core::Config;
use heartbeat_tokio::{Event, Options};

use crate::ends::fill_the_queue;
use crate::garbage::read_head;
use crate::harness::{Case, PATIENCE, Server, read_to_the_end};

cases! {
    everywhere: [
        a_server_that_accepts_and_drops_is_dialled_no_faster_than_the_backoff_allows,
        a_dial_that_hangs_ends_at_connect_timeout_and_its_socket_is_closed,
        a_connect_that_hangs_is_given_up_with_its_socket,
        a_kick_dials_at_once_and_no_faster_than_the_floor,
    ]
}

fn a_server_that_accepts_and_drops_is_dialled_no_faster_than_the_backoff_allows(case: Case) {
    let server = Server::start();
    let config = r#"{"backoff": {"base": "100ms", "cap": "300ms", "jitter_percent": 0}}"#;
    let mut client = case.connect(&server, config);
    thread::scope(|scope| {
        let dials = scope.spawn(|| -> Vec<Instant> {
            let dial = |_| {
                drop(server.upgrade());
                Instant::now()
            };
            (0..5).map(dial).collect()
        });
        for _ in 0..5 {
            client.until_disconnected();
        }
        let dials = dials.join().expect("no panic");
        let pauses: Vec<_> = dials.windows(2).map(|pair| pair[1] - pair[0]).collect();
        for (pause, least) in pauses.iter().zip([100, 200, 300, 300]) {
            // Measured after the upgrade, at both ends.
            let least = Duration::from_millis(least * 9 / 10);
            assert!(*pause >= least, "{pauses:?}");
        }
    });
}

fn a_dial_that_hangs_ends_at_connect_timeout_and_its_socket_is_closed(case: Case) {
    let config = Config::from_json(r#"{"connect_timeout": "250ms"}"#).expect("a configuration");
    let answers: [(&str, &str, &[u8]); 4] = [
        ("silence", "ws", b""),
        (
            "half an answer",
            "ws",
            b"HTTP/1.1 101 Switching Protocols\r\nUpgr",
        ),
        ("a TLS port that says nothing", "wss", b""),
        // The header of a handshake record, and the beginning of a ServerHello.
        (
            "a TLS handshake that stalls",
            "wss",
            &[22, 3, 3, 0, 90, 2, 0, 0, 86, 3, 3],
        ),
    ];
    for (name, scheme, answer) in answers {
        let server = Server::start();
        let url = format!("{scheme}://127.0.0.1:{}/", server.port());
        let options = Options::new(&url).expect("a URL").config(config.clone());
        let mut client = case.start(options.tls(crate::tls::trusting_nobody()));
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut socket = server.accept();
                if scheme == "ws" {
                    read_head(&mut socket);
                }
                socket.write_all(answer).expect("the client reads");
                read_to_the_end(&mut socket);
            });
            let begun =
                client.until(|event| matches!(event, Event::Connecting { .. }).then(Instant::now));
            assert_eq!(
                client.until_disconnected().reason,
                "connect_timeout",
                "{name}"
            );
            // The beginning was reported a little after it happened.
            assert!(begun.elapsed() >= Duration::from_millis(200), "{name}");
        });
    }
}

fn a_connect_that_hangs_is_given_up_with_its_socket(case: Case) {
    if case.lacks_proc() {
        return;
    }
    let server = Server::start();
    let _others = fill_the_queue(&server);
    let config = r#"{"connect_timeout": "250ms", "backoff": {"base": "60s", "cap": "60s", "jitter_percent": 0}}"#;
    let mut client = case.connect(&server, config);
    client.until(|event| matches!(event, Event::Connecting { .. }).then_some(()));
    assert_eq!(client.until_disconnected().reason, "connect_timeout");
    let given_up = Instant::now();
    while connects_to(server.port()) > 0 {
        assert!(given_up.elapsed() < PATIENCE / 4, "it still connects");
        client.drive_for(Duration::from_millis(20));
    }
}

/// Sockets that are connecting to this port (SYN_SENT).
fn connects_to(port: u16) -> usize {
    let table = fs::read_to_string("/proc/self/net/tcp").expect("Linux");
    let remote = format!(":{port:04X}");
    let is_one = |line: &&str| {
        let mut words = line.split_whitespace().skip(2);
        words.next().is_some_and(|to| to.ends_with(&remote)) && words.next() == Some("02")
    };
    table.lines().filter(is_one).count()
}

fn a_kick_dials_at_once_and_no_faster_than_the_floor(case: Case) {
    let server = Server::start();
    let config = r#"{"backoff": {"base": "60s", "cap": "60s", "jitter_percent": 0}}"#;
    let mut client = case.connect(&server, config);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..3 {
                drop(server.upgrade());
            }
        });
        let begun = Instant::now();
        for _ in 0..3 {
            client.until_disconnected();
            client.sender().kick();
        }
        assert!(
            begun.elapsed() >= Duration::from_millis(40),
            "two dials after a floor of 25 ms each"
        );
    });
}
