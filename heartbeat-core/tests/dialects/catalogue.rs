//! Every dialect of the catalogue against what was collected about its service: real messages, the
//! answers they want, and what only looks like a heartbeat.

use std::collections::BTreeMap;

use heartbeat_core::{
    Buffer, CatalogueEntry, Class, Description, Dialect, Draft, Outgoing, Reply, Values, Variables,
    catalogue,
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
        .replace("${session}", "777");
    // Any trace id will do; a dialect's own is its counter.
    text.replace("${seq}", "251").replace("${uuid}", "42")
}

fn rendered(dialect: &Description, mut draft: Draft<'_>) -> String {
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
        Class::Carrier(carried) => (
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
        Reply::Draft(draft) => rendered(dialect, draft),
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
            assert_eq!(dialect.ask().message, None, "{}", vectors.service);
            continue;
        }
        let question = match dialect.ask().message {
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
        let question = rendered(&dialect, dialect.ask().message.unwrap());
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
        assert!(
            !entry.source.is_empty() && !entry.evidence.is_empty(),
            "{}",
            entry.name
        );
    }
    for (name, owner) in &owners {
        assert_eq!(CatalogueEntry::named(name).unwrap().name, *owner);
    }
}

#[test]
fn at_least_85_services_are_in_the_catalogue_and_the_others_are_explained() {
    let (known, missing): (Vec<_>, Vec<_>) = vectors()
        .into_iter()
        .partition(|vectors| vectors.dialect.is_some());
    assert!(known.len() >= 85, "{}", known.len());
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
