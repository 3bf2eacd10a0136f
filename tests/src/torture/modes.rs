//! What the server does to a connection, by the requested path.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::Shutdown;
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::connection::{Connection, Going, LIFETIME, Over, Request};
use crate::frames::{self, BINARY, CLOSE, PING, PONG, TEXT};
use crate::split_mix::SplitMix;

/// The client's times, from which the server's own are computed.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// A client pings after this much silence.
    pub ping: Duration,
    /// A client declares a connection dead after this much silence.
    pub death: Duration,
    /// A client gives up a dial after this time.
    pub connect: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            ping: Duration::from_secs(2),
            death: Duration::from_secs(4),
            connect: Duration::from_secs(3),
        }
    }
}

/// Every path, with its behaviour.
pub const MODES: &[(&str, &str)] = &[
    (
        "t1",
        "talks for half of `ping`, then freezes: TCP stays open, nothing more is read or said",
    ),
    ("t2", "freezes at once after the upgrade"),
    ("t3", "the same as t1, for a client that goes on writing"),
    ("t4", "answers pings, says nothing else"),
    (
        "t5",
        "one message of 15 MB that takes four times `death`, then answers pings",
    ),
    (
        "t6",
        "20 000 numbered messages of 1 KiB as fast as they are taken, pings answered between them",
    ),
    ("t7", "talks every 200 ms and answers pings"),
    ("t7/quiet", "answers pings, says nothing else"),
    (
        "t8",
        "talks for half of `ping`, then freezes: for a process that is stopped after that",
    ),
    ("t9", "accepts the upgrade and drops TCP"),
    ("t10/CODE", "accepts the upgrade and closes with CODE"),
    ("t11/silent", "reads the request and never answers"),
    (
        "t11/half",
        "answers half of the upgrade's head, and no more",
    ),
    (
        "t12/STATUS",
        "refuses the upgrade; 429 and 503 with `Retry-After: 2`",
    ),
    (
        "t13/late",
        "answers each ping 1.5 times `death` later, says nothing else",
    ),
    (
        "t13/unasked",
        "sends a pong that nobody asked for each half `death`, and no answers",
    ),
    ("t13/other", "answers pings with other bytes"),
    ("t13/three", "answers each third ping, with its bytes"),
    (
        "t14",
        "freezes the first connection; once the second is open, closes the first with 1008",
    ),
    (
        "t14/dial",
        "answers the first upgrade only when the dial was given up",
    ),
    (
        "t15",
        "100 000 numbered pings as fast as they are taken; notes what came of the answers",
    ),
    ("t16/reserved", "a frame with a reserved bit"),
    ("t16/utf8", "a text that is no UTF-8"),
    ("t16/control", "a fragmented ping"),
    ("t16/length", "a frame that announces 2^63 bytes"),
    ("t16/large", "announces 1 TB, and begins to send it"),
    ("t16/half", "half a frame, then the end of the stream"),
    ("t18", "talks every second and answers pings"),
    (
        "t20/BYTES",
        "reads so many bytes, ends its side, reads the rest",
    ),
    ("t23", "talks for half of `ping`, then answers pings only"),
    (
        "t24",
        "numbered messages, 200 a second; then, at random after 2 to 20 s, drops, closes, freezes or falls silent",
    ),
    (
        "t27",
        "reads 1.5 MB a second and answers pings as it gets to them; notes when 20 MB are whole",
    ),
    (
        "t28",
        "the same, 10 MB, and asks every 500 ms meanwhile; notes how long an answer takes",
    ),
    (
        "t29/fin",
        "1200 messages that are not all taken, and half a second later the end of the stream; then answers pings",
    ),
    ("t29/rst", "the same, with a reset"),
    (
        "t30/404",
        "talks for `ping` and hangs up; refuses the next upgrade; then talks on",
    ),
    ("t30/garbage", "the same, with an answer that is no HTTP"),
    (
        "t30/1002",
        "talks for `ping` and closes with 1002; then talks on",
    ),
    ("t30/frame", "the same, with a reserved bit"),
    (
        "t31/STATUS",
        "refuses the first upgrade with `Retry-After: 3`; then talks on",
    ),
    ("t31/fraction", "the same, 429 with `Retry-After: 2.5`"),
    (
        "t32/hang",
        "at the address that is dialled first, reads the request and never answers; at another, talks on",
    ),
    ("t32/503", "the same, and answers 503"),
    ("echo", "echoes messages and answers pings"),
];

