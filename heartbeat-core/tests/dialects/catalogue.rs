//! Every dialect of the catalogue against what was collected about its service: real messages, the
//! answers they want, and what only looks like a heartbeat.

use std::collections::{BTreeMap, BTreeSet};

use heartbeat_core::{
    Buffer, CatalogueEntry, Class, Description, Dialect, Lint, Outgoing, Reply, TemplateRef,
    Values, Variables, catalogue,
};
use serde::Deserialize;

/// What was collected about one service. Messages are texts, or `hex:` and bytes, or `frame:ping:`
/// and `frame:pong:` and a payload. Placeholders stand for what differs each time.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Vectors {
    /// The catalogue's name for it; `None`: not in the catalogue, for a reason that `DIALECTS.md` gives.
    dialect: Option<String>,
    service: String,
    #[serde(default)]
    server_ping: Vec<String>,
    /// `None`: must not be answered.
    #[serde(default)]
    expected_reply: Vec<Option<String>>,
    #[serde(default)]
    client_ping: Vec<String>,
    #[serde(default)]
    server_pong: Vec<String>,
    #[serde(default)]
    not_heartbeat: Vec<String>,
}

const UNIX_MS: u64 = 1_700_000_000_123;
const ID: u64 = 42;
const UUID: &str = "018bcfe5-687b-8000-8000-00000000002a";

fn vectors() -> Vec<Vectors> {
    serde_json::from_str(include_str!("../data/vectors.json")).expect("vectors")
}

fn in_catalogue() -> impl Iterator<Item = (Vectors, Description)> {
    vectors().into_iter().filter_map(|vectors| {
        let name = vectors.dialect.as_deref()?;
        let entry = CatalogueEntry::named(name).unwrap_or_else(|| panic!("no dialect {name}"));
        assert_eq!(entry.service, vectors.service);
        Some((vectors, entry.dialect))
    })
}

fn variables() -> Variables {
    Variables::from([
        ("cst".into(), "\"c\"".into()),
        ("security_token".into(), "\"s\"".into()),
        ("user_id".into(), "\"u\"".into()),
        ("service_id".into(), "300".into()),
        ("sn".into(), "251".into()),
        ("key".into(), "\"k\"".into()),
        ("passphrase".into(), "\"p\"".into()),
        ("timestamp".into(), "\"1700000000\"".into()),
        ("signature".into(), "\"s\"".into()),
        ("device_ids".into(), "[\"P/d\"]".into()),
        ("auth_token".into(), "\"a\"".into()),
        ("access_token".into(), "\"t\"".into()),
        ("session".into(), "777".into()),
        ("seq".into(), "251".into()),
    ])
}

/// A vector with its placeholders filled in, by the same clock, counter and variables.
fn filled(vector: &str) -> String {
    let text = vector
        .replace("${id}", "42")
        .replace("${now_ms}", "1700000000123");
    let text = text
        .replace("${now_s}", "1700000000")
        .replace("${now_iso_us}", "2023-11-14T22:13:20.123000Z")
        .replace("${session}", "777");
    // Any trace id will do; a dialect's own is its counter.
    text.replace("${seq}", "251").replace("${uuid}", UUID)
}

fn rendered(dialect: &Description, mut draft: TemplateRef<'_>) -> String {
    draft.id = ID;
    let variables = variables();
    let values = Values {
        unix_ms: UNIX_MS,
        variables: &variables,
    };
    match dialect.render(&draft, &values, &mut Buffer::default()) {
        Some(Outgoing::Text(text)) => text.into(),
        Some(Outgoing::Binary(bytes)) => bytes
            .iter()
            .fold("hex:".into(), |hex, b| format!("{hex}{b:02x}")),
        None => panic!("a variable is missing"),
    }
}

/// What a message is to the dialect, and what is answered.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    kind: &'static str,
    reply: Option<String>,
    is_for_application: bool,
}

fn told(dialect: &Description, message: &str) -> Told {
    let binary;
    let class = match message.strip_prefix("hex:") {
        Some(hex) => {
            let byte =
                |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
            binary = hex.as_bytes().chunks(2).map(byte).collect::<Vec<_>>();
            dialect.classify_binary(&binary)
        }
        None => dialect.classify_text(message),
    };
    let (kind, reply) = match class {
        Class::Data => ("data", None),
        Class::Beat => ("beat", None),
        Class::Pong | Class::Response(_) => ("pong", None),
        Class::Ping(reply) => ("ping", Some(reply)),
        Class::Composite(carried) => (
            if carried.reply.is_some() {
                "ping"
            } else {
                "data"
            },
            carried.reply,
        ),
        other => panic!("{other:?}"),
    };
    let reply = reply.map(|reply| match reply {
        Reply::Template(draft) => rendered(dialect, draft),
        Reply::Text(text) => text.into(),
        other => panic!("{other:?}"),
    });
    Told {
        kind,
        reply,
        is_for_application: class.is_for_application(),
    }
}

