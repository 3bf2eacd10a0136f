//! A server in memory that does what its script says, at the times that it says: no sockets, no waiting.

mod pipe;

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::time::Duration;

use tungstenite::handshake::server::{NoCallback, ServerHandshake};
use tungstenite::handshake::{HandshakeError, MidHandshake};
use tungstenite::protocol::CloseFrame;
use tungstenite::{Message, WebSocket};

pub use pipe::{End, pipe};

/// The `Sec-WebSocket-Accept` that answers this key (RFC 6455 §4.2.2), for a server that is written by hand.
#[must_use]
pub fn accept_key(key: &str) -> String {
    tungstenite::handshake::derive_accept_key(key.as_bytes())
}

/// How a dial is received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reception {
    /// The upgrade is answered, and the visit begins.
    Upgrade,
    /// The dial is refused: no byte stream.
    Refused,
    /// A byte stream, and nothing on it, ever.
    Silence,
    /// This HTTP answer instead of the upgrade.
    Http(&'static str),
}

/// What becomes of one connection.
#[derive(Clone, Debug)]
pub struct Visit {
    /// How it begins.
    pub reception: Reception,
    /// What the server does, each at a time since the dial, in order.
    pub acts: Vec<(Duration, Act)>,
}

/// One thing that the server does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Sends a message or a control frame.
    Send(Message),
    /// Sends raw bytes, half a frame say.
    Bytes(Vec<u8>),
    /// Reads and writes nothing from now on, not even pongs.
    Freeze,
    /// Reads and answers again.
    Thaw,
    /// Sends a Close frame.
    Close(u16),
    /// Hangs up without one.
    HangUp,
}

/// Dials in memory: each meets the server of the next visit; when there are no more, all are refused.
#[derive(Debug)]
pub struct Network {
    visits: VecDeque<Visit>,
    peers: Vec<(Duration, Peer)>,
}

impl Network {
    /// With a server for each dial, in order.
    #[must_use]
    pub fn new(visits: impl IntoIterator<Item = Visit>) -> Self {
        Self {
            visits: visits.into_iter().collect(),
            peers: Vec::new(),
        }
    }

    /// A byte stream that holds 64 KiB in each direction; `None` if the dial is refused.
    pub fn dial(&mut self, now: Duration) -> Option<End> {
        let visit = self.visits.pop_front()?;
        let (ours, theirs) = pipe(64 << 10);
        let refused = visit.reception == Reception::Refused;
        self.peers.push((now, Peer::new(visit, theirs)));
        (!refused).then_some(ours)
    }

    /// The servers that were dialled, in order, those that refused among them.
    pub fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.peers.iter().map(|(_, peer)| peer)
    }

    /// Lets each server do what is due. Returns when to call again, if no server is sent anything before.
    pub fn turn(&mut self, now: Duration) -> Option<Duration> {
        let turn = |(dialled, peer): &mut (Duration, Peer)| {
            let next = peer.turn(now.saturating_sub(*dialled))?;
            Some(dialled.saturating_add(next))
        };
        self.peers.iter_mut().filter_map(turn).min()
    }
}

/// One connection's server side.
#[derive(Debug)]
pub struct Peer {
    acts: VecDeque<(Duration, Act)>,
    link: Link,
    frozen: bool,
    /// Messages received: text, binary and Close, each with its time since the dial.
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
    /// Held, so that it is not hung up.
    Silent {
        _end: End,
    },
    Open(Box<WebSocket<End>>),
    Gone,
}

impl Peer {
    /// A server at its end of a stream.
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

    /// Does what is due `now` after the dial, and answers what has arrived. Returns when to be called
    /// again, if nothing arrives before.
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

    /// The stream, to wait for.
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
            // A script that speaks on a connection that is gone speaks to nobody.
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
