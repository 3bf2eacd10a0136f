//! What the log says of clients that are driven on their own, or in place.

use heartbeat_tests::lines::Lines;
use heartbeat_tokio::core::Config;
use heartbeat_tokio::{Event, Options};

use crate::harness::{Case, Server};

cases! {
    everywhere: [each_line_names_its_client_and_stands_in_the_span_of_its_maker]
}

/// Also the lines of a thread or a task of the client's own.
fn each_line_names_its_client_and_stands_in_the_span_of_its_maker(case: Case) {
    // The client has threads: one subscriber for the whole process.
    case.alone(|| {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_ansi(false)
            .with_writer(lines.clone())
            .finish();
        tracing::subscriber::set_global_default(subscriber).expect("the only one");
        let gone = Server::start().port();
        let url = format!("ws://127.0.0.1:{gone}/feed?key=SECRET");
        let config = r#"{"max_attempts": 2, "backoff": {"base": "50ms", "cap": "50ms"}}"#;
        let options = || {
            let options = Options::new(&url).expect("a URL");
            options.config(Config::from_json(config).expect("consistent"))
        };
        let of_url = format!("127.0.0.1:{gone}/feed");
        for (name, options) in [("desk 3", options().name("desk 3")), (&of_url, options())] {
            let before = lines.text().len();
            let mut client = tracing::error_span!("maker").in_scope(|| case.start(options));
            client.until(|event| matches!(event, Event::Stopped { .. }).then_some(()));
            assert_eq!(&*client.stats().name, name);
            let text = lines.text();
            let told: Vec<_> = text[before..].lines().collect();
            let who = format!("name={name:?}}}");
            for line in &told {
                assert!(line.contains(" maker:client{id="), "{line}");
                assert!(line.contains(&who), "{who} is not in {line}");
            }
            for words in ["dial failed: refused", "retry 1 in ", "gave up", "stopped"] {
                assert!(
                    told.iter().any(|line| line.contains(words)),
                    "{words}: {text}"
                );
            }
        }
        assert!(!lines.text().contains("SECRET"), "{}", lines.text());
    });
}
