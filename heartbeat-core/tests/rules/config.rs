//! What a configuration may be: its defaults and presets, each limit to the nanosecond, and what a refusal says.

use std::time::Duration;

use heartbeat_core::{
    Config, ConfigBuilder, ConfigError, Instant, MAX_DURATION, MIN_BACKOFF_BASE, MIN_DURATION,
    PermanentErrors, Ping,
};

use crate::support::{millis, secs};

const NANO: Duration = Duration::from_nanos(1);

type Set = fn(ConfigBuilder, Duration) -> ConfigBuilder;
type Get = fn(&Config) -> Option<Duration>;

/// Every setting that is one time, by its key.
const TIMES: [(&str, Set, Get); 15] = [
    (
        "idle_timeout",
        |builder, time| builder.ping(Ping::Never).idle_timeout(time),
        |config| Some(config.idle_timeout()),
    ),
    (
        "check_interval",
        |builder, time| builder.check_interval(time),
        Config::check_interval,
    ),
    (
        "ping",
        |builder, time| builder.idle_timeout(MAX_DURATION).ping(Ping::Every(time)),
        |config| match config.ping() {
            Ping::Every(interval) => Some(interval),
            other => panic!("{other:?}"),
        },
    ),
    (
        "ping",
        |builder, time| {
            builder
                .idle_timeout(MAX_DURATION)
                .ping(Ping::AfterSilence(time))
        },
        |config| match config.ping() {
            Ping::AfterSilence(silence) => Some(silence),
            other => panic!("{other:?}"),
        },
    ),
    (
        "keepalive",
        |builder, time| builder.keepalive(time),
        Config::keepalive,
    ),
    (
        "pong_timeout",
        |builder, time| builder.pong_timeout(time),
        Config::pong_timeout,
    ),
    (
        "pong_timeout_floor",
        |builder, time| builder.pong_timeout(None).pong_timeout_floor(time),
        Config::pong_timeout_floor,
    ),
    (
        "data_timeout",
        |builder, time| builder.data_timeout(time),
        Config::data_timeout,
    ),
    (
        "connect_timeout",
        |builder, time| builder.connect_timeout(time),
        |config| Some(config.connect_timeout()),
    ),
    (
        "write_timeout",
        |builder, time| builder.write_timeout(time),
        Config::write_timeout,
    ),
    (
        "close_timeout",
        |builder, time| builder.close_timeout(time),
        |config| Some(config.close_timeout()),
    ),
    (
        "late_grace",
        |builder, time| builder.late_grace(time),
        |config| Some(config.late_grace()),
    ),
    (
        "stable_after",
        |builder, time| builder.stable_after(time),
        |config| Some(config.stable_after()),
    ),
    (
        "session_timeout",
        |builder, time| builder.session_timeout(time),
        Config::session_timeout,
    ),
    (
        "time_to_live",
        |builder, time| builder.time_to_live(time),
        |config| Some(config.time_to_live()),
    ),
];

#[test]
fn the_defaults_are_those_of_the_documentation() {
    let config = Config::default();
    assert_eq!(config.idle_timeout(), secs(90));
    assert_eq!(config.check_interval(), Some(secs(30)));
    assert_eq!(config.ping(), Ping::AfterSilence(secs(30)));
    assert_eq!(config.pong_timeout(), Some(secs(60)));
    assert_eq!(config.pong_timeout_floor(), None);
    assert_eq!(config.keepalive(), None);
    assert_eq!(config.data_timeout(), None);
    assert_eq!(config.connect_timeout(), secs(10));
    assert_eq!(config.write_timeout(), Some(secs(60)));
    assert_eq!(config.close_timeout(), secs(5));
    assert_eq!(config.late_grace(), secs(1));
    assert_eq!(config.backoff(), (secs(2), secs(60), 50));
    assert_eq!(config.stable_after(), secs(30));
    assert_eq!(config.max_attempts(), None);
    assert_eq!(config.session_timeout(), None);
    assert_eq!(config.time_to_live(), secs(60));
    assert_eq!(config.worst_case_detection(), secs(90));
    assert_eq!(Config::builder().build(), Ok(config));
}

#[test]
fn the_presets_are_what_their_documentation_says_and_else_the_default() {
    let brisk = Config::builder()
        .idle_timeout(secs(15))
        .ping(Ping::AfterSilence(secs(5)))
        .pong_timeout(secs(5))
        .connect_timeout(secs(5))
        .write_timeout(secs(10))
        .backoff(millis(500), secs(30), 50);
    assert_eq!(Ok(Config::brisk()), brisk.build());
    assert_eq!(Config::brisk().worst_case_detection(), secs(10));
    let thrifty = Config::builder()
        .idle_timeout(secs(290))
        .check_interval(secs(300))
        .ping(Ping::AfterSilence(secs(230)))
        .pong_timeout(secs(60))
        .connect_timeout(secs(30))
        .backoff(secs(5), secs(300), 50)
        .stable_after(secs(300))
        .permanent_errors(PermanentErrors::Retry);
    assert_eq!(Ok(Config::thrifty()), thrifty.build());
    assert_eq!(Config::thrifty().worst_case_detection(), secs(290));
}

