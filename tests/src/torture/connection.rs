//! One connection: buffered reading with a time limit, and a count of every byte.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tungstenite::handshake::derive_accept_key;

use super::book::{Book, Entry};
use super::kernel;
use crate::frames::{self, CLOSE, Frame, PING, PONG, TEXT};

/// The longest request head. A client that sends more is not one of ours.
const MAX_HEAD: usize = 16 * 1024;

/// How often a frozen server checks whether the client is still there.
const LOOK: Duration = Duration::from_millis(50);

/// More than pings and an application's few messages, less than a full receive buffer.
const FULL: u64 = 32 << 10;

/// The time that a client has to send its request.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest time that a connection is served.
pub(super) const LIFETIME: Duration = Duration::from_secs(7200);

/// The connection is over, and the record says how.
#[derive(Debug)]
pub(super) struct Over;

pub(super) type Going<T = ()> = Result<T, Over>;

pub(super) struct Connection<'a> {
    pub(super) socket: TcpStream,
    pub(super) book: &'a Book,
    pub(super) entry: Entry,
    buffer: Vec<u8>,
    /// How many bytes of the buffer have been processed.
    done: usize,
    pace: Option<Pace>,
}

/// The limit on the reading rate.
struct Pace {
    /// Bytes a second.
    rate: u32,
    since: Instant,
    read: u32,
}

/// The request line and the relevant headers.
#[derive(Debug, Default)]
pub(super) struct Request {
    pub(super) path: String,
    pub(super) key: Option<String>,
    protocol: Option<String>,
}

impl Request {
    /// Reads only to the end of the head.
    pub(super) fn read(socket: &mut TcpStream) -> io::Result<Self> {
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut head = Vec::new();
        let mut byte = [0; 1];
        while !head.ends_with(b"\r\n\r\n") {
            if socket.read(&mut byte)? == 0 || head.len() > MAX_HEAD {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head);
        let mut lines = head.lines();
        let path = lines.next().and_then(|line| line.split(' ').nth(1));
        let mut request = Self {
            path: origin_form(path.unwrap_or("/")).to_owned(),
            ..Self::default()
        };
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim().to_owned();
            match name.to_ascii_lowercase().as_str() {
                "sec-websocket-key" => request.key = Some(value),
                "sec-websocket-protocol" => request.protocol = Some(value),
                _ => {}
            }
        }
        Ok(request)
    }

    /// The answer to an upgrade. Of the offered subprotocols, the first is accepted.
    pub(super) fn accept(&self) -> String {
        let key = derive_accept_key(self.key.as_deref().unwrap_or_default().as_bytes());
        let protocol = self
            .protocol
            .as_deref()
            .and_then(|list| list.split(',').next());
        let protocol = protocol.map_or_else(String::new, |name| {
            format!("Sec-WebSocket-Protocol: {}\r\n", name.trim())
        });
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {key}\r\n{protocol}\r\n"
        )
    }
}

/// Some clients send the whole URL, which a server must accept (RFC 9112, section 3.2.2).
fn origin_form(target: &str) -> &str {
    match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => {
            rest.find('/').map_or("/", |path| &rest[path..])
        }
        _ => target,
    }
}

impl Pace {
    /// Waits until the next piece is due, and returns its size.
    fn wait(&self) -> usize {
        let due = Duration::from_secs_f64(f64::from(self.read) / f64::from(self.rate));
        thread::sleep((self.since + due).saturating_duration_since(Instant::now()));
        // The bytes of a fiftieth of a second.
        self.rate as usize / 50
    }
}

impl<'a> Connection<'a> {
    pub(super) fn new(socket: TcpStream, book: &'a Book, entry: Entry) -> Self {
        // A socket that does not accept these settings is gone, and reading will show that.
        let _ = socket.set_nodelay(true);
        let _ = socket.set_write_timeout(Some(Duration::from_secs(60)));
        Self {
            socket,
            book,
            entry,
            buffer: Vec::new(),
            done: 0,
            pace: None,
        }
    }

