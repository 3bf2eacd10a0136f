//! Tests of the needles that the filter chooses, and of the texts that it passes. The tests of the dialects compare
//! the filter with a plain evaluation of the rules, and so check that it never rejects a heartbeat.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::*;
use crate::dialect::{Description, catalogue};

/// Writes a search as text: for each pass the letters that stop it; for each needle its text, the values of which
/// one must follow, and the place of the letter to search for.
fn shown(search: &Search) -> String {
    let needle = |needle: &Needle| {
        let text = String::from_utf8_lossy(&needle.text);
        let values = match &*needle.values {
            [] => String::new(),
            values => format!(":{}", values.join("|")),
        };
        let (before, after) = text.split_at(needle.at);
        format!(" {before}^{after}{values}")
    };
    let pass = |pass: &Pass| {
        let needles: String = pass.needles.iter().map(needle).collect();
        let letters = [pass.letters.0, pass.letters.1].map(char::from);
        let one_or_two = if letters[0] == letters[1] { 1 } else { 2 };
        String::from_iter(&letters[..one_or_two]) + &needles
    };
    match &search.passes {
        None => "everything".into(),
        Some(passes) => passes.iter().map(pass).collect::<Vec<_>>().join(" / "),
    }
}

/// Returns a description of beats with these conditions.
fn conditions(conditions: &[&str]) -> Description {
    let rule = |conditions: &&str| format!(r#"{{"json": {{{conditions}}}, "beat": true}}"#);
    let rules: Vec<String> = conditions.iter().map(rule).collect();
    let json = format!(r#"{{"rules": [{}]}}"#, rules.join(","));
    Description::from_json(&json).unwrap_or_else(|error| panic!("{json}: {error}"))
}

/// A rule of the selection, the conditions of each rule of the description, and the expected search.
const CHOICES: &[(&str, &[&str], &str)] = &[
    (
        "a value is rarer than a key",
        &[r#""/type": "ping""#],
        r#"g "pin^g""#,
    ),
    (
        "but not one of digits",
        &[r#""/channel": "1""#],
        r#"h "c^hannel""#,
    ),
    (
        "a key with a number behind it is as rare",
        &[r#""/longer/op": 1"#],
        r#"p "o^p":1"#,
    ),
    (
        "the longest key, if there are keys alone; of two the first",
        &[r#""/ab": {"exists": true}, "/abc": {"exists": true}, "/xyz": {"exists": true}"#],
        r#"b "a^bc""#,
    ),
    (
        "what has to be absent is not looked for, nor what may be an index",
        &[r#""/long": {"exists": false}, "/0/op": 1, "/1": 2"#],
        r#"p "o^p":1"#,
    ),
    (
        "where nothing can be looked for, everything is found",
        &[r#""/op": 1"#, r#""/0": 2"#],
        "everything",
    ),
    (
        "a slash has a short escape",
        &[r#""/a~1path": 1"#],
        r#"h pat^h""#,
    ),
    ("a backslash too", &[r#""/a\\path": 1"#], r#"h pat^h""#),
    ("a quote too", &[r#""/a\"path": 1"#], r#"h pat^h""#),
    (
        "a control character too",
        &[r#""/x": "one\nline""#],
        r#"l ^line""#,
    ),
    (
        "a long piece is shared",
        &[r#""/e": "abcdex""#, r#""/e": "abcdey""#],
        r#"b "a^bcde"#,
    ),
    (
        "a short one is not, if there are four",
        &[
            r#""/e": "ping""#,
            r#""/e": "pong""#,
            r#""/e": "bing""#,
            r#""/e": "bong""#,
        ],
        r#"g "pin^g" "pon^g" "bin^g" "bon^g""#,
    ),
    (
        "of five the two with the most in common",
        &[
            r#""/e": "aaa""#,
            r#""/e": "aab""#,
            r#""/e": "cxcxp""#,
            r#""/e": "cxcxq""#,
            r#""/e": "zz""#,
        ],
        r#"" ^"aaa" ^"aab" ^"cxcx ^"zz""#,
    ),
    (
        "the first two, if others have as much",
        &[
            r#""/e": "jaap""#,
            r#""/e": "jaaq""#,
            r#""/e": "jeep""#,
            r#""/e": "jeeq""#,
            r#""/e": "jzz""#,
        ],
        r#"j "^jaa "^jeep" "^jeeq" "^jzz""#,
    ),
    (
        "a key is none of the value's kind",
        &[r#""/pinged": {"exists": true}"#, r#""/op": "pinged""#],
        r#"g "pin^ged" "pin^ged""#,
    ),
    (
        "a shared key, with the values of all",
        &[
            r#""/opcode": 1"#,
            r#""/opcode": null, "/a/opcode": {"exists": true}"#,
            r#""/opcode": true"#,
        ],
        r#"c "op^code":1|null|true"#,
    ),
    (
        "any value, if one rule wants any",
        &[r#""/opcode": {"exists": true}"#, r#""/opcode": 1"#],
        r#"c "op^code" "op^code":1"#,
    ),
    (
        "one letter for all, if there is one that is not frequent",
        &[r#""/e": "ping""#, r#""/e": "pong""#],
        r#"g "pin^g" "pon^g""#,
    ),
    (
        "two rare ones rather than a frequent one",
        &[r#""/e": "xe""#, r#""/e": "ve""#],
        r#"vx "^xe" "^ve""#,
    ),
    (
        "else two, the rarest ones, and the rarer one of a needle's",
        &[r#""/e": "hb""#, r#""/e": "pong""#, r#""/e": "high""#],
        r#"gh "^hb" "pon^g" "^high""#,
    ),
    (
        "else two, whichever is the first of them",
        &[r#""/e": "fy""#, r#""/e": "m""#, r#""/e": "mf""#],
        r#"fm "^fy" "^m" "m^f""#,
    ),
    (
        "else in more than one pass",
        &[
            r#""/~1abc~1": {"exists": true}"#,
            r#""/~1def~1": {"exists": true}"#,
            r#""/~1ghi~1": {"exists": true}"#,
        ],
        "b a^bc / fh de^f g^hi",
    ),
    (
        "a digit is more frequent than any letter, and a capital than its small one",
        &[r#""/e": "e2Z""#],
        r#"Z "e2^Z""#,
    ),
    (
        "what is no letter is as frequent as h",
        &[r#""/e": "a_h""#],
        r#"_ "a^_h""#,
    ),
    ("z is the rarest", &[r#""/e": "zj""#], r#"z "^zj""#),
];

#[test]
fn what_is_looked_for_is_in_every_heartbeat_and_rare() {
    for (rule, rules, expected) in CHOICES {
        let filter = conditions(rules).filter;
        assert_eq!(shown(&filter.json), *expected, "{rule}");
    }
}

#[test]
fn a_record_is_looked_for_behind_its_separator_which_may_be_any_text() {
    for (separator, text, expected) in [
        ("\n", "f", "\n ^\nf"),
        ("|", "\\", "\\ |^\\"),
        ("\\\\", "\\", "\\ ^\\\\\\"),
    ] {
        let json =
            serde_json::json!({"separator": separator, "rules": [{"text": text, "beat": true}]});
        let filter = Description::from_value(&json).unwrap().filter;
        assert_eq!(shown(&filter.records), expected);
    }
}

/// Typical messages of feeds.
const DATA: &[&str] = &[
    r#"{"e":"trade","E":1672515782136,"s":"BNBBTC","t":123456789012,"p":"612.40000000","q":"100.00000000","m":true}"#,
    r#"{"arg":{"channel":"tickers","instId":"BTC-USDT"},"data":[{"last":"9999.99","askPx":"9999.98","ts":"1597026383085"}]}"#,
    r#"{"topic":"orderbook.50.BTCUSDT","type":"delta","data":{"b":[["30247.20","30.028"]],"a":[],"u":177400507,"seq":66544703342}}"#,
    r#"{"channel":"level2","events":[{"type":"update","updates":[{"side":"bid","price_level":"1922.83","new_quantity":"0.5"}]}]}"#,
    r#"[10,{"price":"64123.5","amount":"-0.01"},["tu",[401597393,1574694475039,0.005,7244.9]]]"#,
    r#"{"stream":"public","params":{"text":"A chat's words: she said \"hello\"\nand was gone, naïve café"}}"#,
    "42[\"trade\",{\"price\":1}]",
    "a[\"{}\"]",
];

#[test]
fn what_feeds_send_is_not_looked_into_for_any_dialect() {
    for entry in catalogue() {
        let filter = &entry.dialect.filter;
        for text in DATA {
            let is_stopped = filter.is_too_long(text.len()) || !filter.passes(text.as_bytes());
            assert!(is_stopped, "{}: {text}", entry.name);
        }
    }
}

#[test]
fn what_passes_has_something_of_a_heartbeat() {
    let whole = r#"{"rules": [{"json": {"/e": "ping"}, "beat": true}, {"json": {"/op": 1}, "beat": true},
        {"text": "pong", "beat": true}, {"text": "[hb]", "beat": true}, {"prefix": "P:", "beat": true}]}"#;
    let records = r#"{"separator": "\n", "rules": [{"json": {"/e": "ping"}, "beat": true},
        {"text": "pong", "beat": true}]}"#;
    for (json, text, expected) in [
        (whole, r#"{"e":"ping"}"#, true),
        (whole, r#" {"x":"ping"}"#, true),
        (whole, r#"{"op" : 1}"#, true),
        (whole, r#"{"op":10}"#, true),
        (whole, r#"{"\u0065":0}"#, true),
        (whole, "pong", true),
        (whole, "[hb]", true),
        (whole, r#"["ping"]"#, true),
        (whole, "P:x", true),
        // Not the first letter of any rule; the first letter of a text rule, but not its text.
        (whole, r#"x"ping""#, false),
        (whole, r#"pong "ping""#, false),
        (whole, "[hb", false),
        (whole, "P", false),
        (whole, "", false),
        // Letters and escapes that stop the search, without a needle around them.
        (whole, r#"{"e":"put pins"}"#, false),
        (whole, r#"{"e":"a\nb\\c"}"#, false),
        (whole, r#"{"op":2}"#, false),
        (whole, r#"{"op","x":1}"#, false),
        (whole, r#"p":1"#, false),
        (records, "pong\nx", true),
        (records, "x\npong", true),
        (records, "x\n{\"e\":\"ping\"}", true),
        (records, "x\ny pong", false),
        (records, "x\ny", false),
    ] {
        let filter = Description::from_json(json).unwrap().filter;
        assert_eq!(filter.passes(text.as_bytes()), expected, "{text}");
    }
}

#[test]
fn what_is_longer_than_any_rule_looks_at_is_too_long() {
    for (json, longest) in [
        (
            r#"{"rules": [{"text": "pong", "beat": true}, {"text": "hb", "beat": true}]}"#,
            4,
        ),
        (
            r#"{"rules": [{"text": "pong", "beat": true}, {"prefix": "P", "beat": true}], "max_len": 20}"#,
            20,
        ),
        (
            r#"{"rules": [{"json": {"/e": 1}, "beat": true}], "max_len": 30}"#,
            30,
        ),
    ] {
        let filter = Description::from_json(json).unwrap().filter;
        assert!(
            !filter.is_too_long(longest) && filter.is_too_long(longest + 1),
            "{json}"
        );
    }
}
