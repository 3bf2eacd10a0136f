//! Primitives that threads share: the standard library's, or loom's in the tests that try every interleaving
//! (`loom_tests.rs`).

// A figure, never a signal between threads, so loom need not try it. Some 32-bit processors lack 64-bit
// atomics.
#[cfg(not(target_has_atomic = "64"))]
pub(crate) use portable_atomic::AtomicU64;
#[cfg(target_has_atomic = "64")]
pub(crate) use std::sync::atomic::AtomicU64;

#[cfg(not(heartbeat_loom))]
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard, atomic::AtomicBool};

#[cfg(heartbeat_loom)]
pub(crate) use loom::sync::{Mutex, MutexGuard, atomic::AtomicBool};
#[cfg(heartbeat_loom)]
pub(crate) use never_late::Condvar;

/// loom has no time. Here no wait ever times out, so a lost wake-up is a deadlock, which loom reports.
#[cfg(heartbeat_loom)]
mod never_late {
    use std::sync::LockResult;
    use std::time::Duration;

    use loom::sync::MutexGuard;

    #[derive(Debug)]
    pub(crate) struct Condvar(loom::sync::Condvar);

    type Waited<'a, T> = LockResult<(MutexGuard<'a, T>, ())>;

    impl Condvar {
        pub(crate) fn new() -> Self {
            Self(loom::sync::Condvar::new())
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }

        pub(crate) fn wait<'a, T>(
            &self,
            guard: MutexGuard<'a, T>,
        ) -> LockResult<MutexGuard<'a, T>> {
            self.0.wait(guard)
        }

        pub(crate) fn wait_timeout<'a, T>(
            &self,
            guard: MutexGuard<'a, T>,
            _: Duration,
        ) -> Waited<'a, T> {
            Ok((self.0.wait(guard).expect("not poisoned"), ()))
        }

        pub(crate) fn wait_timeout_while<'a, T>(
            &self,
            mut guard: MutexGuard<'a, T>,
            _: Duration,
            mut condition: impl FnMut(&mut T) -> bool,
        ) -> Waited<'a, T> {
            while condition(&mut guard) {
                guard = self.0.wait(guard).expect("not poisoned");
            }
            Ok((guard, ()))
        }
    }
}
