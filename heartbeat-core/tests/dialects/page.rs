//! `CATALOGUE.md` says what the data say. After a change of the data, `UPDATE=1` in the environment writes it anew.

use std::fmt::Write as _;

use heartbeat_core::{CatalogueEntry, DurationText, Rates, catalogue};
use serde_json::Value;

const HEAD: &str = "\
# The catalogue, as a page

Made from the data in `dialects/`, and held against them by a test; after a change of theirs
`UPDATE=1 cargo test -p heartbeat-core --test dialects page` writes it anew. [DIALECTS.md](DIALECTS.md) explains the words.

Who asks: the *client* by a message, the *service* by one, or neither, and *frames* do (the machine's own business). A *beat* is never
answered. In what a message looks like, `/op: \"ping\"` is the value at that place of the JSON; in bytes, `??` is any byte and `*` any
more of them. Behind the sources is the day on which the facts were last held against them.
";

fn code(text: &str) -> String {
    let text = text
        .replace('\n', "\\n")
        .replace('\r', "\\r")
        .replace('\u{1e}', "\\u001e")
        .replace('|', "\\|");
    match text.is_empty() {
        true => "the empty text".into(),
        false => format!("`{text}`"),
    }
}

/// A template or a text: its words, or `bytes …`.
fn said(value: &Value) -> String {
    match (value.as_str(), value["bytes"].as_str()) {
        (Some(text), _) => code(text),
        (_, Some(bytes)) => code(&format!("bytes {bytes}")),
        _ => "a frame".into(),
    }
}

/// What a rule's messages look like.
fn looks(rule: &Value) -> String {
    let condition = |(path, test): (&String, &Value)| match (test["exists"].as_bool(), &test["is"])
    {
        (Some(true), _) => format!("{path}: any"),
        (Some(false), _) => format!("{path}: none"),
        (None, Value::String(kind)) => format!("{path}: {kind}"),
        _ => format!("{path}: {test}"),
    };
    let prefix = rule["prefix"].as_str().map(|prefix| format!("{prefix}…"));
    let text = rule["text"].as_str().map(str::to_owned);
    let bytes = rule["bytes"].as_str().map(|bytes| format!("bytes {bytes}"));
    let json = rule["json"].as_object().map(|conditions| {
        let all: Vec<String> = conditions.iter().map(condition).collect();
        all.join(", ")
    });
    let all: Vec<String> = [text, bytes, prefix, json].into_iter().flatten().collect();
    code(&all.join(" "))
}

fn who_asks(source: &Value, entry: &CatalogueEntry) -> String {
    let rules = || source["rules"].as_array().into_iter().flatten();
    let ping = &source["ping"];
    let asks = ping.get("text").is_some() || ping.get("bytes").is_some();
    let is_beaten = !rules().any(|rule| rule.get("pong").is_some());
    let mut who = Vec::new();
    if rules().any(|rule| rule.get("reply").is_some()) {
        who.push("service");
    }
    match (asks, is_beaten || entry.unanswered) {
        (true, false) => who.push("client"),
        (true, true) => who.push("client beats"),
        (false, _) => {}
    }
    if rules().any(|rule| rule.get("beat").is_some()) {
        who.push("service beats");
    }
    if who.is_empty() {
        who.push("frames");
    }
    who.join(", ")
}

fn words(source: &Value) -> String {
    let mut words = Vec::new();
    let ping = &source["ping"];
    let rules = || source["rules"].as_array().into_iter().flatten();
    let pongs: Vec<String> = rules()
        .filter(|rule| rule.get("pong").is_some())
        .map(looks)
        .collect();
    if ping.get("text").is_some() || ping.get("bytes").is_some() {
        let text = ping.get("text").unwrap_or(ping);
        let answer = match pongs.is_empty() {
            true => String::new(),
            false => format!(" → {}", pongs.join(" or ")),
        };
        words.push(format!("{}{answer}", said(text)));
    }
    let replies = rules().filter(|rule| rule.get("reply").is_some());
    words.extend(replies.map(|rule| format!("{} → {}", looks(rule), said(&rule["reply"]))));
    let beats = rules().filter(|rule| rule.get("beat").is_some());
    words.extend(beats.map(|rule| format!("beat {}", looks(rule))));
    words.join("<br>")
}

fn how_often(source: &Value, entry: &CatalogueEntry) -> String {
    let ping = &source["ping"];
    let mut often = Vec::new();
    for (key, words) in [
        ("every", "every"),
        ("after_silence", "after silence of"),
        ("after_sending", "after our silence of"),
    ] {
        if let Some(time) = ping[key].as_str() {
            often.push(format!("{words} {time}"));
        }
    }
    if let (Some(interval), Some(basis)) = (entry.interval, &entry.interval_basis) {
        often.push(format!(
            "{} {}",
            basis.replace('-', " "),
            DurationText(interval)
        ));
    }
    often.join("; ")
}

fn what_ends_it(source: &Value, entry: &CatalogueEntry) -> String {
    let mut ends = Vec::new();
    if let Some(limit) = entry.server_timeout {
        ends.push(format!("silence of {}", DurationText(limit)));
    }
    if let Some(lifetime) = source["lifetime"].as_str() {
        ends.push(format!("age of {lifetime}"));
    }
    let rate = |what: &str, rates: Rates| {
        let rates = rates
            .iter()
            .map(|rate| format!("{} {what} in {}", rate.most, DurationText(rate.per)));
        format!("more than {}", rates.collect::<Vec<_>>().join(", or "))
    };
    let limits = entry.dialect.limits();
    ends.extend(limits.messages.map(|limit| rate("messages", limit)));
    ends.extend(limits.dials.map(|limit| rate("dials", limit)));
    ends.extend(
        limits
            .connections
            .map(|most| format!("more than {most} connections")),
    );
    let rules = source["rules"].as_array().into_iter().flatten();
    let announced = rules.filter(|rule| rule.get("ending").is_some());
    ends.extend(announced.map(|rule| {
        let within = rule["ending"]
            .as_str()
            .map(|time| format!(", {time} before"));
        let within = within.unwrap_or_default();
        format!("announced by {}{within}", looks(rule))
    }));
    for (key, name) in [("close_codes", "close"), ("http_statuses", "HTTP")] {
        let table = source[key].as_object().into_iter().flatten();
        ends.extend(table.map(|(code, verdict)| {
            let verdict = verdict.as_str().map_or(verdict.to_string(), str::to_owned);
            format!("{name} {code}: {verdict}")
        }));
    }
    ends.join("<br>")
}

/// A page by its host, a file of a repository by its name.
fn link(source: &str) -> String {
    let (url, file) = source.split_once(' ').unwrap_or((source, ""));
    let address = url.trim_start_matches("https://");
    let host = address.split('/').next().unwrap_or_default();
    let name = match address.strip_prefix("github.com/") {
        Some(repository) => repository,
        None => host,
    };
    let file = file.replace('|', "\\|");
    format!("[{name}]({url}) {file}").trim_end().to_owned()
}

fn page() -> String {
    let mut entries: Vec<CatalogueEntry> = catalogue().collect();
    entries.sort_by(|one, other| one.name.cmp(&other.name));
    let mut page = format!("{HEAD}\n{} entries.\n\n", entries.len());
    page += "| name | service | who asks | what is said | how often | what ends it | sources |\n";
    page += "|---|---|---|---|---|---|---|\n";
    for entry in &entries {
        let source: Value = serde_json::from_str(entry.dialect.as_json()).unwrap();
        let names = match entry.aliases.join(", ") {
            aliases if aliases.is_empty() => format!("`{}`", entry.name),
            aliases => format!("`{}`<br>{aliases}", entry.name),
        };
        let compression = entry.compression.as_ref();
        let service = match compression {
            Some(kind) => format!("{} ({kind})", entry.service),
            None => entry.service.clone(),
        };
        let sources: Vec<String> = entry.source.iter().map(|source| link(source)).collect();
        let _ = writeln!(
            page,
            "| {names} | {service} | {} | {} | {} | {} | {}<br>{} |",
            who_asks(&source, entry),
            words(&source),
            how_often(&source, entry),
            what_ends_it(&source, entry),
            sources.join("<br>"),
            entry.checked
        );
    }
    page
}

#[test]
fn the_documents_count_what_is_there() {
    let count = catalogue().count();
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    for (file, words) in [
        ("README.md", format!("[{count} products")),
        ("README.zh-CN.md", format!("[其中 {count} 个产品]")),
        ("docs/field.md", format!("each of the {count} entries")),
        (
            "CHANGELOG.md",
            format!("products more in the catalogue, {count} now"),
        ),
    ] {
        let text = std::fs::read_to_string(format!("{root}/{file}")).expect(file);
        assert!(text.contains(&words), "{file}: {words}");
    }
}

#[test]
fn the_page_says_what_the_data_say() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/CATALOGUE.md");
    let page = page();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, &page).expect("the page");
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    let mut lines = page.lines().zip(written.lines());
    let differs = lines.find(|(is, was)| is != was);
    assert!(
        page == written,
        "CATALOGUE.md is older than the data: UPDATE=1 cargo test -p heartbeat-core --test dialects page\n{differs:?}"
    );
}
