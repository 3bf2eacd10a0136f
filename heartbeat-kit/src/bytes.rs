//! Decodes any bytes as a configuration and events, for fuzzers.

use std::time::Duration;

use heartbeat_core::{
    Cause, Config, Failure, MAX_DURATION, MIN_BACKOFF_BASE, MIN_DURATION, MIN_LIFETIME, Ping,
};
use heartbeat_core::{CauseKind, PermanentErrors, RetryPolicy, Route, trace::Header};

use crate::script::{
    Content, JSON_PING, MS, Op, S, Script, TEXTS, What, When, Which, header, shorter_than,
};

/// Bytes of the machine.
const HEAD: usize = 17;
/// Bytes of an event.
const EACH: usize = 4;

/// The most events. More find nothing new, and take the model, which keeps a history, too long.
const MOST: usize = 512;

impl Script {
    /// Decodes any bytes as a script, for a fuzzer. The first 17 bytes give the machine, and every further 4 bytes an event,
    /// at most 512. Every value of a byte is valid, and a change of one byte changes one thing. Returns `None` for fewer
    /// than 17 bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (head, rest) = bytes.split_first_chunk::<HEAD>()?;
        let ops = rest.as_chunks::<EACH>().0.iter().take(MOST).map(op);
        Some(Self::new(machine(head), ops.collect()))
    }
}

/// Takes all remaining bytes, so put it last among several values.
#[cfg(feature = "arbitrary")]
impl<'a> arbitrary::Arbitrary<'a> for Script {
    fn arbitrary(bytes: &mut arbitrary::Unstructured<'a>) -> arbitrary::Result<Self> {
        Self::from_bytes(bytes.bytes(bytes.len())?).ok_or(arbitrary::Error::NotEnoughData)
    }

    fn size_hint(_: usize) -> (usize, Option<usize>) {
        (HEAD, Some(HEAD + MOST * EACH))
    }
}

#[cfg(all(feature = "arbitrary", feature = "peer"))]
impl<'a> arbitrary::Arbitrary<'a> for crate::peer::Visit {
    fn arbitrary(bytes: &mut arbitrary::Unstructured<'a>) -> arbitrary::Result<Self> {
        let reception = bytes.int_in_range(0..=Self::RECEPTIONS - 1)?;
        let acts = (0..bytes.int_in_range(0..=Self::MOST_ACTS)?).map(|_| {
            Ok((
                bytes.int_in_range(1..=599)?,
                bytes.int_in_range(0..=Self::ACTS - 1)?,
            ))
        });
        let acts = acts.collect::<arbitrary::Result<_>>()?;
        Ok(Self::of(reception, acts))
    }
}

// ---- times -------------------------------------------------------------------------------------

/// The units of a time byte. The low three bits select the unit, and the others give the count. This yields small whole
/// numbers, so that times coincide, and extremes.
const UNITS: [u64; 8] = [1, MS, 100 * MS, S, 7 * S, 60 * S, 3600 * S, 1 << 58];

fn span(byte: u8) -> u64 {
    UNITS[usize::from(byte % 8)].saturating_mul(u64::from(byte / 8))
}

fn time(byte: u8) -> Duration {
    Duration::from_nanos(span(byte)).clamp(MIN_DURATION, MAX_DURATION)
}

/// Decodes an optional time. A byte below 8, which would be a time of zero, is `None`.
fn optional(byte: u8) -> Option<Duration> {
    (byte >= 8).then(|| time(byte))
}

// ---- the machine -------------------------------------------------------------------------------

fn machine(head: &[u8; HEAD]) -> Header {
    let [start, seed, idle, check, ping, keepalive, pong, data, ..] = *head;
    let [
        ..,
        connect,
        write,
        close,
        grace,
        base,
        cap,
        stable,
        more,
        session,
    ] = *head;
    let idle_timeout = time(idle);
    let question = match (ping % 2, optional(ping)) {
        (_, None) => Ping::Never,
        (0, Some(time)) => Ping::AfterSilence(time),
        (_, Some(time)) => Ping::Every(time),
    };
    let base = time(base).max(MIN_BACKOFF_BASE);
    let mut builder = Config::builder()
        .idle_timeout(idle_timeout)
        .check_interval(optional(check))
        .ping(shorter_than(idle_timeout, question))
        .keepalive(optional(keepalive))
        .pong_timeout(optional(pong))
        .data_timeout(optional(data))
        .connect_timeout(time(connect))
        .write_timeout(optional(write))
        .session_timeout(optional(session))
        .close_timeout(time(close))
        .late_grace(time(grace))
        .backoff(base, time(cap).max(base), more % 101)
        .stable_after(time(stable))
        .lifetime((more % 8 == 5).then(|| time(cap).max(MIN_LIFETIME)))
        .max_attempts((more > 202).then(|| u32::from(more - 202)))
        .fixed_credentials(seed % 2 == 1)
        .permanent_errors(match seed % 8 / 2 {
            0 => PermanentErrors::GiveUp,
            1 => PermanentErrors::Retry,
            _ => PermanentErrors::GiveUpUnlessStable,
        });
    if more % 4 == 3 {
        builder = builder
            .on(CauseKind::Reset, RetryPolicy::After(time(cap)))
            .on(CauseKind::Close(1000), RetryPolicy::Never)
            .on(
                CauseKind::Http(418),
                RetryPolicy::RetryAfter { or: time(connect) },
            )
            .on(
                CauseKind::Http(503),
                RetryPolicy::Spread(base, base.max(time(stable))),
            );
    }
    // The start is near the beginning of time or near its end.
    let start = match start {
        0..128 => span(start),
        _ => u64::MAX - span(start - 128),
    };
    header(builder.build().expect("consistent"), u64::from(seed), start)
}

