//! A plain evaluation of a description's rules, on a parsed `serde_json::Value`: no filter, no slots,
//! nothing clever. Tests and fuzz targets hold the real one against it.

use std::collections::BTreeMap;

use heartbeat_core::{Buffer, Class, Description, Dialect, Outgoing, Reply, Values, Variables};
use serde_json::Value;
use serde_json::value::RawValue;

/// What the time, the counter and the variables are to both.
const UNIX_MS: u64 = 1_700_000_000_123;
const VARIABLE: &str = "\"v\"";

/// What a message is: its kind, and the reply.
pub(crate) type Told = (&'static str, Option<String>);

/// What the description with this source makes of a text message.
pub(crate) fn plain(source: &Value, text: &str) -> Told {
    let told: Vec<Told> = if let Some(separator) = source["separator"].as_str() {
        let records = text.strip_suffix(separator).unwrap_or(text);
        let records = records.split(separator);
        records.map(|record| plain_record(source, record)).collect()
    } else if source["batch"] == true
        && matching(source, text).is_none()
        && let Ok(elements) = serde_json::from_str::<Vec<&RawValue>>(text)
    {
        let one = |element: &&RawValue| match element.get().starts_with(['{', '[']) {
            true => plain_record(source, element.get()),
            false => ("data", None),
        };
        elements.iter().map(one).collect()
    } else {
        return plain_record(source, text);
    };
    if told.is_empty() {
        return ("data", None);
    }
    if let [only] = &told[..] {
        return only.clone();
    }
    let is_data = told
        .iter()
        .any(|(kind, _)| *kind == "data" || *kind == "response");
    let reply = told.iter().find(|(kind, _)| *kind == "ping");
    match (is_data, reply) {
        (true, Some((_, reply))) => ("ping+data", reply.clone()),
        (true, None) => ("data", None),
        (false, Some((_, reply))) => ("ping", reply.clone()),
        (false, None) => ("beat", None),
    }
}

fn plain_record(source: &Value, text: &str) -> Told {
    matching(source, text).unwrap_or(("data", None))
}

/// What the first rule that matches makes of it.
fn matching(source: &Value, text: &str) -> Option<Told> {
    let max_len = source["max_len"].as_u64().unwrap_or(4096);
    if text.len() as u64 > max_len {
        return None;
    }
    let mut rules = source["rules"].as_array().into_iter().flatten();
    rules.find_map(|rule| plain_rule(rule, text))
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
    if let Some(conditions) = rule["json"].as_object() {
        let message: Value = serde_json::from_str(rest).ok()?;
        if !message.is_object() && !message.is_array() {
            return None;
        }
        let holds =
            |(path, wanted): (&String, &Value)| plain_condition(message.pointer(path), wanted);
        if !conditions.iter().all(holds) {
            return None;
        }
    }
    if let Some(id) = rule["pong"]["id"].as_str() {
        raw_at(rest, id)?;
        return Some(("response", None));
    }
    if rule["reply"].is_object() {
        return Some(("ping", Some(rule["reply"]["bytes"].to_string())));
    }
    if let Some(template) = rule["reply"].as_str() {
        return Some(("ping", Some(plain_reply(template, text, rest)?)));
    }
    let kinds = [("beat", "beat"), ("pong", "pong")];
    let kind = kinds.iter().find(|(key, _)| rule[*key] == true);
    Some((kind.map_or("data", |(_, kind)| *kind), None))
}

fn plain_condition(found: Option<&Value>, wanted: &Value) -> bool {
    if let Some(exists) = wanted["exists"].as_bool() {
        return found.is_some() == exists;
    }
    let Some(found) = found else {
        return false;
    };
    match wanted["is"].as_str() {
        Some("string") => found.is_string(),
        Some("number") => found.is_number(),
        Some("bool") => found.is_boolean(),
        Some("null") => found.is_null(),
        Some("array") => found.is_array(),
        Some("object") => found.is_object(),
        Some(other) => panic!("{other}"),
        None => found == wanted,
    }
}

fn plain_reply(template: &str, text: &str, rest: &str) -> Option<String> {
    let mut reply = String::new();
    let mut left = template;
    while let Some((literal, after)) = left.split_once("${") {
        if let Some(literal) = literal.strip_suffix('$') {
            reply = reply + literal + "${";
            left = after;
            continue;
        }
        let (name, after) = after.split_once('}').expect("closed");
        reply += literal;
        reply += &match name {
            "id" => "0".to_owned(),
            "now_ms" => UNIX_MS.to_string(),
            "now_s" => (UNIX_MS / 1000).to_string(),
            "now_us" => format!("{UNIX_MS}000"),
            "now_ns" => format!("{UNIX_MS}000000"),
            "now_iso" => "2023-11-14T22:13:20.123Z".to_owned(),
            "uuid" => "018bcfe5-687b-8000-8000-000000000000".to_owned(),
            "rest" => rest.to_owned(),
            "message" => text.to_owned(),
            "now_iso_s" => "2023-11-14T22:13:20Z".to_owned(),
            "now_iso_us" => "2023-11-14T22:13:20.123000Z".to_owned(),
            path if path.starts_with('/') => match path.strip_suffix(":bare") {
                None => raw_at(rest, path)?.to_owned(),
                Some(path) => {
                    let raw = raw_at(rest, path)?;
                    let inside = raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"'));
                    inside.unwrap_or(raw).to_owned()
                }
            },
            _ => VARIABLE.to_owned(),
        };
        left = after;
    }
    Some(reply + left)
}

/// The value at a JSON Pointer as it stands in the text, found by serde_json.
pub(crate) fn raw_at<'a>(text: &'a str, pointer: &str) -> Option<&'a str> {
    let mut raw = text;
    for token in pointer.strip_prefix('/')?.split('/') {
        let key = token.replace("~1", "/").replace("~0", "~");
        raw = match raw.trim_start().as_bytes().first()? {
            b'{' => {
                let members: BTreeMap<String, &RawValue> = serde_json::from_str(raw).ok()?;
                members.get(&key)?.get()
            }
            b'[' if key == "0" || !key.starts_with(['0', '+']) => {
                let elements: Vec<&RawValue> = serde_json::from_str(raw).ok()?;
                elements.get(key.parse::<usize>().ok()?)?.get()
            }
            _ => return None,
        };
    }
    Some(raw)
}

