//! T22 on a real clock: the host's wall clock is set an hour forward and back under a running client.
//!
//! `libfaketime` moves the wall clock of one process and leaves the monotonic clock as it is, as
//! `settimeofday` does for all processes. A time namespace cannot do this, because it has no wall clock of
//! its own.

use std::env;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use heartbeat_tests::torture::{OnTls, Times, TortureServer};
use heartbeat_tokio::Options;
use heartbeat_tokio::core::Config;

use crate::harness::Case;

cases! {
    everywhere: [t22_a_wall_clock_that_is_set_makes_no_verdict_and_delays_none]
}

const CONFIG: &str = r#"{"idle_timeout": "1s", "ping": {"after_silence": "400ms"}, "pong_timeout": "600ms",
    "backoff": {"base": "100ms", "cap": "400ms"}}"#;

/// Tells the process whose wall clock moves which file holds the offset.
const STEP: &str = "HEARTBEAT_STEP";

/// Debian installs it below the architecture's triplet.
fn libfaketime() -> Option<PathBuf> {
    let triplets = fs::read_dir("/usr/lib").ok()?.filter_map(Result::ok);
    let folders = triplets.map(|folder| folder.path().join("faketime"));
    let mut libraries = folders.map(|folder| folder.join("libfaketimeMT.so.1"));
    libraries.find(|library| library.exists())
}

fn t22_a_wall_clock_that_is_set_makes_no_verdict_and_delays_none(case: Case) {
    if let Some(step) = env::var_os(STEP) {
        return under_a_clock_that_is_set(case, Path::new(&step));
    }
    let Some(library) = libfaketime() else {
        return println!("SKIPPED {}: libfaketime is not installed", case.name);
    };
    let (_, name) = case.name.split_once("::").expect("a module");
    let step = env::temp_dir().join(format!("heartbeat-{}-{:?}", std::process::id(), case.how));
    fs::write(&step, "+0").expect("a temporary file");
    let output = Command::new(env::current_exe().expect("a test is a program"))
        .args(["--exact", name, "--nocapture"])
        .env("LD_PRELOAD", library)
        .env("FAKETIME_TIMESTAMP_FILE", &step)
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .env(STEP, &step)
        .output();
    fs::remove_file(&step).expect("it is ours");
    let output = output.expect("it starts a second time");
    assert!(
        output.status.success(),
        "in its own process:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn wall() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(since.expect("after 1970").as_secs()).expect("before 2262")
}

fn under_a_clock_that_is_set(case: Case, step: &Path) {
    let times = Times {
        ping: Duration::from_millis(400),
        death: Duration::from_secs(1),
        connect: Duration::from_secs(1),
    };
    let server = TortureServer::start((Ipv4Addr::LOCALHOST, 0), times, OnTls::Stall);
    let server = server.expect("a port");
    let options = |mode| {
        let options = Options::new(&server.url(mode, mode)).expect("a URL");
        options.config(Config::from_json(CONFIG).expect("a configuration"))
    };
    let real = wall();
    let set = |hours: i64| {
        fs::write(step, format!("{hours:+}h")).expect("it is ours");
        let moved = wall() - real - hours * 3600;
        assert!((0..60).contains(&moved), "the clock was not set: {moved} s");
    };
    let mut healthy = case.start(options("t4"));
    healthy.until_connected();
    for hours in [1, -1, 1] {
        set(hours);
        healthy.drive_for(Duration::from_millis(1200));
    }
    // The hour did not count as silence.
    let report = server.report("t4");
    assert_eq!(report["connects"], 1, "{report}");
    assert!(report["connections"][0]["ended"].is_null(), "{report}");
    // Nor does the hour excuse silence: a client that waited for the old hour would wait longer than a test
    // may.
    let mut frozen = case.start(options("t2"));
    frozen.until_connected();
    set(-1);
    let end = frozen.until_disconnected();
    assert!(
        ["idle_timeout", "pong_timeout"].contains(&end.reason.as_str()),
        "{end:?}"
    );
    frozen.until_connected();
}
