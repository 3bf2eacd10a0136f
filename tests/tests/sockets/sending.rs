//! Sending: a message is accepted, or handed back with the reason.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use heartbeat_tokio::{Event, Message, SendErrorKind};

use crate::harness::{Case, Client, Sender, Server, hang_up};

cases! {
    everywhere: [
        without_a_connection_a_message_is_handed_back,
        too_much_is_handed_back_and_too_large_as_well,
        who_waits_for_room_is_woken_by_room,
        who_waits_for_room_is_woken_by_a_disconnect,
        who_waits_for_room_is_woken_by_stop,
    ],
    driven: [
        many_threads_send_at_once_and_each_keeps_its_order,
    ]
}

fn without_a_connection_a_message_is_handed_back(case: Case) {
    let server = Server::start();
    let mut client = case.connect(&server, "{}");
    let refusal = client
        .sender()
        .try_send("early")
        .expect_err("not connected");
    assert_eq!(
        (refusal.reason, refusal.message),
        (SendErrorKind::NotConnected, "early".into())
    );
    let refusal = client
        .sender()
        .send("early")
        .expect_err("waiting is for room, not for a connection");
    assert_eq!(
        (refusal.reason, refusal.message),
        (SendErrorKind::NotConnected, "early".into())
    );
    thread::scope(|scope| {
        scope.spawn(|| hang_up(server.upgrade().get_ref()));
        client.until(|event| matches!(event, Event::Reconnect { .. }).then_some(()));
    });
    let refusal = client
        .sender()
        .try_send("late")
        .expect_err("not connected any more");
    assert_eq!(
        (refusal.reason, refusal.message),
        (SendErrorKind::NotConnected, "late".into())
    );
}

fn too_much_is_handed_back_and_too_large_as_well(case: Case) {
    with_a_full_path(case, |client, sender, _| {
        let refusal = sender.try_send(vec![7; 1000]).expect_err("full");
        assert_eq!(
            (refusal.reason, refusal.message),
            (SendErrorKind::Full, vec![7; 1000].into())
        );
        let refusal = sender.try_send(vec![7; 100_001]).expect_err("too large");
        let too_large = SendErrorKind::TooLarge {
            len: 100_001,
            max: 100_000,
        };
        assert_eq!(refusal.reason, too_large);
        assert_eq!(refusal.message.len(), 100_001);
        let _ = client;
    });
}

/// A client whose queue is full, and whose server reads nothing until its socket is told to.
fn with_a_full_path(case: Case, then: impl FnOnce(&mut Client, &Sender, &std::net::TcpStream)) {
    let server = Server::narrow();
    let options = server
        .options("{}")
        .send_queue(4, 1 << 20)
        .max_message_size(100_000);
    let mut client = case.start(options);
    let ws = thread::scope(|scope| {
        let upgrade = scope.spawn(|| server.upgrade());
        client.until_connected();
        upgrade.join().expect("no panic")
    });
    let sender = client.sender();
    let mut full = 0;
    // The next turn may take messages from a queue that is full for a moment.
    while full < 20 {
        match sender.try_send(vec![0; 100_000]) {
            Ok(()) => full = 0,
            Err(_) => full += 1,
        }
        client.drive_for(Duration::from_millis(2));
    }
    then(&mut client, &sender, ws.get_ref());
}

/// A message waits for room, and then `act` happens.
fn waits(
    case: Case,
    act: impl FnOnce(&Sender, &std::net::TcpStream),
) -> Result<(), (SendErrorKind, Message)> {
    let mut result = None;
    with_a_full_path(case, |client, sender, socket| {
        let begun = Barrier::new(2);
        thread::scope(|scope| {
            let (begun, waiting) = (&begun, sender.clone());
            let waiting = scope.spawn(move || {
                begun.wait();
                waiting.send("at last")
            });
            begun.wait();
            act(sender, socket);
            while !waiting.is_finished() {
                client.drive_for(Duration::from_millis(5));
            }
            result = Some(waiting.join().expect("no panic"));
        });
    });
    result
        .expect("it ran")
        .map_err(|error| (error.reason, error.message))
}

fn who_waits_for_room_is_woken_by_room(case: Case) {
    let result = waits(case, |_, socket| {
        let mut socket = socket.try_clone().expect("a second handle");
        // Ends with the client.
        thread::spawn(move || drop(std::io::copy(&mut socket, &mut std::io::sink())));
    });
    assert_eq!(result, Ok(()));
}

fn who_waits_for_room_is_woken_by_a_disconnect(case: Case) {
    let result = waits(case, |_, socket| hang_up(socket));
    assert_eq!(result, Err((SendErrorKind::NotConnected, "at last".into())));
}

fn who_waits_for_room_is_woken_by_stop(case: Case) {
    let result = waits(case, |sender, _| sender.stop());
    assert_eq!(result, Err((SendErrorKind::Ended, "at last".into())));
}

fn many_threads_send_at_once_and_each_keeps_its_order(case: Case) {
    const THREADS: u8 = 8;
    const MESSAGES: u32 = 500;
    let server = Server::start();
    let mut client = case.start(server.options("{}").send_queue(16, 1 << 20));
    thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            let mut ws = server.upgrade();
            let mut next = [0; THREADS as usize];
            for _ in 0..u32::from(THREADS) * MESSAGES {
                let bytes = ws.read().expect("a message").into_data();
                let expected = &mut next[usize::from(bytes[0])];
                assert_eq!(bytes[1..], u32::to_be_bytes(*expected));
                *expected += 1;
            }
        });
        client.until_connected();
        for thread in 0..THREADS {
            let sender = client.sender();
            scope.spawn(move || {
                for number in 0..MESSAGES {
                    let message = [&[thread][..], &number.to_be_bytes()].concat();
                    sender.send(message).expect("connected");
                }
            });
        }
        receiver.join().expect("no panic");
    });
}

/// In place, nothing makes room between two calls of `recv`, so a wait there would never end.
#[test]
fn the_thread_that_drives_a_blocking_client_in_place_does_not_wait_for_room() {
    let server = Server::start();
    let options = server.options("{}").send_queue(2, 1000);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut ws = server.upgrade();
            let texts = [0; 3].map(|_| ws.read().expect("a message").into_text().expect("text"));
            assert_eq!(texts, ["0", "1", "3"]);
        });
        let mut client = heartbeat_blocking::InPlace::new(options).expect("no TLS, no error");
        while !matches!(client.recv(), Some(Event::Connected { .. })) {}
        let sender = client.sender().clone();
        assert!(sender.send("0").is_ok() && sender.send("1").is_ok());
        let refused = sender.send("2").expect_err("there is no room");
        assert_eq!(
            (refused.reason, refused.message),
            (SendErrorKind::Inside, "2".into())
        );
        // Another thread waits for the calls that make room.
        let other = scope.spawn(move || sender.send("3"));
        while !other.is_finished() {
            let _ = client.recv_timeout(Duration::from_millis(10));
        }
        assert!(other.join().expect("no panic").is_ok());
        client.stop();
    });
}
