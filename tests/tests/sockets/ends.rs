//! `stop()` and drop in every phase: the end comes in time, and nothing is left behind.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use heartbeat_tokio::core::Config;
use heartbeat_tokio::{Event, Options, SendErrorKind};

use crate::harness::{
    BINARY, Case, Client, Next, PATIENCE, Server, frame, hang_up, read_to_the_end,
};

cases! {
    everywhere: [
        stop_ends_every_phase_within_close_timeout,
        a_drop_in_any_phase_closes_the_socket_and_leaves_nothing_behind,
        what_was_accepted_before_stop_is_written_before_the_close,
        stop_hands_back_what_a_frozen_server_did_not_take,
        a_sender_that_outlives_its_client_is_told,
    ],
    driven: [
        stop_ends_in_time_while_the_server_floods_and_the_application_takes_nothing,
    ]
}

/// The phase in which a client is told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    BeforeTheDial,
    Dialing,
    Upgrading,
    Open,
    OpenAndStuck,
    Waiting,
    GivenUp,
}

const PHASES: [Phase; 7] = [
    Phase::BeforeTheDial,
    Phase::Dialing,
    Phase::Upgrading,
    Phase::Open,
    Phase::OpenAndStuck,
    Phase::Waiting,
    Phase::GivenUp,
];

/// A client in a phase, and everything that keeps it there.
struct Scene {
    client: Client,
    /// The server's side, if there is one.
    socket: Option<TcpStream>,
    /// The listener, and the sockets that fill its queue.
    rest: (Server, Vec<TcpStream>),
}

fn set(case: Case, phase: Phase) -> Scene {
    let server = Server::narrow();
    let text = r#"{"close_timeout": "150ms", "connect_timeout": "60s", "backoff": {"base": "60s", "cap": "60s", "jitter_percent": 0}}"#;
    let config = Config::from_json(text).expect("a configuration");
    let mut others = Vec::new();
    let mut options = server.options(text);
    if phase == Phase::Dialing {
        others = fill_the_queue(&server);
        options = Options::new(&format!("ws://127.0.0.1:{}/", server.port()))
            .expect("a URL")
            .config(config);
    }
    let mut client = case.start(options);
    let mut socket = None;
    match phase {
        Phase::BeforeTheDial => {}
        Phase::Dialing | Phase::Upgrading => {
            client.until(|event| matches!(event, Event::Connecting { .. }).then_some(()));
            if phase == Phase::Upgrading {
                client.drive_for(Duration::from_millis(50));
                socket = Some(server.accept());
            }
        }
        Phase::Open | Phase::OpenAndStuck | Phase::Waiting | Phase::GivenUp => {
            thread::scope(|scope| {
                let upgrade = scope.spawn(|| server.upgrade());
                client.until_connected();
                let mut ws = upgrade.join().expect("no panic");
                match phase {
                    Phase::OpenAndStuck => {
                        let sender = client.sender();
                        while sender.try_send(vec![0; 64 << 10]).is_ok() {
                            client.drive_for(Duration::from_millis(2));
                        }
                    }
                    Phase::Waiting => {
                        hang_up(ws.get_ref());
                        client
                            .until(|event| matches!(event, Event::Reconnect { .. }).then_some(()));
                    }
                    Phase::GivenUp => {
                        ws.get_mut()
                            .write_all(&frame(0x88, &1002_u16.to_be_bytes()))
                            .expect("the client reads");
                        client.until(|event| matches!(event, Event::GaveUp { .. }).then_some(()));
                    }
                    _ => {}
                }
                socket = Some(ws.get_ref().try_clone().expect("a second handle"));
            });
        }
    }
    Scene {
        client,
        socket,
        rest: (server, others),
    }
}

/// Fills a listener's queue, so that a dial to it hangs.
pub(crate) fn fill_the_queue(server: &Server) -> Vec<TcpStream> {
    server.shorten_the_queue();
    let address = ([127, 0, 0, 1], server.port()).into();
    let dial = |_| TcpStream::connect_timeout(&address, Duration::from_millis(100)).ok();
    (0..10).map_while(dial).collect()
}

fn stop_ends_every_phase_within_close_timeout(case: Case) {
    for phase in PHASES {
        let mut scene = set(case, phase);
        scene.client.sender().stop();
        let told = Instant::now();
        let mut last = None;
        while let Some(event) = scene.client.next() {
            assert!(
                !matches!(event, Event::Reconnect { .. }),
                "{phase:?}: {event:?}"
            );
            last = Some(event);
        }
        assert!(
            matches!(last, Some(Event::Stopped { .. })),
            "{phase:?}: {last:?}"
        );
        let took = told.elapsed();
        // `close_timeout` is 150 ms; the rest is the machine's load.
        assert!(took < Duration::from_secs(2), "{phase:?}: {took:?}");
        assert_eq!(scene.client.next_within(Duration::ZERO), Next::Ended);
        drop(scene.client);
        if let Some(mut socket) = scene.socket {
            read_to_the_end(&mut socket);
        }
    }
}