#[test]
fn every_time_lies_between_a_millisecond_and_a_hundred_years_both_included() {
    assert_eq!(MIN_DURATION, millis(1));
    assert_eq!(MAX_DURATION, secs(3_153_600_000));
    for (key, set, get) in TIMES {
        let build = |time| set(Config::builder(), time).build();
        let least = build(MIN_DURATION).expect(key);
        assert_eq!(get(&least), Some(MIN_DURATION), "{key}");
        // A ping must stay below the longest idle timeout.
        let most = if key == "ping" {
            MAX_DURATION - NANO
        } else {
            MAX_DURATION
        };
        assert_eq!(get(&build(most).expect(key)), Some(most), "{key}");
        assert_eq!(build(Duration::ZERO), Err(ConfigError::Zero { key }));
        let value = MIN_DURATION - NANO;
        let min = MIN_DURATION;
        assert_eq!(build(value), Err(ConfigError::TooShort { key, value, min }));
        for value in [MAX_DURATION + NANO, Duration::MAX] {
            let max = MAX_DURATION;
            assert_eq!(build(value), Err(ConfigError::TooLong { key, value, max }));
        }
    }
}

#[test]
fn what_is_optional_can_be_switched_off() {
    let config = Config::builder()
        .check_interval(None)
        .ping(Ping::Never)
        .keepalive(None)
        .pong_timeout(None)
        .pong_timeout_floor(None)
        .data_timeout(None)
        .write_timeout(None)
        .max_attempts(None)
        .session_timeout(None)
        .build()
        .expect("consistent");
    assert_eq!(config.check_interval(), None);
    assert_eq!(config.ping(), Ping::Never);
    assert_eq!(config.pong_timeout(), None);
    assert_eq!(config.write_timeout(), None);
    assert_eq!(config.worst_case_detection(), secs(90));
}

#[test]
fn a_backoff_has_a_base_of_50_ms_at_least_a_cap_no_lower_and_at_most_100_percent() {
    let build = |base, cap, percent| Config::builder().backoff(base, cap, percent).build();
    let config = build(MIN_BACKOFF_BASE, MIN_BACKOFF_BASE, 100).expect("the least");
    assert_eq!(config.backoff(), (millis(50), millis(50), 100));
    assert_eq!(
        build(millis(50) - NANO, secs(1), 50),
        Err(ConfigError::TooShort {
            key: "backoff.base",
            value: millis(50) - NANO,
            min: millis(50)
        })
    );
    assert_eq!(
        build(secs(2), secs(2) - NANO, 50),
        Err(ConfigError::LongerThan {
            key: "backoff.base",
            value: secs(2),
            other: "backoff.cap",
            limit: secs(2) - NANO,
            default: None
        })
    );
    assert_eq!(
        build(secs(2), secs(60), 101),
        Err(ConfigError::Percent {
            key: "backoff.jitter_percent",
            value: 101
        })
    );
    assert_eq!(
        build(secs(2), MAX_DURATION + NANO, 50),
        Err(ConfigError::TooLong {
            key: "backoff.cap",
            value: MAX_DURATION + NANO,
            max: MAX_DURATION
        })
    );
}

#[test]
fn a_ping_comes_before_the_idle_verdict() {
    for ping in [Ping::AfterSilence, Ping::Every] {
        let build = |time| {
            Config::builder()
                .idle_timeout(secs(20))
                .ping(ping(time))
                .build()
        };
        assert!(build(secs(20) - NANO).is_ok());
        assert_eq!(
            build(secs(20)),
            Err(ConfigError::NotShorterThan {
                key: "ping",
                value: secs(20),
                other: "idle_timeout",
                limit: secs(20),
                default: None
            })
        );
    }
}

#[test]
fn a_floor_of_the_pong_timeout_is_no_longer_than_it() {
    let build = |floor| {
        Config::builder()
            .pong_timeout(secs(8))
            .pong_timeout_floor(floor)
            .build()
    };
    assert!(build(secs(8)).is_ok());
    assert_eq!(
        build(secs(8) + NANO),
        Err(ConfigError::LongerThan {
            key: "pong_timeout_floor",
            value: secs(8) + NANO,
            other: "pong_timeout",
            limit: secs(8),
            default: None
        })
    );
}

#[test]
fn no_attempt_at_all_is_no_limit_of_attempts() {
    assert_eq!(
        Config::builder().max_attempts(0).build(),
        Err(ConfigError::Zero {
            key: "max_attempts"
        })
    );
    let config = Config::builder().max_attempts(1).build().expect("one");
    assert_eq!(config.max_attempts(), Some(1));
}

