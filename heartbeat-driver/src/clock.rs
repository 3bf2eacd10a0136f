//! The clock. Only this file asks the operating system for the time.

use std::time::{Duration, Instant, SystemTime};

use heartbeat_core::Clock;

/// A clock that counts the time since it was started. It includes the time for which the host was suspended, if
/// the operating system reports that.
///
/// | operating system | clock | counts suspended time |
/// |---|---|---|
/// | Linux, Android | `CLOCK_BOOTTIME` | yes |
/// | others | [`std::time::Instant`] | like std: yes on Windows, no on macOS |
#[derive(Clone, Copy, Debug)]
pub struct HostClock {
    origin: Moment,
}

impl HostClock {
    /// Starts a clock.
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

/// Measures how long the host was suspended, for programs whose own clock does not count suspended time. Always
/// zero if the operating system cannot tell, or if its clock counts that time anyway.
#[derive(Clone, Copy, Debug)]
pub struct Suspended {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    before: Duration,
}

impl Suspended {
    /// Starts the measurement.
    #[must_use]
    pub fn start() -> Self {
        Self {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            before: {
                // The two clocks cannot be read at the same instant. This order makes the start difference too
                // large and the order in `so_far` makes the end difference too small, so a suspension is never
                // invented.
                let monotonic = read(rustix::time::ClockId::Monotonic);
                moment().saturating_sub(monotonic)
            },
        }
    }

    /// Returns the time suspended until now. Exactly zero if the host was not suspended.
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

/// Returns the time of the monotonic clock, for a thread that waits.
#[allow(clippy::disallowed_methods, reason = "this is the clock")]
pub(crate) fn instant() -> Instant {
    Instant::now()
}

/// Returns the time of the wall clock. Used to turn a `Retry-After` date into a delay; no timer uses it.
#[allow(clippy::disallowed_methods, reason = "this is the clock")]
pub(crate) fn wall() -> SystemTime {
    SystemTime::now()
}

/// Returns the milliseconds since 1970, for dialects whose pings carry the time.
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
        // Simulates a start before a suspension of an hour.
        let hour = Duration::from_secs(3600);
        let suspended = Suspended::start();
        let Some(before) = suspended.before.checked_sub(hour) else {
            // On a host that was never suspended the clocks differ by less than an hour. The host may be up for
            // less than an hour.
            let up = moment();
            let origin = up.saturating_sub(hour);
            assert!(since(origin) >= hour.min(up) - Duration::from_nanos(1));
            return;
        };
        assert!(Suspended { before }.so_far() > hour - Duration::from_secs(1));
    }

    /// Run with `cargo test --release -p heartbeat-driver clock_read -- --ignored --nocapture`.
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
