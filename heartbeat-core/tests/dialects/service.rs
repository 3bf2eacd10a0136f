//! A service as a whole: what its own times and a configuration come to together, and what contradicts.

use std::time::Duration;

use heartbeat_core::{
    AnyDialect, CatalogueEntry, Config, Contradiction, Description, Instant, Lint, Ping, Rate,
    Rates, catalogue,
};

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn named(name: &str) -> AnyDialect {
    name.parse().expect("in the catalogue")
}

fn described(json: &str) -> AnyDialect {
    Description::from_json(json).expect("valid").into()
}

fn config(json: &str) -> Config {
    Config::from_json(json).expect("consistent")
}

#[test]
fn each_service_gets_its_own_times_where_nothing_was_set() {
    for entry in catalogue() {
        let own = entry.dialect.configure(&Config::default()).expect("fits");
        let lifetime = entry.dialect.lifetime();
        let own = own.to_builder().lifetime(lifetime).build().expect("fits");
        let name = entry.name.clone();
        let fitted = AnyDialect::from(entry).fit(&Config::default());
        assert_eq!(fitted, Ok((own, None)), "{name}");
    }
    let base = Config::brisk();
    assert_eq!(AnyDialect::JsonType.fit(&base), Ok((base.clone(), None)));
    assert_eq!(AnyDialect::Frames.fit(&base), Ok((base.clone(), None)));
}

