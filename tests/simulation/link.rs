//! One TCP connection, from the dial to the moment when the client has dropped it.

use std::collections::VecDeque;
use std::io;
use std::task::Waker;

use super::wire::{Decoder, Wrote};

/// What a dial meets.
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

/// A server that does not take at once what arrives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slow {
    /// So many bytes at a time.
    pub(crate) piece: u64,
    pub(crate) every: u64,
    /// Nothing before that.
    pub(crate) stalls_until: u64,
}

/// How a byte stream has ended for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// After what was sent.
    Eof,
    /// At once.
    Reset,
}

/// What the server asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Its last byte in the stream to the client.
    pub(crate) end: u64,
    /// Its place among all that the server sent.
    pub(crate) number: u64,
    /// The payload of a ping frame; `None`: an application's ping.
    pub(crate) payload: Option<Vec<u8>>,
}

/// What may rightly be said about the end of a connection, because it has happened.
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
    /// What the server has taken.
    pub(crate) taken: u64,
    /// What has come to the server's host.
    pub(crate) arrived: u64,
    pub(crate) up: VecDeque<(u64, u64)>,
    pub(crate) cut_up_at: Option<u64>,
    pub(crate) write_waits: bool,
    pub(crate) write_waker: Option<Waker>,
    pub(crate) slow: Option<Slow>,
    /// It will take the next piece at a time that is set.
    pub(crate) drains: bool,
    /// Bytes that a planted defect keeps from the client that they wait.
    pub(crate) hidden: u64,
    /// A planted defect has said that there is no room, though there is.
    pub(crate) teased: bool,
    /// The client has written its Close frame.
    pub(crate) closing: bool,

    // to the client
    pub(crate) backlog: VecDeque<u8>,
    pub(crate) down: VecDeque<(u64, Vec<u8>)>,
    pub(crate) on_the_way: u64,
    /// Bytes that the server has said in all.
    pub(crate) said: u64,
    pub(crate) received: VecDeque<u8>,
    pub(crate) read: u64,
    pub(crate) read_waker: Option<Waker>,
    /// Of whoever does not read and waits for the end.
    pub(crate) hang_up_waker: Option<Waker>,
    /// The server says nothing more after its backlog.
    pub(crate) hangs_up: bool,
    /// Data messages so far.
    pub(crate) data_said: u64,
    pub(crate) end: Option<End>,
    /// What the client must answer yet.
    pub(crate) asked: VecDeque<Asked>,
    /// Where the data messages end, for the account of what is read.
    pub(crate) data_ends: VecDeque<u64>,
    /// Data messages that the client has read to their end.
    pub(crate) data_read: u64,
    /// A large message goes out in pieces: nothing else may come between.
    pub(crate) trickle: VecDeque<u8>,
    pub(crate) trickle_piece: usize,
    pub(crate) trickle_every: u64,

    // what is wrong with it
    pub(crate) dead: bool,
    pub(crate) frozen: bool,
    pub(crate) no_pongs: bool,
    /// Up to here something else was wrong with it that can explain a death.
    pub(crate) trouble_until: u64,
    /// The last byte in either direction, for boxes on the way that forget.
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

    /// How many bytes a write may bring now.
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

    /// Up to here something was wrong with it that can explain a death: a server that thaws amid a partition
    /// does not mend that.
    pub(crate) fn troubled_until(&self) -> u64 {
        if self.frozen {
            u64::MAX
        } else {
            self.trouble_until
        }
    }

    /// Is able to carry a question and its answer.
    pub(crate) fn is_good(&self) -> bool {
        self.upgraded
            && self.given
            && !self.dropped
            && !self.dead
            && !self.frozen
            && self.end.is_none()
    }
}
