//! Cases of the torture course that need its server, on all four ways of driving a client, with the bound
//! asserted. The other cases are in the files next to this one; `t_numbers.rs` lists the test of each case.

use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use heartbeat_tests::torture::{OnTls, Times, TortureServer};
use heartbeat_tokio::core::Config;
use heartbeat_tokio::{Event, Options, Request};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::harness::{Case, Client, Next};

cases! {
    everywhere: [
        t1_a_frozen_server_is_dead_at_the_bound_and_replaced,
        t3_writing_on_does_not_put_the_verdict_off,
        t4_a_quiet_server_that_answers_pings_lives,
        t7_a_stopped_process_never_kills_a_peer_that_lives,
        t8_a_peer_that_died_while_we_were_stopped_is_dead_one_probe_later,
        t10_close_codes_are_heeded,
        t12_http_statuses_are_heeded,
        t13_a_late_pong_does_not_answer_and_any_other_is_life,
        t14_what_the_old_connection_says_late_does_nothing_to_the_new_one,
        t23_data_that_stops_is_noticed_although_pongs_go_on,
    ]
}

const PING: Duration = Duration::from_millis(400);
const DEATH: Duration = Duration::from_millis(1000);
/// The time that a busy machine may add.
const SLACK: f64 = 3000.0;

const CONFIG: &str = r#"{"idle_timeout": "1s", "ping": {"after_silence": "400ms"}, "pong_timeout": "600ms",
    "connect_timeout": "500ms", "backoff": {"base": "100ms", "cap": "400ms"}}"#;

struct Course {
    server: TortureServer,
    id: String,
}

impl Course {
    fn new(case: Case) -> Self {
        let times = Times {
            ping: PING,
            death: DEATH,
            connect: Duration::from_millis(500),
        };
        let server = TortureServer::start((Ipv4Addr::LOCALHOST, 0), times, OnTls::Stall);
        Self {
            server: server.expect("a port of the loopback interface"),
            id: format!("{:?}", case.how),
        }
    }

    fn connect(&self, case: Case, mode: &str, config: &str) -> Client {
        let options = Options::new(&self.server.url(&self.id, mode)).expect("a URL");
        case.start(options.config(Config::from_json(config).expect("a configuration")))
    }

    fn connects(&self) -> u64 {
        self.server.report(&self.id)["connects"]
            .as_u64()
            .expect("a count")
    }

    fn connection(&self, index: usize) -> Value {
        self.server.report(&self.id)["connections"][index].clone()
    }

    /// Drives the client until the server has seen this many connects.
    #[track_caller]
    fn until_connects(&self, client: &mut Client, connects: u64) {
        let end = Instant::now() + Duration::from_secs(15);
        while self.connects() < connects {
            assert!(Instant::now() < end, "{}", self.server.report(&self.id));
            client.drive_for(Duration::from_millis(20));
        }
    }

    /// The time from the last byte sent on the first connection to its end, by the server's clock.
    #[track_caller]
    fn assert_death(&self, from: &str, bound: Duration) {
        let end = Instant::now() + Duration::from_secs(10);
        // The thread that watches the connection may notice its end later than the thread that accepts the next.
        while self.connection(0)["ended"].is_null() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
        let first = self.connection(0);
        let time = |name: &str| first[name].as_f64().expect("a time");
        let death = time("ended") - time(from);
        let bound = bound.as_secs_f64() * 1000.0;
        // The client received a byte a little after it was sent, and the server saw the end a little later.
        assert!(
            (bound - 50.0..bound + SLACK).contains(&death),
            "{death} ms: {first}"
        );
    }
}

fn t1_a_frozen_server_is_dead_at_the_bound_and_replaced(case: Case) {
    let course = Course::new(case);
    let mut client = course.connect(case, "t1", CONFIG);
    course.until_connects(&mut client, 2);
    course.assert_death("said", DEATH);
}

fn t3_writing_on_does_not_put_the_verdict_off(case: Case) {
    let course = Course::new(case);
    let mut client = course.connect(case, "t3", CONFIG);
    while course.connects() < 2 {
        client.drive_for(Duration::from_millis(300));
        // Refused between two connections.
        let _ = client.sender().try_send("still here");
    }
    course.assert_death("said", DEATH);
}

fn t4_a_quiet_server_that_answers_pings_lives(case: Case) {
    let course = Course::new(case);
    let mut client = course.connect(case, "t4", CONFIG);
    client.until_connected();
    client.drive_for(DEATH * 3);
    assert_eq!(course.connects(), 1);
    let first = course.connection(0);
    assert!(first["ended"].is_null(), "{first}");
    assert!(first["pings"].as_u64() >= Some(2), "{first}");
}

/// Stops this process, in which the client runs, for three times `DEATH`, with the help of another process.
/// Returns when it continues.
fn stop_this_process(client: &mut Client) -> Instant {
    let own = std::process::id();
    let mut other = Command::new("sh")
        .args([
            "-c",
            &format!("kill -STOP {own}; sleep 3; kill -CONT {own}"),
        ])
        .stdin(Stdio::null())
        .spawn()
        .expect("a shell");
    // The other process lives while it waits to be stopped. The shell ends once it has let us continue.
    while other.try_wait().expect("a child").is_none() {
        client.drive_for(Duration::from_millis(10));
    }
    Instant::now()
}

