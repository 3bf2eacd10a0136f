//! One open WebSocket connection: tungstenite over a stream, with accounts of what was sent.

use std::collections::VecDeque;
use std::io::{self, Read, Write};

use bytes::Bytes;
use heartbeat_core::{Ask, Cause, ConnId, Outgoing, Reply};
use tungstenite::error::{Error, ProtocolError};
use tungstenite::protocol::frame::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Message as Frame, Utf8Bytes, WebSocket};

use crate::decode::Decode;
use crate::message::Message;
use crate::outbox::{Outbox, Waiting};
use crate::stream::Stream;

/// Application messages are given to tungstenite only while it buffers less than this, so that what
/// has not gone to the operating system can be handed back, and pongs find a short queue.
const LOW_WATER: u64 = 16 * 1024;

/// Pongs that wait to be written may take this many bytes before reading is held: over 400 of the
/// largest. A peer that asks and does not listen must not make us hold more.
const PONG_BACKLOG: u64 = 64 * 1024;

/// Flushes in a row before reading gets its turn: an application that never stops sending must not
/// keep us from hearing.
const FLUSH_ROUNDS: u32 = 16;

/// What a flush came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flushed {
    /// Application bytes, or bytes after a stall, went to the operating system.
    pub(crate) moved: bool,
    /// Bytes wait since before, or since now.
    pub(crate) blocked: bool,
}

/// What a read came to.
pub(crate) enum Heard {
    Frame(Frame),
    /// Nothing more is there.
    Dry,
    Ended(Cause, Option<Box<str>>),
}

pub(crate) struct Session<S: Read + Write> {
    pub(crate) conn: ConnId,
    ws: WebSocket<Stream<S>>,
    /// Messages handed out since the machine was last told.
    pub(crate) unreported: u32,
    /// There was nothing more to read just now, and nobody has acted on that yet.
    pub(crate) ran_dry: bool,
    /// Bytes of which the machine knows.
    reported: u64,
    /// Plain bytes given to tungstenite so far, in total.
    given: u64,
    pongs: Backlog,
    /// Application messages that are not wholly with the operating system, each with the value of
    /// `given` at its end.
    in_flight: VecDeque<(u64, Waiting)>,
    /// Something was given and not flushed yet.
    unflushed: bool,
    /// A flush did not go through, and the machine knows.
    blocked: bool,
    /// An application message was given since the machine was last told of writing.
    wrote: bool,
    /// `Wire::written` at the last look.
    written: u64,
    /// Application messages received, and wholly written.
    messages: (u64, u64),
    decoder: Option<Box<dyn Decode>>,
    /// What a decoded message may be.
    limit: usize,
}

/// What went over one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) messages_received: u64,
    pub(crate) messages_sent: u64,
    pub(crate) bytes_received: u64,
    pub(crate) bytes_sent: u64,
}

impl<S: Read + Write> Session<S> {
    pub(crate) fn new(
        conn: ConnId,
        mut ws: WebSocket<Stream<S>>,
        decoder: Option<Box<dyn Decode>>,
        limit: usize,
    ) -> Self {
        let stream = ws.get_mut();
        let (given, written, read) = (stream.taken(), stream.wire().written, stream.wire().read);
        Self {
            conn,
            ws,
            unreported: 0,
            ran_dry: false,
            reported: read,
            given,
            pongs: Backlog::default(),
            in_flight: VecDeque::new(),
            unflushed: false,
            blocked: false,
            wrote: false,
            written,
            messages: (0, 0),
            decoder,
            limit,
        }
    }

    pub(crate) fn traffic(&self) -> Traffic {
        let wire = self.ws.get_ref().wire();
        Traffic {
            messages_received: self.messages.0 + u64::from(self.unreported),
            messages_sent: self.messages.1,
            bytes_received: wire.read,
            bytes_sent: wire.written,
        }
    }

    pub(crate) fn socket(&self) -> &S {
        self.ws.get_ref().wire().get_ref()
    }

