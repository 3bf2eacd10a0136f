//! Any bytes, in any cuts, to the frames' reader and to tungstenite's: the same messages, the same end, the same code.

use std::io::{self, Read, Write};

use heartbeat_driver::frames::{Agreed, Incoming, Next, Reader, Violation};
use tungstenite::error::Error;
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Message, WebSocket};

/// The largest message.
const MAX: usize = 1000;

/// How the bytes end for a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// More would be needed.
    Open,
    /// A Close frame with this code, or without one; nothing counts after it.
    Closed(u16),
    /// A Close frame that cannot be read: to tungstenite a fault like any.
    BadClose,
    /// A Close frame of which ours does not say whether its reason can be read.
    Doubtful,
    /// The connection breaks with this code.
    Broken(u16),
}

/// The first byte is how many there are of a list of cuts, which follows; the rest is what the server says.
pub(crate) fn check(bytes: &[u8]) {
    let Some((&count, rest)) = bytes.split_first() else {
        return;
    };
    let (cuts, said) = rest.split_at(rest.len().min(usize::from(count % 16)));
    // Compressed ones, which tungstenite does not know: the cuts make no difference.
    let inflating = || Reader::new(512, MAX, &[]).inflating(Agreed::default());
    let (whole, whole_end) = ours(inflating(), said, &[]);
    let (cut, cut_end) = ours(inflating(), said, cuts);
    assert_eq!((whole, whole_end), (cut, cut_end));
    let (ours, our_end) = ours(Reader::new(512, MAX, &[]), said, cuts);
    let (theirs, mut their_end) = theirs(said);
    if matches!(our_end, End::Broken(_)) && their_end == End::Open {
        // Ours does not wait for the end of a frame that nothing can mend: here it comes.
        let ended = [said, &[0; MAX + 16]].concat();
        their_end = self::theirs(&ended).1;
    }
    assert_eq!(ours, theirs);
    let is_as_good = match (our_end, their_end) {
        // A control frame that is too long, and longer than a message may be.
        (End::Broken(1002), End::Broken(1009)) => true,
        (End::BadClose | End::Doubtful, End::Broken(1007)) => true,
        (End::Doubtful, End::Closed(1002 | 1007)) => true,
        _ => our_end == their_end,
    };
    assert!(is_as_good, "{our_end:?}, {their_end:?}");
}

fn ours(mut reader: Reader, mut said: &[u8], cuts: &[u8]) -> (Vec<Message>, End) {
    let mut all = Vec::new();
    let mut cuts = cuts.iter().cycle();
    let mut calls = 0;
    loop {
        calls += 1;
        assert!(
            calls <= 4 * said.len() + 10_000,
            "it does not come to an end"
        );
        let frame = match reader.next_frame() {
            Ok(Next::Frame(frame)) => frame,
            Ok(Next::Busy) => continue,
            Ok(Next::Hungry) if said.is_empty() => return (all, End::Open),
            Ok(Next::Hungry) => {
                let cut = cuts.next().map_or(usize::MAX, |cut| usize::from(*cut) + 1);
                let filled = reader.fill(|free| {
                    let (now, later) = said.split_at(said.len().min(cut).min(free.len()));
                    free[..now.len()].copy_from_slice(now);
                    said = later;
                    Ok(now.len())
                });
                assert!(filled.expect("no error of the stream's") > 0, "no room");
                calls = 0;
                continue;
            }
            Err(violation) => {
                let is_named = !violation.to_string().is_empty();
                assert!(
                    is_named
                        && !matches!(violation, Violation::TooLarge { len, max } if len <= max as u64)
                );
                return (all, End::Broken(violation.code()));
            }
        };
        let frame = match frame {
            Incoming::Text(text) => Message::text(text.as_str()),
            Incoming::Binary(bytes) => Message::Binary(bytes),
            Incoming::Ping(bytes) => Message::Ping(bytes),
            Incoming::Pong(bytes) => Message::Pong(bytes),
            Incoming::Close(close) => {
                let end = match (close.code, close.answer) {
                    (1005, Some(_)) => End::BadClose,
                    (_, Some(1007)) if close.code != 1007 => End::BadClose,
                    (1007, Some(1007)) if close.reason.is_none() => End::Doubtful,
                    // Codes that it does not know or that must not be sent are all 1002 to tungstenite.
                    (1014, _) if close.reason.is_none() => End::Doubtful,
                    (1014, _) => End::Closed(1002),
                    (code, _) => End::Closed(code),
                };
                return (all, end);
            }
        };
        assert!(frame.len() <= MAX);
        all.push(frame);
    }
}

/// The bytes, and then nothing for now.
struct Said<'a>(&'a [u8]);

impl Read for Said<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.0.read(buffer)
    }
}

impl Write for Said<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn theirs(said: &[u8]) -> (Vec<Message>, End) {
    let config = WebSocketConfig::default()
        .max_frame_size(Some(MAX))
        .max_message_size(Some(MAX));
    let mut ws = WebSocket::from_raw_socket(Said(said), Role::Client, Some(config));
    let mut all = Vec::new();
    loop {
        match ws.read() {
            Ok(Message::Close(None)) => return (all, End::Closed(1005)),
            Ok(Message::Close(Some(frame))) => {
                return (all, End::Closed(frame.code.into()));
            }
            Ok(message) => all.push(message),
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                return (all, End::Open);
            }
            Err(error) => {
                let end = match error {
                    Error::Protocol(tungstenite::error::ProtocolError::InvalidCloseSequence) => {
                        End::BadClose
                    }
                    Error::Utf8(_) => End::Broken(1007),
                    Error::Capacity(_) => End::Broken(1009),
                    Error::Protocol(_) => End::Broken(1002),
                    other => panic!("{other}"),
                };
                return (all, end);
            }
        }
    }
}
