//! Waiting costs nothing: processor time and wake-ups while nothing happens, each measured in a process of
//! its own.

use std::fs;
use std::io::Write;
use std::thread;
use std::time::Duration;

use crate::harness::{BINARY, Case, Server, frame, reset, write_until_full};

cases! {
    everywhere: [
        a_dial_that_hangs_costs_nothing,
        an_open_and_idle_connection_costs_nothing_between_heartbeats,
        a_stuck_write_costs_nothing,
        waiting_for_a_retry_costs_nothing,
    ],
    driven: [
        an_application_that_takes_nothing_costs_nothing,
        a_reset_while_the_application_takes_nothing_costs_nothing,
    ]
}

/// Long enough to tell a busy loop from a sleep.
const WHILE: Duration = Duration::from_millis(600);

/// User and system time of this process so far, and how often its threads went to sleep.
fn spent() -> (Duration, u64) {
    let stat = fs::read_to_string("/proc/self/stat").expect("Linux");
    // The name may hold blanks, so fields are counted from its end. utime and stime are the 14th and 15th
    // fields of all, in ticks of 10 ms (proc(5), USER_HZ).
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let ticks: u64 = fields[11..13]
        .iter()
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    let mut naps = 0;
    for task in fs::read_dir("/proc/self/task").expect("Linux").flatten() {
        // A thread may have ended in the meantime.
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("voluntary"));
        naps += line
            .and_then(|line| line.rsplit('\t').next()?.parse::<u64>().ok())
            .unwrap_or_default();
    }
    (Duration::from_millis(ticks * 10), naps)
}

/// The cost of `wait`.
fn assert_cheap(wait: impl FnOnce()) {
    let before = spent();
    wait();
    let after = spent();
    let (time, naps) = (
        after.0.saturating_sub(before.0),
        after.1.saturating_sub(before.1),
    );
    assert!(
        time <= Duration::from_millis(60),
        "{time:?} of processor time, {naps} naps"
    );
    assert!(naps < 200, "{naps} naps, {time:?} of processor time");
}

fn a_dial_that_hangs_costs_nothing(case: Case) {
    case.alone(|| {
        let server = Server::start();
        let mut client = case.connect(&server, r#"{"connect_timeout": "60s"}"#);
        client.drive_for(Duration::from_millis(100));
        let _silent = server.accept();
        assert_cheap(|| client.drive_for(WHILE));
    });
}

fn an_open_and_idle_connection_costs_nothing_between_heartbeats(case: Case) {
    case.alone(|| {
        let server = Server::start();
        let config = r#"{"idle_timeout": "2s", "ping": {"every": "100ms"}, "pong_timeout": "1s"}"#;
        let mut client = case.connect(&server, config);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut ws = server.upgrade();
                while ws.read().is_ok() {}
            });
            client.until_connected();
            assert_cheap(|| client.drive_for(WHILE));
            drop(client);
        });
    });
}

fn a_stuck_write_costs_nothing(case: Case) {
    case.alone(|| {
        let server = Server::narrow();
        let mut client = case.connect(&server, "{}");
        let _frozen = thread::scope(|scope| {
            let upgrade = scope.spawn(|| server.upgrade());
            client.until_connected();
            upgrade.join().expect("no panic")
        });
        client
            .sender()
            .try_send(vec![0; 32 << 20])
            .expect("connected");
        client.drive_for(Duration::from_millis(300));
        assert_cheap(|| client.drive_for(WHILE));
    });
}

fn waiting_for_a_retry_costs_nothing(case: Case) {
    case.alone(|| {
        let server = Server::start();
        let options = server.options("{}");
        drop(server);
        let mut client = case.start(options);
        client.until_disconnected();
        assert_cheap(|| client.drive_for(WHILE));
    });
}

fn an_application_that_takes_nothing_costs_nothing(case: Case) {
    case.alone(|| {
        let server = Server::narrow();
        let mut client = case.start(server.options("{}").queue(4));
        thread::scope(|scope| {
            let upgrade = scope.spawn(|| server.upgrade());
            client.until_connected();
            let mut ws = upgrade.join().expect("no panic");
            ws.get_ref()
                .set_write_timeout(Some(Duration::from_millis(200)))
                .expect("a timeout");
            write_until_full(ws.get_mut(), &frame(BINARY, &[0; 1000]).repeat(20_000));
            assert_cheap(|| thread::sleep(WHILE));
        });
    });
}

fn a_reset_while_the_application_takes_nothing_costs_nothing(case: Case) {
    case.alone(|| {
        let server = Server::start();
        let config = r#"{"ping": {"every": "50ms"}, "pong_timeout": "10s"}"#;
        let mut client = case.start(server.options(config).queue(4));
        let mut ws = thread::scope(|scope| {
            let upgrade = scope.spawn(|| server.upgrade());
            client.until_connected();
            upgrade.join().expect("no panic")
        });
        ws.get_mut()
            .write_all(&frame(BINARY, b"x").repeat(200))
            .expect("room in the socket");
        let socket = ws.get_ref().try_clone().expect("a second handle");
        drop(ws);
        reset(socket);
        assert_cheap(|| thread::sleep(WHILE));
        // Events that had arrived before are still handed out, and then the end.
        let mut messages = 0;
        let reason = client.until(|event| match event {
            heartbeat_tokio::Event::Message { .. } => {
                messages += 1;
                None
            }
            heartbeat_tokio::Event::Disconnected { reason, .. } => Some(reason.to_string()),
            _ => None,
        });
        assert_eq!(messages, 200);
        // A read or a write may notice the end first, by chance.
        assert!(["eof", "reset"].contains(&reason.as_str()), "{reason}");
    });
}
