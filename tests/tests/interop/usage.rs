//! The command line: the arguments that it refuses, and its exit.

use std::fs;
use std::net::TcpListener;
use std::time::Instant;

use crate::process::PATIENCE;
use crate::server;
use crate::watch::Watch;

/// Port 9 is `discard`: nothing listens there, and no test gets as far as a dial.
const URL: &str = "ws://127.0.0.1:9/";

pub(crate) fn an_unknown_flag_is_named(watch: &Watch) {
    refuses(watch, &[URL, "--frobnicate"], &["--frobnicate"]);
}

pub(crate) fn a_url_that_is_none_is_named(watch: &Watch) {
    for url in ["neither here nor there", "http://127.0.0.1:9/", "ws://"] {
        refuses(watch, &[url, "--json"], &[url]);
    }
}

pub(crate) fn a_flag_without_its_value_is_named(watch: &Watch) {
    for flag in ["--config", "--dialect", "--service", "--for"] {
        // With its `=`, or the option would take the next argument.
        refuses(watch, &[URL, &format!("{flag}=")], &[flag]);
    }
}

pub(crate) fn a_span_that_is_none_is_named(watch: &Watch) {
    refuses(watch, &[URL, "--for", "a-while"], &["a-while"]);
    refuses(
        watch,
        &[URL, "--config", r#"{"idle_timeout": "a-while"}"#],
        &["idle_timeout", "a-while"],
    );
}

pub(crate) fn an_unknown_setting_is_named(watch: &Watch) {
    refuses(
        watch,
        &[URL, "--json", "--config", r#"{"idel_timeout": "2s"}"#],
        &["idel_timeout"],
    );
}

pub(crate) fn an_inconsistent_setting_is_named_with_its_rule(watch: &Watch) {
    let config = r#"{"idle_timeout": "2s", "ping": {"after_silence": "3s"}}"#;
    refuses(
        watch,
        &[URL, "--config", config],
        &["ping", "3s", "idle_timeout", "2s"],
    );
}

pub(crate) fn settings_can_come_from_a_file(watch: &Watch) {
    let path = server::output().join(format!("usage-{:?}.json", watch.adapter));
    fs::write(&path, r#"{"idle_timeout": "0s"}"#).expect("the target directory takes files");
    let path = path.to_str().expect("a target directory with a UTF-8 name");
    refuses(watch, &[URL, "--config", path], &["idle_timeout"]);
}

pub(crate) fn a_missing_file_is_named(watch: &Watch) {
    refuses(
        watch,
        &[URL, "--config", "no/such/file.json"],
        &["no/such/file.json"],
    );
}

pub(crate) fn an_unknown_dialect_is_named(watch: &Watch) {
    refuses(
        watch,
        &[URL, "--dialect", "no-such-dialect"],
        &["no-such-dialect"],
    );
}

pub(crate) fn it_ends_in_time_although_the_dial_hangs(watch: &Watch) {
    let (_listener, url) = hanging();
    let start = Instant::now();
    let mut client = watch.start([url.as_str(), "--json", "--for", "300ms"]);
    assert_eq!(client.end().code(), Some(0));
    assert!(start.elapsed() < PATIENCE);
}

pub(crate) fn an_interrupt_ends_it_although_the_dial_hangs(watch: &Watch) {
    let (_listener, url) = hanging();
    let mut client = watch.watch(&url, "{}");
    client.event("connecting");
    client.interrupt();
}

#[track_caller]
fn refuses(watch: &Watch, arguments: &[&str], names: &[&str]) {
    let mut client = watch.start(arguments.iter().copied());
    // Nothing on standard output, or `end` would have checked it.
    let code = client.end().code();
    assert_eq!((code, client.events()), (Some(2), vec![]), "{arguments:?}");
    let stderr = client.stderr();
    for name in names {
        assert!(
            stderr.contains(name),
            "{arguments:?}: no {name:?} in {stderr:?}"
        );
    }
}

/// The system completes the TCP handshake, and nothing answers the upgrade.
fn hanging() -> (TcpListener, String) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port of the loopback interface");
    let url = format!("ws://{}/", listener.local_addr().expect("an address"));
    (listener, url)
}