    /// From now on, reads this many bytes a second, out of a short receive buffer.
    pub(super) fn read_at(&mut self, rate: u32) {
        // A socket that does not accept the setting buffers more, and reads just as slowly.
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&self.socket, 64 << 10);
        self.pace = Some(Pace {
            rate,
            since: Instant::now(),
            read: 0,
        });
    }

    pub(super) fn upgrade(&mut self, request: &Request) -> Going {
        self.write(request.accept().as_bytes())?;
        self.book.upgraded(&self.entry);
        Ok(())
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Going {
        let written = self.socket.write_all(bytes);
        written.map_err(|error| self.broken(&error))?;
        self.book.said(&self.entry);
        Ok(())
    }

    pub(super) fn send(&mut self, first: u8, payload: &[u8]) -> Going {
        self.write(&frames::encode(first, payload))
    }

    /// The client's next frame, counted. `None` if none is whole by then.
    pub(super) fn frame_until(&mut self, until: Instant) -> Going<Option<Frame>> {
        loop {
            match frames::decode(&self.buffer[self.done..]) {
                Ok(None) => drop(self.buffer.drain(..std::mem::take(&mut self.done))),
                Ok(Some((frame, length))) => {
                    self.done += length;
                    self.count(&frame);
                    return Ok(Some(frame));
                }
                Err(error) => {
                    self.book.ended(&self.entry, error);
                    return Err(Over);
                }
            }
            let left = until.saturating_duration_since(Instant::now());
            // A read timeout of zero would mean no timeout.
            if left < Duration::from_millis(1) || self.read_within(left)? == 0 {
                return Ok(None);
            }
        }
    }

    /// Reads the available bytes into the buffer. 0 if nothing came.
    fn read_within(&mut self, patience: Duration) -> Going<usize> {
        let mut bytes = [0; 64 << 10];
        let most = self.pace.as_ref().map_or(bytes.len(), Pace::wait);
        let _ = self.socket.set_read_timeout(Some(patience));
        match self.socket.read(&mut bytes[..most]) {
            Ok(0) => {
                self.book.ended(&self.entry, "eof");
                Err(Over)
            }
            Ok(count) => {
                self.book.heard(&self.entry, count);
                if let Some(pace) = &mut self.pace {
                    pace.read += count as u32;
                }
                self.buffer.extend_from_slice(&bytes[..count]);
                Ok(count)
            }
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) =>
            {
                Ok(0)
            }
            Err(error) => Err(self.broken(&error)),
        }
    }

    fn broken(&self, error: &io::Error) -> Over {
        self.book.ended(&self.entry, &error.kind().to_string());
        Over
    }

    fn count(&mut self, frame: &Frame) {
        match frame.first {
            PING => self.book.ping(&self.entry),
            PONG => self.book.pong(&self.entry),
            CLOSE => {
                let code = frame
                    .payload
                    .get(..2)
                    .map(|code| u16::from_be_bytes([code[0], code[1]]));
                let code = code.map_or("without a code".to_owned(), |code| code.to_string());
                self.book.ended(&self.entry, &format!("close {code}"));
            }
            // Only whole messages and first fragments have a number.
            first if first & 0xf != 0 => self.book.message(&self.entry, &frame.payload),
            _ => {}
        }
    }

    /// Answers pings and a Close, and counts the rest, for this long.
    pub(super) fn serve_for(&mut self, span: Duration) -> Going {
        let end = Instant::now() + span;
        while let Some(frame) = self.frame_until(end)? {
            self.answer(&frame)?;
        }
        Ok(())
    }

    pub(super) fn answer(&mut self, frame: &Frame) -> Going {
        match frame.first {
            PING => self.send(PONG, &frame.payload),
            CLOSE => {
                self.send(CLOSE, &frame.payload)?;
                Err(Over)
            }
            TEXT => match phoenix_reply(&frame.payload) {
                Some(reply) => self.send(TEXT, reply.as_bytes()),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Reads without answering until the client is gone.
    pub(super) fn listen(&mut self) -> Going {
        let end = Instant::now() + LIFETIME;
        while self.frame_until(end)?.is_some() {}
        Ok(())
    }

    /// Reads and discards everything, frames or not, until the client is gone.
    pub(super) fn drain(&mut self) -> Going {
        let end = Instant::now() + LIFETIME;
        while Instant::now() < end {
            self.read_within(Duration::from_secs(1))?;
            self.buffer.clear();
            self.done = 0;
        }
        Ok(())
    }

    /// Neither reads nor writes until the client's socket is closed.
    pub(super) fn freeze(&mut self) -> Going {
        self.book.note(&self.entry, "frozen");
        let ports = (self.socket.peer_addr(), self.socket.local_addr());
        let end = Instant::now() + LIFETIME;
        let mut missed = 0;
        while Instant::now() < end {
            let gone = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
            let mut fds = [PollFd::new(&self.socket, gone)];
            let look = Timespec::try_from(LOOK).ok();
            if poll(&mut fds, look.as_ref()).is_ok_and(|ready| ready > 0) {
                break;
            }
            // Its FIN may wait behind bytes for which there is no room. Only then is the kernel asked.
            let waiting = rustix::io::ioctl_fionread(&self.socket).unwrap_or(0);
            if waiting >= FULL
                && let (Ok(client), Ok(own)) = (&ports.0, &ports.1)
                && client.ip().is_loopback()
            {
                let open = kernel::is_open(client.port(), own.port());
                missed = if open { 0 } else { missed + 1 };
                // The table is not read atomically: a socket can be missed once while others come and go.
                if missed == 2 {
                    break;
                }
            }
        }
        self.book.ended(&self.entry, "gone");
        Err(Over)
    }

    /// The next drop sends an RST.
    pub(super) fn reset(&self) {
        let _ = rustix::net::sockopt::set_socket_linger(&self.socket, Some(Duration::ZERO));
    }
}

/// Phoenix's clients ping by message, `[null,"REF","phoenix","heartbeat",{}]`, and a Phoenix server answers
/// it like a ping.
fn phoenix_reply(text: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(text).ok()?;
    let reference = text.strip_prefix(r#"[null,""#)?;
    let reference = reference.strip_suffix(r#"","phoenix","heartbeat",{}]"#)?;
    Some(format!(
        r#"[null,"{reference}","phoenix","phx_reply",{{"status":"ok","response":{{}}}}]"#
    ))
}

#[cfg(test)]
mod tests {
    use super::origin_form;

    #[test]
    fn a_request_with_the_whole_url_is_for_its_path() {
        assert_eq!(origin_form("ws://127.0.0.1:80/@a/t1"), "/@a/t1");
        assert_eq!(origin_form("ws://127.0.0.1:80"), "/");
        assert_eq!(origin_form("/@a/t1?to=http://b/c"), "/@a/t1?to=http://b/c");
    }
}
