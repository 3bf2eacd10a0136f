//! The limiter's promises: a rate that no window exceeds, turns in order, none lost but those not used.

use std::time::Duration;

use heartbeat_core::{Instant, Limiter, LimiterError};
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;

fn at(nanos: u64) -> Instant {
    Instant::from_nanos(nanos)
}

fn limiter(count: u32, period_ms: u64, burst: u32) -> Limiter {
    Limiter::new(count, Duration::from_millis(period_ms), burst).expect("a rate")
}

proptest! {
    /// Whoever asks when, and whoever gives back: no window has more turns than it may.
    #[test]
    fn no_window_has_more_turns_than_burst_and_rate_allow(
        count in 1..50u32,
        period_ms in 1..5_000u64,
        burst in 1..20u32,
        asks in prop::collection::vec((0..SECOND, prop::bool::weighted(0.2)), 1..200),
    ) {
        let mut limiter = limiter(count, period_ms, burst);
        let interval = (period_ms * 1_000_000).div_ceil(u64::from(count));
        let mut now = 0;
        let mut turns: Vec<u64> = Vec::new();
        for (pause, gives_back) in asks {
            // Half of them come at once.
            now += if pause % 2 == 0 { 0 } else { pause };
            let Ok(turn) = limiter.reserve(at(now)) else { continue };
            prop_assert!(turn >= at(now));
            if gives_back {
                limiter.give_back(turn);
            } else {
                turns.push(turn.as_nanos());
            }
        }
        prop_assert!(turns.is_sorted(), "in the order of asking: {turns:?}");
        for (first, from) in turns.iter().enumerate() {
            for (last, to) in turns.iter().enumerate().skip(first) {
                let most = u64::from(burst) + (to - from) / interval;
                let seen = (last - first + 1) as u64;
                prop_assert!(seen <= most, "{seen} turns from {from} to {to}, {most} allowed");
            }
        }
    }

    /// Nobody waits longer than the rate asks for: n at once are through after (n − burst) intervals.
    #[test]
    fn a_crowd_is_through_as_fast_as_the_rate_allows(
        count in 1..50u32,
        burst in 1..20u32,
        crowd in 1..100u64,
        now in 0..1000 * SECOND,
    ) {
        let mut limiter = limiter(count, 1000, burst);
        let interval = SECOND.div_ceil(u64::from(count));
        for number in 0..crowd {
            let expected = now + number.saturating_sub(u64::from(burst) - 1) * interval;
            prop_assert_eq!(limiter.reserve(at(now)), Ok(at(expected)));
        }
    }

    #[test]
    fn nothing_panics_at_the_ends_of_time(
        times in prop::collection::vec(
            prop_oneof![0..10u64, u64::MAX - 10..=u64::MAX, any::<u64>()], 1..50),
        count in 1..=u32::MAX,
        burst in 1..=u32::MAX,
        period in any::<u64>(),
    ) {
        if let Ok(mut limiter) = Limiter::new(count, Duration::from_nanos(period), burst) {
            for time in times {
                if let Ok(turn) = limiter.reserve(at(time)) {
                    prop_assert!(turn >= at(time));
                    limiter.give_back(turn);
                }
            }
        }
    }
}

/// Binance counts 5 messages a second on a connection.
#[test]
fn after_a_quiet_time_a_burst_goes_at_once_and_the_rest_evenly() {
    let mut limiter = limiter(5, 1000, 5);
    let turns: Vec<u64> = (0..8)
        .map(|_| limiter.reserve(at(10 * SECOND)).unwrap().as_nanos() / 1_000_000)
        .collect();
    assert_eq!(
        turns,
        [
            10_000, 10_000, 10_000, 10_000, 10_000, 10_200, 10_400, 10_600
        ]
    );
}

#[test]
fn a_turn_given_back_at_once_goes_to_the_next() {
    let mut limiter = limiter(1, 1000, 1);
    assert_eq!(limiter.reserve(at(5)), Ok(at(5)));
    let turn = limiter.reserve(at(5)).unwrap();
    limiter.give_back(turn);
    assert_eq!(limiter.reserve(at(5)), Ok(turn));
    let mut first = self::limiter(1, 1000, 1);
    let origin = first.reserve(at(0)).unwrap();
    first.give_back(origin);
    assert_eq!(first.reserve(at(0)), Ok(at(0)), "at the origin, too");
    // Too late: the next has its turn already, and it does not move.
    let later = limiter.reserve(at(5)).unwrap();
    limiter.give_back(turn);
    assert!(limiter.reserve(at(5)).unwrap() > later);
}

#[test]
fn a_wait_is_bounded_and_says_when_to_ask_again() {
    let mut limiter = limiter(1, 60_000, 1);
    for minute in 0..=10 {
        assert_eq!(limiter.reserve(at(0)), Ok(at(minute * 60 * SECOND)));
    }
    let crowded = limiter.reserve(at(0)).unwrap_err();
    assert_eq!(crowded.ask_again, Duration::from_secs(60));
    assert_eq!(crowded.to_string(), "too many wait: ask again in 60s");
    assert!(limiter.reserve(at(60 * SECOND - 1)).is_err());
    assert_eq!(limiter.reserve(at(60 * SECOND)), Ok(at(660 * SECOND)));
}

#[test]
fn an_earlier_now_is_the_latest_now() {
    let mut limiter = limiter(1, 1000, 1);
    assert_eq!(limiter.reserve(at(9 * SECOND)), Ok(at(9 * SECOND)));
    assert_eq!(limiter.reserve(at(0)), Ok(at(10 * SECOND)));
}

#[test]
fn a_refusal_names_the_value_and_the_rule() {
    let refusal = |count, period, burst| Limiter::new(count, period, burst).unwrap_err();
    let second = Duration::from_secs(1);
    assert_eq!(
        refusal(0, second, 1).to_string(),
        "`count` is 0: it must be at least 1"
    );
    assert_eq!(refusal(1, second, 0), LimiterError::Zero { key: "burst" });
    assert_eq!(
        refusal(1, Duration::ZERO, 1).to_string(),
        "1 in 0s is no rate: two turns must lie between 1ns and 1 day apart"
    );
    assert!(matches!(
        refusal(1, 90_000 * second, 1),
        LimiterError::Rate { .. }
    ));
}
