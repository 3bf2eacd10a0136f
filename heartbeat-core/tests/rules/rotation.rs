//! What a rotation promises, rule by rule, and under any course of events.

use std::collections::BTreeMap;
use std::time::Duration;

use heartbeat_core::{Generation, Instant, Rotation, RotationError, RotationTimes, Turnover};
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;

fn at(seconds: u64) -> Instant {
    Instant::from_nanos(seconds * SECOND)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// 1000 s of life, 20 s to become ready, 2 s together.
fn times() -> RotationTimes {
    RotationTimes::new(seconds(1000))
        .and_then(|times| times.ready_within(seconds(20)))
        .and_then(|times| times.overlap(seconds(2)))
        .expect("times")
}

fn started(turnover: Turnover) -> Generation {
    match turnover {
        Turnover::Start(generation) => generation,
        other => panic!("{other:?}"),
    }
}

fn until(turnover: Turnover) -> Instant {
    match turnover {
        Turnover::Until(at) => at,
        other => panic!("{other:?}"),
    }
}

/// A rotation whose first client is ready since 0, and when its successor is due.
fn settled(seed: u64) -> (Rotation, Generation, Instant) {
    let mut rotation = Rotation::new(times(), seed);
    let first = started(rotation.next(at(0)));
    assert_eq!(rotation.next(at(0)), Turnover::Wait);
    rotation.ready(first, at(0));
    let due = until(rotation.next(at(0)));
    (rotation, first, due)
}

/// The same, with its successor under way.
fn rotating() -> (Rotation, Generation, Generation, Instant) {
    let (mut rotation, first, due) = settled(7);
    let second = started(rotation.next(due));
    assert_ne!(first, second);
    (rotation, first, second, due)
}

#[test]
fn a_successor_starts_at_its_time_and_not_a_nanosecond_before() {
    let (mut rotation, _, due) = settled(7);
    let before = Instant::from_nanos(due.as_nanos() - 1);
    assert_eq!(rotation.next(before), Turnover::Until(due));
    started(rotation.next(due));
}

#[test]
fn lifetimes_spread_evenly_over_ten_percent_more_or_less() {
    let mut dues: Vec<u64> = (0..1000)
        .map(|seed| settled(seed).2.as_nanos() / SECOND)
        .collect();
    dues.sort_unstable();
    assert!((900..910).contains(&dues[0]), "{}", dues[0]);
    assert!((1090..=1100).contains(&dues[999]), "{}", dues[999]);
    assert!((980..1020).contains(&dues[500]), "{}", dues[500]);
}

#[test]
fn hand_over_comes_when_the_session_is_ready_and_the_old_one_closes_after_the_overlap() {
    let (mut rotation, first, second, due) = rotating();
    let limit = due.saturating_add(seconds(20));
    assert_eq!(rotation.next(due), Turnover::Until(limit));
    assert_eq!(rotation.current(), first);

    let ready = due.saturating_add(seconds(3));
    rotation.ready(second, ready);
    let hand_over = Turnover::HandOver {
        from: first,
        to: second,
        seamless: true,
    };
    assert_eq!(rotation.next(ready), hand_over);
    assert_eq!(rotation.current(), second);
    let close = ready.saturating_add(seconds(2));
    assert_eq!(rotation.next(ready), Turnover::Until(close));
    assert_eq!(rotation.next(close), Turnover::Close(first));
    assert_eq!(rotation.next(close), Turnover::Wait);
    rotation.ended(first, close);
    let next = until(rotation.next(close));
    let life = next.saturating_duration_since(ready);
    assert!(
        life >= seconds(900) && life <= seconds(1100),
        "from when it was ready: {life:?}"
    );
}

#[test]
fn a_successor_that_is_not_ready_in_time_is_closed_and_the_current_one_stays_in_use() {
    let (mut rotation, first, second, due) = rotating();
    // Its client dials again by itself: that is no end.
    rotation.lost(second, due.saturating_add(seconds(5)));
    let limit = due.saturating_add(seconds(20));
    assert_eq!(rotation.next(due), Turnover::Until(limit));
    assert_eq!(rotation.next(limit), Turnover::Close(second));
    assert_eq!(rotation.current(), first);
    // Ready too late: it is on its way out.
    rotation.ready(second, limit);
    assert_eq!(
        rotation.next(limit),
        Turnover::Wait,
        "two clients are there"
    );
    rotation.ended(second, limit);
    let again = until(rotation.next(limit));
    assert!(again > limit);
    assert_ne!(started(rotation.next(again)), second);
}

#[test]
fn pauses_between_failed_successors_double_up_to_a_twentieth_of_the_lifetime() {
    let (mut rotation, first, mut due) = settled(7);
    let mut pauses = Vec::new();
    for _ in 0..6 {
        let successor = started(rotation.next(due));
        // It gave up: a refused login, say.
        rotation.ended(successor, due);
        let next = until(rotation.next(due));
        pauses.push(next.saturating_duration_since(due));
        due = next;
    }
    for (pause, longest) in pauses.iter().zip([20, 40, 50, 50, 50, 50]) {
        assert!(
            *pause >= seconds(longest) / 2 && *pause <= seconds(longest),
            "{pauses:?}"
        );
    }
    assert_eq!(rotation.current(), first);
}

#[test]
fn when_the_current_connection_is_lost_the_successor_takes_over_at_once() {
    let (mut rotation, first, second, due) = rotating();
    rotation.lost(first, due);
    let hand_over = Turnover::HandOver {
        from: first,
        to: second,
        seamless: false,
    };
    assert_eq!(rotation.next(due), hand_over);
    assert_eq!(
        rotation.next(due),
        Turnover::Close(first),
        "it must not come back"
    );
    rotation.ended(first, due);
    // It has no time limit any more: there is nothing else.
    assert_eq!(rotation.next(at(1_000_000)), Turnover::Wait);
    rotation.ready(second, at(1_000_000));
    until(rotation.next(at(1_000_000)));
}

#[test]
fn when_the_current_client_gives_up_the_successor_takes_over() {
    let (mut rotation, first, second, due) = rotating();
    rotation.ended(first, due);
    let hand_over = Turnover::HandOver {
        from: first,
        to: second,
        seamless: false,
    };
    assert_eq!(rotation.next(due), hand_over);
    assert_eq!(rotation.next(due), Turnover::Wait);
    rotation.ended(second, due);
    assert_eq!(rotation.next(due), Turnover::Over);
}

#[test]
fn without_a_successor_a_lost_connection_comes_back_by_itself_with_a_new_lifetime() {
    let (mut rotation, first, due) = settled(7);
    rotation.lost(first, at(500));
    assert_eq!(
        rotation.next(due),
        Turnover::Wait,
        "there is nothing to replace"
    );
    rotation.ready(first, at(2000));
    let due = until(rotation.next(at(2000)));
    assert!(due >= at(2900) && due <= at(3100), "{due:?}");
}

#[test]
fn an_old_connection_that_is_lost_while_both_are_there_does_not_come_back() {
    let (mut rotation, first, second, due) = rotating();
    rotation.ready(second, due);
    rotation.next(due);
    rotation.lost(first, due);
    assert_eq!(rotation.next(due), Turnover::Close(first));
}

#[test]
fn a_notice_starts_the_successor_in_the_first_half_of_its_time() {
    let mut waits = Vec::new();
    for seed in 0..1000 {
        let (mut rotation, first, _) = settled(seed);
        rotation.rotate_within(first, seconds(600), at(100));
        let due = until(rotation.next(at(100)));
        waits.push(due.saturating_duration_since(at(100)).as_secs());
    }
    waits.sort_unstable();
    assert!(waits[0] < 5 && waits[999] <= 300 && waits[999] > 295);

    let (mut rotation, first, _) = settled(7);
    rotation.rotate_within(first, Duration::ZERO, at(100));
    started(rotation.next(at(100)));
}

#[test]
fn a_notice_counts_for_the_client_in_use_alone_and_postpones_nothing() {
    let (mut rotation, first, due) = settled(7);
    rotation.rotate_within(first, seconds(1_000_000), at(0));
    assert!(until(rotation.next(at(0))) <= due);

    let (mut rotation, first, second, due) = rotating();
    rotation.ready(second, due);
    rotation.next(due);
    // The old one says it, as it is closed: the new one is on another server.
    rotation.rotate_within(first, Duration::ZERO, due);
    until(rotation.next(due));
    let close = due.saturating_add(seconds(2));
    rotation.next(close);
    rotation.ended(first, close);
    assert!(until(rotation.next(close)) > close.saturating_add(seconds(800)));
}

#[test]
fn a_notice_while_the_old_one_is_leaving_waits_for_its_end() {
    let (mut rotation, first, second, due) = rotating();
    rotation.ready(second, due);
    rotation.next(due);
    rotation.rotate_within(second, Duration::ZERO, due);
    let close = until(rotation.next(due));
    assert_eq!(rotation.next(close), Turnover::Close(first));
    assert_eq!(
        rotation.next(close),
        Turnover::Wait,
        "two clients are there"
    );
    rotation.ended(first, close);
    started(rotation.next(close));
}

#[test]
fn times_that_contradict_each_other_are_refused_with_the_key_and_the_rule() {
    let zero = RotationTimes::new(Duration::ZERO).expect_err("nothing lives so short");
    assert!(matches!(
        zero,
        RotationError::Range {
            key: "lifetime",
            ..
        }
    ));
    let late = RotationTimes::new(seconds(60)).and_then(|times| times.ready_within(seconds(61)));
    assert_eq!(
        late.expect_err("later than the next one").to_string(),
        "`ready_within` is 61s: it must lie between 1ms and 60s"
    );
    let long = RotationTimes::new(seconds(60)).and_then(|times| times.overlap(seconds(31)));
    assert_eq!(
        long.expect_err("two all the time").to_string(),
        "`overlap` is 31s: it must lie between 0s and 30s"
    );
}

/// What the world knows of a client.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    ready: bool,
    closing: bool,
}

