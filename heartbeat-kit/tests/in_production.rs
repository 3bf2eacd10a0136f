//! An auditor as the observer of a client on real sockets.

use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use heartbeat_blocking::core::Config;
use heartbeat_blocking::{Client, Event, Options};
use heartbeat_kit::Auditor;
use tungstenite::Message;

#[test]
fn an_auditor_that_observes_a_client_sees_every_step_and_finds_nothing_broken() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("ws://{}/", listener.local_addr().expect("it listens"));
    let server = thread::spawn(move || {
        for _ in 0..2 {
            let (socket, _) = listener.accept().expect("a dial");
            let mut ws = tungstenite::accept(socket).expect("an upgrade");
            ws.send(Message::Ping(vec![7].into()))
                .expect("the client reads");
            ws.send(Message::text(r#"{"type":"ping"}"#))
                .expect("the client reads");
            assert_eq!(ws.read().expect("a pong"), Message::Pong(vec![7].into()));
            assert_eq!(
                ws.read().expect("a pong"),
                Message::text(r#"{"type":"pong"}"#)
            );
        }
    });

    let soon = Duration::from_millis(50);
    let config = Config::builder().backoff(soon, soon, 0).build();
    let found = Arc::new(Mutex::new((0, Vec::new())));
    let told = Arc::clone(&found);
    let mut auditor = Auditor::new().of_driver();
    let options = Options::new(&url)
        .expect("a URL")
        .config(config.expect("a configuration"))
        .observer(move |now, event, step, phase| {
            let mut told = told.lock().expect("no panic");
            told.0 += 1;
            if let Err(broken) = auditor.step(now, event, step, phase) {
                told.1.push(format!("{broken}, on {event:?} at {now:?}"));
            }
        });
    let mut client = Client::spawn(options).expect("valid options");
    let mut losses = 0;
    while losses < 2 {
        losses += u32::from(matches!(client.recv(), Some(Event::Disconnected { .. })));
    }
    server
        .join()
        .expect("the server saw both connections as expected");
    drop(client);
    let (steps, broken) = &*found.lock().expect("no panic");
    assert!(broken.is_empty(), "{broken:?}");
    // Each of the two connections has at least a dial, an upgrade, two pings and an end.
    assert!(*steps >= 10, "{steps}");
}
