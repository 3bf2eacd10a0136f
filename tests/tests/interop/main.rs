//! `heartbeat watch` with the clients of both adapters, as a black box, against third-party servers:
//! Python's `websockets` and `aiohttp`, and Node's `ws`. `tests/README.md` says how to run one scenario,
//! and what happens if Python or Node is missing.

#![cfg(unix)]
#![allow(
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "this crate is never built without std"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "programs of others run on the real clock"
)]

mod contract;
mod deflate;
mod fronts;
mod process;
mod scenarios;
mod server;
mod services;
mod usage;
mod watch;

use std::io::{self, Write};

use fronts::{Kind, Trio};
use server::Library;
use watch::{Adapter, Watch};

/// The parts of a scenario.
struct Pair {
    watch: Watch,
    library: Library,
}

/// Each scenario as a test of its own, for one adapter and one library.
macro_rules! scenarios {
    ($adapter:ident, $library:ident) => {
        scenarios! { $adapter, $library:
            answers_every_ping_once_in_order_with_its_bytes
            silence_of_a_frozen_server_is_noticed_on_time_and_its_successor_found
            an_unanswered_probe_is_noticed_on_time_and_the_successor_found
            a_killed_server_is_dialled_until_it_is_back
            a_quiet_but_healthy_server_is_never_declared_dead
            a_line_goes_out_as_text_and_an_interrupt_closes_cleanly
            close_1001_is_followed_by_a_new_connection
            close_1012_spreads_the_clients_over_half_a_minute
            http_401_is_tried_once_more_with_fresh_credentials
            http_403_and_404_are_final
            http_503_is_retried_when_the_server_says_so
            a_proxy_carries_the_connection_by_http_and_socks
            a_proxy_that_wants_another_password_is_final
        }
    };
    ($adapter:ident, $library:ident: $($scenario:ident)*) => {
        $(#[test]
        fn $scenario() {
            let name = concat!(module_path!(), "::", stringify!($scenario));
            crate::run(name, crate::Adapter::$adapter, crate::Library::$library, crate::scenarios::$scenario);
        })*
    };
}

/// Scenarios of the command line only, as tests for one adapter.
macro_rules! usage {
    ($adapter:ident) => {
        usage! { $adapter:
            an_unknown_flag_is_named
            a_url_that_is_none_is_named
            a_flag_without_its_value_is_named
            a_span_that_is_none_is_named
            an_unknown_setting_is_named
            an_inconsistent_setting_is_named_with_its_rule
            settings_can_come_from_a_file
            a_missing_file_is_named
            an_unknown_dialect_is_named
            it_ends_in_time_although_the_dial_hangs
            an_interrupt_ends_it_although_the_dial_hangs
        }
    };
    ($adapter:ident: $($case:ident)*) => {
        $(#[test]
        fn $case() {
            crate::usage::$case(&crate::Watch::of(crate::Adapter::$adapter));
        })*
    };
}

/// Services with a dialect of their own, as tests for one adapter.
macro_rules! services {
    ($adapter:ident) => {
        services! { $adapter:
            discord_hears_the_last_number_at_the_interval_it_announced
            engine_io_is_answered_and_missed_when_its_own_times_are_over
            deribit_is_asked_for_heartbeats_and_answered
            home_assistant_hears_pings_with_growing_ids
        }
    };
    ($adapter:ident: $($service:ident)*) => {
        $(#[test]
        fn $service() {
            let name = concat!(module_path!(), "::", stringify!($service));
            crate::run(name, crate::Adapter::$adapter, crate::Library::Websockets, crate::services::$service);
        })*
    };
}

/// Scenarios with a front in between, as tests for one adapter and each front.
macro_rules! fronts {
    ($adapter:ident) => {
        mod nginx {
            fronts!($adapter, Nginx);
        }
        mod haproxy {
            fronts!($adapter, Haproxy);
        }
    };
    ($adapter:ident, $kind:ident) => {
        fronts! { $adapter, $kind:
            an_idle_limit_is_kept_away_by_pings_and_is_an_end_like_any_other
            a_reload_is_followed_by_a_new_connection
            an_upstream_that_is_killed_is_dialled_until_it_is_back
            an_upstream_that_hangs_is_504_and_dialled_until_its_successor_is_there
            a_limit_of_connections_is_503_until_there_is_room
            http_1_1_is_agreed_on_where_http_2_is_preferred
        }
    };
    ($adapter:ident, $kind:ident: $($scenario:ident)*) => {
        $(#[test]
        fn $scenario() {
            let name = concat!(module_path!(), "::", stringify!($scenario));
            crate::run_behind(name, crate::Adapter::$adapter, crate::Kind::$kind, crate::fronts::$scenario);
        })*
    };
}

mod tokio {
    fronts!(Tokio);
    mod services {
        services!(Tokio);
    }
    mod usage {
        usage!(Tokio);
    }
    mod websockets {
        scenarios!(Tokio, Websockets);
    }
    mod aiohttp {
        scenarios!(Tokio, Aiohttp);
    }
    mod ws {
        scenarios!(Tokio, Ws);
    }
}

mod blocking {
    fronts!(Blocking);
    mod services {
        services!(Blocking);
    }
    mod usage {
        usage!(Blocking);
    }
    mod websockets {
        scenarios!(Blocking, Websockets);
    }
    mod aiohttp {
        scenarios!(Blocking, Aiohttp);
    }
    mod ws {
        scenarios!(Blocking, Ws);
    }
}

/// Set to `1`, it turns a missing Python or Node into a failure. CI sets it, because nothing may be skipped
/// there.
const REQUIRE: &str = "HEARTBEAT_REQUIRE_INTEROP";

fn run(name: &str, adapter: Adapter, library: Library, scenario: fn(&Pair)) {
    match library.install() {
        Ok(()) => scenario(&Pair {
            watch: Watch::of(adapter),
            library,
        }),
        Err(why) => skip(name, why),
    }
}

fn run_behind(name: &str, adapter: Adapter, kind: Kind, scenario: fn(&Trio)) {
    if let Err(why) = Library::Websockets.install() {
        return skip(name, why);
    }
    match kind.is_there() {
        Ok(()) => scenario(&Trio {
            watch: Watch::of(adapter),
            kind,
        }),
        Err(why) => fronts::skip(name, &why),
    }
}

/// Says that something is not available here. Fails if nothing may be skipped.
fn skip(name: &str, why: &str) {
    assert!(
        std::env::var_os(REQUIRE).is_none_or(|value| value != "1"),
        "{REQUIRE}=1, but {why}"
    );
    // Not `eprintln!`: the test harness would show its output only for a failed test.
    drop(writeln!(io::stderr(), "SKIPPED {name}: {why}"));
}