#[test]
fn what_a_configuration_sets_stays_where_the_service_allows_it() {
    let okx = named("okx");
    let (own, _) = okx.fit(&Config::default()).expect("fits");
    let set = config(
        r#"{"idle_timeout": "70s", "pong_timeout": "3s", "connect_timeout": "4s", "max_attempts": 2}"#,
    );
    let (fitted, doubt) = okx.fit(&set).expect("fits");
    assert_eq!(doubt, None);
    assert_eq!(fitted.idle_timeout(), secs(70));
    assert_eq!(fitted.pong_timeout(), Some(secs(3)));
    assert_eq!(fitted.connect_timeout(), secs(4));
    assert_eq!(fitted.max_attempts(), Some(2));
    assert_eq!(fitted.ping(), own.ping(), "left at its default");
    let sooner = config(r#"{"ping": {"every": "5s"}}"#);
    let (fitted, doubt) = okx.fit(&sooner).expect("fits");
    assert_eq!((fitted.ping(), doubt), (Ping::Every(secs(5)), None));
    let beat = described(r#"{"ping": {"text": "p", "after_sending": "20s"}}"#);
    let (fitted, _) = beat.fit(&config(r#"{"keepalive": "9s"}"#)).expect("fits");
    assert_eq!(fitted.keepalive(), Some(secs(9)));
    let (fitted, _) = beat.fit(&Config::default()).expect("fits");
    assert_eq!(fitted.keepalive(), Some(secs(20)));
}

#[test]
fn what_contradicts_a_service_is_named_with_both_values() {
    let every = r#"{"ping": {"text": "p", "every": "54s"}}"#;
    for (service, base, words) in [
        (
            named("kucoin"),
            Config::brisk(),
            "`ping` of the configuration is after 5s of silence, which does not go with kucoin: a ping is sent only \
             after silence of kucoin's, which wants to hear one every 18s",
        ),
        (
            described(every),
            config(r#"{"idle_timeout": "40s"}"#),
            "with the times of the service, `ping` is 54s: it must be shorter than `idle_timeout`, which is 40s",
        ),
        (
            named("okx"),
            config(r#"{"ping": {"every": "31s"}}"#),
            "`ping` of the configuration is every 31s, which does not go with okx: a ping is sent after 31s, and okx \
             closes a connection on which it hears nothing for 30s",
        ),
        (
            described(every),
            config(r#"{"ping": {"every": "60s"}}"#),
            "a ping is sent every 60s, and the service wants one every 54s",
        ),
        (
            described(every),
            config(r#"{"ping": "never"}"#),
            "`ping` of the configuration is never, and the service wants one every 54s",
        ),
        (
            described(r#"{"ping": {"text": "p", "after_sending": "20s"}}"#),
            config(r#"{"keepalive": "25s"}"#),
            "`keepalive` of the configuration is 25s, and the service wants to hear something every 20s",
        ),
    ] {
        let told = service.fit(&base).expect_err(words).to_string();
        assert!(told.contains(words), "{told}\n{words}");
    }
    let sooner = r#"{"idle_timeout": "15s", "ping": {"every": "5s"}, "pong_timeout": "5s"}"#;
    assert!(described(every).fit(&config(sooner)).is_ok());
}

#[test]
fn a_service_that_is_only_heard_is_given_the_time_between_two_of_its_beats() {
    let mut entry = CatalogueEntry::named("okx").expect("in the catalogue");
    entry.name = "beats".into();
    entry.interval = Some(secs(30));
    entry.server_timeout = None;
    entry.dialect =
        Description::from_json(r#"{"rules": [{"text": "beat", "beat": true}], "ping": "never"}"#)
            .expect("valid");
    let beats = AnyDialect::from(entry);
    let silent = |time| config(&format!(r#"{{"idle_timeout": "{time}", "ping": "never"}}"#));
    let told = beats.fit(&silent("30s")).unwrap_err();
    assert!(matches!(told, Contradiction::Silence { .. }), "{told}");
    assert_eq!(
        told.to_string(),
        "`idle_timeout` of the configuration is 30s, nothing is asked, and beats says something every 30s"
    );
    assert!(beats.fit(&silent("31s")).is_ok());
}

#[test]
fn what_a_service_may_object_to_is_a_doubt() {
    let mut okx = CatalogueEntry::named("okx").expect("in the catalogue");
    let wanted = config(r#"{"ping": {"every": "26s"}}"#);
    okx.interval = None;
    let (_, doubt) = AnyDialect::from(okx.clone()).fit(&wanted).expect("fits");
    assert!(matches!(doubt, Some(Lint::NoMargin { .. })), "{doubt:?}");
    okx.server_timeout = None;
    let (_, doubt) = AnyDialect::from(okx).fit(&wanted).expect("fits");
    assert!(matches!(doubt, Some(Lint::TooRare { .. })), "{doubt:?}");
}

#[test]
fn an_unknown_name_says_which_were_near() {
    let told = |name: &str| name.parse::<AnyDialect>().unwrap_err().to_string();
    assert_eq!(
        told("huoby"),
        "no service is called \"huoby\"; did you mean `huobi`?"
    );
    assert!(
        told("Binance").starts_with("no service is called \"Binance\"; did you mean `binance`, `")
    );
    assert_eq!(
        told("qqqqqqq"),
        "no service is called \"qqqqqqq\"; the catalogue lists those that are known"
    );
    let value = serde_json::Value::from("kukoin");
    assert_eq!(
        AnyDialect::from_value(&value).unwrap_err().to_string(),
        "`dialect`: no service is called \"kukoin\"; did you mean `kucoin`?"
    );
}

/// However turns are asked for, no span of a rate's time holds more than it allows.
#[test]
fn a_limiter_of_rates_keeps_to_each_of_them_in_every_span() {
    let rate = |(most, per)| Rate {
        most,
        per: secs(per),
    };
    let single = [(1, 10), (2, 10), (3, 1), (10, 7), (300, 300), (500, 300)];
    let mut all: Vec<Rates> = single.map(|single| rate(single).into()).into();
    for pair in [
        [(20, 1), (600, 60)],
        [(600, 60), (20, 1)],
        [(1, 1), (500, 3600)],
        [(2, 1), (3, 60)],
    ] {
        all.push(pair.map(rate).into());
    }
    all.push([(10, 1), (100, 60), (500, 3600)].map(rate).into());
    for rates in all {
        let mut limiter = rates.limiter().expect("rates");
        let mut turns: Vec<u64> = Vec::new();
        let mut now = 0;
        let highest = rates.iter().map(|rate| rate.most).max().unwrap_or_default();
        for _ in 0..4 * highest {
            let asked = limiter.reserve(Instant::from_nanos(now));
            // A place that is too far away is asked for again.
            let Ok(turn) = asked else {
                now += 60_000_000_000;
                continue;
            };
            turns.push(turn.as_nanos());
            for rate in rates.iter() {
                let span = u64::try_from(rate.per.as_nanos()).expect("short");
                let within = turns.iter().rev();
                let within = within.take_while(|before| turn.as_nanos() - **before < span);
                assert!(within.count() <= rate.most as usize, "{rates}: {turns:?}");
            }
        }
    }
    for (most, per) in [(0, 1), (1, 86_401)] {
        let rate = Rate {
            most,
            per: secs(per),
        };
        assert!(Rates::from(rate).limiter().is_err(), "{rate}");
    }
}

#[test]
fn what_is_left_for_messages_leaves_room_for_the_heartbeats() {
    let limits = |json| {
        let described = Description::from_json(json).expect("valid");
        described.limits()
    };
    let left = |json, base: &str| {
        let left = limits(json).messages_beside(&config(base));
        left.map(|rate| rate.to_string())
    };
    let minute = r#"{"limits": {"messages": "120/1m"}}"#;
    assert_eq!(left("{}", "{}"), None);
    assert_eq!(
        left(minute, r#"{"ping": {"every": "20s"}}"#).as_deref(),
        Some("116/60s")
    );
    assert_eq!(
        left(minute, r#"{"ping": "never"}"#).as_deref(),
        Some("119/60s")
    );
    assert_eq!(
        left(minute, r#"{"ping": "never", "keepalive": "1s"}"#).as_deref(),
        Some("59/60s")
    );
    let few = r#"{"limits": {"messages": "2/1h"}}"#;
    assert_eq!(
        left(few, "{}").as_deref(),
        Some("1/3600s"),
        "one at the least"
    );
    let several = r#"{"limits": {"messages": ["10/1s", "300/1m"]}}"#;
    assert_eq!(
        left(several, r#"{"ping": {"every": "20s"}}"#).as_deref(),
        Some("296/60s"),
        "the lowest in the long run"
    );
    assert_eq!(
        left(several, r#"{"ping": "never", "keepalive": "200ms"}"#).as_deref(),
        Some("1/60s"),
        "and each loses what heartbeats take of it"
    );
    let rate = |most, per| Rate {
        most,
        per: secs(per),
    };
    assert!(rate(6, 1).exceeds(&rate(5, 1)));
    assert!(!rate(5, 1).exceeds(&rate(5, 1)));
    assert!(!rate(300, 60).exceeds(&rate(5, 1)));
    assert!(rate(301, 60).exceeds(&rate(5, 1)));
}
