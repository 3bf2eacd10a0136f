//! What a description says besides text heartbeats: verdicts, limits, ends, binary messages, batches.

use std::collections::BTreeSet;
use std::time::Duration;

use heartbeat_core::{
    Action, Buffer, Cause, Class, Composite, Config, ConnId, Description, Dialect, Event,
    Heartbeat, Instant, Outgoing, PingMessage, Rate, Reply, RetryPolicy, TemplateRef, Values,
    Variables,
};

fn load(json: &str) -> Description {
    Description::from_json(json).unwrap_or_else(|error| panic!("{json}: {error}"))
}

fn carried(class: Class<'_>) -> Composite<'_> {
    match class {
        Class::Composite(carried) => carried,
        other => panic!("{other:?}"),
    }
}

const UNIX_MS: u64 = 1_700_000_000_123;

/// What a draft comes out as: a text, or bytes in hex.
fn written(dialect: &Description, mut draft: TemplateRef<'_>, unix_ms: u64, id: u64) -> String {
    draft.id = id;
    let variables = Variables::from([("n".into(), "300".into()), ("sign".into(), "\"x\"".into())]);
    let values = Values {
        unix_ms,
        variables: &variables,
    };
    match dialect.render(&draft, &values, &mut Buffer::default()) {
        Some(Outgoing::Text(text)) => text.into(),
        Some(Outgoing::Binary(bytes)) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        None => "not known".into(),
    }
}

fn asked(ping: &str, unix_ms: u64, id: u64) -> String {
    let dialect = load(&format!(
        r#"{{"ping": {ping}, "variables": ["n", "unset"], "computed": ["sign"]}}"#
    ));
    let draft = dialect.ping().message.expect("a question");
    written(&dialect, draft, unix_ms, id)
}

// ---- verdicts, limits, ends -------------------------------------------------------------------

#[test]
fn close_codes_and_http_statuses_ask_for_what_the_service_means_by_them() {
    let dialect = load(
        r#"{"close_codes": {"1000": "backoff", "1008 no pong": "backoff", "1008": "never", "4000-4009 slow": {"after": "9s"}},
            "http_statuses": {"418": {"after": "2m"}, "500-503": {"spread": ["30s", "5s"]}}}"#,
    );
    let secs = Duration::from_secs;
    assert_eq!(dialect.close_policy(1000), Some(RetryPolicy::Backoff));
    assert_eq!(dialect.close_policy(1008), Some(RetryPolicy::Never));
    assert_eq!(dialect.close_policy(4000), None, "without the words");
    for (code, reason, verdict) in [
        (1008, "closed: no pong", Some(RetryPolicy::Backoff)),
        (1008, "no", Some(RetryPolicy::Never)),
        (1008, "", Some(RetryPolicy::Never)),
        (4009, "too slow", Some(RetryPolicy::After(secs(9)))),
        (4010, "too slow", None),
        (4000, "Slow", None),
    ] {
        let told = dialect.close_policy_with(code, reason);
        assert_eq!(told, verdict, "{code} {reason}");
    }
    assert_eq!(
        dialect.http_policy(418),
        Some(RetryPolicy::After(secs(120)))
    );
    let spread = RetryPolicy::Spread(secs(5), secs(30));
    assert_eq!(dialect.http_policy(500), Some(spread));
    assert_eq!(dialect.http_policy(503), Some(spread));
    for status in [417, 419, 499, 504] {
        assert_eq!(dialect.http_policy(status), None, "{status}");
    }
}

/// The attempt after a dial that was answered so.
fn next_dial(dialect: &Description, config: Config, cause: Cause) -> Option<Duration> {
    let mut machine = Heartbeat::new(config, dialect, 7, Instant::ORIGIN);
    let _ = machine.step(Instant::ORIGIN, Event::Tick);
    let lost = Event::Closed(ConnId::new(1), cause);
    let step = machine.step(Instant::ORIGIN, lost);
    step.actions.iter().find_map(|action| match action {
        Action::ReconnectAt { delay, .. } => Some(*delay),
        _ => None,
    })
}