/// A parsed path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mode {
    name: String,
    argument: Option<u64>,
}

impl Mode {
    /// Segments after the mode belong to the client (such as Phoenix's `/websocket`).
    pub(super) fn parse(path: &str) -> Option<Self> {
        let mut segments = path.split('/');
        let first = segments.next()?;
        let second = segments.next();
        let is = |pattern: &str| MODES.iter().any(|(path, _)| *path == pattern);
        if let Some(second) = second {
            let both = format!("{first}/{second}");
            if is(&both) {
                return Some(Self {
                    name: both,
                    argument: None,
                });
            }
            if let Ok(argument) = second.parse() {
                return ["t10", "t12", "t20", "t31"].contains(&first).then(|| Self {
                    name: first.to_owned(),
                    argument: Some(argument),
                });
            }
        }
        is(first).then(|| Self {
            name: first.to_owned(),
            argument: None,
        })
    }

    fn number(&self) -> u64 {
        self.argument.unwrap_or_default()
    }
}

/// The list of modes as text.
#[must_use]
pub(super) fn help() -> String {
    let mut text = String::from(
        "ws://HOST:PORT/@ID/MODE plays MODE for the client ID; http://HOST:PORT/report/ID tells what was seen.\n\n",
    );
    for (path, what) in MODES {
        // Writing into a String does not fail.
        let _ = writeln!(text, "{path:<12} {what}");
    }
    text
}

/// Runs a connection to its end. `number` is how many the client has had.
pub(super) fn play(
    mode: &Mode,
    number: u64,
    request: &Request,
    connection: &mut Connection<'_>,
    times: &Times,
) -> Going {
    match mode.name.as_str() {
        "t11/silent" => return connection.drain(),
        "t11/half" => {
            let head = request.accept();
            connection.write(&head.as_bytes()[..head.len() / 2])?;
            return connection.drain();
        }
        "t12" => {
            let extra = match mode.number() {
                429 | 503 => "Retry-After: 2\r\n",
                301 | 302 | 307 | 308 => "Location: /elsewhere\r\n",
                _ => "",
            };
            return refuse(connection, mode.number(), extra);
        }
        "t30/404" if number == 2 => return refuse(connection, 404, ""),
        "t30/garbage" if number == 2 => return connection.write(b"SSH-2.0-OpenSSH_9.9\r\n\r\n"),
        "t31" if number == 1 => return refuse(connection, mode.number(), "Retry-After: 3\r\n"),
        "t31/fraction" if number == 1 => return refuse(connection, 429, "Retry-After: 2.5\r\n"),
        "t32/hang" | "t32/503" => {
            let address = connection.socket.local_addr().map_err(|_| Over)?.ip();
            if connection.book.is_first_address(&connection.entry, address) {
                connection.book.note(&connection.entry, "the first address");
                return match mode.name.as_str() {
                    "t32/503" => refuse(connection, 503, ""),
                    _ => connection.drain(),
                };
            }
        }
        "t14/dial" if number == 1 => thread::sleep(times.connect + Duration::from_millis(700)),
        _ => {}
    }
    connection.upgrade(request)?;
    match mode.name.as_str() {
        "t1" | "t3" => {
            talk_for(connection, times.ping / 2)?;
            connection.freeze()
        }
        "t2" => connection.freeze(),
        "t4" | "t7/quiet" | "t14/dial" => connection.serve_for(LIFETIME),
        "t5" => trickle(connection, times.death * 4),
        "t6" => busy(connection),
        "t7" => talk_for(connection, LIFETIME),
        "t8" => {
            talk_for(connection, times.ping / 2)?;
            connection.freeze()
        }
        "t9" => Ok(()),
        "t10" => close(connection, mode.number()),
        "t13/late" => late(connection, times.death * 3 / 2),
        "t13/unasked" => unasked(connection, times.death / 2),
        "t13/other" => other(connection),
        "t13/three" => three(connection),
        "t14" => old_and_new(connection, number, times),
        "t15" => flood(connection),
        "t18" => beat(connection, Duration::from_secs(1), LIFETIME),
        "t20" if number > 1 => connection.serve_for(LIFETIME),
        "t20" => cut(connection, mode.number()),
        "t23" => {
            talk_for(connection, times.ping / 2)?;
            connection.serve_for(LIFETIME)
        }
        "t24" => at_random(connection, number),
        "t27" => slow_reader(connection, 20_000_000),
        "t28" => asking_reader(connection, 10_000_000),
        "t29/fin" | "t29/rst" if number == 1 => untaken(connection, mode.name == "t29/rst"),
        "t30/404" | "t30/garbage" if number == 1 => talk_for(connection, times.ping),
        "t30/1002" if number == 1 => {
            talk_for(connection, times.ping)?;
            close(connection, 1002)
        }
        "t30/frame" if number == 1 => {
            talk_for(connection, times.ping)?;
            spoil(connection, "t16/reserved")
        }
        "t29/fin" | "t29/rst" | "t30/404" | "t30/garbage" | "t30/1002" | "t30/frame" | "t31"
        | "t31/fraction" | "t32/hang" | "t32/503" => talk_for(connection, LIFETIME),
        "echo" => echo(connection),
        garbage => spoil(connection, garbage),
    }
}

