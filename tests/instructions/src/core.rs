//! The machine and the dialects, without a driver.

use std::hint::black_box;
use std::sync::Arc;

use heartbeat_core::{
    AnyDialect, Config, ConnId, Dialect, Event, Heartbeat, Instant, JsonType, Message,
};

use crate::stream::trade;
use crate::{Case, Result};

/// Dialects whose classification is counted: the default, dialects of large feeds, one with prefixes, one
/// with many rules. Each comes with one of the service's pings.
const DIALECTS: &[(&str, &str)] = &[
    ("json-type", r#"{"type":"ping"}"#),
    ("bybit", r#"{"op":"ping"}"#),
    ("okx", "pong"),
    ("kraken", r#"{"event":"heartbeat"}"#),
    ("htx", r#"{"ping":1492420473027}"#),
    ("graphql-transport-ws", r#"{"type":"ping"}"#),
    ("engine-io", "2"),
];

const CONN: ConnId = ConnId::new(1);

type Shared = Arc<dyn Dialect + Send + Sync>;

pub(crate) fn cases() -> Result<Vec<(String, Case)>> {
    let mut cases: Vec<(String, Case)> = vec![
        (
            "step: data".into(),
            step(1, |_| Event::Received(CONN, Message::Data)),
        ),
        (
            "step: a tick that is not due".into(),
            step(0, |_| Event::Tick),
        ),
        (
            "step: a ping frame".into(),
            step(1, |payload| Event::Received(CONN, Message::Ping(payload))),
        ),
        (
            "step: a text that is a ping".into(),
            step(1, |_| {
                Event::Received(CONN, Message::Text(r#"{"type":"ping"}"#))
            }),
        ),
    ];
    for (name, ping) in DIALECTS {
        let dialect = AnyDialect::named(name).ok_or_else(|| format!("no dialect {name}"))?;
        let dialect: Shared = Arc::new(dialect);
        cases.push((
            format!("classify: {name}, data"),
            classify(&dialect, trade()),
        ));
        cases.push((
            format!("classify: {name}, heartbeat"),
            classify(&dialect, (*ping).into()),
        ));
    }
    Ok(cases)
}

/// The machine's size with a shared configuration, as in the drivers, and with a configuration of its own.
pub(crate) fn sizes() -> String {
    let shared = size_of::<Heartbeat<Arc<Config>, Shared>>();
    let own = size_of::<Heartbeat<Config, JsonType>>();
    format!("{shared} with a shared configuration, {own} with its own")
}

/// The machine as in the drivers, with shared configuration and dialect. Time advances by `nanos` at each
/// step.
fn step(nanos: u64, event: impl Fn(&'static [u8]) -> Event<'static> + 'static) -> Case {
    let dialect: Shared = Arc::new(JsonType);
    let mut now = 1_000_000_000;
    let start = Instant::from_nanos(now);
    let mut machine = Heartbeat::accepted(Arc::new(Config::default()), dialect, 7, start);
    Box::new(move |count| {
        for _ in 0..count {
            now = black_box(now + nanos);
            let step = machine.step(Instant::from_nanos(now), event(black_box(b"12345678")));
            black_box(&step);
        }
    })
}

fn classify(dialect: &Shared, text: String) -> Case {
    let dialect = Arc::clone(dialect);
    Box::new(move |count| {
        for _ in 0..count {
            black_box(dialect.classify_text(black_box(&text)));
        }
    })
}