// ---- the real one, in the same words ----------------------------------------------------------

/// What the real one makes of the same message.
pub(crate) fn real(dialect: &Description, source: &Value, text: &str) -> Told {
    let written = |reply: Reply<'_>| {
        let Reply::Template(draft) = reply else {
            panic!("{reply:?}");
        };
        let tracked = source["track"].as_object().into_iter().flatten();
        let names = tracked.map(|(name, _)| name.as_str());
        let variables: Variables = names
            .chain(dialect.variables())
            .chain(dialect.computed())
            .map(|name| (name.into(), VARIABLE.into()))
            .collect();
        let values = Values {
            unix_ms: UNIX_MS,
            variables: &variables,
        };
        match dialect.render(&draft, &values, &mut Buffer::default()) {
            Some(Outgoing::Text(text)) => Some(text.to_owned()),
            Some(Outgoing::Binary(bytes)) => Some(format!("{:?}", hex(bytes))),
            None => panic!("every variable is known: {draft:?}"),
        }
    };
    match dialect.classify_text(text) {
        Class::Data => ("data", None),
        Class::Beat => ("beat", None),
        Class::Pong => ("pong", None),
        Class::Response(_) => ("response", None),
        Class::Ping(reply) => ("ping", written(reply)),
        Class::Composite(carried) => match (carried.data, carried.reply) {
            (true, None) => ("data", None),
            (true, Some(reply)) => ("ping+data", written(reply)),
            (false, Some(reply)) => ("ping", written(reply)),
            (false, None) => ("beat", None),
        },
        other => panic!("{other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

/// Holds the two against each other. A message that is a hello, too, is told by what else it is.
pub(crate) fn agree(name: &str, dialect: &Description, source: &Value, text: &str) {
    if is_beyond_value(source, text) {
        return;
    }
    let (real, mut plain) = (real(dialect, source, text), plain(source, text));
    if let Class::Composite(carried) = dialect.classify_text(text)
        && (!carried.hello.is_none() || carried.ending.is_some())
    {
        plain.0 = match plain.0 {
            "pong" => "beat",
            "response" => "data",
            other => other,
        };
    }
    assert_eq!(real, plain, "{name}: {text}");
}

/// JSON's grammar allows numbers of any size and halves of surrogate pairs, and so does a dialect;
/// `Value` holds neither, so that it cannot judge such a text.
fn is_beyond_value(source: &Value, text: &str) -> bool {
    let mut rules: Vec<&str> = source["rules"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|rule| rule["prefix"].as_str().unwrap_or_default())
        .collect();
    rules.dedup();
    if source["batch"] == true {
        let error = serde_json::from_str::<Value>(text).err();
        let text = error.map(|error| error.to_string()).unwrap_or_default();
        if text.contains("number out of range")
            || text.contains("surrogate")
            || text.contains("hex escape")
        {
            return true;
        }
    }
    let records: Vec<&str> = match source["separator"].as_str() {
        Some(separator) => text.split(separator).collect(),
        None => [text].into(),
    };
    records.into_iter().any(|record| {
        rules.iter().any(|prefix| {
            record.strip_prefix(prefix).is_some_and(|json| {
                let error = serde_json::from_str::<Value>(json).err();
                error.is_some_and(|error| {
                    let error = error.to_string();
                    let words = ["number out of range", "surrogate", "hex escape"];
                    words.iter().any(|word| error.contains(word))
                })
            })
        })
    })
}