/// A numbered message every 200 ms. Pings are answered.
fn talk_for(connection: &mut Connection<'_>, span: Duration) -> Going {
    beat(connection, Duration::from_millis(200), span)
}

fn beat(connection: &mut Connection<'_>, interval: Duration, span: Duration) -> Going {
    let end = Instant::now() + span;
    let mut next = Instant::now();
    let mut count = 0_u64;
    while next < end {
        connection.send(TEXT, format!(r#"{{"n":{count}}}"#).as_bytes())?;
        count += 1;
        next += interval;
        while let Some(frame) = connection.frame_until(next)? {
            connection.answer(&frame)?;
        }
    }
    Ok(())
}

fn echo(connection: &mut Connection<'_>) -> Going {
    while let Some(frame) = connection.frame_until(Instant::now() + LIFETIME)? {
        match frame.first {
            TEXT | BINARY => connection.send(frame.first, &frame.payload)?,
            _ => connection.answer(&frame)?,
        }
    }
    Ok(())
}

/// A single frame, so that nothing can be sent in between.
fn trickle(connection: &mut Connection<'_>, span: Duration) -> Going {
    // With default settings, many clients refuse a frame of more than 16 MiB, and this case is about time.
    const SIZE: usize = 15_000_000;
    const PIECES: u32 = 100;
    let frame = frames::encode(BINARY, &vec![b'.'; SIZE]);
    let pieces: Vec<&[u8]> = frame
        .chunks(frame.len().div_ceil(PIECES as usize))
        .collect();
    for piece in pieces {
        connection.write(piece)?;
        // Frames are read and not answered, because a pong cannot be inside a frame.
        while connection
            .frame_until(Instant::now() + span / PIECES)?
            .is_some()
        {}
    }
    connection.book.note(&connection.entry, "whole");
    connection.serve_for(LIFETIME)
}

/// Written by a thread of its own, so that pings are read while the client takes nothing.
fn busy(connection: &mut Connection<'_>) -> Going {
    const MESSAGES: u64 = 20_000;
    let (pongs, waiting) = mpsc::channel::<Vec<u8>>();
    let Ok(mut writer) = connection.socket.try_clone() else {
        return Err(Over);
    };
    // No write timeout, because the application's pause is longer than any sensible limit.
    let _ = writer.set_write_timeout(None);
    thread::scope(|scope| {
        scope.spawn(move || {
            for n in 0..MESSAGES {
                for pong in waiting.try_iter() {
                    writer.write_all(&frames::encode(PONG, &pong))?;
                }
                let mut text = format!(r#"{{"n":{n},"pad":""#);
                text.push_str(&".".repeat(1000));
                text.push_str("\"}");
                writer.write_all(&frames::encode(TEXT, text.as_bytes()))?;
            }
            writer.write_all(&frames::encode(TEXT, br#"{"end":true}"#))?;
            for pong in waiting {
                writer.write_all(&frames::encode(PONG, &pong))?;
            }
            std::io::Result::Ok(())
        });
        let end = Instant::now() + LIFETIME;
        while let Some(frame) = connection.frame_until(end)? {
            match frame.first {
                // The writer may end with the connection.
                PING => drop(pongs.send(frame.payload)),
                CLOSE => break,
                _ => {}
            }
        }
        // A writer that is stuck must not keep the thread.
        let _ = connection.socket.shutdown(Shutdown::Both);
        Ok(())
    })
}

fn close(connection: &mut Connection<'_>, code: u64) -> Going {
    connection.send(CLOSE, &(code as u16).to_be_bytes())?;
    let end = Instant::now() + Duration::from_secs(2);
    while let Some(frame) = connection.frame_until(end)? {
        if frame.first == CLOSE {
            break;
        }
    }
    Ok(())
}

fn refuse(connection: &mut Connection<'_>, status: u64, extra: &str) -> Going {
    connection.write(
        format!(
            "HTTP/1.1 {status} Refused\r\n{extra}Content-Length: 0\r\nConnection: close\r\n\r\n"
        )
        .as_bytes(),
    )
}

fn late(connection: &mut Connection<'_>, delay: Duration) -> Going {
    let mut due: Vec<(Instant, Vec<u8>)> = Vec::new();
    loop {
        let next = due
            .first()
            .map_or_else(|| Instant::now() + LIFETIME, |(at, _)| *at);
        match connection.frame_until(next)? {
            Some(frame) if frame.first == PING => due.push((Instant::now() + delay, frame.payload)),
            Some(frame) if frame.first == CLOSE => return connection.answer(&frame),
            Some(_) => {}
            None if due.is_empty() => return Ok(()),
            None => {
                let (_, payload) = due.remove(0);
                connection.send(PONG, &payload)?;
            }
        }
    }
}

fn unasked(connection: &mut Connection<'_>, interval: Duration) -> Going {
    let end = Instant::now() + LIFETIME;
    while Instant::now() < end {
        connection.send(PONG, b"unasked")?;
        let next = Instant::now() + interval;
        while let Some(frame) = connection.frame_until(next)? {
            if frame.first == CLOSE {
                return connection.answer(&frame);
            }
        }
    }
    Ok(())
}

fn other(connection: &mut Connection<'_>) -> Going {
    while let Some(frame) = connection.frame_until(Instant::now() + LIFETIME)? {
        match frame.first {
            PING => connection.send(PONG, b"other bytes")?,
            _ => connection.answer(&frame)?,
        }
    }
    Ok(())
}

fn three(connection: &mut Connection<'_>) -> Going {
    let mut pings = 0_u32;
    while let Some(frame) = connection.frame_until(Instant::now() + LIFETIME)? {
        pings += u32::from(frame.first == PING);
        if frame.first != PING || pings.is_multiple_of(3) {
            connection.answer(&frame)?;
        }
    }
    Ok(())
}

/// The first connection's late close arrives when the second is open.
fn old_and_new(connection: &mut Connection<'_>, number: u64, times: &Times) -> Going {
    if number > 1 {
        return talk_for(connection, LIFETIME);
    }
    talk_for(connection, times.ping / 2)?;
    let id = connection.entry.id().to_owned();
    let end = Instant::now() + times.death * 3;
    while Instant::now() < end && connection.book.connects(&id) < 2 {
        thread::sleep(Duration::from_millis(20));
    }
    thread::sleep(Duration::from_millis(300));
    // It may be reset already, and then nothing can arrive.
    connection.send(CLOSE, &1008_u16.to_be_bytes())?;
    connection.drain()
}

fn flood(connection: &mut Connection<'_>) -> Going {
    const PINGS: u64 = 100_000;
    let Ok(mut writer) = connection.socket.try_clone() else {
        return Err(Over);
    };
    let (answered, in_order) = thread::scope(|scope| {
        scope.spawn(move || {
            for n in 0..PINGS {
                if writer
                    .write_all(&frames::encode(PING, &n.to_be_bytes()))
                    .is_err()
                {
                    break;
                }
            }
        });
        let (mut answered, mut in_order) = (0_u64, true);
        let end = Instant::now() + Duration::from_secs(60);
        while answered < PINGS {
            match connection.frame_until(end) {
                Ok(Some(frame)) if frame.first == PONG => {
                    in_order &= frame.payload == answered.to_be_bytes();
                    answered += 1;
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(Over) => break,
            }
        }
        if answered < PINGS {
            // The writer may be stuck.
            let _ = connection.socket.shutdown(Shutdown::Both);
        }
        (answered, in_order)
    });
    let order = if in_order { "in order" } else { "not in order" };
    connection
        .book
        .note(&connection.entry, format!("{answered} answers, {order}"));
    connection.serve_for(LIFETIME)
}

fn spoil(connection: &mut Connection<'_>, what: &str) -> Going {
    match what {
        "t16/reserved" => connection.write(&[0xf1, 1, b'x'])?,
        "t16/utf8" => connection.send(TEXT, &[0xc3, 0x28])?,
        "t16/control" => connection.write(&[0x09, 1, b'x'])?,
        "t16/length" => connection.write(&[BINARY, 127, 0x80, 0, 0, 0, 0, 0, 0, 0])?,
        "t16/large" => {
            connection.write(&[BINARY, 127, 0, 0, 0, 0xe8, 0xd4, 0xa5, 0x10, 0])?;
            let mebibyte = vec![b'.'; 1 << 20];
            for _ in 0..512 {
                connection.write(&mebibyte)?;
            }
        }
        "t16/half" => {
            connection.write(&frames::encode(TEXT, b"half a frame")[..7])?;
            return Ok(());
        }
        _ => return Ok(()),
    }
    connection.drain()
}

/// Half-closed after this many bytes. The bytes that the client had handed to its system still arrive.
fn cut(connection: &mut Connection<'_>, bytes: u64) -> Going {
    let end = Instant::now() + LIFETIME;
    // Frames are counted, so the cut is after the frame with that byte.
    let mut read = 0;
    while read < bytes {
        match connection.frame_until(end)? {
            Some(frame) => read += frame.payload.len() as u64,
            None => return Ok(()),
        }
    }
    let _ = connection.socket.shutdown(Shutdown::Write);
    connection.book.note(&connection.entry, "cut");
    let end = Instant::now() + Duration::from_secs(30);
    while connection.frame_until(end)?.is_some() {}
    Ok(())
}

/// How many bytes T27 and T28 read in a second.
const SLOW: u32 = 1_500_000;

/// Reads a message of at least this many bytes, in any fragments.
fn slow_reader(connection: &mut Connection<'_>, size: usize) -> Going {
    connection.read_at(SLOW);
    let mut received = 0;
    while received < size {
        let Some(frame) = connection.frame_until(Instant::now() + LIFETIME)? else {
            return Ok(());
        };
        match frame.first & 0xf {
            0..=2 => received += frame.payload.len(),
            _ => connection.answer(&frame)?,
        }
    }
    connection.book.note(&connection.entry, "whole");
    connection.serve_for(LIFETIME)
}

/// Pings while it reads, and records the longest time to an answer. A missing answer counts until the end.
fn asking_reader(connection: &mut Connection<'_>, size: usize) -> Going {
    const EVERY: Duration = Duration::from_millis(500);
    let Ok(mut writer) = connection.socket.try_clone() else {
        return Err(Over);
    };
    connection.read_at(SLOW);
    let begun = Instant::now();
    let now = || begun.elapsed().as_millis() as u64;
    let asked = Mutex::new(VecDeque::new());
    let (done, is_done) = mpsc::channel::<()>();
    let (mut received, mut longest, mut going) = (0, 0, Ok(()));
    thread::scope(|scope| {
        let asked = &asked;
        scope.spawn(move || {
            while is_done.recv_timeout(EVERY) == Err(mpsc::RecvTimeoutError::Timeout) {
                let at = now();
                lock(asked).push_back(at);
                if writer
                    .write_all(&frames::encode(PING, &at.to_be_bytes()))
                    .is_err()
                {
                    break;
                }
            }
        });
        // Pings until the message is whole, or the connection is over.
        let mut done = Some(done);
        let end = Instant::now() + Duration::from_secs(60);
        while received < size || !lock(asked).is_empty() {
            let frame = match connection.frame_until(end) {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(over) => {
                    going = Err(over);
                    break;
                }
            };
            if frame.first == PONG {
                let mut asked = lock(asked);
                let mut places = asked.iter();
                // A pong may answer the latest of several pings (RFC 6455 §5.5.3).
                if let Some(place) =
                    places.position(|at: &u64| at.to_be_bytes()[..] == frame.payload)
                {
                    for at in asked.drain(..=place) {
                        longest = longest.max(now() - at);
                    }
                }
            } else if frame.first & 0xf < 8 {
                received += frame.payload.len();
            }
            if received >= size {
                done = None;
            }
        }
        drop(done);
    });
    for at in lock(&asked).drain(..) {
        longest = longest.max(now() - at);
    }
    let whole = if received < size { "cut" } else { "whole" };
    let note = format!("{whole}, pongs within {longest} ms");
    connection.book.note(&connection.entry, note);
    going?;
    connection.serve_for(LIFETIME)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// More messages than a client queues while its application takes nothing, and fewer bytes than its socket holds.
fn untaken(connection: &mut Connection<'_>, reset: bool) -> Going {
    for n in 0..1200 {
        let text = format!(r#"{{"n":{n},"pad":"{}"}}"#, ".".repeat(480));
        connection.send(TEXT, text.as_bytes())?;
    }
    // The client may answer pings meanwhile, and unread bytes in the socket at the close would turn the end
    // into a reset.
    let end = Instant::now() + Duration::from_millis(500);
    while let Some(frame) = connection.frame_until(end)? {
        connection.answer(&frame)?;
    }
    if reset {
        connection.reset();
        return Ok(());
    }
    let _ = connection.socket.shutdown(Shutdown::Write);
    connection.drain()
}

/// For the endurance run: each connection has a fault of its own, determined by its number.
fn at_random(connection: &mut Connection<'_>, number: u64) -> Going {
    // The same run has the same faults.
    let seed = SplitMix::nth(number);
    let span = Duration::from_millis(2_000 + seed % 18_000);
    beat(connection, Duration::from_millis(5), span)?;
    match (seed >> 32) % 6 {
        0 => Ok(()),
        1 => {
            connection.reset();
            Ok(())
        }
        2 => close(connection, 1001),
        3 => connection.freeze(),
        4 => connection.listen(),
        _ => {
            connection.write(&[TEXT, 100, b'h', b'a', b'l', b'f'])?;
            connection.freeze()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_mode_is_parsed_and_others_are_not() {
        for (path, _) in MODES {
            let path = path
                .replace("CODE", "1008")
                .replace("STATUS", "503")
                .replace("BYTES", "9");
            assert!(Mode::parse(&path).is_some(), "{path}");
            assert!(
                Mode::parse(&format!("{path}/websocket")).is_some(),
                "{path}"
            );
        }
        assert_eq!(Mode::parse("t99"), None);
        assert_eq!(Mode::parse("t4/17"), None);
    }
}
