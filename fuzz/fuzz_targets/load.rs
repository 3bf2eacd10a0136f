//! Any bytes as a description: an error that says where, or a description that is written and read back as
//! itself and does all that descriptions do.
#![no_main]

use heartbeat_core::{
    AnyDialect, Buffer, Class, Config, Description, Dialect, Heartbeat, Instant, Reply, Values,
    Variables,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let dialect = match Description::from_json(text) {
        Ok(dialect) => dialect,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let again = Description::from_json(dialect.as_json()).expect("its own source");
    assert_eq!(again, dialect);
    let any = AnyDialect::Described(Box::new(dialect.clone()));
    assert_eq!(AnyDialect::from_value(&any.to_value()), Ok(any));

    if let Ok(config) = dialect.configure(&Config::default()) {
        let _ = Heartbeat::new(config, dialect.clone(), 7, Instant::ORIGIN);
    }
    let variables: Variables = dialect
        .variables()
        .chain(dialect.computed())
        .map(|name| (name.into(), "1".into()))
        .collect();
    let values = Values {
        unix_ms: 0,
        variables: &variables,
    };
    let drafts = (0..).map_while(|number| dialect.greeting(number));
    for draft in drafts.chain(dialect.ping().message) {
        let _ = dialect.render(&draft, &values, &mut Buffer::default());
    }
    let mut tracked = Variables::new();
    for text in ["", "{}", r#"{"type":"ping","s":7}"#, "ping"] {
        assert_eq!(dialect.classify_text(text), again.classify_text(text));
        dialect.track(text, &mut tracked);
    }
    for code in [1000, 4000, 4999] {
        let _ = dialect.close_policy_with(code, text);
        let _ = dialect.http_policy(code);
    }
    let _ = (dialect.limits(), dialect.lifetime());
    for bytes in [data, b"\x08\x01\x10\x05\n\t"] {
        if let Class::Ping(Reply::Template(draft)) = dialect.classify_binary(bytes) {
            let _ = dialect.render(&draft, &values, &mut Buffer::default());
        }
    }
});
