//! Dialects in the machine, in virtual time: when it asks, what it believes of a hello, what is whose.

use std::time::Duration;

use heartbeat_core::{
    AbortReason, Action, Buffer, Config, ConnId, Description, Dialect, Event, Heartbeat, Hello,
    Instant, Message, Outgoing, PingMessage, Reply, Values, Variables,
};

const CONN: ConnId = ConnId::new(1);

/// An open connection since 0 s, under the times that the dialect asks for.
struct Client {
    machine: Heartbeat<Config, Description>,
    variables: Variables,
    /// What the machine did when it opened.
    opened: Vec<String>,
}

impl Client {
    fn of(name: &str) -> Self {
        Self::new(
            Description::named(name).unwrap_or_else(|| panic!("no dialect {name}")),
            7,
        )
    }

    fn new(dialect: Description, seed: u64) -> Self {
        let config = dialect.configure(&Config::default()).unwrap();
        let mut machine = Heartbeat::new(config, dialect, seed, Instant::ORIGIN);
        let _ = machine.step(Instant::ORIGIN, Event::Tick);
        let mut client = Self {
            machine,
            variables: Variables::new(),
            opened: Vec::new(),
        };
        client.opened = client.step(Duration::ZERO, Event::Connected(CONN));
        client
    }

    fn step(&mut self, at: Duration, event: Event<'_>) -> Vec<String> {
        if let Event::Received(_, Message::Text(text)) = event {
            self.machine.dialect().track(text, &mut self.variables);
        }
        let step = self.machine.step(Instant::ORIGIN.saturating_add(at), event);
        let actions: Vec<Action<'_>> = step.actions.into_iter().collect();
        let values = Values {
            unix_ms: 1_700_000_000_123,
            variables: &self.variables,
        };
        let written =
            |draft| match self
                .machine
                .dialect()
                .render(&draft, &values, &mut Buffer::default())
            {
                Some(Outgoing::Text(text)) => text.to_owned(),
                other => format!("{other:?}"),
            };
        let told = actions.into_iter().filter_map(|action| match action {
            Action::SendPong {
                reply: Reply::Template(draft),
                ..
            } => Some(format!("pong {}", written(draft))),
            Action::SendPing {
                ping: PingMessage::Template(draft),
                ..
            } => Some(format!("ping {}", written(draft))),
            Action::SendPing { .. } => Some("ping frame".into()),
            Action::Abort { reason, .. } => Some(reason.to_string()),
            _ => None,
        });
        told.collect()
    }

    fn hear(&mut self, at: Duration, text: &str) -> Vec<String> {
        self.step(at, Event::Received(CONN, Message::Text(text)))
    }