// ---- events ------------------------------------------------------------------------------------

fn op(bytes: &[u8; EACH]) -> Op {
    let [when, amount, what, more] = *bytes;
    let when = match when % 16 {
        0..6 => When::Wake,
        6 => When::BeforeWake(span(amount)),
        7 => When::AfterWake(span(amount)),
        8..13 => When::Later(span(amount)),
        13 => When::Back(span(amount)),
        14 => When::At(span(amount)),
        _ => When::At(u64::MAX - span(amount)),
    };
    let which = match more % 16 {
        0..12 => Which::Current,
        12 => Which::Earlier(1),
        13 => Which::Earlier(2),
        14 => Which::Future(1),
        _ => Which::Future(u64::MAX),
    };
    let more = more / 16;
    let what = match what % 32 {
        0..8 => What::Tick,
        8..11 => What::Connected(which),
        11 => What::Ready(which),
        12..18 => What::Received(which, content(what % 32 - 12, more)),
        18 => What::Progress(which),
        19 => What::WriteBlocked(which),
        20 => What::Wrote(which),
        21 => What::ReadPaused(which),
        22 => What::ReadResumed(which),
        23..29 => What::Closed(which, cause(what % 32 - 23, more, amount)),
        29 => match more % 4 {
            0 => What::PingWaiting(which),
            1 => What::PingWritten(which),
            2 => What::PingUnsent(which),
            _ => What::Routed(which, route(amount)),
        },
        30 => What::Kick,
        // `Stop` ends the script early, so it must be rare.
        _ if more == 0 => What::Stop,
        _ => What::Kick,
    };
    Op { when, what }
}

/// Two bits for the endpoint, two for the number of endpoints, and one for further addresses. The other bits make both
/// numbers large.
fn route(byte: u8) -> Route {
    let large = (byte / 32) * 32;
    Route {
        endpoint: byte % 4 + large,
        endpoints: byte / 4 % 4 + large,
        more_addresses: byte / 16 % 2 == 1,
    }
}

fn content(kind: u8, more: u8) -> Content {
    match kind {
        0 => Content::Data,
        1 => Content::Ping(&[0xff; 16][..usize::from(more)]),
        2 => Content::PongTo(more),
        3 => Content::Pong(&[0; 16][..usize::from(more)]),
        4 if more < 8 => Content::Text(JSON_PING),
        4 => Content::Text(TEXTS[usize::from(more) % TEXTS.len()]),
        _ => Content::Binary(JSON_PING.as_bytes()),
    }
}

fn cause(kind: u8, more: u8, amount: u8) -> Cause {
    let more = u16::from(more);
    let retry_after = optional(amount);
    match kind {
        0 => [
            Cause::Refused,
            Cause::Reset,
            Cause::Eof,
            Cause::Io,
            Cause::Tls,
            Cause::Session(Failure::Retry),
            Cause::Session(Failure::Refresh),
            Cause::Session(Failure::GiveUp),
        ][usize::from(more % 8)],
        1 => Cause::Close(1000 + more),
        2 => Cause::Close([1008, 3000, 4401, 4000][usize::from(more % 4)]),
        3 if more == 0 => Cause::Protocol(1002),
        3 if more == 1 => Cause::Protocol(1009),
        3 => Cause::Close(more << 12),
        4 => Cause::Http {
            status: 400 + more,
            retry_after,
        },
        _ => Cause::Http {
            status: [401, 408, 425, 429, 503, 500, 301, 407][usize::from(more % 8)],
            retry_after,
        },
    }
}
