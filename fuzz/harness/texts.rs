//! Any text to every dialect of the catalogue, to the loaders of configurations and descriptions, and to
//! the trace reader: an answer or an error, never a panic.

use std::cell::RefCell;

use heartbeat_driver::core::trace::{Header, event_line, read_event};
use heartbeat_driver::core::{AnyDialect, Config, Description, Dialect, catalogue, parse_duration};

thread_local! {
    static DIALECTS: RefCell<Vec<AnyDialect>> = const { RefCell::new(Vec::new()) };
}

pub(crate) fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let _ = parse_duration(text);
    if let Ok(config) = Config::from_json(text) {
        assert_eq!(Config::from_value(&config.to_value()), Ok(config));
    }
    let _ = Description::from_json(text);
    let _ = Header::read(text);
    if let Ok(recorded) = read_event(text) {
        assert_eq!(
            read_event(&event_line(recorded.at, &recorded.event())),
            Ok(recorded)
        );
    }
    DIALECTS.with_borrow_mut(|dialects| {
        if dialects.is_empty() {
            dialects.extend(catalogue().filter_map(|entry| AnyDialect::named(&entry.name)));
        }
        for dialect in dialects {
            let _ = dialect.classify_text(text);
            let _ = dialect.classify_binary(bytes);
        }
    });
}
