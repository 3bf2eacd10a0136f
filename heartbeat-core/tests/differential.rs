//! Every dialect of the catalogue against a plain evaluation of the same rules on a parsed
//! `serde_json::Value`: no filter, no slices, nothing clever.

use std::sync::LazyLock;

use heartbeat_core::{Class, Description, Dialect, Outgoing, Reply, Values, Variables, catalogue};
use proptest::prelude::*;
use serde_json::Value;

struct Subject {
    name: String,
    description: Description,
    source: Value,
}

static SUBJECTS: LazyLock<Vec<Subject>> = LazyLock::new(|| {
    let subject = |entry: heartbeat_core::CatalogueEntry| Subject {
        source: serde_json::from_str(entry.dialect.as_json()).expect("its own source"),
        name: entry.name,
        description: entry.dialect,
    };
    catalogue().map(subject).collect()
});

static MESSAGES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let vectors: Vec<Value> =
        serde_json::from_str(include_str!("data/vectors.json")).expect("vectors");
    let lists = [
        "server_ping",
        "expected_reply",
        "client_ping",
        "server_pong",
        "not_heartbeat",
    ];
    let texts = vectors
        .iter()
        .flat_map(|service| lists.map(|list| service[list].as_array()));
    let texts = texts.flatten().flatten().filter_map(Value::as_str);
    texts
        .map(|text| text.replace("${id}", "7").replace("${now_ms}", "1"))
        .collect()
});

