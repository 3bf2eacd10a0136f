//! A dialect that is lent, shared, named or written down answers as the dialect itself does.

use std::sync::Arc;

use heartbeat_core::{
    AnyDialect, Buffer, CatalogueEntry, Dialect, FramesOnly, JsonType, Values, Variables, catalogue,
};
use serde_json::{Value, json};

const TEXTS: [&str; 9] = [
    r#"{"type":"ping"}"#,
    r#"{"op":10,"d":{"heartbeat_interval":41250},"s":7}"#,
    r#"{"channel":"heartbeats"}"#,
    r#"{"event":"ping","id":3}"#,
    "PING :tmi.twitch.tv\r\nPING :tmi.twitch.tv",
    "{}\n{\"ping\":1}",
    "{\"type\":6}\u{1e}{\"type\":6}\u{1e}",
    "ping",
    "data",
];

/// All that a dialect says of these texts and of itself.
fn answers<D: Dialect + ?Sized>(dialect: &D) -> Vec<String> {
    let mut told = Vec::new();
    let mut variables = Variables::new();
    for text in TEXTS {
        told.push(format!("{:?}", dialect.classify_text(text)));
        told.push(format!("{:?}", dialect.classify_binary(text.as_bytes())));
        dialect.track(text, &mut variables);
        told.push(format!("{variables:?}"));
    }
    told.extend((4000..5000).map(|code| format!("{:?}", dialect.close_policy(code))));
    told.push(format!("{:?}", dialect.separator()));
    told.push(format!("{:?} {:?}", dialect.ping(), dialect.tracks()));
    let values = Values {
        unix_ms: 1_700_000_000_123,
        variables: &variables,
    };
    let questions = dialect.ping().message;
    let greetings = (0..4).filter_map(|number| dialect.greeting(number));
    for draft in questions.into_iter().chain(greetings) {
        let mut buffer = Buffer::default();
        told.push(format!(
            "{:?}",
            dialect.render(&draft, &values, &mut buffer)
        ));
    }
    told
}

fn in_every_way<D: Dialect>(name: &str, dialect: D) {
    let own = answers(&dialect);
    assert!(
        answers::<dyn Dialect>(&dialect) == own,
        "{name}, behind a pointer"
    );
    assert!(answers::<&D>(&&dialect) == own, "{name}, lent");
    assert!(answers(&Arc::new(dialect)) == own, "{name}, shared");
}

#[test]
fn a_dialect_that_is_lent_shared_or_named_answers_as_itself() {
    in_every_way("json-type", JsonType);
    in_every_way("frames", FramesOnly);
    assert_eq!(answers(&AnyDialect::JsonType), answers(&JsonType));
    assert_eq!(answers(&AnyDialect::Frames), answers(&FramesOnly));
    assert_eq!(AnyDialect::named("json-type"), Some(AnyDialect::JsonType));
    assert_eq!(AnyDialect::named("frames"), Some(AnyDialect::Frames));
    let mut seen = Vec::new();
    for entry in catalogue() {
        let own = answers(&entry.dialect);
        // `json-type` and `frames` have a quicker form of their own.
        if let AnyDialect::Named(named) = AnyDialect::named(&entry.name).expect("its own name") {
            assert!(answers(&AnyDialect::Named(named)) == own, "{}", entry.name);
        }
        seen.push(own);
        in_every_way(&entry.name, entry.dialect);
    }
    seen.sort();
    seen.dedup();
    assert!(seen.len() > 50, "only {} kinds of dialects", seen.len());
}

#[test]
fn a_dialect_that_is_written_down_is_read_back_as_itself() {
    let described = json!({"rules": [{"text": "hi", "beat": true}]});
    let names = catalogue().map(|entry| Value::from(entry.name));
    for value in names.chain(["json-type".into(), "frames".into(), described]) {
        let dialect = AnyDialect::from_value(&value).expect("a dialect");
        assert_eq!(dialect.to_value(), value);
    }
    let refused = AnyDialect::from_value(&"no such dialect".into()).unwrap_err();
    assert!(refused.to_string().contains("no such dialect"), "{refused}");
}

#[test]
fn names_that_are_near_differ_in_two_letters_or_contain_each_other_the_nearest_first() {
    let near = CatalogueEntry::names_near;
    assert_eq!(near("kucoin")[0], "kucoin");
    assert_eq!(near("KUKOIN"), ["kucoin"]);
    assert_eq!(near("ucoin")[0], "kucoin", "one letter missing");
    assert_eq!(near("kuccoin"), ["kucoin"], "one too many");
    assert_eq!(near("kukoim"), ["kucoin"], "two others");
    assert!(!near("kukojm").contains(&"kucoin".into()), "three others");
    assert!(near("the kucoin feed").contains(&"kucoin".into()));
    assert!(near("binance").contains(&"binance-api".into()));
    assert!(!near("zzkucoim").contains(&"kucoin".into()), "three edits");
    assert!(
        !near("ht").contains(&"lighter".into()),
        "two letters are in many names"
    );
    assert_eq!(near("qq"), [""; 0], "no letter in common");
    // A word that is short is near nothing that shares no letter with it.
    for short in ["", "z", "zz"] {
        let names = near(short);
        assert!(
            names
                .iter()
                .all(|name| name.contains(short) && name.len() <= 4 || name.len() <= 3),
            "{short}: {names:?}"
        );
    }
    assert!(near("in").len() <= 5 && near("binance-").len() <= 5);
    assert!(
        near(&"kucoin".repeat(1000)).contains(&"kucoin".into()),
        "cut to 64 letters"
    );
}
