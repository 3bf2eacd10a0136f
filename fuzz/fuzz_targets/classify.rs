//! What a message is: every dialect of the catalogue, or any description, against a plain evaluation of
//! the same rules. A description stands before the message, with a zero byte between them.
#![no_main]

#[path = "../../heartbeat-core/tests/plain/mod.rs"]
#[allow(dead_code)]
mod plain;

use std::sync::LazyLock;

use heartbeat_core::{Description, Dialect, catalogue};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

static CATALOGUE: LazyLock<Vec<(String, Description, Value)>> = LazyLock::new(|| {
    let subject = |entry: heartbeat_core::CatalogueEntry| {
        let source = source(&entry.dialect);
        (entry.name, entry.dialect, source)
    };
    catalogue().map(subject).collect()
});

fn source(description: &Description) -> Value {
    serde_json::from_str(description.as_json()).expect("its own source")
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Some((description, message)) = text.split_once('\0')
        && let Ok(described) = Description::from_json(description)
    {
        plain::agree(description, &described, &source(&described), message);
        let _ = described.classify_binary(message.as_bytes());
        return;
    }
    for (name, dialect, source) in CATALOGUE.iter() {
        plain::agree(name, dialect, source, text);
        let _ = dialect.classify_binary(data);
    }
});
