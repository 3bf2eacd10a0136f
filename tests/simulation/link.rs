//! One TCP connection, from the dial until the client has dropped it.

use std::collections::VecDeque;
use std::io;
use std::task::Waker;

use super::wire::{Decoder, Wrote};

/// The result of a dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reception {
    Welcome,
    Refused,
    /// The packets are swallowed.
    Hangs,
    /// TCP is accepted, the request is not answered.
    Silent,
    /// An HTTP status, with `Retry-After` in seconds.
    Http(u16, Option<u64>),
    /// Half an answer, then the end.
    Cut,
    /// The upgrade, then the end.
    AcceptsAndDrops,
    /// The upgrade, then a Close frame.
    AcceptsAndCloses(u16),
    /// An upgrade that answers another request.
    WrongAnswer,
}

/// A server that takes arriving bytes slowly.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slow {
    /// How many bytes at a time.
    pub(crate) piece: u64,
    pub(crate) every: u64,
    /// It takes nothing before this time.
    pub(crate) stalls_until: u64,
}

/// How a byte stream has ended for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// After the bytes sent before.
    Eof,
    /// At once.
    Reset,
}

/// A ping of the server.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Its last byte in the stream to the client.
    pub(crate) end: u64,
    /// Its position among all bytes that the server sent.
    pub(crate) number: u64,
    /// The payload of a ping frame, or `None` for an application's ping.
    pub(crate) payload: Option<Vec<u8>>,
}

/// The causes that the client may give for the end of a connection, because they happened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Truth {
    pub(crate) closes: Vec<u16>,
    pub(crate) http: Option<u16>,
    pub(crate) eof: bool,
    pub(crate) reset: bool,
    pub(crate) refused: bool,
    pub(crate) garbage: bool,
}

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) conn: u64,
    pub(crate) reception: Reception,
    pub(crate) dialed_at: u64,
    /// The client has the byte stream.
    pub(crate) given: bool,
    /// The dial can be collected.
    pub(crate) ready: bool,
    pub(crate) dial_waker: Option<Waker>,
    /// The client has dropped the stream (or the dial).
    pub(crate) dropped: bool,
    /// The server has answered the upgrade.
    pub(crate) upgraded: bool,
    pub(crate) truth: Truth,

    // to the server
    pub(crate) decoder: Decoder,
    pub(crate) frames: VecDeque<(u64, Wrote)>,
    pub(crate) written: u64,
    /// The bytes that the server has taken.
    pub(crate) taken: u64,
    /// The bytes that have arrived at the server's host.
    pub(crate) arrived: u64,
    pub(crate) up: VecDeque<(u64, u64)>,
    pub(crate) cut_up_at: Option<u64>,
    pub(crate) write_waits: bool,
    pub(crate) write_waker: Option<Waker>,
    pub(crate) slow: Option<Slow>,
    /// The server will take the next piece at a time that is set.
    pub(crate) drains: bool,
    /// Waiting bytes that a planted defect hides from the client.
    pub(crate) hidden: u64,
    /// A planted defect has said that there is no room, although there is.
    pub(crate) teased: bool,
    /// The client has written its Close frame.
    pub(crate) closing: bool,

    // to the client
    pub(crate) backlog: VecDeque<u8>,
    pub(crate) down: VecDeque<(u64, Vec<u8>)>,
    pub(crate) on_the_way: u64,
    /// All bytes that the server has sent.
    pub(crate) said: u64,
    pub(crate) received: VecDeque<u8>,
    pub(crate) read: u64,
    pub(crate) read_waker: Option<Waker>,
    /// Of a reader that is paused and waits for the end.
    pub(crate) hang_up_waker: Option<Waker>,
    /// The server sends nothing more after its backlog.
    pub(crate) hangs_up: bool,
    /// Data messages so far.
    pub(crate) data_said: u64,
    pub(crate) end: Option<End>,
    /// What the client still has to answer.
    pub(crate) asked: VecDeque<Asked>,
    /// Where the data messages end, to count what is read.
    pub(crate) data_ends: VecDeque<u64>,
    /// Data messages that the client has read to their end.
    pub(crate) data_read: u64,
    /// A large message goes out in pieces, and nothing else may come between them.
    pub(crate) trickle: VecDeque<u8>,
    pub(crate) trickle_piece: usize,
    pub(crate) trickle_every: u64,

    // the faults of the connection
    pub(crate) dead: bool,
    pub(crate) frozen: bool,
    pub(crate) no_pongs: bool,
    /// Until this time it had another fault that can explain a death.
    pub(crate) trouble_until: u64,
    /// The last byte in either direction, for middleboxes that drop quiet connections.
    pub(crate) last_packet: u64,
}

impl Link {
    pub(crate) fn new(conn: u64, reception: Reception, now: u64) -> Self {
        Self {
            conn,
            reception,
            dialed_at: now,
            given: false,
            ready: false,
            dial_waker: None,
            dropped: false,
            upgraded: false,
            truth: Truth::default(),
            decoder: Decoder::default(),
            frames: VecDeque::new(),
            written: 0,
            taken: 0,
            arrived: 0,
            up: VecDeque::new(),
            cut_up_at: None,
            write_waits: false,
            write_waker: None,
            slow: None,
            drains: false,
            hidden: 0,
            teased: false,
            closing: false,
            backlog: VecDeque::new(),
            down: VecDeque::new(),
            on_the_way: 0,
            said: 0,
            received: VecDeque::new(),
            read: 0,
            read_waker: None,
            hang_up_waker: None,
            hangs_up: false,
            data_said: 0,
            end: None,
            asked: VecDeque::new(),
            data_ends: VecDeque::new(),
            data_read: 0,
            trickle: VecDeque::new(),
            trickle_piece: 0,
            trickle_every: 0,
            dead: false,
            frozen: false,
            no_pongs: false,
            trouble_until: 0,
            last_packet: now,
        }
    }

    /// A read by the client.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.end == Some(End::Reset) {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if self.received.is_empty() {
            return match self.end {
                Some(_) => Ok(0),
                None => Err(io::ErrorKind::WouldBlock.into()),
            };
        }
        let count = io::Read::read(&mut self.received, buffer)?;
        self.read += count as u64;
        Ok(count)
    }

    pub(crate) fn is_readable(&self) -> bool {
        !self.received.is_empty() || self.end.is_some()
    }

    /// How many bytes a write may take now.
    pub(crate) fn room(&self, capacity: u64) -> u64 {
        capacity.saturating_sub(self.written - self.taken)
    }

    pub(crate) fn is_writable(&self, capacity: u64) -> bool {
        self.end == Some(End::Reset) || self.room(capacity) > 0
    }

    pub(crate) fn reset(&mut self) {
        self.end = Some(End::Reset);
        self.truth.reset = true;
        self.received.clear();
        self.wake();
    }

    pub(crate) fn wake(&mut self) {
        for waker in [
            &mut self.read_waker,
            &mut self.write_waker,
            &mut self.hang_up_waker,
            &mut self.dial_waker,
        ] {
            if let Some(waker) = waker.take() {
                waker.wake();
            }
        }
    }

    /// Until this time it had a fault that can explain a death. A server that thaws during a partition does not
    /// end the partition.
    pub(crate) fn troubled_until(&self) -> u64 {
        if self.frozen {
            u64::MAX
        } else {
            self.trouble_until
        }
    }

    /// Whether it can carry a ping and its answer.
    pub(crate) fn is_good(&self) -> bool {
        self.upgraded
            && self.given
            && !self.dropped
            && !self.dead
            && !self.frozen
            && self.end.is_none()
    }
}
