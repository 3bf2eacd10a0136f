//! A scripted server in memory and virtual time, without sockets or waiting.

mod pipe;

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::time::Duration;

use heartbeat_core::Instant;
use tungstenite::handshake::server::{NoCallback, ServerHandshake};
use tungstenite::handshake::{HandshakeError, MidHandshake};
use tungstenite::protocol::CloseFrame;
use tungstenite::{Message, WebSocket};

pub use pipe::{End, pipe};

/// Returns the `Sec-WebSocket-Accept` value for this key (RFC 6455 §4.2.2), for hand-written servers.
#[must_use]
pub fn accept_key(key: &str) -> String {
    tungstenite::handshake::derive_accept_key(key.as_bytes())
}

/// How the server answers a dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reception {
    /// Performs the upgrade.
    Upgrade,
    /// Refuses the dial, so that there is no byte stream.
    Refused,
    /// Opens the byte stream, but never sends anything.
    Silence,
    /// Answers the upgrade with this HTTP response.
    Http(&'static str),
}

/// The server's script for one connection.
#[derive(Clone, Debug)]
pub struct Visit {
    /// How the server answers the dial.
    pub reception: Reception,
    /// The server's acts, each with its time since the dial, in order.
    pub acts: Vec<(Duration, Act)>,
}

/// Visits by number, for strategies and fuzzers. Frequent choices have more numbers.
#[cfg(any(feature = "proptest", feature = "arbitrary"))]
impl Visit {
    pub(crate) const RECEPTIONS: u8 = 15;
    pub(crate) const ACTS: u8 = 22;
    pub(crate) const MOST_ACTS: usize = 12;

    pub(crate) fn reception(number: u8) -> Reception {
        match number {
            0..12 => Reception::Upgrade,
            12 => Reception::Refused,
            13 => Reception::Silence,
            _ => Reception::Http("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"),
        }
    }

    pub(crate) fn act(number: u8) -> Act {
        match number {
            0..6 => Act::Send(Message::text(crate::script::JSON_PING)),
            6..10 => Act::Send(Message::Ping(vec![1, 2, 3].into())),
            10..14 => Act::Send(Message::text("data")),
            // The beginning of a text frame.
            14 => Act::Bytes(vec![0x81, 4, b'h']),
            15 => Act::Freeze,
            16 => Act::Thaw,
            17..21 => Act::Close([1000, 1001, 1012, 4000][usize::from(number - 17)]),
            _ => Act::HangUp,
        }
    }

    /// Creates a visit. The time of each act is in tenths of a second since the dial.
    pub(crate) fn of(reception: u8, mut acts: Vec<(u16, u8)>) -> Self {
        acts.sort_by_key(|(tenths, _)| *tenths);
        let at = |tenths: u16| Duration::from_millis(u64::from(tenths) * 100);
        let acts = acts.into_iter();
        Self {
            reception: Self::reception(reception),
            acts: acts
                .map(|(tenths, act)| (at(tenths), Self::act(act)))
                .collect(),
        }
    }
}

/// An act of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Sends a message or a control frame.
    Send(Message),
    /// Sends raw bytes, for example half a frame.
    Bytes(Vec<u8>),
    /// Stops reading and answering.
    Freeze,
    /// Reads and answers again.
    Thaw,
    /// Sends a Close frame with this code.
    Close(u16),
    /// Hangs up without a Close frame.
    HangUp,
}

/// A network in memory. Each dial reaches the server of the next visit. Dials after the last visit are refused.
#[derive(Debug)]
pub struct Network {
    visits: VecDeque<Visit>,
    peers: Vec<(Duration, Peer)>,
}

impl Network {
    /// Creates a network with a server for each dial, in order.
    #[must_use]
    pub fn new(visits: impl IntoIterator<Item = Visit>) -> Self {
        Self {
            visits: visits.into_iter().collect(),
            peers: Vec::new(),
        }
    }

    /// Dials. Returns a byte stream that buffers 64 KiB in each direction, or `None` if the dial is refused.
    pub fn dial(&mut self, now: Duration) -> Option<End> {
        let visit = self.visits.pop_front()?;
        let (ours, theirs) = pipe(64 << 10);
        let refused = visit.reception == Reception::Refused;
        self.peers.push((now, Peer::new(visit, theirs)));
        (!refused).then_some(ours)
    }

    /// Returns the servers that were dialled, in order, including those that refused the dial.
    pub fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.peers.iter().map(|(_, peer)| peer)
    }

    /// Performs each server's due acts. Returns when to call again, unless a server is sent something earlier.
    pub fn turn(&mut self, now: Duration) -> Option<Duration> {
        let turn = |(dialled, peer): &mut (Duration, Peer)| {
            let next = peer.turn(now.saturating_sub(*dialled))?;
            Some(dialled.saturating_add(next))
        };
        self.peers.iter_mut().filter_map(turn).min()
    }

    /// Runs a driver against the servers in virtual time, which jumps to the next moment at which the driver or a server
    /// has something to do. Ends after `moments` moments, or when nothing is left to do.
    ///
    /// `turn` is the driver's turn. It gets the time since the origin, reads, writes, steps the machine, and returns the
    /// machine's wake. It is called four times a moment, so that a request, its answer and what follows fit into one
    /// moment.
    pub fn run(
        &mut self,
        moments: usize,
        mut turn: impl FnMut(Duration, &mut Self) -> Option<Instant>,
    ) {
        let mut now = Duration::ZERO;
        for _ in 0..moments {
            let mut wake = None;
            for _ in 0..4 {
                wake = turn(now, self);
                self.turn(now);
            }
            let wake = wake.map(|wake| wake.saturating_duration_since(Instant::ORIGIN));
            match wake.into_iter().chain(self.turn(now)).min() {
                Some(next) => now = next.max(now),
                None => return,
            }
        }
    }
}

