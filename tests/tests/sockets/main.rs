//! Both adapters, in every way of driving them, on real loopback sockets, against everything that breaks a
//! long-lived client. `virtual_time` checks exact times. Here the order of events counts, and the bounds on
//! time are generous.
//!
//! The cases run wherever there are sockets. Cases that count threads, descriptors or processor time, or
//! need the torture server, run on Linux only.

#![allow(
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "this crate is never built without std"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "sockets of the operating system live on its clock"
)]

/// Each case as a test of its own, for each way of driving a client.
///
/// `everywhere`: all four ways. `driven`: a task and a thread, which run without the application's help.
macro_rules! cases {
    (everywhere: [$($all:ident),* $(,)?]) => { cases! { everywhere: [$($all),*], driven: [] } };
    (everywhere: [$($all:ident),* $(,)?], driven: [$($driven:ident),* $(,)?]) => {
        cases! { @ tokio_task, TokioTask: $($all)* $($driven)* }
        cases! { @ tokio_in_place, TokioInPlace: $($all)* }
        cases! { @ blocking_thread, BlockingThread: $($all)* $($driven)* }
        cases! { @ blocking_in_place, BlockingInPlace: $($all)* }
    };
    (@ $module:ident, $how:ident: $($case:ident)*) => {
        mod $module {
            $(#[test]
            fn $case() {
                super::$case(crate::harness::Case {
                    how: crate::harness::How::$how,
                    name: concat!(module_path!(), "::", stringify!($case)),
                });
            })*
        }
    };
}

mod addresses;
mod apart;
mod brought;
#[cfg(target_os = "linux")]
mod clock_step;
mod connected;
#[cfg(target_os = "linux")]
mod cost;
#[cfg(target_os = "linux")]
mod course;
mod dials;
mod ends;
mod fleet;
mod garbage;
mod harness;
mod logs;
mod on_tokio;
mod panics;
mod payloads;
mod pings;
mod pressure;
mod promises;
mod proxies;
#[cfg(target_os = "linux")]
mod relay;
mod renewal;
mod requests;
mod rotation;
mod sending;
mod sessions;
mod t_numbers;
mod tickets;
mod tls;
mod untaken;
mod uploads;
mod verdicts;
