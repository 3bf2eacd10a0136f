//! What the server does with a connection.

use std::io::{self, Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Shared, locked, say};
use crate::latency;
use crate::results::quantile;

/// A text frame from a server: a trade that is not a heartbeat, padded to `len` bytes.
fn frame(len: usize) -> Vec<u8> {
    let text = crate::message(len);
    let mut frame = vec![0x81];
    match text.len() {
        len @ 0..=125 => frame.push(len as u8),
        len @ 126..=65_535 => {
            frame.push(126);
            frame.extend((len as u16).to_be_bytes());
        }
        len => {
            frame.push(127);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    frame.extend(text.as_bytes());
    frame
}

pub(super) async fn flood(
    socket: &mut (impl AsyncWrite + Unpin),
    count: u64,
    len: usize,
) -> io::Result<()> {
    let frame = frame(len);
    let batch = (256 * 1024 / frame.len()).max(1) as u64;
    let block = frame.repeat(batch as usize);
    let mut left = count;
    while left > 0 {
        let now = left.min(batch);
        socket
            .write_all(&block[..frame.len() * now as usize])
            .await?;
        left -= now;
    }
    Ok(())
}

/// The due times at this rate. tokio's timer has milliseconds. Here the wait is a busy loop, on a processor
/// of its own.
struct Pace {
    start: Instant,
    rate: u64,
}

impl Pace {
    fn new(rate: u64) -> Self {
        Self {
            start: Instant::now(),
            rate: rate.max(1),
        }
    }

    fn wait(&self, number: u64) {
        let due = self.start + Duration::from_nanos(number * 1_000_000_000 / self.rate);
        while Instant::now() < due {
            std::hint::spin_loop();
        }
    }
}

/// One write for each message, which wakes the client. On request, writes the time into each.
pub(super) async fn trickle(
    socket: &mut TcpStream,
    count: u64,
    len: usize,
    rate: u64,
    is_stamped: bool,
) -> io::Result<()> {
    let (mut frame, pace) = (frame(len), Pace::new(rate));
    let head = frame.len() - len;
    for number in 0..count {
        pace.wait(number);
        if is_stamped {
            latency::stamp(&mut frame[head..]);
        }
        socket.write_all(&frame).await?;
    }
    Ok(())
}

/// The same, with each message to the next of these connections.
pub(super) fn fan(sockets: &[Arc<TcpStream>], count: u64, len: usize, rate: u64) {
    let (frame, pace) = (frame(len), Pace::new(rate));
    for (number, socket) in (0..count).zip(sockets.iter().cycle()) {
        pace.wait(number);
        let mut rest = &frame[..];
        while !rest.is_empty() {
            match socket.try_write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                // The client is gone, and the measuring process will notice that.
                Err(_) => break,
            }
        }
    }
}

/// Pings, and waits in a busy loop for each answer, so that only the client is slow.
pub(super) fn ask(socket: TcpStream, count: u64) -> io::Result<TcpStream> {
    const PING: [u8; 10] = *b"\x89\x08heartbea";
    /// The first pings find the client's caches cold.
    const WARM: usize = 100;
    let mut socket = socket.into_std()?;
    let mut times = Vec::new();
    for _ in 0..count + WARM as u64 {
        let asked = Instant::now();
        socket.write_all(&PING)?;
        let (mut answer, mut len) = ([0; 64], 0);
        // Head, mask and the same eight bytes.
        while len < 14 {
            match socket.read(&mut answer[len..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => len += read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        times.push(asked.elapsed().as_nanos() as f64);
        let answered = parse(&answer[..len]).is_some_and(|(opcode, payload, whole)| {
            (opcode, &payload[..], whole) == (10, &PING[2..], len)
        });
        if !answered {
            return Err(io::Error::other("not the pong that was asked for"));
        }
    }
    let times = &times[WARM..];
    say(&format!(
        "asked {} {}",
        quantile(times, 0.5),
        quantile(times, 0.99)
    ));
    TcpStream::from_std(socket)
}

/// Reads the available bytes into `buffer`. False at the end. Not part of a future, which would keep the
/// buffer while it waits.
fn read(socket: &TcpStream, buffer: &mut Vec<u8>) -> io::Result<bool> {
    let mut chunk = [0; 16 * 1024];
    match socket.try_read(&mut chunk) {
        Ok(0) => Ok(false),
        Ok(read) => {
            buffer.extend_from_slice(&chunk[..read]);
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(error) => Err(error),
    }
}

/// Reads until the end and keeps nothing.
pub(super) async fn discard(socket: &TcpStream) -> io::Result<()> {
    let mut buffer = Vec::new();
    while {
        socket.readable().await?;
        read(socket, &mut buffer)?
    } {
        buffer = Vec::new();
    }
    Ok(())
}

/// Reads `rate` bytes a second, and counts messages.
pub(super) async fn slow(socket: &mut TcpStream, rate: u64, shared: &Shared) -> io::Result<()> {
    let (mut buffer, start, mut total) = (Vec::new(), Instant::now(), 0);
    loop {
        socket.readable().await?;
        let before = buffer.len();
        if !read(socket, &mut buffer)? {
            return Ok(());
        }
        total += (buffer.len() - before) as u64;
        let mut at = 0;
        while let Some((opcode, _, len)) = parse(&buffer[at..]) {
            at += len;
            if opcode < 8 {
                shared.received.fetch_add(1, Ordering::Relaxed);
            }
        }
        buffer.drain(..at);
        let due = start + Duration::from_secs_f64(total as f64 / rate.max(1) as f64);
        tokio::time::sleep_until(due.into()).await;
    }
}

/// Reads frames and answers pings, until the client goes or the server is told to freeze.
pub(super) async fn idle(socket: &mut TcpStream, number: u64, shared: &Shared) -> io::Result<()> {
    let mut buffer = Vec::new();
    // Before the last write: the client cannot have received it sooner.
    let mut spoke = Instant::now();
    loop {
        socket.readable().await?;
        if !matches!(read(socket, &mut buffer), Ok(true)) {
            if shared.is_frozen(number) {
                locked(&shared.deaths).push(spoke.elapsed());
            }
            return Ok(());
        }
        let mut at = 0;
        while let Some((opcode, payload, len)) = parse(&buffer[at..]) {
            at += len;
            match opcode {
                _ if shared.is_frozen(number) => {}
                9 => {
                    let mut pong = vec![0x8a, payload.len() as u8];
                    pong.extend(payload);
                    spoke = Instant::now();
                    socket.write_all(&pong).await?;
                    shared.pongs.fetch_add(1, Ordering::Relaxed);
                }
                8 => return socket.write_all(&[0x88, 0]).await,
                0..8 => {
                    shared.received.fetch_add(1, Ordering::Relaxed);
                }
                _ => {}
            }
        }
        buffer.drain(..at);
        if buffer.is_empty() {
            // A hundred thousand connections share this machine with their clients.
            buffer = Vec::new();
        }
    }
}

/// Opcode, unmasked payload of a control frame, and length of the first whole frame.
fn parse(bytes: &[u8]) -> Option<(u8, Vec<u8>, usize)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    let (len, head) = match second & 0x7f {
        126 => (
            u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?) as usize,
            4,
        ),
        127 => (
            u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize,
            10,
        ),
        len => (len as usize, 2),
    };
    let mask = bytes.get(head..head + 4)?;
    let payload = bytes.get(head + 4..head + 4 + len)?;
    let opcode = first & 0x0f;
    let plain = match opcode {
        8.. => payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, mask)| byte ^ mask)
            .collect(),
        _ => Vec::new(),
    };
    Some((opcode, plain, head + 4 + len))
}