    pub(crate) fn socket_mut(&mut self) -> &mut S {
        self.ws.get_mut().wire_mut().get_mut()
    }

    /// Gives back memory that only a busy connection needs.
    pub(crate) fn relax(&mut self) {
        self.ws.get_mut().wire_mut().relax();
    }

    /// Reading waits until the pongs are written.
    pub(crate) fn holds_reading(&self) -> bool {
        self.pongs.bytes() > PONG_BACKLOG
    }

    pub(crate) fn wants_write(&self) -> bool {
        self.unflushed && self.ws.get_ref().wire().write_blocked
    }

    #[inline(always)]
    pub(crate) fn read(&mut self) -> Heard {
        match self.ws.read() {
            Ok(frame) if self.decoder.is_none() => Heard::Frame(frame),
            other => self.heard(other),
        }
    }

    #[inline(never)]
    fn heard(&mut self, read: Result<Frame, Error>) -> Heard {
        match read {
            Ok(frame) => self.decode(frame),
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                match self.ws.get_mut().wire_mut().write_error() {
                    // All that the peer said before it went away has been read.
                    Some(error) => ended(Error::Io(error)),
                    None => Heard::Dry,
                }
            }
            Err(error) => {
                let ended = ended(error);
                if let Heard::Ended(Cause::Close(code @ (1002 | 1007 | 1009)), _) = ended {
                    // RFC 6455 §7.1.7: say why, if it can be said without waiting.
                    let _ = self.ws.close(Some(close_frame(code)));
                }
                ended
            }
        }
    }

    /// A write has failed, and nobody has been told.
    pub(crate) fn has_failed(&self) -> bool {
        self.ws.get_ref().wire().has_failed()
    }

    /// What the last write failed with, if what the peer said before has not been read since: the
    /// application takes no messages.
    pub(crate) fn write_error(&mut self) -> Option<Box<str>> {
        let error = self.ws.get_mut().wire_mut().write_error()?;
        Some(error.to_string().into())
    }

    /// What a message means.
    fn decode(&mut self, frame: Frame) -> Heard {
        let message = match frame {
            Frame::Text(text) => Message::Text(text),
            Frame::Binary(bytes) => Message::Binary(bytes),
            frame => return Heard::Frame(frame),
        };
        let decoded = match &mut self.decoder {
            Some(decoder) => decoder.decode(message, self.limit),
            None => Ok(message),
        };
        match decoded {
            Ok(message) => Heard::Frame(message.into()),
            Err(error) => {
                let _ = self.ws.close(Some(close_frame(error.code())));
                Heard::Ended(Cause::Close(error.code()), Some(error.to_string().into()))
            }
        }
    }

    /// True once for bytes of which the machine has not been told.
    pub(crate) fn take_unreported(&mut self) -> Option<bool> {
        let read = self.ws.get_ref().wire().read;
        let messages = std::mem::take(&mut self.unreported);
        self.messages.0 += u64::from(messages);
        let data = messages > 0;
        let progress = std::mem::replace(&mut self.reported, read) != read;
        (data || progress).then_some(data)
    }

    /// Everything read so far is known to the machine, whole messages excepted.
    pub(crate) fn mark_reported(&mut self) {
        self.reported = self.ws.get_ref().wire().read;
    }

    pub(crate) fn pong(&mut self, reply: Reply<'_>) {
        let frame = match reply {
            // Replaces the pong with the same bytes that tungstenite has made up by itself.
            Reply::Frame(payload) => Frame::Pong(Bytes::copy_from_slice(payload)),
            Reply::Binary(bytes) => Frame::Binary(Bytes::copy_from_slice(bytes)),
            Reply::Text(text) => Frame::text(text),
            _ => return,
        };
        let len = frame_len(frame.len());
        self.give(frame);
        self.pongs.add(len, self.given);
        self.push();
    }

    pub(crate) fn ping(&mut self, ping: Ask) {
        let Ask::Frame(payload) = ping else { return };
        self.give(Frame::Ping(Bytes::copy_from_slice(&payload)));
        self.push();
    }

    /// The same in the dialect's own words.
    pub(crate) fn ask(&mut self, message: Outgoing<'_>) {
        self.give(match message {
            Outgoing::Text(text) => Frame::text(text),
            Outgoing::Binary(bytes) => Frame::Binary(Bytes::copy_from_slice(bytes)),
        });
        self.push();
    }

    /// Lets the answer leave that tungstenite has queued for a Close frame: this is its one chance.
    pub(crate) fn answer_close(&mut self) {
        self.unflushed = true;
        self.push();
    }

    /// Queues everything that was accepted, then the Close frame.
    pub(crate) fn close(&mut self, code: u16, outbox: &Outbox) {
        self.take_from(outbox, u64::MAX);
        self.given += frame_len(2);
        self.unflushed = true;
        let _ = self.ws.close(Some(close_frame(code)));
        self.push();
    }

    /// Writes what waits, as far as the operating system takes it.
    pub(crate) fn flush(&mut self, outbox: &Outbox) -> Flushed {
        let mut rounds = 0;
        loop {
            while self.has_room() && self.take_from(outbox, LOW_WATER - self.buffered()) {}
            if !self.unflushed || !self.push() {
                break;
            }
            rounds += 1;
            if rounds == FLUSH_ROUNDS {
                // There may be more: after the next read.
                outbox.poke();
                break;
            }
        }
        let written = self.ws.get_ref().wire().written;
        let advanced = std::mem::replace(&mut self.written, written) != written;
        let moved = advanced && (self.blocked || self.wrote);
        if moved {
            self.wrote = self.unflushed;
        }
        let newly_blocked = self.unflushed && (!self.blocked || moved);
        self.blocked = self.unflushed;
        Flushed {
            moved,
            blocked: newly_blocked,
        }
    }

    /// Messages that have not wholly been handed over, in order, and whether of the first a part has.
    pub(crate) fn into_unsent(mut self) -> (bool, VecDeque<Waiting>) {
        self.settle();
        let confirmed = self.ws.get_mut().confirmed();
        let cut = self
            .in_flight
            .front()
            .is_some_and(|(end, first)| end - frame_len(first.message.len()) < confirmed);
        let waiting = self.in_flight.into_iter().map(|(_, waiting)| waiting);
        (cut, waiting.collect())
    }

    /// Gives tungstenite about so many bytes of what waits. False if nothing does.
    fn take_from(&mut self, outbox: &Outbox, bytes: u64) -> bool {
        let already = self.in_flight.len();
        let in_flight = &mut self.in_flight;
        if !outbox.take(bytes, |waiting| in_flight.push_back((u64::MAX, waiting))) {
            return false;
        }
        for index in already..self.in_flight.len() {
            let message = self.in_flight[index].1.message.clone();
            self.give(message.into());
            self.in_flight[index].0 = self.given;
        }
        self.wrote = true;
        true
    }

    /// Fewer bytes wait than tungstenite is given.
    pub(crate) fn has_room(&self) -> bool {
        self.buffered() < LOW_WATER
    }

    /// Writes a message of the application's, as far as that goes now: true if all of it is written. The machine is
    /// told when the session is flushed next.
    pub(crate) fn send(&mut self, message: Message) -> bool {
        self.give(message.clone().into());
        self.in_flight
            .push_back((self.given, Waiting::now(message)));
        self.wrote = true;
        self.push()
    }

    /// A message of the session's own: it belongs to this connection, and is not handed back.
    pub(crate) fn give_own(&mut self, message: Message) {
        self.give(message.into());
        self.wrote = true;
    }

    /// Says goodbye to a peer that is well, if it can be said without waiting.
    pub(crate) fn leave(&mut self) {
        let _ = self.ws.close(Some(close_frame(1000)));
        self.push();
    }

    fn give(&mut self, frame: Frame) {
        self.given += frame_len(frame.len());
        self.unflushed = true;
        // An error here is a full socket, which the flush meets too, or a closing connection,
        // which the next read meets.
        let _ = self.ws.write(frame);
    }

    /// One attempt to write everything out. True if it went through.
    fn push(&mut self) -> bool {
        if self.ws.flush().is_ok() {
            self.unflushed = false;
        }
        self.pongs.taken(self.ws.get_ref().taken());
        self.settle();
        !self.unflushed
    }

    /// Counts what has wholly been handed over.
    pub(crate) fn settle(&mut self) {
        if !self.in_flight.is_empty() {
            let confirmed = self.ws.get_mut().confirmed();
            while self
                .in_flight
                .front()
                .is_some_and(|(end, _)| *end <= confirmed)
            {
                self.in_flight.pop_front();
                self.messages.1 += 1;
            }
        }
    }

    fn buffered(&self) -> u64 {
        self.given.saturating_sub(self.ws.get_ref().taken())
    }
}

