//! What the services of the catalogue announce about a connection: its times and its end, in messages of their own.

use std::collections::BTreeSet;
use std::time::Duration;

use heartbeat_core::{CatalogueEntry, Class, Composite, Dialect, Ping, catalogue};

fn composite<'a>(entry: &'a CatalogueEntry, message: &'a str) -> Composite<'a> {
    match entry.dialect.classify_text(message) {
        Class::Composite(composite) => composite,
        other => panic!("{}: {message} is {other:?}", entry.name),
    }
}

/// The entries that have a rule with this key.
fn entries_with(key: &str) -> BTreeSet<String> {
    let has = |entry: &CatalogueEntry| {
        let source: serde_json::Value = serde_json::from_str(entry.dialect.as_json()).unwrap();
        let mut rules = source["rules"].as_array().into_iter().flatten();
        rules.any(|rule| rule.get(key).is_some())
    };
    catalogue()
        .filter(has)
        .map(|entry| entry.name.clone())
        .collect()
}

#[test]
fn each_entry_reads_the_end_that_its_service_announces() {
    let soon = 10_000;
    let announced: &[(&str, &str, u64)] = &[
        (
            "binance",
            r#"{"e":"serverShutdown","E":1770123456789}"#,
            soon,
        ),
        (
            "binance",
            r#"{"stream":"btcusdt@trade","data":{"e":"serverShutdown","E":1770123456789}}"#,
            soon,
        ),
        (
            "binance-api",
            r#"{"event":{"e":"serverShutdown","E":1770123456789}}"#,
            soon,
        ),
        (
            "bitfinex",
            r#"{"event":"info","code":20051,"msg":"Stop/Restart Websocket Server"}"#,
            soon,
        ),
        (
            "bitstamp",
            r#"{"event":"bts:request_reconnect","channel":"","data":""}"#,
            soon,
        ),
        ("discord", r#"{"t":null,"s":null,"op":7,"d":null}"#, soon),
        ("fluxer", r#"{"op":7,"d":null}"#, soon),
        ("gemini-live", r#"{"goAway":{"timeLeft":"49.5s"}}"#, 49_500),
        (
            "kook",
            r#"{"s":5,"d":{"code":40108,"err":"Invalid SN"}}"#,
            soon,
        ),
        (
            "lighter",
            r#"{"type":"shutdown","close_in_ms":15000}"#,
            15_000,
        ),
        (
            "okx",
            r#"{"event":"notice","code":"64008","msg":"The connection will soon be closed.","connId":"a4d3ae55"}"#,
            30_000,
        ),
        (
            "predict-fun",
            r#"{"type":"M","topic":"system","data":{"event":"reconnect","graceMs":25000}}"#,
            25_000,
        ),
        ("qq-bot", r#"{"op":7}"#, soon),
        (
            "signalr",
            "{\"type\":7,\"allowReconnect\":true}\u{1e}",
            soon,
        ),
        (
            "slack-socket-mode",
            r#"{"type":"disconnect","reason":"warning","debug_info":{"host":"applink-7fc4fdbb64"}}"#,
            10_000,
        ),
        (
            "trpc",
            r#"{"id":null,"method":"reconnect","params":null}"#,
            soon,
        ),
        ("twitch-irc", ":tmi.twitch.tv RECONNECT\r\n", soon),
        (
            "twitch-eventsub",
            r#"{"metadata":{"message_type":"session_reconnect"},"payload":{"session":{"reconnect_url":"wss://x"}}}"#,
            30_000,
        ),
    ];
    for (name, message, within_ms) in announced {
        let entry = CatalogueEntry::named(name).unwrap();
        let ending = composite(&entry, message).ending;
        assert_eq!(
            ending,
            Some(Duration::from_millis(*within_ms)),
            "{name}: {message}"
        );
    }
    let tested: BTreeSet<String> = announced.iter().map(|row| row.0.to_owned()).collect();
    assert_eq!(tested, entries_with("ending"));
}

#[test]
fn each_entry_reads_the_times_that_its_service_announces() {
    /// A time for pings, or the longest silence; milliseconds.
    enum Told {
        Every(u64),
        Idle(u64),
    }
    use Told::{Every, Idle};
    let announced: &[(&str, &str, Told)] = &[
        (
            "ably",
            r#"{"action":4,"connectionId":"a","connectionDetails":{"maxIdleInterval":15000}}"#,
            Idle(25_000),
        ),
        (
            "centrifugo",
            r#"{"id":1,"connect":{"client":"a","version":"5","ping":25,"pong":true}}"#,
            Idle(35_000),
        ),
        (
            "discord",
            r#"{"t":null,"s":null,"op":10,"d":{"heartbeat_interval":41250}}"#,
            Every(41_250),
        ),
        (
            "discord-voice",
            r#"{"op":8,"d":{"v":8,"heartbeat_interval":13750.0}}"#,
            Every(13_750),
        ),
        (
            "engine-io",
            r#"0{"sid":"a","upgrades":[],"pingInterval":25000,"pingTimeout":20000}"#,
            Idle(45_000),
        ),
        (
            "engine-io-v3",
            r#"0{"sid":"a","upgrades":[],"pingInterval":25000,"pingTimeout":5000}"#,
            Every(25_000),
        ),
        (
            "fhircast",
            r#"{"id":"b","event":{"context":[{"key":"period","decimal":"20"}],"hub.topic":"t","hub.event":"Heartbeat"}}"#,
            Idle(25_000),
        ),
        (
            "fhircast",
            r#"{"id":"a","event":{"context":[{"key":"period","decimal":"10"}],"hub.topic":"t","hub.event":"heartbeat"}}"#,
            Idle(15_000),
        ),
        (
            "ewelink",
            r#"{"error":0,"apikey":"a","config":{"hb":1,"hbInterval":145},"sequence":"1571141530100"}"#,
            Every(145_000),
        ),
        (
            "fluxer",
            r#"{"op":10,"d":{"heartbeat_interval":41250}}"#,
            Every(41_250),
        ),
        (
            "gains",
            r#"{"op":"hello","chain":"arbitrum","heartbeatMs":15000}"#,
            Every(15_000),
        ),
        (
            "appsync",
            r#"{"type":"connection_ack","payload":{"connectionTimeoutMs":300000}}"#,
            Idle(300_000),
        ),
        (
            "kucoin-pro",
            r#"{"sessionId":"7245afa1","message":"welcome","pingInterval":30000}"#,
            Every(30_000),
        ),
        (
            "ocpp-j",
            r#"[3,"19223201",{"status":"Accepted","currentTime":"2013-02-01T20:53:32.486Z","interval":300}]"#,
            Every(300_000),
        ),
        (
            "pusher",
            r#"{"event":"pusher:connection_established","data":"{\"socket_id\":\"1.2\",\"activity_timeout\":120}"}"#,
            Every(120_000),
        ),
        (
            "qq-bot",
            r#"{"op":10,"d":{"heartbeat_interval":41250}}"#,
            Every(41_250),
        ),
        (
            "twitch-eventsub",
            r#"{"metadata":{"message_type":"session_welcome"},"payload":{"session":{"keepalive_timeout_seconds":10}}}"#,
            Idle(15_000),
        ),
    ];
    for (name, message, told) in announced {
        let entry = CatalogueEntry::named(name).unwrap();
        let hello = composite(&entry, message).hello;
        let period = |ping| match ping {
            Ping::Every(period) | Ping::AfterSilence(period) => Some(period),
            Ping::Never => None,
        };
        let (found, ms) = match told {
            Every(ms) => (hello.ping.and_then(period), *ms),
            Idle(ms) => (hello.idle_timeout, *ms),
        };
        assert_eq!(found, Some(Duration::from_millis(ms)), "{name}: {message}");
    }
    let tested: BTreeSet<String> = announced.iter().map(|row| row.0.to_owned()).collect();
    assert_eq!(tested, entries_with("hello"));
}