fn is_frame(message: &str) -> bool {
    message.starts_with("frame:")
}

#[test]
fn a_servers_ping_gets_exactly_the_answer_it_wants() {
    let mut answered = 0;
    for (vectors, dialect) in in_catalogue() {
        for (ping, expected) in vectors.server_ping.iter().zip(&vectors.expected_reply) {
            if is_frame(ping) {
                // The machine's own business, with the same bytes.
                let payload = ping.strip_prefix("frame:ping:");
                assert_eq!(
                    payload,
                    expected
                        .as_deref()
                        .and_then(|reply| reply.strip_prefix("frame:pong:"))
                );
                continue;
            }
            let told = told(&dialect, ping);
            let expected = expected.as_deref().map(filled);
            assert_eq!(told.reply, expected, "{}: {ping}", vectors.service);
            match (&expected, ping.as_str()) {
                (Some(_), _) => assert_eq!(told.kind, "ping", "{}: {ping}", vectors.service),
                // The answer to the handshake is the application's, and a beat shares its message.
                (None, "{}\u{1e}{\"type\":6}\u{1e}") => assert!(told.is_for_application),
                (None, _) => assert_eq!(told.kind, "beat", "{}: {ping}", vectors.service),
            }
            answered += usize::from(expected.is_some());
        }
        assert_eq!(
            vectors.server_ping.len(),
            vectors.expected_reply.len(),
            "{}",
            vectors.service
        );
    }
    assert!(answered > 45, "{answered}");
}

#[test]
fn data_that_shares_a_message_with_a_ping_reaches_the_application() {
    let dialect = Description::named("centrifugo").unwrap();
    let told = told(
        &dialect,
        "{}\n{\"push\":{\"channel\":\"a\",\"pub\":{\"data\":{}}}}",
    );
    assert_eq!(
        (told.reply.as_deref(), told.is_for_application),
        (Some("{}"), true)
    );
}

#[test]
fn a_clients_ping_has_the_shape_that_the_service_wants() {
    let mut asked = 0;
    for (vectors, dialect) in in_catalogue() {
        if vectors.client_ping.is_empty() {
            assert_eq!(dialect.ping().message, None, "{}", vectors.service);
            continue;
        }
        let question = match dialect.ping().message {
            Some(draft) => rendered(&dialect, draft),
            None => "frame:ping:".into(),
        };
        let wanted: Vec<String> = vectors
            .client_ping
            .iter()
            .map(|ping| filled(ping))
            .collect();
        assert!(
            wanted.contains(&question),
            "{}: {question} is none of {wanted:?}",
            vectors.service
        );
        asked += 1;
    }
    assert!(asked > 60, "{asked}");
}

#[test]
fn a_pong_is_recognised_and_never_answered() {
    let mut pongs = 0;
    for (vectors, dialect) in in_catalogue() {
        for pong in vectors.server_pong.iter().filter(|pong| !is_frame(pong)) {
            let expected = Told {
                kind: "pong",
                reply: None,
                is_for_application: false,
            };
            assert_eq!(
                told(&dialect, pong),
                expected,
                "{}: {pong}",
                vectors.service
            );
            pongs += 1;
        }
    }
    assert!(pongs > 60, "{pongs}");
}

#[test]
fn what_only_looks_like_a_heartbeat_is_data() {
    let mut seen = 0;
    for (vectors, dialect) in in_catalogue() {
        for message in &vectors.not_heartbeat {
            seen += 1;
            // A response that has the shape of a pong is told by its id, which only the machine knows.
            if let Class::Response(id) = dialect.classify_text(message) {
                assert_ne!(
                    id.trim_matches('"'),
                    ID.to_string(),
                    "{}: {message}",
                    vectors.service
                );
                continue;
            }
            let told = told(&dialect, message);
            assert_eq!(
                (told.kind, told.reply),
                ("data", None),
                "{}: {message}",
                vectors.service
            );
            assert!(told.is_for_application, "{}: {message}", vectors.service);
        }
    }
    assert!(seen > 130, "{seen}");
}

