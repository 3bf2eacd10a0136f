//! Services without an entry, described in the format: what their protocols say, and what is answered.

use heartbeat_core::{
    Buffer, Class, Description, Dialect, Outgoing, Reply, TemplateRef, Values, Variables,
};

fn load(json: &str) -> Description {
    Description::from_json(json).expect("a description")
}

/// The message of a template, as text or as hex.
fn said(dialect: &Description, mut template: TemplateRef<'_>) -> String {
    template.id = 42;
    let variables = Variables::new();
    let values = Values {
        unix_ms: 1_700_000_000_123,
        variables: &variables,
    };
    match dialect.render(&template, &values, &mut Buffer::default()) {
        Some(Outgoing::Text(text)) => text.into(),
        Some(Outgoing::Binary(bytes)) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        None => panic!("a variable is missing"),
    }
}

fn asks(dialect: &Description) -> String {
    said(dialect, dialect.ping().message.expect("a message"))
}

fn reply(dialect: &Description, class: Class<'_>) -> String {
    let reply = match class {
        Class::Ping(reply) => Some(reply),
        Class::Composite(composite) => composite.reply,
        other => panic!("{other:?}"),
    };
    match reply.expect("a reply") {
        Reply::Template(template) => said(dialect, template),
        other => panic!("{other:?}"),
    }
}

/// A header in text, in a binary message: the reply repeats the rest of it.
#[test]
fn roons_ping_is_answered_with_its_request_id() {
    let dialect = load(
        r#"{"rules": [{
            "bytes": "4d4f4f2f31205245515545535420636f6d2e726f6f6e6c6162732e70696e673a312f70696e670a526571756573742d49643a20*",
            "reply": {"bytes": "4d4f4f2f3120434f4d504c45544520537563636573730a526571756573742d49643a20${51..}"}
        }]}"#,
    );
    let ping = b"MOO/1 REQUEST com.roonlabs.ping:1/ping\nRequest-Id: 17\n\n";
    let pong: String = b"MOO/1 COMPLETE Success\nRequest-Id: 17\n\n"
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(reply(&dialect, dialect.classify_binary(ping)), pong);
    let other = b"MOO/1 REQUEST com.roonlabs.transport:2/zone\nRequest-Id: 17\n\n";
    assert_eq!(dialect.classify_binary(other), Class::Data);
}

/// Protobuf: a request for `/v1/keepalive` with a fixed id, and the response with status 200 to that id alone.
#[test]
fn signals_keepalive_is_a_request_with_an_id_of_its_own() {
    let dialect = load(
        r#"{
            "rules": [{"bytes": "08021a??080110c801*", "pong": true}],
            "ping": {"bytes": "080112160a03474554120d2f76312f6b656570616c6976652001", "every": "30s"}
        }"#,
    );
    assert!(asks(&dialect).starts_with("08011216"));
    assert_eq!(
        asks(&dialect).len() / 2,
        4 + 0x16,
        "the request's length is right"
    );
    let response = |id| [8, 2, 0x1a, 9, 8, id, 0x10, 0xc8, 1, 0x1a, 2, b'O', b'K'];
    assert_eq!(dialect.classify_binary(&response(1)), Class::Pong);
    assert_eq!(dialect.classify_binary(&response(2)), Class::Data);
}

/// Bayeux: each answer to `/meta/connect` is answered by the next one.
#[test]
fn cometds_connects_follow_one_another() {
    let dialect = load(
        r#"{
            "batch": true,
            "track": {"client": {"path": "/0/clientId", "initial": "null"}},
            "rules": [{
                "json": {"/channel": "/meta/connect", "/successful": true},
                "reply": "[{\"channel\":\"/meta/connect\",\"connectionType\":\"websocket\",\"id\":\"${id}\",\"clientId\":${/clientId}}]"
            }]
        }"#,
    );
    let answer = r#"[{"channel":"/meta/connect","clientId":"a1","successful":true,"id":"3","advice":{"timeout":30000}}]"#;
    assert_eq!(
        reply(&dialect, dialect.classify_text(answer)),
        r#"[{"channel":"/meta/connect","connectionType":"websocket","id":"42","clientId":"a1"}]"#
    );
    let data = r#"[{"channel":"/stock/GOOG","data":{"successful":true}}]"#;
    assert_eq!(dialect.classify_text(data), Class::Data);
}

