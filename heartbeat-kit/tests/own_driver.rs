//! A driver like a user's, over tungstenite and a stream in memory, and its test.

use std::io::ErrorKind;
use std::mem::replace;
use std::time::Duration;

use heartbeat_core::{
    Action, Cause, Config, ConnId, Dialect as _, Event, Heartbeat, Instant, JsonType, Message,
    PingMessage, Reply,
};
use heartbeat_kit::peer::{Act, End, Network, Reception, Visit};
use heartbeat_kit::{Audited, configs, visits};
use proptest::prelude::*;
use tungstenite::handshake::client::ClientHandshake;
use tungstenite::handshake::{HandshakeError, MidHandshake};
use tungstenite::{Error, WebSocket};

const JSON_PING: &str = r#"{"type":"ping"}"#;

/// The driver. Outside of a test, its machine is a `Heartbeat`.
struct Driver {
    machine: Audited<Config, JsonType>,
    link: Link,
    received: usize,
}

enum Link {
    Down,
    Dialling(ConnId, Box<MidHandshake<ClientHandshake<End>>>),
    /// Open, with the code of the server's Close if it sent one.
    Open(ConnId, Box<WebSocket<End>>, Option<u16>),
}

#[allow(clippy::result_large_err, reason = "tungstenite's error")]
fn upgrade(end: End) -> Result<WebSocket<End>, HandshakeError<ClientHandshake<End>>> {
    Ok(tungstenite::client("ws://peer/", end)?.0)
}

impl Driver {
    fn step(&mut self, now: Duration, event: Event<'_>, network: &mut Network) {
        let at = Instant::ORIGIN.saturating_add(now);
        let mut dial = None;
        for action in self.machine.step(at, event).actions {
            match (action, &mut self.link) {
                (Action::Connect { conn, .. }, _) => dial = Some(conn),
                (Action::Abort { conn, .. }, Link::Dialling(own, _) | Link::Open(own, ..))
                    if conn == *own =>
                {
                    self.link = Link::Down;
                }
                // tungstenite answers ping frames by itself.
                (
                    Action::SendPong {
                        reply: Reply::Text(text),
                        ..
                    },
                    Link::Open(_, socket, _),
                ) => drop(socket.send(text.into())),
                (
                    Action::SendPing {
                        ping: PingMessage::Frame(number),
                        ..
                    },
                    Link::Open(_, socket, _),
                ) => drop(socket.send(tungstenite::Message::Ping(number.to_vec().into()))),
                (Action::Close { .. } | Action::Renew { .. }, Link::Open(_, socket, _)) => {
                    drop(socket.close(None));
                }
                _ => {}
            }
        }
        if let Some(conn) = dial {
            match network.dial(now).map(upgrade) {
                Some(Err(HandshakeError::Interrupted(handshake))) => {
                    self.link = Link::Dialling(conn, Box::new(handshake));
                }
                _ => self.step(now, Event::Closed(conn, Cause::Refused), network),
            }
        }
    }

    /// Reads, then steps the machine with a tick.
    fn turn(&mut self, now: Duration, network: &mut Network) {
        match replace(&mut self.link, Link::Down) {
            Link::Dialling(conn, handshake) => match handshake.handshake() {
                Ok((socket, _)) => {
                    self.link = Link::Open(conn, Box::new(socket), None);
                    self.step(now, Event::Connected(conn), network);
                }
                Err(HandshakeError::Interrupted(handshake)) => {
                    self.link = Link::Dialling(conn, Box::new(handshake));
                }
                Err(HandshakeError::Failure(Error::Http(response))) => {
                    let (status, retry_after) = (response.status().as_u16(), None);
                    let cause = Cause::Http {
                        status,
                        retry_after,
                    };
                    self.step(now, Event::Closed(conn, cause), network);
                }
                Err(HandshakeError::Failure(_)) => {
                    self.step(now, Event::Closed(conn, Cause::Eof), network);
                }
            },
            other => self.link = other,
        }
        while let Link::Open(conn, socket, code) = &mut self.link {
            let conn = *conn;
            match socket.read() {
                Ok(tungstenite::Message::Ping(payload)) => {
                    self.step(now, Event::Received(conn, Message::Ping(&payload)), network);
                }
                Ok(tungstenite::Message::Pong(payload)) => {
                    self.step(now, Event::Received(conn, Message::Pong(&payload)), network);
                }
                Ok(tungstenite::Message::Text(text)) => {
                    let data = self.machine.dialect().classify_text(&text);
                    self.received += usize::from(data.is_for_application());
                    self.step(now, Event::Received(conn, Message::Text(&text)), network);
                }
                // tungstenite answers the Close, and its next read reports the end.
                Ok(tungstenite::Message::Close(frame)) => {
                    *code = Some(frame.map_or(1005, |frame| frame.code.into()));
                }
                Ok(_) => self.step(now, Event::Received(conn, Message::Data), network),
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => {
                    let cause = code.map_or(Cause::Eof, Cause::Close);
                    self.link = Link::Down;
                    self.step(now, Event::Closed(conn, cause), network);
                }
            }
        }
        self.step(now, Event::Tick, network);
    }
}

fn driver(config: Config, seed: u64) -> Driver {
    let machine = Heartbeat::new(config, JsonType, seed, Instant::ORIGIN);
    Driver {
        machine: Audited::new(machine, Instant::ORIGIN).with_driver(),
        link: Link::Down,
        received: 0,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 50, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_rule_is_broken_whatever_the_servers_do(config in configs(), visits in visits(), seed: u64) {
        let mut driver = driver(config, seed);
        Network::new(visits).run(200, |now, network| {
            driver.turn(now, network);
            driver.machine.wake()
        });
    }
}

/// A driver that receives nothing would break no rule. So this test checks what arrives on both sides.
#[test]
fn messages_arrive_pings_are_answered_at_once_and_each_end_is_reported_with_its_cause() {
    let second = Duration::from_secs;
    let visit = |reception, acts| Visit { reception, acts };
    let acts = vec![
        (second(1), Act::Send(JSON_PING.into())),
        (second(2), Act::Send("data".into())),
        (second(3), Act::Freeze),
    ];
    let busy = Reception::Http("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
    let mut network = Network::new([
        visit(Reception::Upgrade, acts),
        visit(Reception::Upgrade, vec![(second(1), Act::Close(1012))]),
        visit(busy, vec![]),
    ]);
    let mut driver = driver(Config::default(), 7);
    network.run(200, |now, network| {
        driver.turn(now, network);
        driver.machine.wake()
    });
    assert_eq!(driver.received, 1);
    let peer = network.peers().next().expect("one dial was accepted");
    let pong = tungstenite::Message::text(r#"{"type":"pong"}"#);
    assert_eq!(peer.received, [(second(1), pong)]);
    let verdict =
        r#""at":92000000000,"actions":[{"action":"abort","conn":1,"reason":"idle_timeout"}"#;
    // The auditor cannot tell a Close from a hang-up, so the trace shows whether each cause is right.
    let trace = driver.machine.trace();
    for told in [verdict, r#"{"close":1012}"#, r#""http":503"#] {
        assert!(trace.contains(told), "{told} in\n{trace}");
    }
}