#[derive(Clone, Copy, Debug)]
enum Happens {
    Ready,
    Lost,
    Ended,
    Notice(u64),
    Nothing,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        4 => Just(Happens::Ready),
        2 => Just(Happens::Lost),
        1 => Just(Happens::Ended),
        1 => (0..2000u64).prop_map(Happens::Notice),
        3 => Just(Happens::Nothing),
    ]
}

proptest! {
    /// Two clients at most; the one in use is never closed; hand-over goes to a ready one, unless the
    /// one in use was lost; what was told to close is not used again; and each question is answered
    /// within a few.
    #[test]
    fn whatever_happens_there_is_one_to_use_and_two_at_most(
        seed in any::<u64>(),
        course in prop::collection::vec((happens(), any::<bool>(), 0..600 * SECOND), 1..200),
    ) {
        let mut rotation = Rotation::new(times(), seed);
        let mut clients: BTreeMap<Generation, Known> = BTreeMap::new();
        let mut newest = 0;
        let mut now = 0;
        for (happens, to_newest, pause) in course {
            now += pause;
            let time = Instant::from_nanos(now);
            let one = if to_newest { clients.keys().last() } else { clients.keys().next() };
            if let Some(one) = one.copied() {
                match happens {
                    Happens::Ready => {
                        clients.get_mut(&one).expect("it is there").ready = true;
                        rotation.ready(one, time);
                    }
                    Happens::Lost => {
                        clients.get_mut(&one).expect("it is there").ready = false;
                        rotation.lost(one, time);
                    }
                    Happens::Ended => {
                        clients.remove(&one);
                        rotation.ended(one, time);
                    }
                    Happens::Notice(within) => rotation.rotate_within(one, seconds(within), time),
                    Happens::Nothing => {}
                }
            }
            let mut using = rotation.current();
            for question in 0.. {
                prop_assert!(question < 6, "it goes on and on");
                match rotation.next(time) {
                    Turnover::Start(generation) => {
                        prop_assert!(generation.get() > newest, "each number once");
                        newest = generation.get();
                        clients.insert(generation, Known::default());
                        prop_assert!(clients.len() <= 2, "{clients:?}");
                    }
                    Turnover::HandOver { from, to, seamless } => {
                        let known = clients.get(&to).expect("it is there");
                        prop_assert!(!known.closing);
                        if seamless {
                            prop_assert!(known.ready);
                        } else {
                            prop_assert!(clients.get(&from).is_none_or(|from| !from.ready));
                        }
                        using = to;
                    }
                    Turnover::Close(generation) => {
                        let known = clients.get_mut(&generation).expect("it is there");
                        prop_assert!(!known.closing, "told once");
                        known.closing = true;
                        prop_assert_ne!(generation, rotation.current());
                    }
                    Turnover::Until(at) => {
                        prop_assert!(at > time);
                        break;
                    }
                    Turnover::Wait => {
                        // Never waits without anything to wait for.
                        prop_assert!(!clients.is_empty());
                        break;
                    }
                    Turnover::Over => {
                        prop_assert!(clients.is_empty());
                        break;
                    }
                }
            }
            prop_assert_eq!(using, rotation.current());
            if let Some(known) = clients.get(&using) {
                prop_assert!(!known.closing);
            }
        }
    }
}