#[test]
fn the_first_setting_that_is_wrong_is_told_with_its_value_and_its_rule() {
    let wrong = Config::builder()
        .close_timeout(Duration::from_micros(500))
        .idle_timeout(Duration::ZERO)
        .build();
    assert_eq!(
        wrong.unwrap_err().to_string(),
        "`close_timeout` is 500us: it must be at least 1ms"
    );
}

#[test]
fn what_is_held_expires_a_time_to_live_later() {
    let config = Config::builder().time_to_live(secs(7)).build().unwrap();
    let since = Instant::from_nanos(5);
    assert_eq!(config.expiry(since), Instant::from_nanos(7_000_000_005));
}

#[test]
fn a_configuration_is_where_another_one_begins() {
    let brisk = Config::brisk().to_builder().late_grace(secs(3));
    let config = brisk.build().expect("consistent");
    assert_eq!(config.late_grace(), secs(3));
    assert_eq!(config.idle_timeout(), secs(15));
}

/// Every setting alone, from the least value to the most: it works, or the error says which value is the default and
/// what to set. With that it works.
#[test]
fn each_setting_alone_works_or_the_error_says_which_default_is_in_the_way() {
    type One = fn(ConfigBuilder, Duration) -> ConfigBuilder;
    let settings: [(&str, One); 16] = [
        ("idle_timeout", |it, time| it.idle_timeout(time)),
        ("check_interval", |it, time| it.check_interval(time)),
        ("ping", |it, time| it.ping(Ping::AfterSilence(time))),
        ("ping", |it, time| it.ping(Ping::Every(time))),
        ("keepalive", |it, time| it.keepalive(time)),
        ("pong_timeout", |it, time| it.pong_timeout(time)),
        ("pong_timeout_floor", |it, time| it.pong_timeout_floor(time)),
        ("data_timeout", |it, time| it.data_timeout(time)),
        ("connect_timeout", |it, time| it.connect_timeout(time)),
        ("write_timeout", |it, time| it.write_timeout(time)),
        ("close_timeout", |it, time| it.close_timeout(time)),
        ("late_grace", |it, time| it.late_grace(time)),
        ("stable_after", |it, time| it.stable_after(time)),
        ("session_timeout", |it, time| it.session_timeout(time)),
        ("lifetime", |it, time| it.lifetime(time)),
        ("time_to_live", |it, time| it.time_to_live(time)),
    ];
    let times = [1, 2, 3, 10, 999].map(millis);
    let longer = [1, 5, 10, 30, 31, 60, 61, 89, 90, 91, 300, 86_400].map(secs);
    for (key, set) in settings {
        for time in times.into_iter().chain(longer).chain([MAX_DURATION]) {
            let error = match set(Config::builder(), time).build() {
                Ok(_) => continue,
                Err(error) => error,
            };
            let words = error.to_string();
            let (other, more) = match error {
                ConfigError::NotShorterThan {
                    key: found,
                    value,
                    default: Some(other),
                    ..
                } if (found, value) == (key, time) => (other, time + NANO),
                ConfigError::LongerThan {
                    key: found,
                    value,
                    default: Some(other),
                    ..
                } if (found, value) == (key, time) => (other, time),
                ConfigError::TooShort {
                    key: "lifetime", ..
                } if time < secs(1) => continue,
                other => panic!("{key} = {time:?}: {other}"),
            };
            assert!(words.contains(" (default); set `"), "{words}");
            if more > MAX_DURATION {
                continue;
            }
            let (_, fix) = settings.iter().find(|(key, _)| *key == other).expect(other);
            let mended = fix(set(Config::builder(), time), more).build();
            assert!(mended.is_ok(), "{words}: {mended:?}");
        }
    }
}

#[test]
fn ping_and_pong_timeout_follow_an_idle_timeout_that_is_set_alone() {
    let idle = |time| Config::builder().idle_timeout(time);
    for (time, asks, rest) in [
        (secs(10), millis(3_333), millis(6_667)),
        (secs(5), millis(1_666), millis(3_334)),
        (secs(1), millis(333), millis(667)),
        (secs(90), secs(30), secs(60)),
        (secs(300), secs(30), secs(270)),
    ] {
        let config = idle(time).build().expect("it follows");
        assert_eq!(config.ping(), Ping::AfterSilence(asks));
        assert_eq!(config.pong_timeout(), Some(rest));
        assert_eq!(config.worst_case_detection(), time);
    }
    assert_eq!(
        idle(millis(1)).build().expect("silence").ping(),
        Ping::Never
    );

    // What was set stays.
    let asks = Ping::Every(secs(2));
    let config = idle(secs(10)).ping(asks).build().expect("consistent");
    assert_eq!(
        (config.ping(), config.pong_timeout()),
        (asks, Some(secs(60)))
    );
    let config = idle(secs(30))
        .pong_timeout(secs(4))
        .build()
        .expect("consistent");
    let expected = (Ping::AfterSilence(secs(10)), Some(secs(4)));
    assert_eq!((config.ping(), config.pong_timeout()), expected);
}
