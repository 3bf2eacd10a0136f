//! Loading a dialect's description: what is valid, what is refused, and in which words.

use heartbeat_core::{
    Buffer, Class, Description, Dialect, JsonType, Outgoing, Reply, Values, Variables,
};
use proptest::prelude::*;

fn load(text: &str) -> Description {
    Description::from_json(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// What a class is, in a word, and the reply if it is a ping.
fn told(dialect: &dyn Dialect, text: &str) -> String {
    match dialect.classify_text(text) {
        Class::Ping(reply) => format!("ping -> {}", written(dialect, reply)),
        Class::Data => "data".into(),
        Class::Beat => "beat".into(),
        Class::Pong => "pong".into(),
        other => format!("{other:?}"),
    }
}

fn written(dialect: &dyn Dialect, reply: Reply<'_>) -> String {
    match reply {
        Reply::Text(text) => text.into(),
        Reply::Template(draft) => {
            let variables = Variables::from([("session".into(), "\"s1\"".into())]);
            let values = Values {
                unix_ms: 1_700_000_000_123,
                variables: &variables,
            };
            let mut buffer = Buffer {
                text: "left over".into(),
                bytes: vec![7],
            };
            match dialect.render(&draft, &values, &mut buffer) {
                Some(Outgoing::Text(text)) => text.into(),
                Some(Outgoing::Binary(bytes)) => format!("{bytes:?}"),
                None => "not known".into(),
            }
        }
        other => format!("{other:?}"),
    }
}

/// A description, and what its refusal says.
const REFUSALS: &[(&str, &str)] = &[
    ("{", "not JSON"),
    ("[]", "`dialect` is []: expected an object"),
    (
        // Of a long value enough is shown to know it again.
        r#"[{"name": "a whole file of the catalogue", "dialect": {"rules": [{"text": "ping", "reply": "pong"}]}}]"#,
        r#"`dialect` is [{"dialect":{"rules":[{"reply":"pong","text":"ping"}]},"name":"a whole file of t…: expected an object"#,
    ),
    (
        r#"{"rules": [{"text": "ping", "reply": {"text": "pong"}}]}"#,
        r#"`rules[0].reply` is {"text":"pong"}: expected a text, or {"bytes": "029106"}"#,
    ),
    (
        r#"{"max_len": 7, "max_len": 7}"#,
        "`max_len` is there twice",
    ),
    (
        r#"{"rules": [{"text": "a", "beat": true, "te\u0078t": "b"}]}"#,
        "`rules[0].text` is there twice",
    ),
    (
        r#"{"rules": [{"json": {"/a": 1, "/a": 2}, "beat": true}]}"#,
        "`rules[0].json/a` is there twice",
    ),
    (
        r#"{"ping": {"text": "{\"ts\":${nwo_ms}}", "every": "20s"}}"#,
        "`ping.text`: the placeholder ${nwo_ms} is nothing that could be filled in",
    ),
    (
        r#"{"variables": ["session"], "on_open": ["${sesion}"]}"#,
        "`on_open[0]`: the placeholder ${sesion} is nothing that could be filled in",
    ),
    (
        r#"{"rules": [{"text": "a", "reply": "${seq}"}]}"#,
        "`rules[0].reply`: the placeholder ${seq} is nothing that could be filled in",
    ),
    (
        r#"{"variables": "session"}"#,
        "`variables` is \"session\": expected an array of names",
    ),
    (
        r#"{"variables": ["a", "a"]}"#,
        "`variables[1]` is \"a\": expected a name",
    ),
    (
        r#"{"variables": ["now_ms"]}"#,
        "`variables[0]` is \"now_ms\": expected a name",
    ),
    (
        r#"{"variables": ["S"]}"#,
        "`variables[0]` is \"S\": expected a name",
    ),
    (
        r#"{"variables": ["seq"], "track": {"seq": {"path": "/s"}}}"#,
        "`variables[0]` is \"seq\": expected a name",
    ),
    (
        r#"{"ping": {"frame": true, "every": "45s"}, "idle_timeout": "45s"}"#,
        "`ping.every` is 45s: it must be shorter than `idle_timeout`, which is 45s",
    ),
    (
        r#"{"ping": {"text": "p", "after_silence": "1m"}, "idle_timeout": "45s"}"#,
        "`ping.after_silence` is 60s: it must be shorter than `idle_timeout`, which is 45s",
    ),
    (
        r#"{"close_codes": {"999": "never"}}"#,
        "`close_codes.999` is 999: expected a code from 1000 to 4999",
    ),
    (
        r#"{"close_codes": {"5000": "never"}}"#,
        "`close_codes.5000` is 5000: expected a code from 1000 to 4999",
    ),
    (
        r#"{"close_codes": {"04004": "never"}}"#,
        "`close_codes.04004` is 04004: expected a code",
    ),
    (
        r#"{"close_codes": {"4000-4010": "never", "4010": "backoff"}}"#,
        "`close_codes.4010` is 4010, which 4000-4010 has too: expected numbers that no other entry has",
    ),
    (
        r#"{"close_codes": {"1008 no pong": "never", "1000-1010 no pong": "backoff"}}"#,
        "`close_codes.1008 no pong` is 1008 no pong, which 1000-1010 has too",
    ),
    (
        r#"{"close_codes": {"4000": {"after": "soon"}}}"#,
        "`close_codes.4000` is {\"after\":\"soon\"}: expected \"backoff\"",
    ),
    (
        r#"{"close_codes": {"4000": {"spread": ["1s"]}}}"#,
        "`close_codes.4000` is {\"spread\":[\"1s\"]}: expected \"backoff\"",
    ),
    (
        r#"{"http_statuses": {"600": "never"}}"#,
        "`http_statuses.600` is 600: expected a status from 100 to 599",
    ),
    (
        r#"{"http_statuses": {"403 banned": "never"}}"#,
        "`http_statuses` is banned: expected a status from 100 to 599",
    ),
    (
        r#"{"limits": {"messages": 5}}"#,
        "`limits.messages` is 5: expected a number and a time of at most 24h, such as \"5/1s\"",
    ),
    (
        r#"{"limits": {"dials": "0/1s"}}"#,
        "`limits.dials` is \"0/1s\": expected a number and a time",
    ),
    (
        r#"{"limits": {"dials": "5/86401s"}}"#,
        "`limits.dials` is \"5/86401s\": expected a number and a time of at most 24h",
    ),
    (
        r#"{"limits": {"dials": "5/second"}}"#,
        "`limits.dials` is \"second\": expected a duration",
    ),
    (
        r#"{"limits": {"dials": []}}"#,
        "`limits.dials` is []: expected one to three rates, such as [\"10/1s\", \"300/1m\"]",
    ),
    (
        r#"{"limits": {"dials": ["1/1s", "2/1s", "3/1s", "4/1s"]}}"#,
        "expected one to three rates",
    ),
    (
        r#"{"limits": {"messages": ["5/1s", 300]}}"#,
        "`limits.messages[1]` is 300: expected a number and a time",
    ),
    (
        r#"{"limits": {"connections": 0}}"#,
        "`limits.connections` is 0: expected a whole number from 1 on",
    ),
    (
        r#"{"limits": {"pings": "1/1s"}}"#,
        "unknown key `limits.pings`; known are messages, dials, connections",
    ),
    (
        r#"{"lifetime": 24}"#,
        "`lifetime` is 24: expected a duration",
    ),
    (r#"{"batch": false}"#, "`batch` is false: expected true"),
    (
        r#"{"batch": true, "separator": "\n"}"#,
        "`batch` is true: expected true, in a description without a separator",
    ),
    (
        r#"{"separator": {"bytes": "0a??"}}"#,
        "`separator.bytes` is \"0a??\": expected one byte in hex, or more",
    ),
    (
        r#"{"separator": {"bytes": ""}}"#,
        "`separator.bytes` is \"\": expected one byte in hex, or more",
    ),
    (
        r#"{"rules": [{"text": "a", "ending": false}]}"#,
        "`rules[0].ending` is false: expected true",
    ),
    (
        r#"{"rules": [{"bytes": "08*", "beat": true}, {"bytes": "0801??", "pong": true}]}"#,
        "`rules[1]` can never match: rules[0] comes first",
    ),
    (
        r#"{"rules": [{"bytes": "*08", "beat": true}]}"#,
        "`rules[0].bytes` is \"*08\": expected bytes in hex",
    ),
    (
        r#"{"rules": [{"bytes": "0801", "reply": {"bytes": "${1..3}"}}]}"#,
        "`rules[0].reply.bytes`: the placeholder ${1..3} is not inside of every message",
    ),
    (
        r#"{"rules": [{"bytes": "0801", "reply": {"bytes": "${2..}"}}]}"#,
        "`rules[0].reply.bytes`: the placeholder ${2..} is not inside of every message",
    ),
    (
        r#"{"rules": [{"bytes": "0801", "reply": {"bytes": "${1..1}"}}]}"#,
        "`rules[0].reply.bytes`: the placeholder ${1..1} is not inside of every message",
    ),
    (
        r#"{"rules": [{"text": "a", "reply": {"bytes": "${0..1}"}}]}"#,
        "`rules[0].reply.bytes`: the placeholder ${0..1} needs a binary message",
    ),
    (
        r#"{"ping": {"bytes": "${now_ms}"}}"#,
        "`ping.bytes`: the placeholder ${now_ms} has no format",
    ),
    (
        r#"{"ping": {"bytes": "${nwo_ms:u64le}"}}"#,
        "`ping.bytes`: the placeholder ${nwo_ms:u64le} is nothing that could be filled in",
    ),
    (
        r#"{"ping": {"bytes": "0${id:u32be}"}}"#,
        "`ping.bytes` is \"0${id:u32be}\": expected bytes in hex",
    ),
    (
        r#"{"ping": {"text": "p", "jitter_percent": 10}}"#,
        "`ping.jitter_percent` is 10: expected a whole number from 0 to 100, in a ping with \"every\"",
    ),
    (
        r#"{"ping": {"text": "p", "every": "9s", "jitter_percent": 101}}"#,
        "`ping.jitter_percent` is 101: expected",
    ),
    (
        r#"{"computed": ["sign"], "variables": ["sign"]}"#,
        "`computed[0]` is \"sign\": expected a name",
    ),
    (
        r#"{"rule": []}"#,
        "unknown key `rule`; known are rules, ping",
    ),
    (
        r#"{"rules": {}}"#,
        "`rules` is {}: expected an array of rules",
    ),
    (r#"{"rules": [1]}"#, "`rules[0]` is 1: expected an object"),
    (
        r#"{"rules": [{"text": "a"}]}"#,
        "`rules[0]` is without an outcome: expected one of \"reply\"",
    ),
    (
        r#"{"rules": [{"beat": true}]}"#,
        "`rules[0]` is several of them or none: expected one of \"text\"",
    ),
    (
        r#"{"rules": [{"text": "a", "bytes": "00", "beat": true}]}"#,
        "`rules[0]` is several of them or none",
    ),
    (
        r#"{"rules": [{"text": "a", "beat": true, "pong": true}]}"#,
        "`rules[0]` is with several outcomes",
    ),
    (
        r#"{"rules": [{"text": "a", "beat": false}]}"#,
        "`rules[0].beat` is false: expected true",
    ),
    (
        r#"{"rules": [{"text": "a", "pong": {"id": "/id"}}]}"#,
        "`rules[0].pong` is {\"id\":\"/id\"}: expected true",
    ),
    (
        r#"{"rules": [{"text": 7, "beat": true}]}"#,
        "`rules[0].text` is 7: expected a string",
    ),
    (
        r#"{"rules": [{"bytes": "0g", "beat": true}]}"#,
        "`rules[0].bytes` is \"0g\": expected bytes in hex",
    ),
    (
        r#"{"rules": [{"bytes": "000", "beat": true}]}"#,
        "`rules[0].bytes` is \"000\": expected bytes in hex",
    ),
    (
        r#"{"rules": [{"prefix": "", "beat": true}]}"#,
        "`rules[0].prefix` is \"\": expected a string that is not empty",
    ),
    (
        r#"{"rules": [{"prefix": "a", "rest": "x", "beat": true}]}"#,
        "`rules[0].rest` is \"x\": expected \"digits\"",
    ),
    (
        r#"{"rules": [{"text": "a", "rest": "digits", "beat": true}]}"#,
        "`rules[0].rest` is \"digits\": expected a rule with \"prefix\" alone",
    ),
    (
        r#"{"rules": [{"json": {}, "beat": true}]}"#,
        "`rules[0].json` is {}: expected an object of conditions",
    ),
    (
        r#"{"rules": [{"json": {"type": "a"}, "beat": true}]}"#,
        "`rules[0].json.type`: \"type\" is no path: a path is a JSON Pointer",
    ),
    (
        r#"{"rules": [{"json": {"/a/b/c/d/e/f": 1}, "beat": true}]}"#,
        "at most five steps",
    ),
    (
        r#"{"rules": [{"json": {"/a": 1.5}, "beat": true}]}"#,
        "`rules[0].json/a` is 1.5: expected a string, a whole number",
    ),
    (
        r#"{"rules": [{"json": {"/a": {"is": "thing"}}, "beat": true}]}"#,
        "`rules[0].json/a.is` is \"thing\": expected \"string\", \"number\"",
    ),
    (
        r#"{"rules": [{"json": {"/a": {"has": 1}}, "beat": true}]}"#,
        "unknown key `rules[0].json/a.has`",
    ),
    (
        r#"{"rules": [{"text": "a", "reply": "${/x}"}]}"#,
        "`rules[0].reply`: the placeholder ${/x} needs a rule with \"json\"",
    ),
    (
        r#"{"rules": [{"text": "a", "reply": "${rest}"}]}"#,
        "${rest} needs a rule with a prefix",
    ),
    (
        r#"{"rules": [{"text": "a", "reply": "${id"}]}"#,
        "${id} has no closing brace",
    ),
    (
        r#"{"rules": [{"text": "a", "reply": "${Id}"}]}"#,
        "${Id} is neither a path nor a name",
    ),
    (
        r#"{"rules": [{"bytes": "00", "reply": "${message}"}]}"#,
        "${message} needs a message to take it from",
    ),
    (
        r#"{"ping": {"text": "${/x}"}}"#,
        "`ping.text`: the placeholder ${/x} needs a message to take it from",
    ),
    (
        r#"{"ping": {"text": "p", "every": "1s", "after_silence": "1s"}}"#,
        "expected one of \"every\"",
    ),
    (
        r#"{"ping": {"text": "p", "every": 1}}"#,
        "`ping.every` is 1: expected a duration",
    ),
    (
        r#"{"ping": {"text": "p", "every": "0s"}}"#,
        "`ping.every` is \"0s\": expected a duration between 1ms",
    ),
    (
        r#"{"ping": {"text": "p", "first": "soon"}}"#,
        "`ping.first` is \"soon\"",
    ),
    (
        r#"{"ping": {"every": "1s"}}"#,
        "expected one of \"text\", \"bytes\" and \"frame\": true",
    ),
    (
        r#"{"ping": "often"}"#,
        "`ping` is \"often\": expected \"never\"",
    ),
    (r#"{"separator": ""}"#, "`separator` is \"\""),
    (
        r#"{"max_len": 65536}"#,
        "`max_len` is 65536: expected a whole number from 1 to 65535",
    ),
    (
        r#"{"track": {"Seq": {"path": "/s"}}}"#,
        "`track.Seq` is {\"path\":\"/s\"}: expected a name",
    ),
    (r#"{"track": {"seq": {}}}"#, "`track.seq.path` is missing"),
    (
        r#"{"rules": [{"text": "a", "hello": {}}]}"#,
        "`rules[0].hello` is {}: expected a rule with \"json\"",
    ),
    (
        r#"{"rules": [{"json": {"/a": 1}, "hello": {"ping": {"m": "/a"}}}]}"#,
        "unknown key `rules[0].hello.ping.m`",
    ),
    (
        r#"{"rules": [{"json": {"/a": 1}, "hello": {}}]}"#,
        "`rules[0].hello` is {}: expected \"ping\" or \"idle_timeout\"",
    ),
    (
        r#"{"rules": [{"prefix": "PI", "beat": true}, {"text": "PING", "reply": "PONG"}]}"#,
        "`rules[1]` can never match: rules[0] comes first",
    ),
    (
        r#"{"rules": [{"json": {"/op": "ping"}, "beat": true}, {"json": {"/op": "ping", "/x": 1}, "pong": true}]}"#,
        "`rules[1]` can never match: rules[0] comes first",
    ),
    (
        r#"{"rules": [{"text": "a", "beat": true}, {"text": "a", "pong": true}]}"#,
        "`rules[1]` can never match: rules[0] comes first",
    ),
    (
        r#"{"rules": [{"bytes": "00", "beat": true}, {"bytes": "00", "pong": true}]}"#,
        "`rules[1]` can never match: rules[0] comes first",
    ),
    (
        r#"{"rules": [{"prefix": "a", "beat": true}, {"prefix": "ab", "rest": "digits", "pong": true}]}"#,
        "`rules[1]` can never match: rules[0] comes first",
    ),
    (
        r#"{"rules": [{"prefix": "a", "beat": true}, {"prefix": "a", "json": {"/b": 1}, "pong": true}]}"#,
        "`rules[1]` can never match: rules[0] comes first",
    ),
    (
        r#"{"max_len": 0}"#,
        "`max_len` is 0: expected a whole number from 1 to 65535",
    ),
    (
        r#"{"rules": [{"text": "a", "reply": {"bytes": "00", "text": "b"}}]}"#,
        "`rules[0].reply` is {\"bytes\":\"00\",\"text\":\"b\"}: expected a text, or",
    ),
    (
        r#"{"rules": [{"json": {"/a": 1}, "reply": "${rest}"}]}"#,
        "`rules[0].reply`: the placeholder ${rest} needs a rule with a prefix",
    ),
    (
        r#"{"rules": [{"json": {"/a": 1}, "hello": {"ping": {"ms": []}}}]}"#,
        "`rules[0].hello.ping.ms` is []: expected a path or an array of paths",
    ),
    (
        r#"{"close_codes": {"4005-4004": "never"}}"#,
        "`close_codes.4005-4004` is 4005-4004: expected a code from 1000 to 4999 or a range of them, and maybe",
    ),
];

#[test]
fn every_refusal_names_the_place_and_the_rule() {
    for (text, words) in REFUSALS {
        let refusal = Description::from_json(text).expect_err(text).to_string();
        assert!(refusal.contains(words), "{text}: {refusal}");
    }
}

#[test]
fn a_description_is_bounded() {
    let rules = |rules: &[String]| format!(r#"{{"rules": [{}]}}"#, rules.join(","));
    let texts = |count: usize| {
        let texts = (0..count).map(|n| format!(r#"{{"text": "{n}", "beat": true}}"#));
        rules(&texts.collect::<Vec<_>>())
    };
    load(&texts(32));
    let refusal = |text: &str| {
        Description::from_json(text)
            .expect_err("too much")
            .to_string()
    };
    assert_eq!(
        refusal(&texts(33)),
        "`rules` has 33 entries: at most 32 are allowed"
    );
    let paths = (0..17).map(|n| format!(r#"{{"json": {{"/p{n}": 1}}, "beat": true}}"#));
    assert!(refusal(&rules(&paths.collect::<Vec<_>>())).contains("at most 16 are allowed"));
    let conditions: Vec<_> = (0..9).map(|n| format!(r#""/p{n}": 1"#)).collect();
    let text = rules(&[format!(
        r#"{{"json": {{{}}}, "beat": true}}"#,
        conditions.join(",")
    )]);
    assert_eq!(
        refusal(&text),
        "`rules[0].json` has 9 conditions: at most 8 are allowed"
    );
    let text = format!(r#"{{"ping": {{"text": "{}"}}}}"#, "x".repeat(1025));
    assert_eq!(
        refusal(&text),
        "`ping.text` has 1025 bytes: at most 1024 are allowed"
    );
    assert!(refusal(&" ".repeat(65_537)).contains("at most 65536 are allowed"));
}

#[test]
fn a_reply_repeats_what_it_captures_to_the_letter() {
    let dialect = load(
        r#"{"rules": [
            {"json": {"/ping": {"exists": true}}, "reply": "{\"pong\":${/ping},\"n\":${/a/0},\"s\":${session}}"},
            {"prefix": "PING", "reply": "PONG${rest}|${message}"},
            {"text": "time", "reply": "$${id} ${id} ${now_ms} ${now_s}"},
            {"text": "who", "reply": "${name}"},
            {"text": "bytes", "reply": {"bytes": "00ff"}},
            {"json": {"/twice": 1}, "reply": "${/a} ${/b} ${/a}"}
        ], "variables": ["session", "name"]}"#,
    );
    for (text, expected) in [
        (
            r#"{"a": [ "\u0041" ], "ping" : 123456789012345678901234567890.10e+1 }"#,
            r#"ping -> {"pong":123456789012345678901234567890.10e+1,"n":"\u0041","s":"s1"}"#,
        ),
        (
            r#"{"a":[{"x": 1}],"ping":"1"}"#,
            r#"ping -> {"pong":"1","n":{"x": 1},"s":"s1"}"#,
        ),
        (r#"{"ping":1}"#, "data"),
        ("PING :x\r\n", "ping -> PONG :x\r\n|PING :x\r\n"),
        ("time", "ping -> ${id} 0 1700000000123 1700000000"),
        ("who", "ping -> not known"),
        ("bytes", "ping -> [0, 255]"),
        // A value that is repeated is the same one each time.
        (r#"{"twice":1,"a":1,"b":2}"#, "ping -> 1 2 1"),
    ] {
        assert_eq!(told(&dialect, text), expected, "{text}");
    }
    assert_eq!(dialect.variables().collect::<Vec<_>>(), ["session", "name"]);
}

#[test]
fn records_are_told_one_by_one() {
    let dialect = load(
        r#"{"separator": "\n", "rules": [{"text": "{}", "reply": "{}"}, {"text": "b", "beat": true}]}"#,
    );
    assert_eq!(told(&dialect, "{}"), "ping -> {}");
    assert_eq!(told(&dialect, "{}\n"), "ping -> {}");
    assert_eq!(told(&dialect, "b\n{}\n"), "ping -> {}");
    assert_eq!(told(&dialect, "b\nb"), "beat");
    assert_eq!(told(&dialect, "x\ny"), "data");
    assert_eq!(told(&dialect, "x\nb"), "data");
    let Class::Composite(both) = dialect.classify_text("x\n{}") else {
        panic!("data and a ping");
    };
    assert!(both.data && both.reply.is_some());
}

#[test]
fn a_text_beyond_the_limit_is_data() {
    let dialect = load(r#"{"max_len": 20, "rules": [{"json": {"/type": "ping"}, "beat": true}]}"#);
    assert_eq!(told(&dialect, r#"{"type":"ping"}     "#), "beat");
    assert_eq!(told(&dialect, r#"{"type":"ping"}      "#), "data");
}

#[test]
fn what_was_read_is_written_and_read_again() {
    let dialect = load(
        r#"{"rules": [{"text": "ping", "reply": "pong"}], "ping": {"text": "ping", "every": "20s"}}"#,
    );
    let text = serde_json::to_string(&dialect).unwrap();
    assert_eq!(serde_json::from_str::<Description>(&text).unwrap(), dialect);
    assert_eq!(load(dialect.as_json()), dialect);
}

const JSON_TYPE: &str =
    r#"{"rules": [{"json": {"/type": "ping"}, "reply": "{\"type\":\"pong\"}"}]}"#;

/// Texts that are nearly pings, or are.
fn near_pings() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec![
        "\"type\"",
        "\"t\\u0079pe\"",
        "\"Type\"",
        "\"x\"",
        "\"\"",
    ]);
    let value = prop::sample::select(vec![
        "\"ping\"",
        "\"\\u0070ing\"",
        "\"pi\\u006eg\"",
        "\"pong\"",
        "null",
        "[\"ping\"]",
        "{\"type\":\"ping\"}",
        "1e5",
        "\"ping",
        "\"a\\\"b\"",
        "ping",
    ]);
    let blank = prop::sample::select(vec!["", " ", "\n\t", "\u{a0}"]);
    let entries = prop::collection::vec((key, value, blank), 0..4);
    (
        entries,
        prop::sample::select(vec!["{}", "[]", "{", "{} ", "{}}", " {}"]),
    )
        .prop_map(|(entries, frame)| {
            let entries: Vec<_> = entries
                .iter()
                .map(|(key, value, blank)| format!("{blank}{key}{blank}:{blank}{value}{blank}"))
                .collect();
            frame.replacen('{', &format!("{{{}", entries.join(",")), 1)
        })
}

/// A description that uses a bit of everything.
const RICH: &str = r#"{"rules":[{"prefix":"0","json":{"/a/b":{"is":"number"}},"reply":"${/a}${id}","hello":{"ping":{"ms":["/a/b"],"inside":"/d","plus":"1s"}}},{"bytes":"00","beat":true}],"variables":["v"],"ping":{"text":"${s}${v}","every":"1s","first":"jittered"},"separator":"x","track":{"s":{"path":"/s","initial":"null"}},"max_len":99}"#;

proptest! {
    #[test]
    fn the_description_of_json_type_is_the_same_as_the_one_compiled_in(text in near_pings()) {
        let described = load(JSON_TYPE);
        prop_assert_eq!(told(&described, &text), told(&JsonType, &text));
    }

    #[test]
    fn the_loader_takes_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Description::from_json(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn the_loader_takes_any_change_of_a_valid_text(
        at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()
    ) {
        let mut bytes = RICH.as_bytes().to_vec();
        load(RICH);
        let at = at.index(bytes.len());
        if cut {
            bytes.remove(at);
        } else {
            bytes[at] = byte;
        }
        if let Ok(dialect) = Description::from_json(&String::from_utf8_lossy(&bytes)) {
            let _ = told(&dialect, "0{\"a\":{\"b\":1},\"d\":\"{\\\"a\\\":{\\\"b\\\":1}}\"}");
        }
    }
}

#[test]
fn what_is_built_in_rust_is_what_the_same_json_says() {
    use heartbeat_core::{First, Limits, Rate, RetryPolicy, Rule};
    let secs = std::time::Duration::from_secs;
    let built = Description::builder()
        .rule(Rule::prefix("0").and("/a", Rule::is("number")).hello(
            "idle_timeout",
            serde_json::json!({"s": "/a", "plus": "10s"}),
        ))
        .rule(Rule::prefix("P").digits().reply("Q${rest}"))
        .rule(Rule::bytes(&[2, 0x91]).reply_bytes(&[3]))
        .rule(Rule::text("hb").beat())
        .rule(Rule::json("/op", 1).and("/x", Rule::absent()).data())
        .rule(Rule::json("/op", "pong").pong())
        .rule(Rule::json("/r", Rule::exists()).pong_with_id("/id"))
        .rule(Rule::json("/op", 10).hello_ping_ms("/d"))
        .ping_text("${id}")
        .every(secs(20))
        .first(First::AtOnce)
        .pong_timeout(secs(5))
        .idle_timeout(secs(60))
        .on_open("${seq}")
        .close_code(4004, RetryPolicy::Never)
        .close_code(4005, RetryPolicy::Refresh)
        .close_code(4006, RetryPolicy::Backoff)
        .separator("\n")
        .track("seq", "/s", Some("null"))
        .track("sn", "/sn", None)
        .max_len(100);
    let json = r#"{
        "rules": [
            {"prefix": "0", "json": {"/a": {"is": "number"}}, "hello": {"idle_timeout": {"s": "/a", "plus": "10s"}}},
            {"prefix": "P", "rest": "digits", "reply": "Q${rest}"},
            {"bytes": "0291", "reply": {"bytes": "03"}},
            {"text": "hb", "beat": true},
            {"json": {"/op": 1, "/x": {"exists": false}}, "data": true},
            {"json": {"/op": "pong"}, "pong": true},
            {"json": {"/r": {"exists": true}}, "pong": {"id": "/id"}},
            {"json": {"/op": 10}, "hello": {"ping": {"ms": "/d"}}}
        ],
        "ping": {"text": "${id}", "every": "20s", "first": "at_once", "pong_timeout": "5s"},
        "idle_timeout": "60s", "on_open": ["${seq}"], "separator": "\n", "max_len": 100,
        "close_codes": {"4004": "never", "4005": "refresh", "4006": "backoff"},
        "track": {"seq": {"path": "/s", "initial": "null"}, "sn": {"path": "/sn"}}
    }"#;
    assert_eq!(
        built.build().expect("what the builder made"),
        Description::from_json(json).expect("a description")
    );

    for (built, json) in [
        (
            Description::builder()
                .ping_bytes(&[9])
                .after_silence(secs(1)),
            r#"{"ping": {"bytes": "09", "after_silence": "1s"}}"#,
        ),
        (
            Description::builder()
                .after_sending(secs(1))
                .first(First::Jittered),
            r#"{"ping": {"frame": true, "after_sending": "1s", "first": "jittered"}}"#,
        ),
        (
            Description::builder().every(secs(1)).first(First::After),
            r#"{"ping": {"frame": true, "every": "1s", "first": "after"}}"#,
        ),
        (
            Description::builder()
                .close_code(4000, RetryPolicy::Spread(secs(1), secs(2)))
                .close_code(1008, RetryPolicy::After(secs(9)))
                .close_reason(1008, "no pong", RetryPolicy::Backoff)
                .http_status(418, RetryPolicy::After(secs(120)))
                .lifetime(secs(86_400))
                .limits({
                    let mut limits = Limits::default();
                    let rate = |most, per| Rate {
                        most,
                        per: secs(per),
                    };
                    limits.messages = Some(rate(5, 1).into());
                    limits.dials = Some([rate(20, 1), rate(600, 60)].into());
                    limits.connections = Some(10);
                    limits
                }),
            r#"{"close_codes": {"4000": {"spread": ["1s", "2s"]}, "1008": {"after": "9s"}, "1008 no pong": "backoff"},
                "http_statuses": {"418": {"after": "120s"}}, "lifetime": "86400s",
                "limits": {"messages": "5/1s", "dials": ["20/1s", "600/60s"], "connections": 10}}"#,
        ),
        (
            Description::builder()
                .rule(Rule::bytes_like("0801??*").reply_bytes_of("0802${3..}"))
                .rule(Rule::json("/code", 20051).ending())
                .ping_bytes_of("08${now_ms:varint}${sign:text}")
                .every(secs(20))
                .jitter_percent(10)
                .binary_separator(&[10])
                .computed("sign"),
            r#"{"rules": [{"bytes": "0801??*", "reply": {"bytes": "0802${3..}"}}, {"json": {"/code": 20051}, "ending": true}],
                "ping": {"bytes": "08${now_ms:varint}${sign:text}", "every": "20s", "jitter_percent": 10},
                "separator": {"bytes": "0a"}, "computed": ["sign"]}"#,
        ),
        (
            Description::builder().batch().variable("v").on_open("${v}"),
            r#"{"batch": true, "variables": ["v"], "on_open": ["${v}"]}"#,
        ),
        (Description::builder(), "{}"),
    ] {
        assert_eq!(
            built.build().unwrap(),
            Description::from_json(json).unwrap()
        );
    }
    let refused = Description::builder()
        .close_code(999, RetryPolicy::Never)
        .build();
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .starts_with("`close_codes.999` is")
    );
}

/// What a description with this much of something comes to: read, or refused with these words.
#[test]
fn each_limit_of_a_description_is_exact_and_named() {
    let rule = |rule: String| format!(r#"{{"rules": [{rule}]}}"#);
    let text = |len: usize| {
        rule(format!(
            r#"{{"text": "{}", "beat": true}}"#,
            "x".repeat(len)
        ))
    };
    let bytes = |len: usize| {
        rule(format!(
            r#"{{"bytes": "{}", "beat": true}}"#,
            "0a".repeat(len)
        ))
    };
    let listed = |count: usize, one: &dyn Fn(usize) -> String| {
        (0..count).map(one).collect::<Vec<_>>().join(", ")
    };
    let rules = |count| {
        rule(listed(count, &|n| {
            format!(r#"{{"text": "{n}", "beat": true}}"#)
        }))
    };
    let conditions = |count| {
        let all = listed(count, &|n| format!(r#""/{n}": 1"#));
        rule(format!(r#"{{"json": {{{all}}}, "beat": true}}"#))
    };
    let greetings = |count| {
        format!(
            r#"{{"on_open": [{}]}}"#,
            listed(count, &|n| format!(r#""{n}""#))
        )
    };
    let codes = |count| {
        let all = listed(count, &|n| format!(r#""{}": "never""#, 4000 + n));
        format!(r#"{{"close_codes": {{{all}}}}}"#)
    };
    let tracks = |count| {
        let all = listed(count, &|n| format!(r#""v{n}": {{"path": "/{n}"}}"#));
        format!(r#"{{"track": {{{all}}}}}"#)
    };
    let template = |len: usize| format!(r#"{{"on_open": ["{}"]}}"#, "x".repeat(len));
    for (make, most, words) in [
        (
            &text as &dyn Fn(usize) -> String,
            256,
            "257 bytes: at most 256",
        ),
        (&bytes, 256, "514 hex digits: at most 512"),
        (&rules, 32, "at most 32"),
        (&conditions, 8, "9 conditions: at most 8"),
        (&greetings, 4, "at most 4"),
        (&codes, 16, "17 entries: at most 16"),
        (&tracks, 4, "5 values: at most 4"),
        (&template, 1024, "1025 bytes: at most 1024"),
    ] {
        let read = Description::from_json(&make(most));
        assert!(read.is_ok(), "{words}: {}", read.unwrap_err());
        let refused = Description::from_json(&make(most + 1)).expect_err(words);
        assert!(refused.to_string().contains(words), "{refused}");
    }
}

fn named(name: &str) -> Description {
    Description::named(name).expect(name)
}

#[test]
fn a_description_says_what_it_sends_on_open_what_it_joins_and_what_it_keeps() {
    assert_eq!(named("twitch-irc").separator(), Some("\r\n"));
    assert_eq!(named("phemex").separator(), None);
    assert!(named("discord").tracks() && !named("phemex").tracks());
    let coinbase = named("coinbase");
    let draft = coinbase.greeting(0).expect("a subscription");
    let values = Values {
        unix_ms: 0,
        variables: &Variables::new(),
    };
    let mut buffer = Buffer::default();
    assert_eq!(
        coinbase.render(&draft, &values, &mut buffer),
        Some(Outgoing::Text(
            r#"{"type":"subscribe","channel":"heartbeats"}"#
        ))
    );
    assert_eq!(coinbase.greeting(1), None);
}

#[test]
fn descriptions_are_equal_if_they_say_the_same_and_show_what_they_say() {
    assert_eq!(named("phemex"), named("phemex"));
    assert_ne!(named("phemex"), named("coinbase"));
    assert!(format!("{:?}", named("phemex")).contains("server.ping"));
}

#[test]
fn what_is_tracked_is_the_last_value_that_is_neither_null_nor_longer_than_256_bytes() {
    let discord = named("discord");
    let mut variables = Variables::new();
    let mut track = |value: &str| {
        discord.track(&format!(r#"{{"op":0,"s":{value}}}"#), &mut variables);
        variables.get("seq").cloned().unwrap_or_default()
    };
    assert_eq!(track("7"), "7");
    assert_eq!(track("null"), "7");
    let longest = "1".repeat(256);
    assert_eq!(track(&longest), longest);
    assert_eq!(track(&"2".repeat(257)), longest);
    assert_eq!(track("8"), "8");
}

#[test]
fn a_binary_message_is_compared_whole() {
    let dialect = Description::from_json(
        r#"{"rules": [{"bytes": "0102", "beat": true}, {"bytes": "01020304", "pong": true}]}"#,
    )
    .expect("a description");
    for (bytes, expected) in [
        (&[1, 2][..], Class::Beat),
        (&[1, 2, 3, 4], Class::Pong),
        (&[1], Class::Data),
        (&[1, 2, 3], Class::Data),
        (&[1, 2, 3, 4, 5], Class::Data),
    ] {
        assert_eq!(dialect.classify_binary(bytes), expected, "{bytes:?}");
    }
}

/// The whole is the application's if one record is, and a hello is heeded in any of them.
#[test]
fn of_joined_records_each_counts() {
    let dialect = Description::from_json(
        r#"{"separator": "\n", "rules": [{"text": "beat", "beat": true}, {"text": "ping", "reply": "pong"},
            {"json": {"/idle": {"is": "number"}}, "hello": {"idle_timeout": {"ms": "/idle"}}}]}"#,
    )
    .expect("a description");
    let carried = |text| match dialect.classify_text(text) {
        Class::Composite(carried) => {
            let idle = carried.hello.idle_timeout;
            (carried.data, carried.reply.is_some(), idle)
        }
        other => panic!("{text:?} is {other:?}"),
    };
    let idle = Some(std::time::Duration::from_secs(30));
    assert_eq!(dialect.classify_text("beat\nbeat\n"), Class::Beat);
    assert_eq!(dialect.classify_text("beat\ndata"), Class::Data);
    assert!(matches!(
        dialect.classify_text("beat\nping"),
        Class::Ping(_)
    ));
    assert_eq!(carried("ping\ndata"), (true, true, None));
    assert_eq!(carried("beat\n{\"idle\":30000}").2, idle);
    assert_eq!(carried("ping\n{\"idle\":30000}"), (true, true, idle));
    assert_eq!(carried("data\n{\"idle\":30000}\nbeat"), (true, false, idle));
}