#[test]
fn a_service_that_limits_connections_gives_a_lifetime_of_four_fifths_of_its_limit() {
    assert_eq!(
        RotationTimes::before(seconds(1000)),
        RotationTimes::new(seconds(800))
    );
}

#[test]
fn what_a_client_that_is_not_there_says_changes_nothing() {
    let mut rotation = Rotation::new(times(), 7);
    let first = started(rotation.next(at(0)));
    rotation.ready(first, at(0));
    let until = rotation.next(at(0));
    let mut other = Rotation::new(times(), 8);
    let mut second = started(other.next(at(0)));
    other.ready(second, at(0));
    while second == first {
        let Turnover::Until(time) = other.next(at(0)) else {
            panic!("a lifetime")
        };
        second = started(other.next(time));
    }
    // Not started here: neither ready nor lost nor ended.
    rotation.ready(second, at(1));
    rotation.lost(second, at(1));
    rotation.ended(second, at(1));
    assert_eq!(rotation.next(at(1)), until);
    assert_eq!((rotation.current(), first.to_string()), (first, "1".into()));
    assert_eq!(second.to_string(), "2");
}

/// Ready is said once; said again it does not begin another life.
#[test]
fn a_client_in_use_that_is_ready_again_keeps_its_lifetime() {
    let mut rotation = Rotation::new(times(), 7);
    let first = started(rotation.next(at(0)));
    rotation.ready(first, at(0));
    let until = rotation.next(at(0));
    rotation.ready(first, at(100));
    assert_eq!(rotation.next(at(100)), until);
}

#[test]
fn after_the_end_nothing_begins_again() {
    let mut rotation = Rotation::new(times(), 7);
    let first = started(rotation.next(at(0)));
    rotation.ended(first, at(1));
    assert_eq!(rotation.next(at(1)), Turnover::Over);
    rotation.lost(first, at(2));
    rotation.ready(first, at(3));
    assert_eq!(rotation.next(at(3)), Turnover::Over);
}
