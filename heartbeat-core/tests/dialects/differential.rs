//! Every dialect of the catalogue against a plain evaluation of the same rules on a parsed
//! `serde_json::Value`: no filter, no slices, nothing clever.

use std::sync::LazyLock;

use heartbeat_core::{Buffer, Class, Description, Dialect, Reply, Values, Variables, catalogue};
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
        serde_json::from_str(include_str!("../data/vectors.json")).expect("vectors");
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

fn agree(text: &str) {
    for subject in SUBJECTS.iter() {
        crate::plain::agree(&subject.name, &subject.description, &subject.source, text);
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
        let Class::Ping(Reply::Template(draft)) = dialect.classify_text(&text) else {
            panic!("{text}");
        };
        let values = Values {
            unix_ms: 0,
            variables: &Variables::new(),
        };
        let mut buffer = Buffer::default();
        dialect.render(&draft, &values, &mut buffer);
        assert_eq!(buffer.text, format!("{{\"pong\":{number}}}"));
    }
}

#[test]
fn depth_and_size_cost_bounded_stack_and_end() {
    let deep = |open: &str, len: usize| {
        let mut text = String::from(r#"{"type":"ping","op":1,"method":"heartbeat","a":"#);
        while text.len() + open.len() <= len {
            text.push_str(open);
        }
        text
    };
    let work = move || {
        for subject in SUBJECTS.iter() {
            for open in ["[", "{\"a\":", "[{\"a\":"] {
                // As long as any rule looks at.
                let text = deep(open, Description::DEFAULT_MAX_LEN);
                assert!(
                    subject
                        .description
                        .classify_text(&text)
                        .is_for_application()
                );
            }
        }
        let longest = r#"{"rules": [{"json": {"/a/a/a": {"exists": true}}, "beat": true}], "max_len": 65535}"#;
        let longest = Description::from_json(longest).unwrap();
        assert_eq!(longest.classify_text(&deep("{\"a\":", 65_535)), Class::Data);
        // What is tracked is looked for in messages of any size.
        let discord = Description::named("discord").unwrap();
        let mut tracked = Variables::new();
        for text in [deep("[", 1 << 20), deep("{\"s\":", 1 << 20)] {
            discord.track(&text, &mut tracked);
        }
        assert_eq!(tracked, Variables::new(), "not JSON");
    };
    let thread = std::thread::Builder::new().stack_size(128 << 10);
    thread.spawn(work).unwrap().join().unwrap();
}

#[test]
fn telling_data_and_heartbeats_allocates_nothing() {
    let trade =
        r#"{"e":"trade","E":1672515782136,"s":"BNBBTC","p":"612.4","q":"100.0","m":true,"n":null}"#;
    let texts = [
        trade,
        "ping",
        "",
        r#"{"type":"ping"}"#,
        r#"{"ping":18446744073709551615}"#,
        r#"{"op":11}"#,
        r#"{"type":"ping","data":{"a":[[{"b":[1,{"c":{"d":[[[]]]}}]}]],"e":"\u0070"}}"#,
        r#"[[[[{"op":"ping"}]]],{"method":"heartbeat","params":[{}]}]"#,
    ];
    for subject in SUBJECTS.iter() {
        let count = allocation_counter::measure(|| {
            for text in texts {
                std::hint::black_box(&subject.description.classify_text(text));
            }
            std::hint::black_box(&subject.description.classify_binary(b"data"));
        });
        assert_eq!(count.count_total, 0, "{}", subject.name);
    }
}

/// A description of a few rules about the same few keys, some of which JSON writes in more than one way.
fn described() -> impl Strategy<Value = Value> {
    let path = prop::sample::select(vec![
        "/a",
        "/op",
        "/op/a",
        "/a/op",
        "/opcode",
        "/0",
        "/1/op",
        "/~1x~1path",
        "/quo\"ted",
        "/back\\slash",
        "/\n\t",
        "/é",
        "/",
    ]);
    let test = prop::sample::select(
        [
            r#""ping""#,
            r#""pong""#,
            r#""pusher:ping""#,
            r#""pusher:pong""#,
            r#""/\\/""#,
            r#""a/b\nc\"d\\e""#,
            r#""""#,
            "1",
            "10",
            "null",
            r#"{"exists": true}"#,
            r#"{"exists": false}"#,
            r#"{"is": "string"}"#,
        ]
        .map(|test| serde_json::from_str::<Value>(test).expect(test))
        .to_vec(),
    );
    let rule = prop::collection::btree_map(path, test, 1..3)
        .prop_map(|conditions| serde_json::json!({"json": conditions, "beat": true}));
    let other = prop::sample::select(vec![
        serde_json::json!({"text": "\\", "reply": "b"}),
        serde_json::json!({"prefix": "[", "rest": "digits", "pong": true}),
    ]);
    let separator = prop::sample::select(vec![None, None, Some("\\\\"), Some("\n"), Some("|")]);
    let rules = (prop::collection::vec(rule, 1..7), prop::option::of(other));
    (rules, separator)
        .prop_map(|((mut rules, other), separator)| {
            rules.extend(other);
            match separator {
                None => serde_json::json!({ "rules": rules }),
                Some(separator) => serde_json::json!({"rules": rules, "separator": separator}),
            }
        })
        .prop_flat_map(|described| {
            let has_separator = described.get("separator").is_some();
            (
                Just(described),
                any::<bool>().prop_map(move |batch| batch && !has_separator),
            )
        })
        .prop_map(|(mut described, batch)| {
            if batch {
                described["batch"] = true.into();
            }
            described
        })
}

/// A text that a rule matches, or nearly.
fn meant_for(rule: &Value) -> String {
    let Some(conditions) = rule["json"].as_object() else {
        return rule["text"].as_str().unwrap_or("[1").into();
    };
    let mut message = Value::Null;
    for (path, test) in conditions {
        let value = match test {
            Value::Object(test) if test.get("exists") == Some(&Value::Bool(false)) => continue,
            Value::Object(_) => "x".into(),
            value => value.clone(),
        };
        let mut place = &mut message;
        for step in path[1..].split('/') {
            if !place.is_object() {
                *place = serde_json::json!({});
            }
            place = &mut place[step.replace("~1", "/")];
        }
        *place = value;
    }
    message.to_string()
}

proptest! {
    #[test]
    fn a_message_is_told_alike_by_any_description(
        source in described(), at in any::<prop::sample::Index>(), before in prop::option::of("[a-z]"),
        slash in any::<bool>(), changes in prop::collection::vec(change(), 0..3)
    ) {
        // What is unreachable is refused.
        let Ok(description) = Description::from_value(&source) else { return Ok(()) };
        let rules = source["rules"].as_array().expect("rules");
        let mut text = meant_for(at.get(rules));
        if slash {
            text = text.replace('/', "\\/");
        }
        for change in &changes {
            text = changed(&text, change);
        }
        if let (Some(before), Some(separator)) = (before, source["separator"].as_str()) {
            text = before + separator + &text;
        }
        crate::plain::agree(&source.to_string(), &description, &source, &text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

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