#[test]
fn what_a_client_sends_itself_is_no_ping_to_it_where_question_and_answer_have_one_name() {
    // A dialect that answered its own question's echo would never stop talking.
    for name in [
        "bitstamp", "bybit", "deriv", "jellyfin", "ably", "signalr", "stomp",
    ] {
        let dialect = Description::named(name).unwrap();
        let question = rendered(&dialect, dialect.ping().message.unwrap());
        assert_eq!(told(&dialect, &question).reply, None, "{name}: {question}");
    }
}

#[test]
fn names_are_lower_case_and_unique_and_lead_to_their_entry() {
    let mut owners = BTreeMap::new();
    for entry in catalogue() {
        for name in [&entry.name].into_iter().chain(&entry.aliases) {
            let is_plain =
                |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
            assert!(name.bytes().all(is_plain), "{name}");
            assert_eq!(
                owners.insert(name.clone(), entry.name.clone()),
                None,
                "{name}"
            );
        }
        assert!(!entry.evidence.is_empty(), "{}", entry.name);
    }
    for (name, owner) in &owners {
        assert_eq!(CatalogueEntry::named(name).unwrap().name, *owner);
    }
}

#[test]
fn at_least_150_services_are_in_the_catalogue_and_the_others_are_explained() {
    let (known, missing): (Vec<_>, Vec<_>) = vectors()
        .into_iter()
        .partition(|vectors| vectors.dialect.is_some());
    assert!(known.len() >= 150, "{}", known.len());
    assert_eq!(known.len(), catalogue().count(), "one for each entry");
    let reasons = include_str!("../../DIALECTS.md");
    for vectors in missing {
        assert!(
            reasons.contains(&vectors.service),
            "{} is not explained",
            vectors.service
        );
    }
}

#[test]
fn every_dialect_keeps_to_its_services_limit_with_its_own_times() {
    let mut limits = 0;
    for entry in catalogue() {
        assert_eq!(entry.lint_entry(), [], "{}", entry.name);
        let config = entry
            .dialect
            .configure(&heartbeat_core::Config::default())
            .unwrap();
        assert_eq!(entry.lint(&config), [], "{}", entry.name);
        let never = config
            .to_builder()
            .ping(heartbeat_core::Ping::Never)
            .keepalive(None)
            .build();
        limits += usize::from(!entry.lint(&never.unwrap()).is_empty());
    }
    assert!(limits > 20, "{limits}");
}

/// What a note says for people alone is not heeded by a client.
#[test]
fn a_limit_that_a_note_states_is_in_the_data() {
    let states_a_limit = |note: &String| {
        let words: Vec<&str> = note.split([' ', ',', '.', ';']).collect();
        words.windows(2).any(|pair| {
            let counted = ["messages", "dials", "connections", "requests"].contains(&pair[1]);
            counted && pair[0].parse::<u32>().is_ok()
        })
    };
    let mut stated = 0;
    for entry in catalogue() {
        let limits = entry.dialect.limits();
        let is_limited =
            limits.messages.is_some() || limits.dials.is_some() || limits.connections.is_some();
        for note in entry.notes.iter().filter(|note| states_a_limit(note)) {
            assert!(is_limited, "{}: {note}", entry.name);
            stated += 1;
        }
    }
    assert!(stated > 2, "{stated}");
}

/// The words that a service has for heartbeats: three texts at least, or all that there are.
#[test]
fn each_entry_has_three_heartbeats_and_three_that_only_look_like_one() {
    for (vectors, dialect) in in_catalogue() {
        let said = [
            &vectors.server_ping,
            &vectors.server_pong,
            &vectors.client_ping,
        ];
        let said: BTreeSet<&String> = said.into_iter().flatten().collect();
        // A rule of fixed words knows these alone.
        let source: serde_json::Value = serde_json::from_str(dialect.as_json()).unwrap();
        let rules = source["rules"].as_array();
        let is_open = rules.into_iter().flatten().any(|rule| {
            let is_heartbeat = ["reply", "beat", "pong"]
                .iter()
                .any(|key| rule.get(*key).is_some());
            let bytes = rule["bytes"].as_str().unwrap_or_default();
            let has_values = rule.get("json").is_some() || bytes.contains(['?', '*']);
            is_heartbeat && has_values && source.get("separator").is_none()
        });
        let least = if is_open { 3 } else { 0 };
        assert!(said.len() >= least, "{}: {said:?}", vectors.service);
        let others: BTreeSet<&String> = vectors.not_heartbeat.iter().collect();
        assert!(others.len() >= 3, "{}: {others:?}", vectors.service);
    }
}

