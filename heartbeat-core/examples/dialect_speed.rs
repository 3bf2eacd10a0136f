//! What telling heartbeats from data costs, in nanoseconds a message, and a step of the machine.
//!
//! ```sh
//! cargo run --release -p heartbeat-core --example dialect_speed
//! ```
//!
//! For every dialect of the catalogue: a 150-byte trade message that is no heartbeat, a long one, and
//! the dialect's own first ping where one is known, beside what one parse of that ping into a borrowed
//! serde struct costs. Each is the best of several rounds; `nothing` is what the measuring itself takes.
//!
//! `-- count NAME trade|long|NAME CALLS` does that many calls and nothing else, to be counted:
//!
//! ```sh
//! valgrind --tool=callgrind target/release/examples/dialect_speed count okx trade 1000000
//! ```

use std::borrow::Cow;
use std::hint::black_box;

use heartbeat_core::{
    Config, ConnId, Description, Dialect, Event, FramesOnly, Heartbeat, Instant, JsonType, Message,
    catalogue,
};
use serde::Deserialize;

const TRADE: &str = r#"{"e":"trade","E":1672515782136,"s":"BNBBTC","t":123456789012,"p":"612.40000000","q":"100.00000000","b":8812345,"a":5067890,"T":1672515782136,"m":true}"#;

const PINGS: &[(&str, &str)] = &[
    ("json-type", r#"{"type":"ping"}"#),
    ("htx", r#"{"ping":1492420473027}"#),
    (
        "htx-account",
        r#"{"action":"ping","data":{"ts":1575537778295}}"#,
    ),
    (
        "crypto-com",
        r#"{"id":1587523073344,"method":"public/heartbeat","code":0}"#,
    ),
    (
        "bingx",
        r#"{"ping":"2177c68e4d0e45679965f482929b59c2","time":"2022-06-07T16:27:36.323+0800"}"#,
    ),
    (
        "deribit",
        r#"{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"test_request"}}"#,
    ),
    ("pusher", r#"{"event":"pusher:ping","data":{}}"#),
    (
        "elevenlabs",
        r#"{"type":"ping","ping_event":{"event_id":12345,"ping_ms":50}}"#,
    ),
];

/// What somebody would write who knows one service: the least that a parse can cost.
#[derive(Deserialize)]
#[allow(dead_code, reason = "parsed for the cost alone")]
struct Borrowed<'a> {
    #[serde(
        borrow,
        alias = "event",
        alias = "action",
        alias = "op",
        alias = "method",
        default
    )]
    r#type: Option<Cow<'a, str>>,
    #[serde(
        borrow,
        alias = "ts",
        alias = "data",
        alias = "id",
        alias = "params",
        alias = "ping_event",
        default
    )]
    ping: Option<&'a serde_json::value::RawValue>,
}

fn main() {
    assert_eq!(TRADE.len(), 150);
    let long = format!("{{\"data\":\"{}\"}}", "x".repeat(10_000));
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, name, message, calls] = &arguments[..] {
        assert_eq!(mode, "count");
        return count(name, message, &long, calls.parse().expect("a number"));
    }
    let finder = memchr::memmem::Finder::new("\"ping\"");
    let value = nanos(|| {
        black_box(serde_json::from_str::<serde_json::Value>(black_box(TRADE)).is_ok());
    });
    let search = nanos(|| {
        black_box(finder.find(black_box(TRADE.as_bytes())));
    });
    println!(
        "for comparison: serde_json::Value {value:.1} ns, one search for a word {search:.1} ns"
    );
    println!("nothing: {:.1} ns", classify(&FramesOnly, TRADE));
    println!(
        "a step for a data message: {:.1} ns, for a tick that is not due: {:.1} ns",
        step(Event::Received(CONN, Message::Data)),
        step(Event::Tick)
    );
    println!(
        "json-type, compiled in: {:.1} ns, long {:.1} ns",
        classify(&JsonType, TRADE),
        classify(&JsonType, &long)
    );
    let mut rows: Vec<_> = catalogue()
        .map(|entry| {
            (
                classify(&entry.dialect, TRADE),
                classify(&entry.dialect, &long),
                entry.name,
            )
        })
        .collect();
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    println!("{:>24} {:>9} {:>9}", "dialect", "trade, ns", "long, ns");
    for (trade, long, name) in &rows {
        println!("{name:>24} {trade:>9.1} {long:>9.1}");
    }
    println!(
        "{:>24} {:>9} {:>11} {:>6}",
        "ping of", "told, ns", "parsed, ns", "ratio"
    );
    for (name, ping) in PINGS {
        let dialect = Description::named(name).expect("in the catalogue");
        let told = classify(&dialect, ping);
        let parsed = nanos(|| {
            let parsed: Borrowed<'_> = serde_json::from_str(black_box(ping)).expect("JSON");
            black_box(parsed);
        });
        println!(
            "{name:>24} {told:>9.1} {parsed:>11.1} {:>6.2}",
            told / parsed
        );
    }
}

/// Calls and nothing else. `parse` in place of a dialect's name: what a ping is compared with.
fn count(name: &str, message: &str, long: &str, calls: usize) {
    let ping = PINGS.iter().find(|(known, _)| *known == message);
    let text = match message {
        "trade" => TRADE,
        "long" => long,
        _ => ping.expect("trade, long, or a dialect of PINGS").1,
    };
    if name == "parse" {
        for _ in 0..calls {
            black_box(serde_json::from_str::<Borrowed<'_>>(black_box(text)).is_ok());
        }
        return;
    }
    let dialect = Description::named(name).expect("in the catalogue");
    let dialect: &dyn Dialect = black_box(&dialect);
    for _ in 0..calls {
        black_box(dialect.classify_text(black_box(text)).is_for_application());
    }
}

const CONN: ConnId = ConnId::new(1);

/// A step of an open connection, some nanoseconds after the one before: no deadline comes into it.
fn step(event: Event<'_>) -> f64 {
    let mut now = 1_000_000_000;
    let config = Config::default();
    let mut machine = Heartbeat::accepted(&config, JsonType, 7, Instant::from_nanos(now));
    nanos(|| {
        now += 10;
        let step = machine.step(Instant::from_nanos(now), black_box(event));
        black_box((step.actions.is_empty(), step.wake));
    })
}

fn classify(dialect: &dyn Dialect, text: &str) -> f64 {
    nanos(|| {
        black_box(dialect.classify_text(black_box(text)).is_for_application());
    })
}

/// The best of several rounds: what is measured is the code, not the machine's other work.
#[allow(clippy::disallowed_methods, reason = "a program that measures")]
fn nanos(mut work: impl FnMut()) -> f64 {
    const ROUNDS: u32 = 20_000;
    let mut best = f64::MAX;
    for _ in 0..15 {
        let start = std::time::Instant::now();
        for _ in 0..ROUNDS {
            work();
        }
        best = best.min(start.elapsed().as_nanos() as f64 / f64::from(ROUNDS));
    }
    best
}
