//! proptest strategies for configurations, causes and scripts. Most times are a few whole seconds, so that events coincide.
//! Some are extremes.

use std::time::Duration;

use heartbeat_core::trace::Header;
use heartbeat_core::{
    Cause, CauseKind, Config, Failure, PermanentErrors, Ping, RetryPolicy, Route,
};
use proptest::prelude::*;

#[cfg(feature = "peer")]
use crate::peer::Visit;
use crate::script::{
    Content, JSON_PING, MS, Op, S, Script, TEXTS, What, When, Which, header, secs, shorter_than,
};

/// Returns a strategy for scripts of 1 to `length - 1` events.
pub fn scripts(length: usize) -> BoxedStrategy<Script> {
    (headers(), prop::collection::vec(op(), 1..length))
        .prop_map(|(header, ops)| Script::new(header, ops))
        .boxed()
}

fn op() -> BoxedStrategy<Op> {
    // Most dials succeed, because otherwise no connection would ever be open. `Stop` ends a script, so it is rare.
    let what = prop_oneof![
        30 => Just(What::Tick),
        14 => which().prop_map(What::Connected),
        14 => (which(), content()).prop_map(|(which, content)| What::Received(which, content)),
        4 => which().prop_map(What::Ready),
        4 => which().prop_map(What::Progress),
        4 => which().prop_map(What::WriteBlocked),
        4 => which().prop_map(What::Wrote),
        3 => which().prop_map(What::PingWaiting),
        3 => which().prop_map(What::PingWritten),
        1 => which().prop_map(What::PingUnsent),
        3 => (which(), route()).prop_map(|(which, route)| What::Routed(which, route)),
        4 => which().prop_map(What::ReadPaused),
        4 => which().prop_map(What::ReadResumed),
        4 => (which(), cause()).prop_map(|(which, cause)| What::Closed(which, cause)),
        3 => Just(What::Kick),
        1 => prop::bool::weighted(0.4).prop_map(|stop| if stop { What::Stop } else { What::Tick }),
    ];
    (when(), what)
        .prop_map(|(when, what)| Op { when, what })
        .boxed()
}

fn when() -> BoxedStrategy<When> {
    prop_oneof![
        24 => Just(When::Wake),
        6 => Just(When::BeforeWake(1)),
        4 => (1..5u64).prop_map(|seconds| When::BeforeWake(seconds * S)),
        3 => Just(When::AfterWake(1)),
        // Around the usual `late_grace` of a second, and far beyond it.
        2 => Just(When::AfterWake(S)),
        2 => Just(When::AfterWake(S + 1)),
        4 => (1..10u64).prop_map(|seconds| When::AfterWake(seconds * S)),
        1 => (0..400 * S).prop_map(When::AfterWake),
        16 => Just(When::Later(0)),
        8 => Just(When::Later(MS)),
        8 => (0..4u64).prop_map(|seconds| When::Later(seconds * S)),
        4 => (0..4 * S).prop_map(When::Later),
        2 => (0..100 * S).prop_map(When::Back),
        // Rare, because nothing more happens after a jump to the end of time.
        1 => prop_oneof![Just(0), Just(u64::MAX - S), Just(u64::MAX - 1), any::<u64>()]
            .prop_map(When::At),
    ]
    .boxed()
}

fn which() -> BoxedStrategy<Which> {
    prop_oneof![
        40 => Just(Which::Current),
        2 => (1..3u64).prop_map(Which::Earlier),
        1 => (1..3u64).prop_map(Which::Future),
        1 => Just(Which::Future(u64::MAX)),
    ]
    .boxed()
}

/// Mostly a few endpoints, and rarely numbers beyond those that the machine records.
fn route() -> BoxedStrategy<Route> {
    let number = prop_oneof![12 => 0..4u8, 1 => any::<u8>()];
    let count = prop_oneof![12 => 1..4u8, 1 => any::<u8>()];
    (number, count, prop::bool::weighted(0.2))
        .prop_map(|(endpoint, endpoints, more_addresses)| Route {
            endpoint,
            endpoints,
            more_addresses,
        })
        .boxed()
}