/// In a process of its own, with the server in another one.
fn stopped(case: Case, mode: &str, body: impl FnOnce(&mut Client, &dyn Fn() -> Value)) {
    case.alone(|| {
        // A server in this process would be stopped as well.
        let program = env!("CARGO_BIN_EXE_torture-server");
        let mut server = Command::new(program)
            .args(["--ping", "400", "--death", "1000"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server");
        let mut line = String::new();
        let stdout = server.stdout.take().expect("piped");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line)
            .expect("a line");
        let port = serde_json::from_str::<Value>(&line).expect("JSON")["listening"]
            .as_u64()
            .expect("a port");
        let options = Options::new(&format!("ws://127.0.0.1:{port}/@x/{mode}")).expect("a URL");
        let mut client =
            case.start(options.config(Config::from_json(CONFIG).expect("a configuration")));
        client.until_connected();
        body(&mut client, &|| fetch(port));
        drop(client);
        kill_process(Pid::from_child(&server), Signal::KILL).expect("it runs");
        server.wait().expect("it ends");
    });
}

fn fetch(port: u64) -> Value {
    use std::io::{Read, Write};
    let mut socket = std::net::TcpStream::connect(("127.0.0.1", port as u16)).expect("a server");
    write!(socket, "GET /report/x HTTP/1.1\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("an answer");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head");
    serde_json::from_str(body).expect("JSON")
}

fn t7_a_stopped_process_never_kills_a_peer_that_lives(case: Case) {
    for mode in ["t7", "t7/quiet"] {
        stopped(case, mode, |client, report| {
            stop_this_process(client);
            client.drive_for(DEATH * 2);
            let report = report();
            assert_eq!(report["connects"], 1, "{mode}: {report}");
            assert!(report["connections"][0]["ended"].is_null(), "{report}");
        });
    }
}

fn t8_a_peer_that_died_while_we_were_stopped_is_dead_one_probe_later(case: Case) {
    stopped(case, "t8", |client, _| {
        // The server talks for 200 ms.
        client.drive_for(Duration::from_millis(300));
        let went_on = stop_this_process(client);
        let end = client.until_disconnected();
        assert_eq!(end.reason, "pong_timeout");
        let took = went_on.elapsed();
        // `pong_timeout` is 600 ms; the rest is the machine's load.
        assert!(took < Duration::from_millis(3600), "{took:?}");
    });
}

fn t10_close_codes_are_heeded(case: Case) {
    let course = Course::new(case);
    let mut client = course.connect(case, "t10/1001", CONFIG);
    course.until_connects(&mut client, 4);
    // For a fixed URL 1008 is backoff: there is nothing to refresh, and 1008 also means "too many requests".
    let course = Course::new(case);
    let mut client = course.connect(case, "t10/1008", CONFIG);
    course.until_connects(&mut client, 4);
    let course = Course::new(case);
    let mut client = course.connect(case, "t10/4401", CONFIG);
    client.until(|event| matches!(event, Event::GaveUp { .. }).then_some(()));
    client.drive_for(Duration::from_millis(300));
    assert_eq!(course.connects(), 2);
    // If a factory can bring fresh credentials and these are refused, the client gives up.
    let course = Course::new(case);
    let url = course.server.url(&course.id, "t10/1008");
    let options = Options::from_factory(move |_| Request::new(&url));
    let options = options.config(Config::from_json(CONFIG).expect("a configuration"));
    let mut client = case.start(options);
    client.until(|event| matches!(event, Event::GaveUp { .. }).then_some(()));
    client.drive_for(Duration::from_millis(300));
    assert_eq!(course.connects(), 2);
}

fn t12_http_statuses_are_heeded(case: Case) {
    for (status, dials) in [(401, 2), (403, 1), (404, 1), (301, 1)] {
        let course = Course::new(case);
        let mut client = course.connect(case, &format!("t12/{status}"), CONFIG);
        client.until(|event| matches!(event, Event::GaveUp { .. }).then_some(()));
        client.drive_for(Duration::from_millis(200));
        assert_eq!(course.connects(), dials, "{status}");
    }
    for status in [429, 503] {
        let course = Course::new(case);
        let mut client = course.connect(case, &format!("t12/{status}"), CONFIG);
        let delay = client.until(|event| match event {
            Event::Reconnect { delay, .. } => Some(delay),
            _ => None,
        });
        assert!(delay >= Duration::from_secs(2), "{status}: {delay:?}");
    }
}

fn t13_a_late_pong_does_not_answer_and_any_other_is_life(case: Case) {
    let course = Course::new(case);
    let mut client = course.connect(case, "t13/late", CONFIG);
    course.until_connects(&mut client, 2);
    course.assert_death("said", DEATH);
    let often = CONFIG.replace(r#"{"after_silence": "400ms"}"#, r#"{"every": "150ms"}"#);
    for (mode, config) in [
        ("t13/unasked", CONFIG),
        ("t13/other", CONFIG),
        ("t13/three", &often),
    ] {
        let course = Course::new(case);
        let mut client = course.connect(case, mode, config);
        client.until_connected();
        client.drive_for(DEATH * 2);
        assert_eq!(course.connects(), 1, "{mode}");
    }
}

fn t14_what_the_old_connection_says_late_does_nothing_to_the_new_one(case: Case) {
    for mode in ["t14", "t14/dial"] {
        let course = Course::new(case);
        let mut client = course.connect(case, mode, CONFIG);
        course.until_connects(&mut client, 2);
        client.drive_for(DEATH * 3 / 2);
        assert_eq!(course.connects(), 2, "{mode}");
        assert!(course.connection(1)["ended"].is_null(), "{mode}");
    }
}

fn t23_data_that_stops_is_noticed_although_pongs_go_on(case: Case) {
    let course = Course::new(case);
    let config = CONFIG.replace(
        r#"{"idle_timeout""#,
        r#"{"data_timeout": "1500ms", "idle_timeout""#,
    );
    let mut client = course.connect(case, "t23", &config);
    let end = client.until_disconnected();
    assert_eq!(end.reason, "data_timeout");
    course.until_connects(&mut client, 2);
    assert!(!matches!(client.next_within(Duration::ZERO), Next::Ended));
}