#[test]
fn no_feed_message_of_one_service_is_a_heartbeat_of_another_by_accident() {
    let mut accidents = BTreeSet::new();
    let all: Vec<(Vectors, Description)> = in_catalogue().collect();
    // What was made to look like a heartbeat may well be one, of a service that has these words.
    let nothing = Description::from_json("{}").unwrap();
    let is_made_up =
        |message: &str| message.starts_with("hex:") || nothing.lint_message(message).is_some();
    let mut seen = 0;
    for (vectors, _) in &all {
        let feed = vectors.not_heartbeat.iter();
        for message in feed.filter(|message| !is_made_up(message)) {
            seen += 1;
            for (others, dialect) in &all {
                let told = told(dialect, message);
                let name = others.dialect.as_deref().unwrap_or_default();
                // A response is the application's unless its id is that of a ping of ours.
                let is_response = matches!(dialect.classify_text(message), Class::Response(_));
                if told.kind != "data" && !is_response {
                    accidents.insert((name.to_owned(), message.clone()));
                }
            }
        }
    }
    assert!(accidents.is_empty(), "{accidents:#?}");
    assert!(seen > 350, "{seen}");
}

#[test]
fn what_was_collected_as_a_heartbeat_does_not_look_like_one_that_is_missed() {
    for (vectors, dialect) in in_catalogue() {
        for text in vectors.server_ping.iter().chain(&vectors.server_pong) {
            if !is_frame(text) && !text.starts_with("hex:") {
                assert_eq!(dialect.lint_message(text), None, "{}", vectors.service);
            }
        }
    }
}