/// The server's side of a connection.
#[derive(Debug)]
pub struct Peer {
    acts: VecDeque<(Duration, Act)>,
    link: Link,
    frozen: bool,
    /// Received text, binary and Close messages, each with its time since the dial.
    pub received: Vec<(Duration, Message)>,
}

#[derive(Debug)]
enum Link {
    Upgrading(Box<MidHandshake<ServerHandshake<End, NoCallback>>>),
    Answering {
        end: End,
        head: Vec<u8>,
        answer: &'static str,
    },
    /// Holds the stream, because dropping it would hang up.
    Silent {
        _end: End,
    },
    Open(Box<WebSocket<End>>),
    Gone,
}

impl Peer {
    /// Creates a server at its end of a stream.
    #[must_use]
    pub fn new(visit: Visit, end: End) -> Self {
        let link = match visit.reception {
            Reception::Http(answer) => Link::Answering {
                end,
                head: Vec::new(),
                answer,
            },
            Reception::Silence => Link::Silent { _end: end },
            Reception::Refused => Link::Gone,
            Reception::Upgrade => match tungstenite::accept(end) {
                Ok(ws) => Link::Open(Box::new(ws)),
                Err(HandshakeError::Interrupted(handshake)) => Link::Upgrading(Box::new(handshake)),
                Err(HandshakeError::Failure(_)) => Link::Gone,
            },
        };
        Self {
            acts: visit.acts.into(),
            link,
            frozen: false,
            received: Vec::new(),
        }
    }

    /// Performs the acts due at `now`, the time since the dial, and answers what has arrived. Returns when to call again,
    /// unless something arrives earlier.
    pub fn turn(&mut self, now: Duration) -> Option<Duration> {
        self.answer(now);
        while self.acts.front().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, act)) = self.acts.pop_front() {
                self.act(act);
            }
        }
        self.answer(now);
        match self.link {
            Link::Gone => None,
            _ => self.acts.front().map(|(at, _)| *at),
        }
    }

    /// Returns the stream to wait for. `None` if the server reads nothing.
    #[must_use]
    pub fn end(&self) -> Option<&End> {
        match &self.link {
            _ if self.frozen => None,
            Link::Upgrading(handshake) => Some(handshake.get_ref().get_ref()),
            Link::Answering { end, .. } => Some(end),
            Link::Open(ws) => Some(ws.get_ref()),
            Link::Silent { .. } | Link::Gone => None,
        }
    }

    fn act(&mut self, act: Act) {
        match (act, &mut self.link) {
            (Act::Freeze, _) => self.frozen = true,
            (Act::Thaw, _) => self.frozen = false,
            (Act::HangUp, link) => *link = Link::Gone,
            // An error means that the connection is gone. The script then goes on without effect.
            (Act::Send(message), Link::Open(ws)) => drop(ws.send(message)),
            (Act::Bytes(bytes), Link::Open(ws)) => drop(ws.get_mut().write_all(&bytes)),
            (Act::Close(code), Link::Open(ws)) => {
                drop(ws.close(Some(CloseFrame {
                    code: code.into(),
                    reason: "".into(),
                })));
            }
            (Act::Send(_) | Act::Bytes(_) | Act::Close(_), _) => {}
        }
    }

    fn answer(&mut self, now: Duration) {
        if self.frozen {
            return;
        }
        self.link = match std::mem::replace(&mut self.link, Link::Gone) {
            Link::Upgrading(handshake) => match handshake.handshake() {
                Ok(ws) => Link::Open(Box::new(ws)),
                Err(HandshakeError::Interrupted(handshake)) => Link::Upgrading(Box::new(handshake)),
                Err(HandshakeError::Failure(_)) => Link::Gone,
            },
            Link::Answering {
                mut end,
                mut head,
                answer,
            } => {
                let mut bytes = [0; 4096];
                while let Ok(count @ 1..) = end.read(&mut bytes) {
                    head.extend_from_slice(&bytes[..count]);
                }
                if head.ends_with(b"\r\n\r\n") {
                    drop(end.write_all(answer.as_bytes()));
                    Link::Gone
                } else {
                    Link::Answering { end, head, answer }
                }
            }
            Link::Open(mut ws) => loop {
                match ws.read() {
                    Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
                    Ok(message) => self.received.push((now, message)),
                    Err(tungstenite::Error::Io(error))
                        if error.kind() == io::ErrorKind::WouldBlock =>
                    {
                        break Link::Open(ws);
                    }
                    Err(_) => break Link::Gone,
                }
            },
            other => other,
        };
    }
}