/// Pongs that wait to be written, in two parts, each gone once its end has been taken. So they are
/// counted down also while the application's messages keep the way from ever being free.
#[derive(Debug, Default)]
struct Backlog {
    older: Part,
    newer: Part,
}

#[derive(Debug, Default)]
struct Part {
    bytes: u64,
    /// The value of `Session::given` after its last pong.
    end: u64,
}

impl Backlog {
    fn bytes(&self) -> u64 {
        self.older.bytes + self.newer.bytes
    }

    fn add(&mut self, bytes: u64, end: u64) {
        self.newer.bytes += bytes;
        self.newer.end = end;
    }

    fn taken(&mut self, taken: u64) {
        for _ in 0..2 {
            if self.older.end <= taken {
                self.older = std::mem::take(&mut self.newer);
            }
        }
    }
}

/// A Close frame with a code and no words.
fn close_frame(code: u16) -> CloseFrame {
    CloseFrame {
        code: CloseCode::from(code),
        reason: Utf8Bytes::default(),
    }
}

/// Bytes of a client's frame with this payload (RFC 6455 §5.2: header, extended length, mask).
const fn frame_len(payload: usize) -> u64 {
    let extended = match payload {
        0..=125 => 0,
        126..=65_535 => 2,
        _ => 8,
    };
    2 + extended + 4 + payload as u64
}