/// The ten faults that were found in the catalogue, as the linter sees them.
#[test]
fn the_linter_sees_what_was_wrong_with_ten_entries() {
    let load = |json: &str| Description::from_json(json).unwrap();
    let gate = load(
        r#"{"rules": [{"json": {"/channel": "spot.pong"}, "pong": true}], "ping": {"text": "{\"channel\":\"futures.ping\"}"}}"#,
    );
    let bybit = load(r#"{"rules": [{"json": {"/op": "ping", "/ret_msg": "pong"}, "pong": true}]}"#);
    let bitfinex =
        load(r#"{"rules": [{"json": {"/1": "hb", "/2": {"exists": false}}, "beat": true}]}"#);
    let kraken = load(r#"{"rules": [{"json": {"/method": "pong"}, "pong": true}]}"#);
    let bithumb = load(r#"{"rules": [{"json": {"/status": "UP"}, "pong": true}]}"#);
    let nothing = load("{}");
    for (dialect, message, is_pong) in [
        (
            &gate,
            r#"{"time":1,"channel":"futures.pong","event":"","result":null}"#,
            true,
        ),
        (&bybit, r#"{"args":["1672916271846"],"op":"pong"}"#, true),
        (&bitfinex, r#"[0,"hb",17]"#, false),
        (&kraken, r#"{"event":"pong","reqid":42}"#, true),
        (&kraken, r#"{"event":"heartbeat"}"#, false),
        (&bithumb, r#"{"ping":1700000000123}"#, false),
        (&bithumb, "ping", false),
        (&nothing, r#"{"pong":1653296711335}"#, true),
        (&nothing, r#"{"message":"pong"}"#, true),
        (&nothing, r#"{"id":0,"code":0,"msg":"PONG"}"#, true),
        (&nothing, r#"{"id":1,"method":"public/heartbeat"}"#, false),
    ] {
        match dialect.lint_message(message) {
            Some(Lint::LooksLikePong { .. }) => assert!(is_pong, "{message}"),
            Some(Lint::LooksLikePing { .. }) => assert!(!is_pong, "{message}"),
            other => panic!("{message}: {other:?}"),
        }
    }
    for data in [
        r#"{"e":"trade","s":"PINGUSDT"}"#,
        r#"{"id":7,"text":"ping pong?"}"#,
        r#"{"event":"error","message":"ping"}"#,
        "hello",
        "",
    ] {
        assert_eq!(nothing.lint_message(data), None, "{data}");
    }
    let long = format!(r#"{{"op":"pong","x":"{}"}}"#, "x".repeat(256));
    assert_eq!(nothing.lint_message(&long), None);

    let asks = load(r#"{"ping": {"text": "ping", "every": "20s"}}"#);
    assert!(matches!(asks.lint_rules(), Some(Lint::PongIsData { .. })));
    assert_eq!(nothing.lint_rules(), None);
    assert_eq!(gate.lint_rules(), None);
}

/// The entry without some of its rules.
fn without(dialect: &Description, is_planted: impl Fn(usize) -> bool) -> Description {
    let mut source: serde_json::Value = serde_json::from_str(dialect.as_json()).unwrap();
    let rules = source["rules"].as_array_mut().expect("rules");
    let mut number = 0;
    rules.retain(|_| {
        number += 1;
        !is_planted(number - 1)
    });
    Description::from_json(&source.to_string()).expect("still valid")
}

/// Each rule of each entry is taken out of a copy. What it told reaches the application then, and the linter says so.
#[test]
fn a_rule_that_is_missing_is_seen_in_the_messages_that_it_told() {
    // Their words are numbers, single letters or nothing, or words of no other service.
    let own = [
        "ably",
        "bithumb",
        "centrifugo",
        "centrifugo-uni",
        "deribit",
        "discord",
        "engine-io",
        "fluxer",
        "iobroker",
        "jellyfin",
        "nomad-exec",
        "signalr",
        "sockjs",
        "socketcluster",
        "supabase",
        "synquote",
        "tiingo",
        "tradingview",
    ];
    let (mut seen, mut all, mut missed) = (0, 0, BTreeSet::new());
    for (vectors, dialect) in in_catalogue() {
        let source: serde_json::Value = serde_json::from_str(dialect.as_json()).unwrap();
        let count = source["rules"].as_array().map_or(0, Vec::len);
        for number in 0..count {
            let planted = without(&dialect, |rule| rule == number);
            let said = vectors.server_ping.iter().chain(&vectors.server_pong);
            let texts = said.filter(|text| !is_frame(text) && !text.starts_with("hex:"));
            for text in texts.filter(|text| told(&planted, text).kind == "data") {
                let is_seen =
                    planted.lint_rules().is_some() || planted.lint_message(text).is_some();
                seen += usize::from(is_seen);
                all += 1;
                if !is_seen {
                    missed.insert(vectors.dialect.clone().unwrap_or_default());
                }
            }
        }
    }
    assert_eq!(missed, own.map(str::to_owned).into());
    assert!(seen > 320, "{seen}");
    let told = format!("For {seen} of the {all} messages");
    assert!(
        include_str!("../../DIALECTS.md").contains(&told),
        "DIALECTS.md: {told}"
    );
}

/// The faults that ten entries had, each planted in a copy of the entry of today.
#[test]
fn each_fault_that_an_entry_had_is_seen_when_it_is_planted_again() {
    let entry = |name: &str| CatalogueEntry::named(name).expect("in the catalogue");
    let has = |rule: &serde_json::Value, words: &str| rule.to_string().contains(words);
    // The entry, what its lost rules have in common, and a message that they told.
    for (name, lost, message) in [
        (
            "gate-futures",
            "futures.pong",
            r#"{"time":1,"channel":"futures.pong","event":"","result":null}"#,
        ),
        (
            "gate-delivery",
            "futures.pong",
            r#"{"time":1,"channel":"futures.pong","event":"","result":null}"#,
        ),
        (
            "bybit-private",
            r#"{"/op":"pong"}"#,
            r#"{"req_id":"7","op":"pong","args":["1675418560633"]}"#,
        ),
        ("bitfinex", r#""/2":{"is""#, r#"[0,"hb",17]"#),
        ("kraken-v1", "pong", r#"{"event":"pong","reqid":42}"#),
        ("kraken-v1", "heartbeat", r#"{"event":"heartbeat"}"#),
        ("mexc", "PONG", r#"{"id":0,"code":0,"msg":"PONG"}"#),
        ("bithumb", r#""/ping""#, r#"{"ping":1700000000123}"#),
        ("bithumb", r#""text":"ping""#, "ping"),
        ("apex", r#""/pong""#, r#"{"pong":1653296711335}"#),
        ("polymarket", "PONG", "PONG"),
    ] {
        let good = entry(name);
        assert_eq!(good.dialect.lint_message(message), None, "{name}");
        let source: serde_json::Value = serde_json::from_str(good.dialect.as_json()).unwrap();
        let planted = without(&good.dialect, |rule| has(&source["rules"][rule], lost));
        assert_ne!(planted, good.dialect, "{name}: {lost}");
        let told = planted.lint_message(message);
        match message.to_lowercase().contains("pong") {
            true => assert!(
                matches!(told, Some(Lint::LooksLikePong { .. })),
                "{name}: {told:?}"
            ),
            false => assert!(
                matches!(told, Some(Lint::LooksLikePing { .. })),
                "{name}: {told:?}"
            ),
        }
    }

    // Without its only pong, or with too rare a ping, no message is needed to see it.
    let lints = |name: &str, from: &str, to: &str| {
        let mut planted = entry(name);
        let source = planted.dialect.as_json().replace(from, to);
        assert_ne!(source, planted.dialect.as_json(), "{name}: {from}");
        planted.dialect = Description::from_json(&source).expect("still valid");
        let config = planted
            .dialect
            .configure(&heartbeat_core::Config::default());
        let mut lints = planted.lint(&config.expect("consistent"));
        lints.extend(planted.lint_entry());
        lints
    };
    for name in [
        "gate-futures",
        "mexc",
        "polymarket",
        "bitunix",
        "hyperliquid",
    ] {
        let lints = lints(name, r#""pong":true"#, r#""data":true"#);
        assert!(
            matches!(lints[..], [Lint::PongIsData { .. }]),
            "{name}: {lints:?}"
        );
    }
    for (name, from, to) in [
        ("gate-futures", r#""every":"10s""#, r#""every":"60s""#),
        (
            "bitmart",
            r#""after_silence":"10s""#,
            r#""after_silence":"25s""#,
        ),
        ("polymarket-perps", r#""every":"20s""#, r#""every":"70s""#),
    ] {
        let lints = lints(name, from, to);
        assert!(
            matches!(lints[..], [Lint::TooLate { .. }]),
            "{name}: {lints:?}"
        );
    }
    let rare = lints("bybit", r#""every":"20s""#, r#""every":"25s""#);
    assert!(matches!(rare[..], [Lint::TooRare { .. }]), "{rare:?}");
    let margin = lints("gate-futures", r#""every":"10s""#, r#""every":"50s""#);
    assert!(matches!(margin[..], [Lint::NoMargin { .. }]), "{margin:?}");
}

#[test]
fn an_entry_without_a_source_or_a_date_or_with_too_rare_pings_is_told() {
    let entry = |fields: &str| -> CatalogueEntry {
        let json = format!(
            r#"{{"name": "x", "service": "X", "evidence": "official-doc", {fields} "dialect": {{
                "rules": [{{"text": "pong", "pong": true}}], "ping": {{"text": "ping", "every": "20s"}}}}}}"#
        );
        serde_json::from_str(&json).unwrap()
    };
    let told = |entry: &CatalogueEntry| -> Vec<String> {
        entry.lint_entry().iter().map(Lint::to_string).collect()
    };
    let good = entry(r#""source": ["https://example.org/docs"], "checked": "2026-11-29","#);
    assert_eq!(told(&good), [""; 0]);
    assert_eq!(
        told(&entry("")),
        [
            "x names no source, or one that is no URL: ",
            "x does not say when it was checked, as \"2026-11-29\": \"\""
        ]
    );
    for source in [
        "example.org",
        "http://example.org",
        "https://",
        "a client's code",
    ] {
        let fields = format!(r#""source": ["https://a.b", "{source}"], "checked": "2026-11-29","#);
        assert_eq!(
            told(&entry(&fields)),
            [format!(
                "x names no source, or one that is no URL: {source}"
            )]
        );
    }
    for date in [
        "2026",
        "2026-13-01",
        "2026-11-00",
        "26-11-29",
        "2026-11-29-1",
        "2026-1-2",
        "today",
    ] {
        let fields = format!(r#""source": ["https://a.b"], "checked": "{date}","#);
        assert_eq!(told(&entry(&fields)).len(), 1, "{date}");
    }
    let rare = entry(r#""interval": "15s", "interval_basis": "documented","#);
    let config = rare
        .dialect
        .configure(&heartbeat_core::Config::default())
        .unwrap();
    assert_eq!(
        rare.lint(&config)[0].to_string(),
        "a ping is sent every 20s, and x wants one every 15s"
    );
    let guessed = entry(r#""interval": "15s", "interval_basis": "client-default","#);
    assert_eq!(guessed.lint(&config), []);
}