    /// Ticks as asked until something is to be told, and when that was.
    fn next(&mut self) -> (Duration, Vec<String>) {
        loop {
            let at = self
                .machine
                .wake()
                .expect("open")
                .saturating_duration_since(Instant::ORIGIN);
            let told = self.step(at, Event::Tick);
            if !told.is_empty() {
                return (at, told);
            }
        }
    }
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

#[test]
fn a_question_is_asked_in_the_services_words_and_its_answer_measures() {
    let mut client = Client::of("phemex");
    assert_eq!(
        client.next(),
        (
            secs(5),
            vec![r#"ping {"id":1,"method":"server.ping","params":[]}"#.into()]
        )
    );
    assert_eq!(
        client.hear(secs(6), r#"{"error":null,"id":1,"result":"pong"}"#),
        [""; 0]
    );
    assert_eq!(client.machine.stats().rtt.last, secs(1));
    assert_eq!(
        client.next().1,
        [r#"ping {"id":2,"method":"server.ping","params":[]}"#]
    );
}

#[test]
fn a_reply_with_an_id_takes_the_next_one_of_the_same_row() {
    let mut client = Client::of("deribit");
    assert_eq!(client.machine.take_id(), 1, "the application's");
    let test = r#"{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"test_request"}}"#;
    assert_eq!(
        client.hear(secs(1), test),
        [r#"pong {"jsonrpc":"2.0","id":2,"method":"public/test","params":{}}"#]
    );
    assert_eq!(
        client.next().1,
        [r#"ping {"jsonrpc":"2.0","id":3,"method":"public/test","params":{}}"#]
    );
}

#[test]
fn a_response_is_a_pong_only_with_the_id_of_our_question() {
    let mut client = Client::of("binance-api");
    let (at, asked) = client.next();
    assert_eq!(asked, [r#"ping {"id":"1","method":"ping"}"#]);
    assert!(client.machine.is_answer("\"1\"") && client.machine.is_answer("1"));
    for other in ["\"2\"", "1.0", "null", "\"\""] {
        assert!(!client.machine.is_answer(other), "{other}");
        let _ = client.hear(
            at,
            &format!(r#"{{"id":{other},"status":200,"result":{{}}}}"#),
        );
    }
    assert_eq!(client.machine.stats().pongs_received, 0);
    let _ = client.hear(at + secs(1), r#"{"id":"1","status":200,"result":{}}"#);
    assert_eq!(client.machine.stats().pongs_received, 1);
    assert!(!client.machine.is_answer("1"), "once");
}

#[test]
fn a_hello_sets_the_period_and_its_first_beat_is_drawn() {
    let mut firsts = Vec::new();
    for seed in 0..50 {
        let mut client = Client::new(Description::named("discord").unwrap(), seed);
        let _ = client.hear(
            Duration::ZERO,
            r#"{"op":10,"d":{"heartbeat_interval":40000}}"#,
        );
        let _ = client.hear(Duration::ZERO, r#"{"op":0,"s":5,"t":"READY","d":{}}"#);
        let (first, beat) = client.next();
        assert_eq!(beat, [r#"ping {"op":1,"d":5}"#]);
        assert!(first <= secs(40), "{first:?}");
        let _ = client.hear(first, r#"{"op":11}"#);
        assert_eq!(client.next().0, first + secs(40));
        firsts.push(first);
    }
    firsts.sort();
    assert!(firsts[5] < secs(12) && firsts[45] > secs(28), "{firsts:?}");
}

#[test]
fn a_first_question_at_once_goes_out_with_the_connection() {
    let mut client = Client::of("mattermost");
    assert_eq!(client.opened, [r#"ping {"action":"ping","seq":1}"#]);
    assert_eq!(client.next().0, secs(30));
}

#[test]
fn a_hello_sets_how_long_silence_may_last() {
    let mut client = Client::of("engine-io");
    assert_eq!(
        client.hear(
            secs(1),
            r#"0{"sid":"a","pingInterval":5000,"pingTimeout":2000}"#
        ),
        [""; 0]
    );
    assert_eq!(
        client.next(),
        (secs(8), vec![AbortReason::IdleTimeout.to_string()])
    );
    // The next connection has not heard anything yet.
    let mut client = Client::of("engine-io");
    assert_eq!(
        client.next(),
        (secs(45), vec![AbortReason::IdleTimeout.to_string()])
    );
}

#[test]
fn a_hello_inside_a_string_is_read() {
    let mut client = Client::of("pusher");
    let hello = r#"{"event":"pusher:connection_established","data":"{\"socket_id\":\"1.2\",\"activity_timeout\":20}"}"#;
    let _ = client.hear(secs(1), hello);
    assert_eq!(
        client.next(),
        (
            secs(21),
            vec![r#"ping {"event":"pusher:ping","data":{}}"#.into()]
        )
    );
    assert_eq!(
        client.next(),
        (secs(51), vec!["pong_timeout".into()]),
        "30 s later, as Pusher says"
    );
}

#[test]
fn a_hostile_hello_stays_within_limits() {
    for (name, hello) in [
        ("engine-io", r#"0{"pingInterval":1e300,"pingTimeout":0}"#),
        (
            "engine-io",
            r#"0{"pingInterval":99999999999,"pingTimeout":1}"#,
        ),
        ("engine-io", r#"0{"pingInterval":-5,"pingTimeout":1}"#),
        ("engine-io", r#"0{"pingInterval":0,"pingTimeout":0}"#),
        ("engine-io", r#"0{"pingInterval":0.000001,"pingTimeout":0}"#),
        ("discord", r#"{"op":10,"d":{"heartbeat_interval":0.01}}"#),
        ("discord", r#"{"op":10,"d":{"heartbeat_interval":1e18}}"#),
        ("discord", r#"{"op":10,"d":{"heartbeat_interval":"40000"}}"#),
        (
            "pusher",
            r#"{"event":"pusher:connection_established","data":"{\"activity_timeout\":86400}"}"#,
        ),
        (
            "pusher",
            r#"{"event":"pusher:connection_established","data":"[[[["}"#,
        ),
    ] {
        let mut client = Client::of(name);
        let (mut last, mut asked) = (Duration::ZERO, 0);
        let _ = client.hear(Duration::ZERO, hello);
        loop {
            let (at, told) = client.next();
            assert!(at <= Hello::MAX, "{hello}: deaf until {at:?}");
            if told.iter().any(|told| told.ends_with("timeout")) {
                break;
            }
            asked += 1;
            assert!(
                asked == 1 || at >= last + Hello::MIN,
                "{hello}: asks again after {:?}",
                at - last
            );
            last = at;
        }
    }
}

#[test]
fn a_hello_repeated_does_not_put_off_the_beat() {
    let mut client = Client::of("gains");
    let hello = r#"{"op":"hello","heartbeatMs":10000}"#;
    for at in 0..10 {
        assert_eq!(client.hear(secs(at), hello), [""; 0]);
    }
    assert_eq!(client.next().0, secs(10));
}

#[test]
fn what_is_never_answered_is_no_question() {
    // Beats go out after silence of our own, pings by frame after silence of the service's, and a
    // service that counts messages does not see the frames.
    let mut client = Client::of("firebase");
    let (mut beats, mut at) = (Vec::new(), Duration::ZERO);
    while at < secs(170) {
        let (now, told) = client.next();
        at = now;
        match told.first().map(String::as_str) {
            Some("ping 0") => beats.push(at.as_millis()),
            Some("ping frame") => assert_eq!(
                client.step(at, Event::Received(CONN, Message::Pong(&[]))),
                [""; 0]
            ),
            other => panic!("{other:?}"),
        }
    }
    // At 90 s the question goes first, and the beat a millisecond later.
    assert_eq!(beats, [45_000, 90_001, 135_001]);
    // At an interval they do, too, and still no verdict hangs on them.
    let mut client = Client::of("infoway");
    let _ = client.hear(secs(10), "data");
    assert_eq!(
        client.next(),
        (secs(30), vec![r#"ping {"code":10010,"trace":"1"}"#.into()])
    );
}

#[test]
fn a_ping_that_shares_its_message_with_data_is_answered() {
    let mut client = Client::of("centrifugo");
    assert_eq!(client.hear(secs(1), "{}\n{\"push\":{}}"), ["pong {}"]);
}

#[test]
fn a_services_own_close_codes_decide() {
    use heartbeat_core::RetryPolicy;
    let discord = Description::named("discord").unwrap();
    assert_eq!(discord.close_policy(4004), Some(RetryPolicy::Never));
    assert_eq!(discord.close_policy(4012), Some(RetryPolicy::Never));
    assert_eq!(discord.close_policy(4009), None);
    assert_eq!(
        Description::named("pusher").unwrap().close_policy(4201),
        Some(RetryPolicy::Backoff)
    );
}

fn described(text: &str) -> Client {
    Client::new(Description::from_json(text).expect("a description"), 7)
}

/// Its answer is what counts, so it is a question, and the pong timeout runs.
#[test]
fn a_periodic_question_that_is_answered_is_a_probe() {
    let mut client = Client::of("phemex");
    let pong_timeout = client.machine.config().pong_timeout().expect("asks");
    let (asked, _) = client.next();
    assert_eq!(client.machine.stats().probes_sent, 1);
    let mut last = (asked, Vec::new());
    while last.1.iter().all(|told| told != "pong_timeout") {
        assert!(last.0 < asked + pong_timeout, "{last:?}");
        last = client.next();
    }
    assert_eq!(last.0, asked + pong_timeout);
}

/// A question after the verdict would be none.
#[test]
fn a_hellos_period_that_is_no_shorter_than_its_silence_becomes_half_of_it() {
    let dialect = r#"{"rules": [{"json": {"/hello": 1},
        "hello": {"idle_timeout": {"ms": "/idle"}, "ping": {"ms": "/every"}}}]}"#;
    for (every, expected) in [(19_999, 19_999), (20_000, 10_000), (30_000, 10_000)] {
        let mut client = described(dialect);
        let hello = format!(r#"{{"hello": 1, "idle": 20000, "every": {every}}}"#);
        assert_eq!(client.hear(secs(1), &hello), [""; 0]);
        let (at, told) = client.next();
        assert_eq!(
            (at, told),
            (
                secs(1) + Duration::from_millis(expected),
                vec!["ping frame".into()]
            )
        );
        // Nothing else was asked for: no question after a silence.
        assert_eq!(client.machine.stats().pings_sent, 1);
    }
}

#[test]
fn a_beat_is_life_and_no_data() {
    let dialect = r#"{"rules": [{"text": "beat", "beat": true}]}"#;
    let dialect = Description::from_json(dialect).expect("a description");
    let config = Config::builder()
        .idle_timeout(secs(20))
        .ping(heartbeat_core::Ping::Never)
        .check_interval(None)
        .data_timeout(secs(60))
        .build()
        .expect("consistent");
    let mut machine = Heartbeat::new(config, dialect, 7, Instant::ORIGIN);
    let _ = machine.step(Instant::ORIGIN, Event::Tick);
    let _ = machine.step(Instant::ORIGIN, Event::Connected(CONN));
    for second in 1..60 {
        let now = Instant::ORIGIN.saturating_add(secs(second));
        let beat = Event::Received(CONN, Message::Text("beat"));
        assert_eq!(machine.step(now, beat).actions.len(), 0, "{second} s");
    }
    let now = Instant::ORIGIN.saturating_add(secs(60));
    let step = machine.step(now, Event::Received(CONN, Message::Text("beat")));
    assert!(
        matches!(
            step.actions[0],
            Action::Abort {
                reason: AbortReason::DataTimeout,
                ..
            }
        ),
        "{step:?}"
    );
}

/// An application that counts for both sets the row, and reads it after the step.
#[test]
fn a_row_of_ids_goes_on_from_where_it_is_set() {
    let mut client = Client::of("phemex");
    assert_eq!(client.machine.next_id(), 1);
    client.machine.set_next_id(41);
    assert_eq!(client.machine.next_id(), 41);
    assert_eq!(client.machine.take_id(), 41);
    assert_eq!(
        client.next().1,
        [r#"ping {"id":42,"method":"server.ping","params":[]}"#]
    );
    assert_eq!(client.machine.next_id(), 43);
}