fn content() -> BoxedStrategy<Content> {
    prop_oneof![
        4 => Just(Content::Data),
        2 => prop_oneof![Just(&b""[..]), Just(&b"hello"[..]), Just(&[0xff; 125][..])]
            .prop_map(Content::Ping),
        4 => Just(Content::PongTo(1)),
        1 => any::<u8>().prop_map(Content::PongTo),
        1 => prop_oneof![Just(&b""[..]), Just(&b"\0\0\0\0"[..])].prop_map(Content::Pong),
        2 => Just(Content::Text(JSON_PING)),
        1 => prop::sample::select(TEXTS).prop_map(Content::Text),
        1 => Just(Content::Binary(br#"{"type":"ping"}"#)),
    ]
    .boxed()
}

/// Returns a strategy for the causes that end a dial or a connection.
pub fn cause() -> BoxedStrategy<Cause> {
    let retry_after = prop_oneof![
        4 => Just(None),
        4 => (0..40u64).prop_map(|seconds| Some(secs(seconds))),
        1 => Just(Some(Duration::MAX)),
        1 => Just(Some(secs(86_400))),
    ];
    prop_oneof![
        6 => prop_oneof![
            Just(Cause::Refused), Just(Cause::Reset), Just(Cause::Eof), Just(Cause::Io)
        ],
        1 => Just(Cause::Tls),
        4 => prop::sample::select(&[1000, 1001, 1005, 1006, 1011, 1013, 1014, 4000, 4400, 4999][..])
            .prop_map(Cause::Close),
        2 => Just(Cause::Close(1012)),
        2 => prop::sample::select(&[1008, 3000, 4401][..]).prop_map(Cause::Close),
        1 => any::<u16>().prop_map(Cause::Close),
        1 => prop::sample::select(&[1002, 1007, 1009][..]).prop_map(Cause::Protocol),
        1 => Just(Cause::Session(Failure::Retry)),
        1 => Just(Cause::Session(Failure::Refresh)),
        1 => (0..40u64).prop_map(|seconds| Cause::Session(Failure::RetryAfter(secs(seconds)))),
        3 => (prop::sample::select(&[429, 503][..]), retry_after.clone())
            .prop_map(|(status, retry_after)| Cause::Http { status, retry_after }),
        2 => prop::sample::select(&[401, 407][..])
            .prop_map(|status| Cause::Http { status, retry_after: None }),
        1 => (200..600u16, retry_after)
            .prop_map(|(status, retry_after)| Cause::Http { status, retry_after }),
    ]
    .boxed()
}

/// Returns a strategy for machines: a configuration, a seed, and a start near the beginning or the end of time. Some
/// are the server's side of a connection.
pub fn headers() -> BoxedStrategy<Header> {
    let start = prop_oneof![
        4 => Just(0),
        2 => 0..100 * S,
        1 => any::<u64>(),
        2 => (0..20 * S).prop_map(|left| u64::MAX - left),
    ];
    (configs(), any::<u64>(), start, prop::bool::weighted(0.2))
        .prop_map(|(config, seed, start, accepted)| {
            let mut header = header(config, seed, start);
            header.accepted = accepted;
            header
        })
        .boxed()
}

/// Times for settings: mostly a few whole seconds, and sometimes extremes.
fn time() -> BoxedStrategy<Duration> {
    prop_oneof![
        30 => (1..10u64).prop_map(secs),
        6 => (10..40u64).prop_map(secs),
        4 => (1..2000u64).prop_map(Duration::from_millis),
        2 => (MS..9 * S).prop_map(Duration::from_nanos),
        1 => Just(heartbeat_core::MIN_DURATION),
        1 => Just(heartbeat_core::MAX_DURATION),
    ]
    .boxed()
}

fn optional_time() -> BoxedStrategy<Option<Duration>> {
    prop::option::weighted(0.6, time()).boxed()
}

/// Returns a strategy for valid configurations.
pub fn configs() -> BoxedStrategy<Config> {
    let ping = prop_oneof![
        1 => Just(Ping::Never),
        3 => time().prop_map(Ping::AfterSilence),
        2 => time().prop_map(Ping::Every),
    ];
    let waits = (
        time(),
        optional_time(),
        ping,
        optional_time(),
        (optional_time(), prop::option::weighted(0.3, time())),
        optional_time(),
    );
    // Mostly off. Random events seldom make a session ready, so most runs would end in session timeouts.
    let session = prop::option::weighted(0.3, time());
    let limits = (time(), optional_time(), session, time(), time(), time());
    let percent = prop_oneof![Just(0u8), Just(1), Just(50), Just(100), 0..=100u8];
    let backoff = (time(), time(), percent);
    let lifetime = prop::option::weighted(0.3, time());
    let most = prop::option::weighted(0.3, 1..4u32);
    let policy = prop::sample::select(
        &[
            PermanentErrors::GiveUp,
            PermanentErrors::GiveUpUnlessStable,
            PermanentErrors::Retry,
        ][..],
    );
    let ends = (overrides(), policy, any::<bool>());
    (waits, limits, backoff, (most, lifetime), ends)
        .prop_map(|(waits, limits, backoff, (most, lifetime), ends)| {
            let (overrides, policy, fixed) = ends;
            let (idle, check, ping, keepalive, (pong, floor), data) = waits;
            let (connect, write, session, close, grace, stable) = limits;
            let (base, cap, percent) = backoff;
            let base = base.max(heartbeat_core::MIN_BACKOFF_BASE);
            let builder = Config::builder()
                .idle_timeout(idle)
                .check_interval(check)
                .ping(shorter_than(idle, ping))
                .keepalive(keepalive)
                .pong_timeout(pong)
                .pong_timeout_floor(floor.map(|floor| floor.min(pong.unwrap_or(floor))))
                .data_timeout(data)
                .connect_timeout(connect)
                .write_timeout(write)
                .session_timeout(session)
                .lifetime(lifetime.map(|time| time.max(heartbeat_core::MIN_LIFETIME)))
                .close_timeout(close)
                .late_grace(grace)
                .backoff(base, cap.max(base), percent)
                .stable_after(stable)
                .max_attempts(most)
                .permanent_errors(policy)
                .fixed_credentials(fixed);
            let builder = overrides
                .into_iter()
                .fold(builder, |builder, (signal, verdict)| {
                    builder.on(signal, verdict)
                });
            builder.build().expect("consistent")
        })
        .boxed()
}

fn overrides() -> BoxedStrategy<Vec<(CauseKind, RetryPolicy)>> {
    let signal = prop_oneof![
        Just(CauseKind::Refused),
        Just(CauseKind::Reset),
        Just(CauseKind::Eof),
        Just(CauseKind::Tls),
        Just(CauseKind::Io),
        Just(CauseKind::Close(1000)),
        Just(CauseKind::Close(1012)),
        Just(CauseKind::Http(429)),
        Just(CauseKind::Http(401)),
        Just(CauseKind::Session),
    ];
    let verdict = prop_oneof![
        Just(RetryPolicy::Backoff),
        Just(RetryPolicy::Refresh),
        Just(RetryPolicy::Never),
        time().prop_map(RetryPolicy::After),
        time().prop_map(|or| RetryPolicy::RetryAfter { or }),
        (time(), time())
            .prop_map(|(one, other)| RetryPolicy::Spread(one.min(other), one.max(other))),
    ];
    prop_oneof![
        3 => Just(Vec::new()),
        1 => prop::collection::vec((signal, verdict), 1..4),
    ]
    .boxed()
}

/// Returns a strategy for the servers of up to four dials: how each answers the dial, what it sends, and when it falls silent
/// or hangs up. Acts come at tenths of a second, within a minute of the dial.
#[cfg(feature = "peer")]
pub fn visits() -> BoxedStrategy<Vec<Visit>> {
    let act = (1..600_u16, 0..Visit::ACTS);
    let acts = prop::collection::vec(act, 0..=Visit::MOST_ACTS);
    let visit = (0..Visit::RECEPTIONS, acts);
    prop::collection::vec(
        visit.prop_map(|(reception, acts)| Visit::of(reception, acts)),
        0..5,
    )
    .boxed()
}
