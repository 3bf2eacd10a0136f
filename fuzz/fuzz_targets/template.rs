//! What a reply comes out as: any template, a zero byte, any message. Captured values are the message's
//! own bytes, as serde_json finds them; what was JSON with its placeholders is JSON without.
#![no_main]

#[path = "../../heartbeat-core/tests/plain/mod.rs"]
#[allow(dead_code)]
mod plain;

use heartbeat_core::Description;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Some((template, message)) = text.split_once('\0') else {
        return;
    };
    for rule in [
        json!({"json": {"/no such key": {"exists": false}}, "reply": template}),
        json!({"prefix": "~", "json": {"/no such key": {"exists": false}}, "reply": template}),
        json!({"prefix": "P", "reply": template}),
        json!({"text": message.get(..256).unwrap_or(message), "reply": template}),
    ] {
        let source = json!({"rules": [rule], "variables": ["session", "v"]});
        let Ok(dialect) = Description::from_value(&source) else {
            continue;
        };
        plain::agree(template, &dialect, &source, message);
        let (kind, reply) = plain::real(&dialect, &source, message);
        let is_json = |filler| {
            let filled = filled(template, filler);
            filled.is_some_and(|filled| serde_json::from_str::<Value>(&filled).is_ok())
        };
        // Not inside of strings, nor as keys, nor in place of what need not be JSON.
        let has_values_only = !template.contains("${message}") && !template.contains("${rest}");
        if kind == "ping" && has_values_only && is_json("\"p\"") && is_json("0") {
            let reply = reply.expect("a text");
            let parsed = serde_json::from_str::<serde::de::IgnoredAny>(&reply);
            assert!(parsed.is_ok(), "{template} came out as {reply}");
        }
    }
});

/// The template with this in place of each placeholder; `None` if it escapes one.
fn filled(template: &str, filler: &str) -> Option<String> {
    let (mut filled, mut left) = (String::new(), template);
    while let Some((literal, after)) = left.split_once("${") {
        if literal.ends_with('$') {
            return None;
        }
        filled = filled + literal + filler;
        left = after.split_once('}')?.1;
    }
    Some(filled + left)
}
