//! What the log says, in virtual time, so that every figure is exact.

mod world;

use std::io::Cursor;

use heartbeat_driver::core::{CatalogueEntry, Instant};
use heartbeat_driver::{Engine, Options};
use heartbeat_tests::lines::Lines;
use heartbeat_tests::sim::Act;
use heartbeat_tokio::core::Config;
use tungstenite::Message;
use world::{Log, Script, run_on_blocking, run_on_tokio, seconds, visit};

fn log_of(run: fn(&Script) -> Log, script: &Script) -> String {
    log_while(|| drop(run(script)))
}

fn log_while(run: impl FnOnce()) -> String {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_ansi(false)
        .with_writer(lines.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, run);
    lines.text()
}

#[test]
fn the_log_tells_monitor_checks_answers_verdicts_and_retries() {
    let ping = Act::Send(Message::text(r#"{"type":"ping"}"#));
    let script = Script {
        config: Config::default(),
        visits: vec![visit([(4.7, ping), (4.8, Act::Freeze)]), visit([])],
        user: Vec::new(),
        until: seconds(100.0),
    };
    for run in [run_on_tokio, run_on_blocking] {
        let log = log_of(run, &script);
        for words in [
            "connection{conn=1}: heartbeat_driver::engine::dialing: connecting conn=1 attempt=0",
            "connection{conn=1 host=\"server.test\"}",
            "connected after 0 s",
            "monitor started",
            "interval=30 s threshold=90 s",
            "ping answered conn=1",
            "idle for 25.3 s",
            "ping sent conn=1",
            "disconnected: idle_timeout, idle for 90 s, open for 94.7 s",
            "retry 1 in 1.",
            "connected after 0 s conn=2",
        ] {
            assert!(log.contains(words), "{words:?} is not in the log:\n{log}");
        }
    }
}

#[test]
fn what_a_service_may_object_to_is_one_warning() {
    let mut okx = CatalogueEntry::named("okx").expect("in the catalogue");
    // Nobody knows then how often OKX wants to be asked, only that it bears 30 s of silence.
    okx.interval = None;
    let warning = "WARN heartbeat_driver::options: the configuration does not suit okx: ";
    for (ping, warnings) in [("14s", 0), ("26s", 1)] {
        let config = Config::from_json(&format!(r#"{{"ping": {{"every": "{ping}"}}}}"#));
        let options = Options::new("ws://127.0.0.1:9/").expect("a URL");
        let options = options
            .of_service(okx.clone())
            .config(config.expect("consistent"));
        let log = log_while(|| {
            let engine = Engine::<Cursor<Vec<u8>>>::new(options, Instant::ORIGIN, Box::new(|| ()));
            assert!(engine.is_ok(), "{ping}");
        });
        assert_eq!(log.matches(warning).count(), warnings, "{ping}:\n{log}");
        assert_eq!(log.matches("26s").count(), warnings, "{ping}:\n{log}");
    }
}