#[test]
fn a_status_is_heeded_as_the_service_means_it_unless_the_answer_or_the_configuration_says_more() {
    let dialect = load(r#"{"http_statuses": {"403": {"after": "3m"}, "503": "never"}}"#);
    let http = |status, retry_after: Option<u64>| Cause::Http {
        status,
        retry_after: retry_after.map(Duration::from_secs),
    };
    let dial = |cause| next_dial(&dialect, Config::default(), cause);
    assert!(dial(http(403, None)).expect("a dial") >= Duration::from_secs(180));
    assert_eq!(dial(http(503, None)), None, "never again");
    let told = dial(http(503, Some(7))).expect("Retry-After is heeded");
    assert!((7..180).contains(&told.as_secs()), "{told:?}");
    let config = Config::from_json(r#"{"causes": {"http 503": "backoff"}}"#).unwrap();
    assert!(next_dial(&dialect, config, http(503, None)).is_some());
}

#[test]
fn a_lifetime_and_limits_are_what_the_description_says_or_nothing() {
    let dialect = load(
        r#"{"lifetime": "24h", "limits": {"messages": "5/1s", "dials": "300/5m", "connections": 10}}"#,
    );
    let rate = |most, secs| Rate {
        most,
        per: Duration::from_secs(secs),
    };
    let limits = dialect.limits();
    assert_eq!(
        (limits.messages, limits.dials, limits.connections),
        (
            Some(rate(5, 1).into()),
            Some(rate(300, 300).into()),
            Some(10)
        )
    );
    let several =
        load(r#"{"limits": {"messages": ["5/1s"], "dials": ["20/1s", "600/1m", "9000/24h"]}}"#);
    let day = [rate(20, 1), rate(600, 60), rate(9_000, 86_400)];
    assert_eq!(several.limits().messages, limits.messages);
    assert_eq!(several.limits().dials, Some(day.into()));
    assert_eq!(dialect.lifetime(), Some(Duration::from_secs(86_400)));
    let nothing = load("{}");
    assert_eq!(nothing.lifetime(), None);
    assert_eq!(nothing.limits(), heartbeat_core::Limits::default());
}

#[test]
fn an_announced_end_is_told_and_the_application_gets_it_if_it_is_data() {
    let dialect = load(
        r#"{"rules": [{"json": {"/e": "serverShutdown"}, "ending": true},
            {"json": {"/op": "bye"}, "beat": true, "ending": true},
            {"json": {"/op": "last"}, "reply": "yes", "ending": true},
            {"json": {"/op": "hello", "/left": {"is": "number"}}, "hello": {"ping": {"s": "/left"}}, "ending": true},
            {"bytes": "ff*", "beat": true, "ending": true}]}"#,
    );
    let told = |text| {
        let carried = carried(dialect.classify_text(text));
        assert!(carried.ending.is_some(), "{text}");
        (carried.data, carried.reply.is_some(), carried.hello.ping)
    };
    assert_eq!(told(r#"{"e":"serverShutdown","E":1}"#), (true, false, None));
    assert_eq!(told(r#"{"op":"bye"}"#), (false, false, None));
    assert_eq!(told(r#"{"op":"last"}"#), (false, true, None));
    assert!(told(r#"{"op":"hello","left":5}"#).2.is_some());
    assert!(
        carried(dialect.classify_binary(&[0xff, 1]))
            .ending
            .is_some()
    );
    assert_eq!(
        dialect.classify_text(r#"{"e":"serverShutdowns"}"#),
        Class::Data
    );
}

#[test]
fn an_announced_end_says_when_it_comes_as_a_number_or_as_a_duration_of_protobufs() {
    let dialect = load(
        r#"{"rules": [{"json": {"/goAway": {"exists": true}}, "ending": {"s": "/goAway/timeLeft"}},
            {"json": {"/left": {"exists": true}}, "ending": {"ms": "/left"}}]}"#,
    );
    let within = |text| carried(dialect.classify_text(text)).ending;
    for (text, within_ms) in [
        (r#"{"goAway":{"timeLeft":"50s"}}"#, 50_000),
        (r#"{"goAway":{"timeLeft":"3.5s"}}"#, 3_500),
        (r#"{"goAway":{"timeLeft":"50"}}"#, 50_000),
        (r#"{"goAway":{"timeLeft":50}}"#, 50_000),
        (r#"{"left":30000}"#, 30_000),
        // Nothing that is a time: soon.
        (r#"{"goAway":{"timeLeft":"soon"}}"#, 10_000),
        (r#"{"goAway":{"timeLeft":"s"}}"#, 10_000),
        (r#"{"goAway":{"timeLeft":"5ss"}}"#, 10_000),
        (r#"{"goAway":{}}"#, 10_000),
        (r#"{"left":"30s"}"#, 10_000),
    ] {
        assert_eq!(
            within(text),
            Some(Duration::from_millis(within_ms)),
            "{text}"
        );
    }
}

// ---- what is sent -----------------------------------------------------------------------------

#[test]
fn a_moment_is_written_as_rfc_3339_has_it() {
    for (unix_ms, expected) in [
        (0, "1970-01-01T00:00:00.000Z"),
        (UNIX_MS, "2023-11-14T22:13:20.123Z"),
        (951_782_399_999, "2000-02-28T23:59:59.999Z"),
        (951_782_400_000, "2000-02-29T00:00:00.000Z"),
        (951_868_800_000, "2000-03-01T00:00:00.000Z"),
        (1_709_164_800_000, "2024-02-29T00:00:00.000Z"),
        (1_735_689_599_999, "2024-12-31T23:59:59.999Z"),
        (1_735_689_600_000, "2025-01-01T00:00:00.000Z"),
        (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
    ] {
        assert_eq!(asked(r#"{"text": "${now_iso}"}"#, unix_ms, 0), expected);
    }
    assert_eq!(
        asked(r#"{"text": "${now_iso_s} ${now_iso_us}"}"#, UNIX_MS, 0),
        "2023-11-14T22:13:20Z 2023-11-14T22:13:20.123000Z"
    );
    // Whatever the clock says, no panic.
    let _ = asked(r#"{"text": "${now_iso} ${now_ns}"}"#, u64::MAX, u64::MAX);
}

#[test]
fn every_unit_of_time_and_an_id_of_its_own_can_be_asked_for() {
    let ping = r#"{"text": "${now_s} ${now_ms} ${now_us} ${now_ns} ${id}"}"#;
    assert_eq!(
        asked(ping, UNIX_MS, 7),
        "1700000000 1700000000123 1700000000123000 1700000000123000000 7"
    );
    let uuid = |unix_ms, id| asked(r#"{"text": "${uuid}"}"#, unix_ms, id);
    assert_eq!(uuid(UNIX_MS, 7), "018bcfe5-687b-8000-8000-000000000007");
    let many = [0, 1, UNIX_MS, UNIX_MS + 1, 1 << 47]
        .into_iter()
        .flat_map(|ms| [0, 1, u64::from(u32::MAX), 1 << 50].map(|id| uuid(ms, id)));
    let many: Vec<String> = many.collect();
    assert_eq!(many.iter().collect::<BTreeSet<_>>().len(), many.len());
    for uuid in many {
        let places: Vec<usize> = uuid.match_indices('-').map(|(at, _)| at).collect();
        assert_eq!((uuid.len(), &places[..]), (36, &[8, 13, 18, 23][..]));
        assert_eq!(&uuid[14..15], "8", "the version");
        assert!("89ab".contains(&uuid[19..20]), "the variant of {uuid}");
    }
}

#[test]
fn what_the_application_computes_is_listed_apart_from_what_it_sets() {
    let dialect = load(
        r#"{"ping": {"text": "{\"ts\":${now_ms},\"sign\":${sign},\"n\":${n}}", "every": "20s"},
            "variables": ["n"], "computed": ["sign"]}"#,
    );
    assert_eq!(dialect.variables().collect::<Vec<_>>(), ["n"]);
    assert_eq!(dialect.computed().collect::<Vec<_>>(), ["sign"]);
    let draft = dialect.ping().message.expect("a question");
    assert_eq!(
        written(&dialect, draft, 5, 0),
        r#"{"ts":5,"sign":"x","n":300}"#
    );
}

#[test]
fn a_binary_message_is_made_of_constants_numbers_and_variables() {
    for (template, expected) in [
        ("", ""),
        ("0A0b", "0a0b"),
        ("${id:u32be}", "00000007"),
        ("${id:u32le}", "07000000"),
        ("${now_ms:u64be}", "0000018bcfe5687b"),
        ("${now_ms:u64le}ff", "7b68e5cf8b010000ff"),
        ("08${id:varint}10", "080710"),
        ("${now_ms:varint}", "fbd095ffbc31"),
        ("${now_s:text}", "31373030303030303030"),
        ("${n:varint}${n:text}", "ac02333030"),
        ("${sign:text}", "227822"),
        ("${sign:u32be}", "not known"),
        ("00${unset:text}", "not known"),
    ] {
        let ping = format!(r#"{{"bytes": "{template}"}}"#);
        assert_eq!(asked(&ping, UNIX_MS, 7), expected, "{template}");
    }
    assert_eq!(
        asked(r#"{"bytes": "${now_us:u64be}${now_ns:u64be}"}"#, 1, 0),
        "00000000000003e800000000000f4240"
    );
}

#[test]
fn a_value_is_repeated_with_its_quotes_or_without_them_and_from_five_steps_below() {
    let dialect = load(
        r#"{"rules": [{"json": {"/op": "ping"}, "reply": "pong ${/ts:bare} ${/ts} ${/a/b/c/d/e:bare}"}]}"#,
    );
    let told = |text: &str| match dialect.classify_text(text) {
        Class::Ping(Reply::Template(draft)) => written(&dialect, draft, 0, 0),
        other => format!("{other:?}"),
    };
    for (text, expected) in [
        (
            r#"{"op":"ping","ts":"17","a":{"b":{"c":{"d":{"e":1}}}}}"#,
            r#"pong 17 "17" 1"#,
        ),
        (
            r#"{"op":"ping","ts":17,"a":{"b":{"c":{"d":{"e":"x\"y"}}}}}"#,
            r#"pong 17 17 x\"y"#,
        ),
        (
            r#"{"op":"ping","ts":"","a":{"b":{"c":{"d":{"e":[]}}}}}"#,
            r#"pong  "" []"#,
        ),
        (r#"{"op":"ping","ts":17,"a":{"b":{"c":{"d":{}}}}}"#, "Data"),
    ] {
        assert_eq!(told(text), expected, "{text}");
    }
}

#[test]
fn an_announced_time_may_be_a_number_in_quotes() {
    let dialect =
        load(r#"{"rules": [{"json": {"/v": 1}, "hello": {"idle_timeout": {"s": "/s"}}}]}"#);
    for (text, expected) in [
        (r#"{"v":1,"s":"30"}"#, Some(30)),
        (r#"{"v":1,"s":30}"#, Some(30)),
        (r#"{"v":1,"s":"30s"}"#, Some(30)),
        (r#"{"v":1,"s":"30m"}"#, None),
        (r#"{"v":1,"s":"30ms"}"#, None),
        (r#"{"v":1,"s":""}"#, None),
        (r#"{"v":1,"s":true}"#, None),
    ] {
        let told = match dialect.classify_text(text) {
            Class::Composite(carried) => carried.hello.idle_timeout.map(|time| time.as_secs()),
            Class::Data => None,
            other => panic!("{other:?}"),
        };
        assert_eq!(told, expected, "{text}");
    }
}

// ---- binary messages that come in -------------------------------------------------------------

#[test]
fn a_binary_message_is_told_by_position_and_its_values_are_repeated() {
    let dialect = load(
        r#"{"rules": [
            {"bytes": "0801??02", "reply": {"bytes": "0802${2..3}"}},
            {"bytes": "080110*", "reply": {"bytes": "080210${3..}${id:varint}"}},
            {"bytes": "0803", "reply": "text ${id}"},
            {"bytes": "09??*", "beat": true},
            {"bytes": "*", "data": true}
        ], "max_len": 8}"#,
    );
    let told = |bytes: &[u8]| match dialect.classify_binary(bytes) {
        Class::Ping(Reply::Template(draft)) => {
            assert_eq!(draft.message_bytes(), bytes);
            written(&dialect, draft, 0, 300)
        }
        Class::Beat => "beat".into(),
        Class::Data => "data".into(),
        other => panic!("{other:?}"),
    };
    for (bytes, expected) in [
        (&[8, 1, 0x77, 2][..], "080277"),
        (&[8, 1, 0x10, 0xff, 0xfe, 1], "080210fffe01ac02"),
        (&[8, 1, 0x10], "080210ac02"),
        (&[8, 3], "text 300"),
        (&[9, 0], "beat"),
        (&[9, 0xff, 1, 2], "beat"),
        (&[9], "data"),
        (&[8, 1, 0x77], "data"),
        (&[8, 1, 0x77, 3], "data"),
        (&[8, 1, 0x77, 2, 0], "data"),
        (&[], "data"),
        // Eight bytes are looked at, nine are not.
        (&[8, 1, 0x10, 0, 0, 0, 0, 0], "0802100000000000ac02"),
        (&[8, 1, 0x10, 0, 0, 0, 0, 0, 0], "data"),
    ] {
        assert_eq!(told(bytes), expected, "{bytes:?}");
    }
}

#[test]
fn binary_records_are_told_one_by_one() {
    let dialect = load(
        r#"{"separator": {"bytes": "0d0a"}, "rules": [{"bytes": "50", "reply": {"bytes": "51"}}, {"bytes": "62*", "beat": true}]}"#,
    );
    assert_eq!(dialect.binary_separator(), Some(&b"\r\n"[..]));
    assert_eq!(dialect.separator(), None);
    let told = |bytes: &[u8]| match dialect.classify_binary(bytes) {
        Class::Data => (true, false),
        Class::Beat => (false, false),
        Class::Ping(_) => (false, true),
        Class::Composite(carried) => (carried.data, carried.reply.is_some()),
        other => panic!("{other:?}"),
    };
    for (bytes, expected) in [
        (&b"P"[..], (false, true)),
        (b"P\r\n", (false, true)),
        (b"P\r\nP\r\n", (false, true)),
        (b"b1\r\nb2", (false, false)),
        (b"x\r\nP", (true, true)),
        (b"b\r\nx", (true, false)),
        (b"P\n", (true, false)),
        (b"\r\n\r\nP", (true, true)),
        (b"", (true, false)),
    ] {
        assert_eq!(told(bytes), expected, "{bytes:?}");
    }
    let Class::Composite(carried) = dialect.classify_binary(b"x\r\nP\r\ny") else {
        panic!("data and a ping");
    };
    let Some(Reply::Template(draft)) = carried.reply else {
        panic!("an answer");
    };
    assert_eq!(draft.message_bytes(), b"P");
}

// ---- batches ----------------------------------------------------------------------------------

#[test]
fn of_a_batch_the_ping_is_answered_and_the_data_are_handed_on() {
    let dialect = load(
        r#"{"batch": true, "rules": [
            {"json": {"/event": "ping"}, "reply": "{\"event\":\"pong\",\"id\":${/id}}"},
            {"json": {"/event": "pong"}, "pong": true}, {"json": {"/event": "hb"}, "beat": true},
            {"json": {"/0": "whole"}, "beat": true}
        ], "max_len": 60}"#,
    );
    let told = |text: &str| match dialect.classify_text(text) {
        Class::Data => (true, String::new()),
        Class::Beat => (false, "beat".into()),
        Class::Pong => (false, "pong".into()),
        Class::Ping(Reply::Template(draft)) => (false, written(&dialect, draft, 0, 0)),
        Class::Composite(carried) => match carried.reply {
            Some(Reply::Template(draft)) => (carried.data, written(&dialect, draft, 0, 0)),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    let pong = |id: &str| format!(r#"{{"event":"pong","id":{id}}}"#);
    for (text, is_data, reply) in [
        (
            r#"[{"event":"ping","id":1},{"event":"trade"}]"#,
            true,
            pong("1"),
        ),
        (
            r#" [ {"event":"trade"} , {"id":"a","event":"ping"} ] "#,
            true,
            pong("\"a\""),
        ),
        (
            r#"[{"event":"ping","id":1},{"event":"ping","id":2}]"#,
            false,
            pong("1"),
        ),
        (r#"[{"event":"ping","id":1}]"#, false, pong("1")),
        (r#"[{"event":"pong"}]"#, false, "pong".into()),
        (r#"[{"event":"pong"},{"event":"hb"}]"#, false, "beat".into()),
        (r#"{"event":"ping","id":3}"#, false, pong("3")),
        (r#"["whole",{"event":"ping","id":1}]"#, false, "beat".into()),
        // A ping that is no element, or whose array is no JSON; a word is no object.
        (r#"[[{"event":"ping","id":1}]]"#, true, String::new()),
        (r#"{"a":[{"event":"ping","id":1}]}"#, true, String::new()),
        (r#"[{"event":"ping","id":1},]"#, true, String::new()),
        (r#"[{"event":"ping","id":1}"#, true, String::new()),
        (r#"[{"event":"ping","id":1}] x"#, true, String::new()),
        (r#"["ping"]"#, true, String::new()),
        ("[]", true, String::new()),
    ] {
        assert_eq!(told(text), (is_data, reply), "{text}");
    }
    // Each is looked at up to the limit, however long the whole is.
    let trades = format!(r#"{{"event":"trade","p":"{}"}}"#, "1".repeat(100));
    let long = format!(r#"[{trades},{{"event":"ping","id":9}},{trades}]"#);
    assert_eq!(told(&long), (true, pong("9")));
    // And without the key an array is an array.
    let plain = load(r#"{"rules": [{"json": {"/event": "ping"}, "reply": "pong"}]}"#);
    assert_eq!(plain.classify_text(r#"[{"event":"ping"}]"#), Class::Data);
}

// ---- jitter -----------------------------------------------------------------------------------

#[test]
fn with_jitter_no_two_pings_need_be_the_same_time_apart_and_none_is_late() {
    let pings = |jitter: &str, seed| {
        let dialect = load(&format!(
            r#"{{"ping": {{"text": "beat", "every": "20s"{jitter}}}, "idle_timeout": "10m"}}"#
        ));
        let config = dialect.configure(&Config::default()).unwrap();
        let mut machine = Heartbeat::new(config, &dialect, seed, Instant::ORIGIN);
        let _ = machine.step(Instant::ORIGIN, Event::Tick);
        let _ = machine.step(Instant::ORIGIN, Event::Connected(ConnId::new(1)));
        let (mut at, mut gaps) = (Instant::ORIGIN, Vec::new());
        while gaps.len() < 12 {
            let now = machine.wake().expect("a wake-up");
            let step = machine.step(now, Event::Tick);
            let asked = |action: &Action<'_>| {
                matches!(
                    action,
                    Action::SendPing {
                        ping: PingMessage::Template(_),
                        ..
                    }
                )
            };
            let beats = step.actions.iter().any(asked);
            if beats {
                gaps.push(now.saturating_duration_since(at));
                at = now;
            }
        }
        gaps
    };
    let exact = pings("", 7);
    assert!(exact.iter().all(|gap| *gap == Duration::from_secs(20)));
    let jittered = pings(r#", "jitter_percent": 25"#, 7);
    let range = Duration::from_secs(15)..=Duration::from_secs(20);
    assert!(
        jittered.iter().all(|gap| range.contains(gap)),
        "{jittered:?}"
    );
    assert_eq!(jittered.iter().collect::<BTreeSet<_>>().len(), 12);
    assert_ne!(jittered, pings(r#", "jitter_percent": 25"#, 8));
}

#[test]
fn none_of_this_allocates_when_a_message_is_told() {
    let dialect = load(
        r#"{"batch": true, "separator": {"bytes": "0a"}, "rules": [
            {"json": {"/event": "ping"}, "reply": "${/id}"}, {"json": {"/e": "end"}, "ending": true},
            {"bytes": "08??*", "reply": {"bytes": "09${1..}"}}],
            "close_codes": {"1008 no pong": "backoff"}, "http_statuses": {"403": "never"}}"#,
    );
    let count = allocation_counter::measure(|| {
        for text in [
            r#"[{"event":"ping","id":1},{"event":"trade"},{"e":"end"}]"#,
            r#"{"e":"end"}"#,
            r#"[[[[[{"event":"ping"}]]]]]"#,
        ] {
            std::hint::black_box(&dialect.classify_text(text));
        }
        std::hint::black_box(&dialect.classify_binary(b"\x08\x01\x02\x0adata\x0a\x08\x03"));
        std::hint::black_box(&dialect.close_policy_with(1008, "no pong"));
        std::hint::black_box(&dialect.http_policy(403));
    });
    assert_eq!(count.count_total, 0);
}