/// What a message is: its kind, and the reply as JSON where it is some.
type Told = (&'static str, Option<Value>);

// ---- the plain evaluation ---------------------------------------------------------------------

fn plain(source: &Value, text: &str) -> Told {
    let Some(separator) = source["separator"].as_str() else {
        return plain_record(source, text);
    };
    let records = text
        .strip_suffix(separator)
        .unwrap_or(text)
        .split(separator);
    let told: Vec<Told> = records.map(|record| plain_record(source, record)).collect();
    if let [only] = &told[..] {
        return only.clone();
    }
    let is_data = told
        .iter()
        .any(|(kind, _)| *kind == "data" || *kind == "response" || kind.ends_with("+data"));
    let reply = told.iter().find_map(|(_, reply)| reply.clone());
    match (is_data, reply) {
        (true, Some(reply)) => ("ping+data", Some(reply)),
        (true, None) => ("data", None),
        (false, Some(reply)) => ("ping", Some(reply)),
        (false, None) => ("beat", None),
    }
}

fn plain_record(source: &Value, text: &str) -> Told {
    if text.len() > 4096 {
        return ("data", None);
    }
    for rule in source["rules"].as_array().into_iter().flatten() {
        if let Some(told) = plain_rule(rule, text) {
            return told;
        }
    }
    ("data", None)
}

fn plain_rule(rule: &Value, text: &str) -> Option<Told> {
    if let Some(exactly) = rule["text"].as_str()
        && exactly != text
    {
        return None;
    }
    if rule.get("bytes").is_some() {
        return None;
    }
    let rest = text.strip_prefix(rule["prefix"].as_str().unwrap_or_default())?;
    if rule["rest"] == "digits" && (rest.is_empty() || !rest.bytes().all(|b| b.is_ascii_digit())) {
        return None;
    }
    let mut message = Value::Null;
    if let Some(conditions) = rule["json"].as_object() {
        message = serde_json::from_str(rest)
            .ok()
            .filter(|message: &Value| message.is_object() || message.is_array())?;
        let holds =
            |(path, wanted): (&String, &Value)| plain_condition(message.pointer(path), wanted);
        if !conditions.iter().all(holds) {
            return None;
        }
    }
    if let Some(id) = rule["pong"]["id"].as_str() {
        message.pointer(id)?;
        return Some(("response", None));
    }
    if let Some(template) = rule["reply"].as_str() {
        let reply = plain_reply(template, &message, text, rest)?;
        return Some(("ping", Some(parsed(&reply))));
    }
    let kinds = [("beat", "beat"), ("pong", "pong")];
    let kind = kinds.iter().find(|(key, _)| rule[*key] == true);
    Some((kind.map_or("data", |(_, kind)| *kind), None))
}

fn plain_condition(found: Option<&Value>, wanted: &Value) -> bool {
    if let Some(exists) = wanted["exists"].as_bool() {
        return found.is_some() == exists;
    }
    match (wanted["is"].as_str(), found) {
        (_, None) => false,
        (Some("string"), Some(found)) => found.is_string(),
        (Some("number"), Some(found)) => found.is_number(),
        (Some("object"), Some(found)) => found.is_object(),
        (Some(other), Some(_)) => panic!("{other}"),
        (None, Some(found)) => found == wanted,
    }
}

fn plain_reply(template: &str, message: &Value, text: &str, rest: &str) -> Option<String> {
    let mut reply = String::new();
    let mut left = template;
    while let Some((literal, after)) = left.split_once("${") {
        let (name, after) = after.split_once('}').expect("closed");
        reply += literal;
        reply += &match name {
            "id" => "0".to_owned(),
            "now_ms" => "1000".to_owned(),
            "seq" => "null".to_owned(),
            "rest" => rest.to_owned(),
            "message" => text.to_owned(),
            path => message.pointer(path)?.to_string(),
        };
        left = after;
    }
    Some(reply + left)
}

/// A reply as JSON, where it is some. The plain evaluation has parsed and written its numbers once
/// more, and `Value` loses a bit of a fraction on that way; the real one goes it, too.
fn parsed(reply: &str) -> Value {
    serde_json::from_str(reply).unwrap_or_else(|_| reply.into())
}

// ---- the real one -----------------------------------------------------------------------------

fn real(dialect: &Description, text: &str) -> Told {
    let written = |reply: Option<Reply<'_>>| {
        let Reply::Draft(draft) = reply? else {
            panic!("{reply:?}");
        };
        let values = Values {
            unix_ms: 1000,
            variables: &Variables::new(),
        };
        match dialect.render(&draft, &values, &mut String::new()) {
            Some(Outgoing::Text(text)) => Some(parsed(&parsed(text).to_string())),
            other => panic!("{other:?}"),
        }
    };
    match dialect.classify_text(text) {
        Class::Data => ("data", None),
        Class::Beat => ("beat", None),
        Class::Pong => ("pong", None),
        Class::Response(_) => ("response", None),
        Class::Ping(reply) => ("ping", written(Some(reply))),
        Class::Carrier(carried) => match (carried.data, carried.reply) {
            (true, None) => ("data", None),
            (true, reply) => ("ping+data", written(reply)),
            (false, Some(reply)) => ("ping", written(Some(reply))),
            (false, None) => ("beat", None),
        },
        other => panic!("{other:?}"),
    }
}

/// JSON's grammar allows numbers of any size and halves of surrogate pairs, and so does a dialect;
/// `Value` holds neither, so that it cannot judge such a text.
fn is_beyond_value(text: &str) -> bool {
    let records = text
        .split(['\n', '\u{1e}'])
        .map(|record| record.trim_start_matches('0'));
    records.into_iter().any(|record| {
        serde_json::from_str::<serde::de::IgnoredAny>(record).is_ok()
            && serde_json::from_str::<Value>(record).is_err()
    })
}

fn agree(text: &str) {
    if is_beyond_value(text) {
        return;
    }
    for subject in SUBJECTS.iter() {
        let (real, plain) = (
            real(&subject.description, text),
            plain(&subject.source, text),
        );
        assert_eq!(real, plain, "{}: {text}", subject.name);
    }
}

// ---- messages ---------------------------------------------------------------------------------

