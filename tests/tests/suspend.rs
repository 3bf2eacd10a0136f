//! The clocks' view of a suspend: `CLOCK_BOOTTIME` jumps by an hour under a running client, and
//! `CLOCK_MONOTONIC` does not. Each client is a process of its own with one thread, which enters a time
//! namespace while it is connected. Needs root and `unshare` of util-linux; prints `SKIPPED` otherwise.

#![allow(
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    clippy::disallowed_methods,
    reason = "a test on the real clock"
)]

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("SKIPPED: time namespaces are Linux's");
}

#[cfg(target_os = "linux")]
fn main() {
    linux::main();
}

#[cfg(target_os = "linux")]
mod linux {
    use std::env;
    use std::fs::File;
    use std::net::Ipv4Addr;
    use std::os::fd::AsFd;
    use std::process::{Child, Command, Stdio};
    use std::thread;
    use std::time::{Duration, Instant};

    use heartbeat_tests::torture::{OnTls, Times, TortureServer};
    use heartbeat_tokio::core::Config;
    use heartbeat_tokio::{Event, Options};
    use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
    use rustix::time::{ClockId, clock_gettime};

    const HOUR: Duration = Duration::from_secs(3600);

    /// The time that a busy machine may add.
    const SLACK: Duration = Duration::from_secs(3);

    const CONFIG: &str = r#"{"idle_timeout": "20s", "check_interval": "1s", "ping": {"after_silence": "1s"},
        "pong_timeout": "2s", "backoff": {"base": "60s"}}"#;

    /// Tells a client's process its task: the adapter, the server's mode, its URL, and the process whose time
    /// it enters.
    const CLIENT: &str = "HEARTBEAT_SUSPENDED_CLIENT";

    pub(super) fn main() {
        if let Ok(client) = env::var(CLIENT) {
            let words: Vec<&str> = client.split(' ').collect();
            let [adapter, mode, url, sleeper] = words[..] else {
                panic!("{client}")
            };
            let events = match adapter {
                "tokio" => Source::tokio(url),
                _ => Source::blocking(url),
            };
            return suspended(events, mode, sleeper);
        }
        // `cargo test -- NAME` runs other test programs, too.
        let wanted = env::args().skip(1).find(|word| !word.starts_with('-'));
        if wanted.is_some_and(|name| !"suspend".contains(&name))
            || env::args().any(|word| word == "--list")
        {
            return;
        }
        let Some(sleeper) = Sleeper::in_an_hour() else {
            return println!("SKIPPED: no time namespace for this user, or no `unshare`");
        };
        let times = Times {
            ping: Duration::from_secs(1),
            death: Duration::from_secs(3),
            connect: Duration::from_secs(3),
        };
        let server = TortureServer::start((Ipv4Addr::LOCALHOST, 0), times, OnTls::Stall);
        let server = server.expect("a port");
        for adapter in ["tokio", "blocking"] {
            // t4 is healthy, t2 sends nothing any more.
            for mode in ["t4", "t2"] {
                let url = server.url(&format!("{adapter}{mode}"), mode);
                let client = format!("{adapter} {mode} {url} {}", sleeper.0.id());
                let status = Command::new(env::current_exe().expect("a program"))
                    .env(CLIENT, client)
                    .status();
                assert!(status.expect("it starts").success(), "{adapter}, {mode}");
                println!("{adapter}, {mode}: ok");
            }
        }
    }

    /// A process for which the host has been up for an hour longer.
    struct Sleeper(Child);

    impl Sleeper {
        fn in_an_hour() -> Option<Self> {
            let child = Command::new("unshare")
                .args([
                    "--time",
                    "--boottime",
                    "3600",
                    "--kill-child",
                    "--fork",
                    "cat",
                ])
                .stdin(Stdio::piped())
                .stderr(Stdio::null())
                .spawn();
            let mut sleeper = Self(child.ok()?);
            // Its child is in the namespace, and shows the namespace of its children.
            thread::sleep(Duration::from_millis(300));
            let lives = matches!(sleeper.0.try_wait(), Ok(None));
            lives.then_some(sleeper)
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            // Its `cat` reads the end of its input, and exits.
            drop(self.0.stdin.take());
            let _ = self.0.wait();
        }
    }

    /// A client in place: it has no thread but this one.
    enum Source {
        Tokio(tokio::runtime::Runtime, heartbeat_tokio::InPlace),
        Blocking(heartbeat_blocking::InPlace),
    }

    fn options(url: &str) -> Options {
        let config = Config::from_json(CONFIG).expect("a configuration");
        Options::new(url).expect("a URL").config(config)
    }

    impl Source {
        fn tokio(url: &str) -> Self {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            let client = {
                let _inside = runtime.enter();
                heartbeat_tokio::InPlace::new(options(url)).expect("a client")
            };
            Self::Tokio(runtime, client)
        }

        fn blocking(url: &str) -> Self {
            Self::Blocking(heartbeat_blocking::InPlace::new(options(url)).expect("a client"))
        }

        fn next(&mut self, within: Duration) -> Option<Event> {
            match self {
                Self::Tokio(runtime, client) => runtime
                    .block_on(async { tokio::time::timeout(within, client.next()).await.ok()? }),
                Self::Blocking(client) => client.recv_timeout(within).ok(),
            }
        }
    }

    fn boot_time() -> Duration {
        let time = clock_gettime(ClockId::Boottime);
        Duration::from_secs(time.tv_sec.try_into().expect("after the boot"))
    }

    /// One client, an hour of suspend, and the client's next actions.
    fn suspended(mut client: Source, mode: &str, sleeper: &str) {
        while !matches!(
            client.next(SLACK).expect("it connects"),
            Event::Connected { .. }
        ) {}
        // t2 falls silent in this time.
        let until = Instant::now() + Duration::from_millis(1500);
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            if let Some(event @ Event::Disconnected { .. }) = client.next(left) {
                panic!("too early: {event:?}");
            }
        }
        let (before, awake) = (boot_time(), Instant::now());
        let time =
            File::open(format!("/proc/{sleeper}/ns/time_for_children")).expect("a namespace");
        move_into_link_name_space(time.as_fd(), Some(LinkNameSpaceType::Time))
            .expect("a process of one thread");
        assert!(boot_time() >= before + HOUR, "the clock has not jumped");
        assert!(awake.elapsed() < HOUR, "both clocks have jumped");
        let mut has_pinged = false;
        while let Some(event) = client.next(Duration::from_secs(5)) {
            match event {
                // At once, or, if a ping was on its way, after its answer.
                Event::PingSent { .. } => has_pinged = true,
                Event::Disconnected { reason, idle, .. } => {
                    let took = awake.elapsed();
                    assert_eq!(
                        mode, "t2",
                        "a peer that is well was declared dead: {reason}"
                    );
                    assert!(idle >= HOUR, "{reason}, idle for {idle:?}");
                    assert!(
                        took <= Duration::from_secs(2) + SLACK,
                        "{reason} after {took:?}"
                    );
                    return;
                }
                _ => {}
            }
            if mode == "t4" && awake.elapsed() > Duration::from_secs(4) {
                break;
            }
        }
        assert_eq!(
            mode, "t4",
            "a peer that is silent for an hour was not declared dead"
        );
        assert!(has_pinged, "nobody asked after a suspend");
    }
}
