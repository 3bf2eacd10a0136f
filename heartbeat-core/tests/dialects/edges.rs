//! Where a rule of descriptions begins and ends: for each a value on this side and one on that side.

use std::time::Duration;

use heartbeat_core::{
    Buffer, Class, Config, Description, Dialect, Lint, Outgoing, Ping, Reply, RetryPolicy, Values,
    Variables, lint_limit,
};

fn load(json: &str) -> Description {
    Description::from_json(json).unwrap_or_else(|error| panic!("{json}: {error}"))
}

/// A description of these rules.
fn rules(rules: &str) -> Description {
    load(&format!(r#"{{"rules": [{rules}]}}"#))
}

/// What the text is: a beat, a pong, data, or a ping and its answer.
fn told(dialect: &Description, text: &str) -> String {
    match dialect.classify_text(text) {
        Class::Data => "data".into(),
        Class::Beat => "beat".into(),
        Class::Pong => "pong".into(),
        Class::Ping(Reply::Template(draft)) => {
            let values = Values {
                unix_ms: 0,
                variables: &Variables::new(),
            };
            match dialect.render(&draft, &values, &mut Buffer::default()) {
                Some(Outgoing::Text(text)) => text.into(),
                other => panic!("{other:?}"),
            }
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_kind_of_json_value_is_told_from_the_others() {
    let values = [
        ("string", r#""x""#),
        ("number", "-1.5"),
        ("bool", "true"),
        ("bool", "false"),
        ("null", "null"),
        ("array", "[1]"),
        ("object", r#"{"b":1}"#),
    ];
    for (kind, _) in values {
        let dialect = rules(&format!(
            r#"{{"json": {{"/a": {{"is": "{kind}"}}}}, "beat": true}}"#
        ));
        for (other, value) in values {
            let expected = if other == kind { "beat" } else { "data" };
            let text = format!(r#"{{"a":{value}}}"#);
            assert_eq!(told(&dialect, &text), expected, "{text} for {kind}");
        }
    }
}

/// Rules, a text, and what it is.
const RULES: &[(&str, &str, &str)] = &[
    // Digits are one or more, and nothing else.
    (
        r#"{"prefix": "P", "rest": "digits", "reply": "Q${rest}"}"#,
        "P17",
        "Q17",
    ),
    (
        r#"{"prefix": "P", "rest": "digits", "beat": true}"#,
        "P",
        "data",
    ),
    (
        r#"{"prefix": "P", "rest": "digits", "beat": true}"#,
        "P1x",
        "data",
    ),
    // Whole numbers of any sign and size.
    (
        r#"{"json": {"/a": -1}, "beat": true}"#,
        r#"{"a":-1}"#,
        "beat",
    ),
    (
        r#"{"json": {"/a": 18446744073709551615}, "beat": true}"#,
        r#"{"a":18446744073709551615}"#,
        "beat",
    ),
    // Behind a prefix the JSON is another one than without; behind the same prefix it is the same.
    (
        r#"{"json": {"/a": 1}, "beat": true}, {"prefix": "0", "json": {"/a": 1}, "pong": true}"#,
        r#"0{"a":1}"#,
        "pong",
    ),
    (
        r#"{"json": {"/a": 1}, "beat": true}, {"json": {"/a": 2}, "pong": true}"#,
        r#"{"a":2}"#,
        "pong",
    ),
    // An escape is what it stands for, and not what it looks like.
    (
        r#"{"json": {"/a\\~1b": 1}, "beat": true}, {"json": {"/c": "d\\/e"}, "beat": true}"#,
        r#"{"a\/b":1,"c":"d\/e"}"#,
        "data",
    ),
    // `${rest}` needs a prefix, and JSON may follow it.
    (
        r#"{"prefix": "0", "json": {"/a": 1}, "reply": "${rest}"}"#,
        r#"0{"a":1}"#,
        r#"{"a":1}"#,
    ),
    // What a reply repeats must be there, even if the rule wants that it is not.
    (
        r#"{"json": {"/a": 1, "/b": {"exists": false}}, "reply": "${/b}"}"#,
        r#"{"a":1}"#,
        "data",
    ),
];

#[test]
fn each_rule_takes_what_it_says_and_no_more() {
    for (described, text, expected) in RULES {
        assert_eq!(
            told(&rules(described), text),
            *expected,
            "{described}: {text}"
        );
    }
}

/// A key or a string can be written with the escapes that JSON has for it.
#[test]
fn what_is_written_with_escapes_is_found_wherever_it_stands() {
    for (rule, texts) in [
        (
            r#"{"json": {"/a~1path": 1}, "beat": true}"#,
            &[
                r#"{"a\/path":1}"#,
                r#"{"a/path":1}"#,
                r#"{"a\u002fpath":1}"#,
            ][..],
        ),
        (
            r#"{"json": {"/long\"quoted": 1}, "beat": true}"#,
            &[r#"{"long\"quoted":1}"#, r#"{"long\u0022quoted":1}"#],
        ),
        (
            r#"{"json": {"/back\\slashed": 1}, "beat": true}"#,
            &[r#"{"back\\slashed":1}"#, r#"{"back\u005cslashed":1}"#],
        ),
        (
            r#"{"json": {"/a": "two\nlines"}, "beat": true}"#,
            &[r#"{"a":"two\nlines"}"#, r#"{"a":"two\u000alines"}"#],
        ),
        (
            r#"{"json": {"/a": "\"quoted\""}, "beat": true}"#,
            &[r#"{"a":"\"quoted\""}"#],
        ),
        // No piece is long enough to be looked for.
        (
            r#"{"json": {"/a": "/\\/"}, "beat": true}"#,
            &[r#"{"a":"/\\/"}"#, r#"{"a":"\/\\\/"}"#],
        ),
        (
            r#"{"json": {"/0/1": {"exists": true}}, "beat": true}"#,
            &["[[0,1]]", r#"{"0":{"1":1}}"#],
        ),
        (
            r#"{"json": {"/é": "ü"}, "beat": true}"#,
            &[r#"{"é":"ü"}"#, r#"{"\u00e9":"\u00fc"}"#],
        ),
        // The value of a shared key: any rule's.
        (
            r#"{"json": {"/op": 1}, "beat": true}, {"json": {"/op": 10}, "beat": true}, {"json": {"/op": null}, "beat": true}"#,
            &[r#"{"op":1}"#, r#"{"op" : 10}"#, "{\"op\"\n:\tnull}"],
        ),
        (
            r#"{"json": {"/a/op": 1}, "beat": true}, {"json": {"/op/a": 2}, "beat": true}"#,
            &[r#"{"a":{"op":1}}"#, r#"{"op":{"a":2}}"#],
        ),
    ] {
        for text in texts {
            assert_eq!(told(&rules(rule), text), "beat", "{rule}: {text}");
        }
    }
}

#[test]
fn a_record_of_backslashes_is_found_behind_a_separator_of_backslashes() {
    let dialect = load(r#"{"separator": "\\\\", "rules": [{"text": "\\", "reply": "pong"}]}"#);
    let Class::Composite(carried) = dialect.classify_text(r"data\\\\\") else {
        panic!("data and a ping");
    };
    assert!(carried.data && carried.reply.is_some());
}

#[test]
fn a_reply_repeats_four_values_at_most() {
    let reply = |count: usize| {
        let captures: String = (0..count).map(|n| format!("${{/{n}}}")).collect();
        format!(r#"{{"rules": [{{"json": {{"/0": 1}}, "reply": "{captures}"}}]}}"#)
    };
    assert_eq!(told(&load(&reply(4)), "[1,2,3,4]"), "1234");
    let refused = Description::from_json(&reply(5)).expect_err("one too many");
    assert_eq!(
        refused.to_string(),
        "`rules[0].reply` has 5 captured values: at most 4 are allowed"
    );
}

#[test]
fn a_description_has_65536_bytes_at_most_as_it_came_and_in_its_shortest_form() {
    let longest = 65_536;
    let text = format!("{{}}{}", " ".repeat(longest - 2));
    assert_eq!(load(&text), load("{}"));
    assert!(Description::from_json(&format!("{text} ")).is_err());

    // A control character is one byte of a template and six of JSON; the last four replies fill the rest.
    let of_len = |len: usize| {
        let with = |fill: usize| {
            let reply = |n: usize| match n {
                0..10 => "\u{1}".repeat(1024),
                10 => "x".repeat(fill / 4 + fill % 4),
                _ => "x".repeat(fill / 4),
            };
            let rule = |n: usize| serde_json::json!({"text": format!("{n}"), "reply": reply(n)});
            serde_json::json!({"rules": (0..14).map(rule).collect::<Vec<_>>()})
        };
        let value = with(len - with(0).to_string().len());
        assert_eq!(value.to_string().len(), len);
        value
    };
    assert!(Description::from_value(&of_len(longest)).is_ok());
    for len in [longest + 1, longest + 2] {
        let refused = Description::from_value(&of_len(len)).expect_err("too long");
        assert_eq!(
            refused.to_string(),
            format!("`dialect` has {len} bytes: at most 65536 are allowed")
        );
    }
}

#[test]
fn a_tracked_value_begins_as_its_own_initial_and_is_not_the_applications_to_set() {
    let dialect = load(
        r#"{"on_open": ["${seq} ${turn}", "${token}"], "variables": ["token"],
            "track": {"seq": {"path": "/s", "initial": "null"}, "turn": {"path": "/t", "initial": "1"}}}"#,
    );
    let draft = dialect.greeting(0).expect("a greeting");
    let values = Values {
        unix_ms: 0,
        variables: &Variables::new(),
    };
    let mut buffer = Buffer::default();
    let sent = dialect.render(&draft, &values, &mut buffer);
    assert_eq!(sent, Some(Outgoing::Text("null 1")));
    assert_eq!(dialect.variables().collect::<Vec<_>>(), ["token"]);
}

#[test]
fn a_service_that_says_when_to_ask_is_asked_then_even_if_silence_is_judged_soon_after() {
    let secs = Duration::from_secs;
    let times = |json: &str| {
        let config = load(json).configure(&Config::default()).unwrap();
        (config.ping(), config.idle_timeout())
    };
    assert_eq!(
        times(r#"{"ping": {"frame": true, "every": "20s"}, "idle_timeout": "30s"}"#),
        (Ping::Every(secs(20)), secs(30))
    );
    // The configuration's own schedule is of no use in so short a silence.
    assert_eq!(
        times(r#"{"idle_timeout": "30s"}"#),
        (Ping::AfterSilence(secs(15)), secs(30))
    );
}

#[test]
fn a_time_of_the_base_that_contradicts_the_services_is_an_error_that_names_both() {
    let base = |json: &str| Config::from_json(json).expect("a base");
    let refused = |dialect: &str, with: &str| {
        let refused = load(dialect).configure(&base(with));
        refused.expect_err("a contradiction").to_string()
    };
    assert_eq!(
        refused(
            r#"{"ping": {"text": "p", "every": "20s", "pong_timeout": "3s"}, "idle_timeout": "45s"}"#,
            r#"{"pong_timeout_floor": "5s"}"#
        ),
        "`pong_timeout_floor` is 5s: it must not be longer than `pong_timeout`, which is 3s"
    );
    assert_eq!(
        refused(
            r#"{"ping": {"text": "p", "every": "20s"}}"#,
            r#"{"idle_timeout": "15s", "ping": {"after_silence": "5s"}}"#
        ),
        "`ping` is 20s: it must be shorter than `idle_timeout`, which is 15s"
    );
    assert_eq!(
        refused(
            r#"{"idle_timeout": "30s"}"#,
            r#"{"ping": {"every": "40s"}}"#
        ),
        "`ping` is 40s: it must be shorter than `idle_timeout`, which is 30s"
    );
    // What nobody has said gives way: the default's 90 s, and its ping after 30 s of silence.
    let configured = load(r#"{"ping": {"text": "p", "every": "99s"}}"#).configure(&base("{}"));
    assert_eq!(configured.unwrap().idle_timeout(), Duration::from_secs(297));
    // And what does not contradict is kept.
    let configured = load(r#"{"ping": {"text": "p", "every": "20s", "pong_timeout": "5s"}}"#)
        .configure(&base(
            r#"{"pong_timeout_floor": "5s", "idle_timeout": "21s", "ping": {"every": "1s"}}"#,
        ))
        .unwrap();
    let secs = Duration::from_secs;
    assert_eq!(configured.ping(), Ping::Every(secs(20)));
    assert_eq!(configured.idle_timeout(), secs(21));
    assert_eq!(configured.pong_timeout_floor(), Some(secs(5)));
}

#[test]
fn what_is_tracked_is_kept_when_a_message_is_cut() {
    let dialect = load(r#"{"track": {"seq": {"path": "/s"}}}"#);
    let mut variables = Variables::new();
    dialect.track(r#"{"s":5}"#, &mut variables);
    for invalid in [r#"{"s":999,"cut"#, r#"{"s":999}x"#, r#"[{"s":999}"#, ""] {
        dialect.track(invalid, &mut variables);
        assert_eq!(variables["seq"], "5", "{invalid}");
    }
    dialect.track(r#"{"s":6}"#, &mut variables);
    assert_eq!(variables["seq"], "6");
}

#[test]
fn a_time_that_is_announced_as_zero_is_none_whatever_is_added_to_it() {
    let dialect = rules(
        r#"{"json": {"/v": 1}, "hello": {"idle_timeout": {"s": ["/a", "/b"], "plus": "10s"}}}"#,
    );
    let idle = |text: &str| match dialect.classify_text(text) {
        Class::Composite(carried) => carried.hello.idle_timeout,
        Class::Data => None,
        other => panic!("{other:?}"),
    };
    assert_eq!(idle(r#"{"v":1,"a":0,"b":0}"#), None);
    assert_eq!(idle(r#"{"v":1,"a":-0.0,"b":0e9}"#), None);
    assert_eq!(
        idle(r#"{"v":1,"a":0,"b":1}"#),
        Some(Duration::from_secs(11))
    );
}

#[test]
fn a_close_code_or_a_range_of_them_asks_for_what_it_says() {
    let dialect = load(
        r#"{"close_codes": {"4004": "never", "4100-4199": "refresh", "4999-4999": "backoff"}}"#,
    );
    for (code, verdict) in [
        (4003, None),
        (4004, Some(RetryPolicy::Never)),
        (4099, None),
        (4100, Some(RetryPolicy::Refresh)),
        (4199, Some(RetryPolicy::Refresh)),
        (4200, None),
        (4999, Some(RetryPolicy::Backoff)),
    ] {
        assert_eq!(dialect.close_policy(code), verdict, "{code}");
    }
}

#[test]
fn a_ping_belongs_into_half_of_a_limit_and_into_the_limit_at_least() {
    let limit = Duration::from_millis(60_000);
    for (period, expected) in [
        (30_000, "fits"),
        (30_001, "no margin"),
        (59_999, "no margin"),
        (60_000, "too late"),
        (60_001, "too late"),
    ] {
        let config = Config::builder()
            .ping(Ping::Every(Duration::from_millis(period)))
            .build()
            .expect("a configuration");
        let told = match lint_limit(&config, "nginx", limit) {
            None => "fits",
            Some(Lint::NoMargin { .. }) => "no margin",
            Some(Lint::TooLate { .. }) => "too late",
            Some(other) => panic!("{other}"),
        };
        assert_eq!(told, expected, "a ping every {period} ms");
    }
}
