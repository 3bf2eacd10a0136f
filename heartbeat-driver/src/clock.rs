//! The only place in this crate that asks the operating system for the time.

use std::time::{Duration, Instant, SystemTime};

use heartbeat_core::Clock;

/// Time since it was started, the time during which the host was suspended included where the
/// operating system can tell.
///
/// | operating system | clock | counts suspended time |
/// |---|---|---|
/// | Linux, Android | `CLOCK_BOOTTIME` | yes |
/// | others | [`std::time::Instant`] | as std does: on Windows yes, on macOS no |
#[derive(Clone, Copy, Debug)]
pub struct HostClock {
    origin: Moment,
}

impl HostClock {
    /// A clock that begins now.
    #[must_use]
    pub fn start() -> Self {
        Self { origin: moment() }
    }
}

impl Clock for HostClock {
    fn now(&self) -> heartbeat_core::Instant {
        heartbeat_core::Instant::ORIGIN.saturating_add(since(self.origin))
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
type Moment = Duration;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
type Moment = Instant;

#[cfg(any(target_os = "linux", target_os = "android"))]
fn moment() -> Moment {
    read(rustix::time::ClockId::Boottime)
}
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn moment() -> Moment {
    instant()
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn since(origin: Moment) -> Duration {
    moment().saturating_sub(origin)
}
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn since(origin: Moment) -> Duration {
    origin.elapsed()
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn read(clock: rustix::time::ClockId) -> Duration {
    let time = rustix::time::clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// How long the host has been suspended since this was started, for those whose own clock does not
/// count that. Always zero where the operating system cannot tell, or where its clock counts it anyway.
#[derive(Clone, Copy, Debug)]
pub struct Suspended {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    before: Duration,
}

impl Suspended {
    /// From now on.
    #[must_use]
    pub fn start() -> Self {
        Self {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            before: {
                // Two clocks cannot be read at once. Read in this order the difference is at least
                // what it is, in the other at most: so what never was is never counted.
                let monotonic = read(rustix::time::ClockId::Monotonic);
                moment().saturating_sub(monotonic)
            },
        }
    }

    /// Until now. Exactly zero if the host was not suspended.
    #[must_use]
    pub fn so_far(&self) -> Duration {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        {
            let now = moment();
            let ahead = now.saturating_sub(read(rustix::time::ClockId::Monotonic));
            ahead.saturating_sub(self.before)
        }
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        Duration::ZERO
    }
}

/// Now, on the monotonic clock, for a thread that waits.
#[allow(clippy::disallowed_methods, reason = "this is the clock")]
pub(crate) fn instant() -> Instant {
    Instant::now()
}

/// Now, on the wall clock. Only to tell how far off a `Retry-After` date is; no timer sees it.
#[allow(clippy::disallowed_methods, reason = "this is the clock")]
pub(crate) fn wall() -> SystemTime {
    SystemTime::now()
}

/// Milliseconds since 1970, for the dialects whose pings say the time.
pub fn unix_ms() -> u64 {
    let since = wall().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_was_not_suspended_lost_no_time() {
        let (clock, suspended, start) = (HostClock::start(), Suspended::start(), instant());
        for _ in 0..100_000 {
            assert_eq!(suspended.so_far(), Duration::ZERO);
        }
        let passed = start.elapsed();
        let told = clock
            .now()
            .saturating_duration_since(heartbeat_core::Instant::ORIGIN);
        assert!(told >= passed, "{told:?} {passed:?}");
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[test]
    fn suspended_time_is_counted() {
        // As if it had been started before the host slept for an hour.
        let hour = Duration::from_secs(3600);
        let suspended = Suspended::start();
        let Some(before) = suspended.before.checked_sub(hour) else {
            // A host that has never been suspended: its clocks do not lie an hour apart.
            // It may be up for less than an hour.
            let up = moment();
            let origin = up.saturating_sub(hour);
            assert!(since(origin) >= hour.min(up) - Duration::from_nanos(1));
            return;
        };
        assert!(Suspended { before }.so_far() > hour - Duration::from_secs(1));
    }

    /// `cargo test --release -p heartbeat-driver clock_read -- --ignored --nocapture`
    #[test]
    #[ignore = "a measurement"]
    fn what_a_clock_read_costs() {
        let (clock, suspended) = (HostClock::start(), Suspended::start());
        let measure = |name: &str, read: &dyn Fn()| {
            let start = instant();
            for _ in 0..1_000_000 {
                read();
            }
            println!("{name}: {:.1} ns", start.elapsed().as_nanos() as f64 / 1e6);
        };
        measure("std::time::Instant", &|| {
            std::hint::black_box(instant());
        });
        measure("HostClock", &|| {
            std::hint::black_box(clock.now());
        });
        measure("Suspended", &|| {
            std::hint::black_box(suspended.so_far());
        });
    }
}