/// Threads and descriptors of this process.
fn possessions() -> (usize, usize) {
    let count = |directory: &str| fs::read_dir(directory).expect("Linux").count();
    (count("/proc/self/task"), count("/proc/self/fd"))
}

fn a_drop_in_any_phase_closes_the_socket_and_leaves_nothing_behind(case: Case) {
    /// A thread that has been joined may stay in the list for a moment.
    fn until(what: impl std::fmt::Debug, done: impl Fn() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !done() {
            assert!(Instant::now() < end, "{what:?}: {:?}", possessions());
            thread::yield_now();
        }
    }
    if case.lacks_proc() {
        return;
    }
    case.alone(|| {
        // The first client opens some descriptors for the whole process.
        let (threads, _) = possessions();
        drop(set(case, Phase::Open));
        until("the first", || possessions().0 == threads);
        let before = possessions();
        for phase in PHASES {
            let scene = set(case, phase);
            drop(scene.client);
            if let Some(mut socket) = scene.socket {
                read_to_the_end(&mut socket);
            }
            drop(scene.rest);
            until((phase, before), || possessions() == before);
        }
    });
}

fn what_was_accepted_before_stop_is_written_before_the_close(case: Case) {
    let server = Server::narrow();
    let mut client = case.connect(&server, "{}");
    thread::scope(|scope| {
        let received = scope.spawn(|| {
            let mut ws = server.upgrade();
            let mut received = 0;
            loop {
                match ws.read().expect("a message, or the close") {
                    tungstenite::Message::Binary(_) => received += 1,
                    tungstenite::Message::Close(frame) => {
                        assert_eq!(frame.map(|frame| frame.code.into()), Some(1000));
                        let _ = ws.flush();
                        return received;
                    }
                    other => panic!("{other:?}"),
                }
            }
        });
        client.until_connected();
        let sender = client.sender();
        let mut accepted = 0;
        while sender.try_send(vec![0; 10_000]).is_ok() {
            accepted += 1;
            if accepted == 90 {
                break;
            }
        }
        sender.stop();
        let refusal = sender.try_send("late").expect_err("stopped");
        assert_eq!(refusal.reason, SendErrorKind::Ended);
        let unsent = client.until(|event| match event {
            Event::Stopped { unsent, .. } => Some(unsent),
            Event::Disconnected { reason, .. } => panic!("{reason}"),
            _ => None,
        });
        assert_eq!(
            (received.join().expect("no panic"), unsent.len()),
            (accepted, 0)
        );
    });
}

fn stop_hands_back_what_a_frozen_server_did_not_take(case: Case) {
    let mut scene = set(case, Phase::OpenAndStuck);
    scene.client.sender().stop();
    let unsent = scene.client.until(|event| match event {
        Event::Stopped { unsent, .. } => Some(unsent),
        _ => None,
    });
    assert!(!unsent.is_empty());
    assert!(
        unsent
            .iter()
            .all(|returned| returned.message.len() == 64 << 10)
    );
}

fn a_sender_that_outlives_its_client_is_told(case: Case) {
    for phase in [Phase::Open, Phase::OpenAndStuck] {
        let Scene {
            client,
            socket,
            rest,
        } = set(case, phase);
        let sender = client.sender();
        thread::scope(|scope| {
            let waiting = (phase == Phase::OpenAndStuck).then(|| {
                let sender = sender.clone();
                scope.spawn(move || sender.send(vec![0; 64 << 10]))
            });
            drop(client);
            if let Some(waiting) = waiting {
                let refusal = waiting
                    .join()
                    .expect("no panic")
                    .expect_err("there is nobody to take it");
                assert_eq!(refusal.reason, SendErrorKind::Ended, "{phase:?}");
            }
        });
        let refusal = sender
            .try_send("anybody?")
            .expect_err("there is nobody to take it");
        assert_eq!(refusal.reason, SendErrorKind::Ended, "{phase:?}");
        drop((socket, rest));
    }
}

fn stop_ends_in_time_while_the_server_floods_and_the_application_takes_nothing(case: Case) {
    let server = Server::start();
    let config = r#"{"close_timeout": "300ms"}"#;
    let mut client = case.start(server.options(config).queue(1));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut ws = server.upgrade();
            let burst = frame(BINARY, b"").repeat(500_000);
            // Reads until the client is gone, and never answers its Close.
            while ws.get_mut().write_all(&burst).is_ok() {}
        });
        client.until_connected();
        client.drive_for(Duration::from_millis(50));
        let told = Instant::now();
        client.sender().stop();
        // The application takes nothing until the connection is gone.
        thread::sleep(Duration::from_millis(600));
        let mut events = 0;
        while client.next().is_some() {
            events += 1;
        }
        // 16 MiB beyond the queue, each message counted as 128 bytes.
        assert!(events < (16 << 20) / 128 + 1000, "{events} events");
        assert!(
            told.elapsed() < Duration::from_secs(5),
            "{:?}",
            told.elapsed()
        );
        drop(client);
    });
}
