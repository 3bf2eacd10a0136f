//! The log of clients that are driven on their own, or in place.

use heartbeat_tests::lines::Lines;
use heartbeat_tokio::core::{Config, Description};
use heartbeat_tokio::{Event, Options};

use crate::harness::{Case, Server};

cases! {
    everywhere: [
        each_line_names_its_client_and_stands_in_the_span_of_its_maker,
        a_ping_that_lacks_a_variable_is_a_warning_that_names_it,
    ]
}

/// Including the lines of the client's own thread or task.
fn each_line_names_its_client_and_stands_in_the_span_of_its_maker(case: Case) {
    // The client has threads, so one subscriber serves the whole process.
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

fn a_ping_that_lacks_a_variable_is_a_warning_that_names_it(case: Case) {
    case.alone(|| {
        let lines = Lines::of_warnings();
        let server = Server::start();
        let service = r#"{"ping": {"text": "${id} ${user} ${key}", "every": "50ms"}, "variables": ["user", "key"]}"#;
        let service = Description::from_json(service).expect("a description");
        let mut client = case.start(server.options("{}").of_service(service));
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| {
                let mut ws = server.upgrade();
                ws.read().expect("a ping").to_string()
            });
            client.until_connected();
            for name in ["user", "key"] {
                let words = format!("ping not sent: the variable `{name}` of the message is not set");
                while !lines.text().contains(&words) {
                    client.drive_for(std::time::Duration::from_millis(20));
                }
                client.sender().set_variable(name, "7");
            }
            while !asked.is_finished() {
                client.drive_for(std::time::Duration::from_millis(20));
            }
            let text = asked.join().expect("a server");
            assert!(text.ends_with(" 7 7"), "{text}");
        });
    });
}