/// A control channel is an empty line, and JSON behind it.
#[test]
fn cockpits_ping_is_answered_where_its_fields_are_known() {
    let dialect = load(
        r#"{"rules": [
            {"prefix": "\n", "json": {"/command": "ping", "/channel": {"exists": true}},
             "reply": "\n{\"command\":\"pong\",\"channel\":${/channel}}"},
            {"prefix": "\n", "json": {"/command": "ping"}, "reply": "\n{\"command\":\"pong\"}"}
        ]}"#,
    );
    let answer = |text| reply(&dialect, dialect.classify_text(text));
    assert_eq!(
        answer("\n{\"command\":\"ping\"}"),
        "\n{\"command\":\"pong\"}"
    );
    assert_eq!(
        answer("\n{\"command\":\"ping\",\"channel\":\"a5\"}"),
        "\n{\"command\":\"pong\",\"channel\":\"a5\"}"
    );
    let data = "a5\n{\"command\":\"ping\"}";
    assert_eq!(dialect.classify_text(data), Class::Data);
}

/// Pongs in an envelope, with a word of their own, or with the ping's word.
#[test]
fn pongs_in_envelopes_are_no_data() {
    for (dialect, ping, pong, data) in [
        (
            r#"{"rules": [{"json": {"/topic": "aws/heartbeat"}, "pong": true}],
                "ping": {"text": "{\"topic\":\"aws/heartbeat\"}", "every": "10s"}}"#,
            r#"{"topic":"aws/heartbeat"}"#,
            r#"{"topic":"aws/heartbeat","content":""}"#,
            r#"{"topic":"aws/chat","content":"aws/heartbeat"}"#,
        ),
        (
            r#"{"rules": [{"json": {"/topicName": "channel.metadata", "/eventBody/message": "pong"}, "pong": true}],
                "ping": {"text": "{\"message\":\"ping\"}", "every": "30s"}}"#,
            r#"{"message":"ping"}"#,
            r#"{"topicName":"channel.metadata","eventBody":{"message":"pong"}}"#,
            r#"{"topicName":"v2.users.a.presence","eventBody":{"message":"pong"}}"#,
        ),
        (
            r#"{"rules": [{"json": {"/op": "ping", "/topics/0/message": "pong"}, "pong": true}],
                "ping": {"text": "{\"op\":\"ping\"}", "every": "30s"}}"#,
            r#"{"op":"ping"}"#,
            r#"{"op":"ping","connectionId":"b1","topics":[{"success":true,"name":"ping","message":"pong"}]}"#,
            r#"{"op":"subscribe","topics":[{"success":true,"name":"ping","message":"pong"}]}"#,
        ),
        (
            r#"{"rules": [{"json": {"/result": "pong"}, "pong": {"id": "/id"}}],
                "ping": {"text": "{\"id\":${id},\"method\":\"server.ping\",\"params\":[]}", "every": "20s"}}"#,
            r#"{"id":42,"method":"server.ping","params":[]}"#,
            r#"{"error":null,"result":"pong","id":42}"#,
            r#"{"error":null,"result":{"status":"success"},"id":42}"#,
        ),
    ] {
        let dialect = load(dialect);
        assert_eq!(asks(&dialect), ping);
        let class = dialect.classify_text(pong);
        assert!(
            matches!(class, Class::Pong | Class::Response("42")),
            "{pong}: {class:?}"
        );
        assert_eq!(dialect.classify_text(data), Class::Data, "{data}");
    }
}