fn ended(error: Error) -> Heard {
    let (cause, detail) = cause_of(&error);
    Heard::Ended(cause, detail)
}

/// What an error of tungstenite's means to the machine, and what it says to people.
pub(crate) fn cause_of(error: &Error) -> (Cause, Option<Box<str>>) {
    let detail = || Some(error.to_string().into());
    match error {
        Error::Io(error) => io_cause(error),
        Error::ConnectionClosed | Error::AlreadyClosed => (Cause::Eof, None),
        Error::Protocol(
            ProtocolError::ResetWithoutClosingHandshake | ProtocolError::HandshakeIncomplete,
        ) => (Cause::Eof, None),
        Error::Tls(_) => (Cause::Tls, detail()),
        Error::Utf8(_) => (Cause::Close(1007), detail()),
        Error::Capacity(_) => (Cause::Close(1009), detail()),
        _ => (Cause::Close(1002), detail()),
    }
}

/// The same for an I/O error, of a dial too.
pub fn io_cause(error: &io::Error) -> (Cause, Option<Box<str>>) {
    let cause = match error.kind() {
        io::ErrorKind::ConnectionRefused => Cause::Refused,
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => Cause::Reset,
        io::ErrorKind::UnexpectedEof => Cause::Eof,
        _ if is_tls(error) => Cause::Tls,
        _ => Cause::Io,
    };
    (cause, Some(error.to_string().into()))
}

fn is_tls(error: &io::Error) -> bool {
    #[cfg(feature = "tls")]
    return error
        .get_ref()
        .is_some_and(|inner| inner.is::<rustls::Error>());
    #[cfg(not(feature = "tls"))]
    return {
        let _ = error;
        false
    };
}