#[derive(Clone, Debug)]
enum Change {
    /// Writes a letter as an escape.
    Escape(prop::sample::Index),
    Insert(prop::sample::Index, &'static str),
    Remove(prop::sample::Index),
    /// Puts the same thing behind itself, or into something else.
    Wrap(&'static str, &'static str),
}

fn change() -> impl Strategy<Value = Change> {
    let piece = prop::sample::select(vec![
        " ",
        "\n",
        "\t",
        "{",
        "}",
        "[",
        "]",
        "\"",
        ":",
        ",",
        "\\",
        "\\u0070",
        "\\/",
        "0",
        "1",
        "-",
        ".5",
        "e3",
        "null",
        "\"type\":\"ping\",",
        "\"op\":1,",
        "\"ping\":1,",
        "{\"op\":\"ping\"}",
        "é",
        "\u{1e}",
        "{}\n",
    ]);
    let wrap = prop::sample::select(vec![
        (" ", "\r\n"),
        ("[", "]"),
        ("{\"data\":", "}"),
        ("0", ""),
        ("{}\n", "\n{}"),
        ("", "\u{1e}"),
        ("\"", "\""),
    ]);
    prop_oneof![
        4 => any::<prop::sample::Index>().prop_map(Change::Escape),
        3 => (any::<prop::sample::Index>(), piece).prop_map(|(at, piece)| Change::Insert(at, piece)),
        1 => any::<prop::sample::Index>().prop_map(Change::Remove),
        1 => wrap.prop_map(|(before, after)| Change::Wrap(before, after)),
    ]
}

fn changed(text: &str, change: &Change) -> String {
    let letters: Vec<char> = text.chars().collect();
    let place = |at: &prop::sample::Index| at.index(letters.len() + 1).min(letters.len());
    let spliced = |at: usize, skip: usize, piece: &str| -> String {
        let end = letters.iter().skip((at + skip).min(letters.len()));
        letters[..at]
            .iter()
            .copied()
            .chain(piece.chars())
            .chain(end.copied())
            .collect()
    };
    match change {
        Change::Escape(at) => match letters.get(place(at)) {
            Some(letter) if letter.is_alphanumeric() || *letter == '/' => {
                spliced(place(at), 1, &format!("\\u{:04x}", u32::from(*letter)))
            }
            Some('"') | Some(_) | None => text.into(),
        },
        Change::Insert(at, piece) => spliced(place(at), 0, piece),
        Change::Remove(at) => spliced(place(at), 1, ""),
        Change::Wrap(before, after) => format!("{before}{text}{after}"),
    }
}

#[test]
fn every_collected_message_is_told_alike_by_every_dialect() {
    for message in MESSAGES.iter() {
        agree(message);
    }
}

#[test]
fn a_number_of_any_size_and_half_a_surrogate_pair_are_json() {
    let dialect = Description::named("htx").unwrap();
    for number in ["1e999", "123456789012345678901234567890", "-0", "1E-400"] {
        let text = format!("{{\"ping\":{number},\"x\":\"\\ud800\"}}");
        let Class::Ping(Reply::Draft(draft)) = dialect.classify_text(&text) else {
            panic!("{text}");
        };
        let values = Values {
            unix_ms: 0,
            variables: &Variables::new(),
        };
        let mut buffer = String::new();
        dialect.render(&draft, &values, &mut buffer);
        assert_eq!(buffer, format!("{{\"pong\":{number}}}"));
    }
}

#[test]
fn telling_data_and_flat_heartbeats_allocates_nothing() {
    let trade =
        r#"{"e":"trade","E":1672515782136,"s":"BNBBTC","p":"612.4","q":"100.0","m":true,"n":null}"#;
    let flat = [
        trade,
        "ping",
        "",
        r#"{"type":"ping"}"#,
        r#"{"ping":18446744073709551615}"#,
        r#"{"op":11}"#,
    ];
    for subject in SUBJECTS.iter() {
        let count = allocation_counter::measure(|| {
            for text in flat {
                std::hint::black_box(&subject.description.classify_text(text));
            }
            std::hint::black_box(&subject.description.classify_binary(b"data"));
        });
        assert_eq!(count.count_total, 0, "{}", subject.name);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn a_changed_message_is_told_alike_by_every_dialect(
        message in any::<prop::sample::Index>(), changes in prop::collection::vec(change(), 1..6)
    ) {
        let mut text = MESSAGES[message.index(MESSAGES.len())].clone();
        for change in &changes {
            text = changed(&text, change);
        }
        agree(&text);
    }
}
