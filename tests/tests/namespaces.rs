//! T17 and T25: a client, a router and a server in network namespaces of their own. The faults are in the
//! router, where neither end's kernel notices. Needs root, `ip` and `nft`; prints `SKIPPED` otherwise.

#![cfg(target_os = "linux")]
#![allow(
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    clippy::disallowed_methods,
    reason = "a test of real networks on the real clock"
)]

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::process::{Command, Output};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use heartbeat_tests::torture::{OnTls, Times, TortureServer};
use heartbeat_tokio::core::Config;
use heartbeat_tokio::{Event, Options};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The time that a busy machine may add.
const SLACK: Duration = Duration::from_millis(1000);

/// The addresses are reserved for documentation (RFC 5737), and no packet leaves the namespaces.
const LAYOUT: &[&str] = &[
    "ip netns add C",
    "ip netns add R",
    "ip netns add S",
    "ip link add C-up netns C type veth peer name R-c netns R",
    "ip link add S-up netns S type veth peer name R-s netns R",
    "ip -n C address add 192.0.2.2/24 dev C-up",
    "ip -n R address add 192.0.2.1/24 dev R-c",
    "ip -n R address add 198.51.100.1/24 dev R-s",
    "ip -n S address add 198.51.100.2/24 dev S-up",
    "ip -n C link set C-up up",
    "ip -n R link set R-c up",
    "ip -n R link set R-s up",
    "ip -n S link set S-up up",
    "ip -n C route add default via 192.0.2.1",
    "ip -n S route add default via 198.51.100.1",
    "ip netns exec R sysctl -q -w net.ipv4.ip_forward=1",
    "ip netns exec R nft add table ip course",
    "ip netns exec R nft add chain ip course forward { type filter hook forward priority 0 ; }",
];

/// Three namespaces, removed when dropped.
struct World {
    prefix: String,
}

impl World {
    /// The reason, if they are not available.
    fn new(prefix: &str) -> Result<Self, String> {
        // Interface names have at most 15 characters.
        let prefix = format!("{prefix}{:x}", std::process::id());
        let world = Self { prefix };
        for command in LAYOUT {
            world.run(command)?;
        }
        Ok(world)
    }

    /// `C`, `R` and `S`, alone or before a `-`, stand for the namespaces.
    fn run(&self, command: &str) -> Result<(), String> {
        let words = command
            .split(' ')
            .map(|word| match word.split_at_checked(1) {
                Some(("C" | "R" | "S", rest)) if rest.is_empty() || rest.starts_with('-') => {
                    format!("{}{word}", self.prefix)
                }
                _ => word.to_owned(),
            });
        let words: Vec<String> = words.collect();
        let output: io::Result<Output> = Command::new(&words[0]).args(&words[1..]).output();
        match output {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => {
                let why = String::from_utf8_lossy(&output.stderr);
                Err(format!("`{}`: {}", words.join(" "), why.trim()))
            }
            Err(error) => Err(format!("`{}`: {error}", words[0])),
        }
    }

    #[track_caller]
    fn must(&self, command: &str) {
        self.run(command).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Runs `body` on a thread in that namespace. Its sockets and threads are there too.
    fn within<T: Send>(&self, name: &str, body: impl FnOnce() -> T + Send) -> T {
        let file = File::open(format!("/run/netns/{}{name}", self.prefix)).expect("a namespace");
        thread::scope(|scope| {
            let there = scope.spawn(move || {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("the right to enter it");
                body()
            });
            there
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn server(&self) -> TortureServer {
        self.within("S", || {
            let address = (std::net::Ipv4Addr::UNSPECIFIED, 0);
            TortureServer::start(address, Times::default(), OnTls::Stall).expect("a port")
        })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for name in ["C", "R", "S"] {
            // The process may not have got that far yet.
            let _ = self.run(&format!("ip netns delete {name}"));
        }
    }
}

/// A client of either adapter.
enum Client {
    Tokio(heartbeat_tokio::Client, tokio::runtime::Runtime),
    Blocking(heartbeat_blocking::Client),
}

impl Client {
    fn start(adapter: &str, server: &TortureServer, mode: &str, config: &str) -> Self {
        let url = format!(
            "ws://198.51.100.2:{}/@{adapter}/{mode}",
            server.address().port()
        );
        let config = Config::from_json(config).expect("a configuration");
        let options = Options::new(&url).expect("a URL").config(config);
        if adapter.starts_with("blocking") {
            return Self::Blocking(heartbeat_blocking::Client::spawn(options).expect("a thread"));
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let client = {
            let _inside = runtime.enter();
            heartbeat_tokio::Client::spawn(options).expect("no TLS, no error")
        };
        Self::Tokio(client, runtime)
    }

    fn next_within(&mut self, patience: Duration) -> Option<Event> {
        match self {
            Self::Tokio(client, runtime) => runtime
                .block_on(async { tokio::time::timeout(patience, client.next()).await })
                .ok()
                .flatten(),
            Self::Blocking(client) => client.recv_timeout(patience).ok(),
        }
    }

    /// The time of the first picked event, within this time from now.
    #[track_caller]
    fn until<T>(
        &mut self,
        patience: Duration,
        mut pick: impl FnMut(&Event) -> Option<T>,
    ) -> (T, Instant) {
        let end = Instant::now() + patience;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "not within {patience:?}");
            if let Some(event) = self.next_within(left)
                && let Some(picked) = pick(&event)
            {
                return (picked, Instant::now());
            }
        }
    }

    #[track_caller]
    fn connected(&mut self, patience: Duration) -> Instant {
        self.until(patience, |event| {
            matches!(event, Event::Connected { .. }).then_some(())
        })
        .1
    }

    /// The reason, and when.
    #[track_caller]
    fn lost(&mut self, patience: Duration) -> (String, Instant) {
        self.until(patience, |event| match event {
            Event::Disconnected { reason, .. } => Some(reason.to_string()),
            _ => None,
        })
    }
}

/// Not `eprintln!`: the test harness would show its output only for a failed test.
fn skipped(name: &str, why: &str) {
    let _ = writeln!(io::stderr(), "SKIPPED {name}: {why}");
}

/// One layout at a time, because the machine has one list of names.
static ALONE: Mutex<()> = Mutex::new(());

fn world(name: &str, prefix: &str) -> Option<World> {
    let _alone = ALONE.lock();
    World::new(prefix).map_err(|why| skipped(name, &why)).ok()
}

#[test]
fn t17_a_half_open_link_is_dead_at_the_bound_and_healed_within_one_backoff() {
    let Some(world) = world("t17", "ha") else {
        return;
    };
    let server = world.server();
    let config = r#"{"idle_timeout": "1500ms", "ping": {"after_silence": "500ms"}, "pong_timeout": "1s",
        "connect_timeout": "800ms", "backoff": {"base": "200ms", "cap": "800ms"}}"#;
    for adapter in ["tokio", "blocking"] {
        world.within("C", || {
            let mut client = Client::start(adapter, &server, "t7", config);
            client.connected(Duration::from_secs(10));
            client.until(Duration::from_secs(10), |event| {
                matches!(event, Event::Message { .. }).then_some(())
            });
            world.must("ip netns exec R nft add rule ip course forward drop");
            let cut = Instant::now();
            let (reason, at) = client.lost(Duration::from_secs(10));
            // Silence and the probe are due together. The server talked every 200 ms.
            assert!(
                reason == "idle_timeout" || reason == "pong_timeout",
                "{reason}"
            );
            let took = at - cut;
            let bound = Duration::from_millis(1500);
            assert!(
                took > bound - Duration::from_millis(400),
                "{adapter}: {took:?}"
            );
            assert!(took < bound + SLACK, "{adapter}: {took:?}");

            let (reason, _) = client.lost(Duration::from_secs(10));
            assert_eq!(reason, "connect_timeout");
            world.must("ip netns exec R nft flush chain ip course forward");
            let healed = Instant::now();
            let took = client.connected(Duration::from_secs(10)) - healed;
            // A dial that has begun, the longest delay, and the next dial.
            assert!(
                took < Duration::from_millis(2 * 800 + 800) + SLACK,
                "{adapter}: {took:?}"
            );
        });
    }
}

#[test]
fn t25_a_nat_that_forgets_is_noticed_at_the_bound_and_keepalive_prevents_it() {
    let Some(world) = world("t25", "hb") else {
        return;
    };
    // Conntrack comes with the first rule that needs it.
    let nat = [
        "ip netns exec R nft add chain ip course nat { type nat hook postrouting priority 100 ; }",
        "ip netns exec R nft add rule ip course nat oifname R-s masquerade",
        "ip netns exec R nft add rule ip course forward ct state invalid drop",
        "ip netns exec R sysctl -q -w net.netfilter.nf_conntrack_tcp_loose=0",
        "ip netns exec R sysctl -q -w net.netfilter.nf_conntrack_tcp_timeout_established=2",
    ];
    for command in nat {
        if let Err(why) = world.run(command) {
            return skipped("t25", &why);
        }
    }
    let server = world.server();
    let silent =
        r#"{"idle_timeout": "10s", "ping": {"after_silence": "4s"}, "pong_timeout": "1s"}"#;
    let kept = r#"{"idle_timeout": "10s", "ping": {"after_silence": "6s"}, "pong_timeout": "1s", "keepalive": "700ms"}"#;
    world.within("C", || {
        let clients = ["tokio", "blocking"].map(|adapter| {
            (
                adapter,
                Client::start(adapter, &server, "t4", silent),
                Client::start(&format!("{adapter}-kept"), &server, "t4", kept),
            )
        });
        thread::scope(|scope| {
            for (adapter, mut silent, mut kept) in clients {
                scope.spawn(move || {
                    let open = silent.connected(Duration::from_secs(10));
                    let (reason, at) = silent.lost(Duration::from_secs(20));
                    assert_eq!(reason, "pong_timeout");
                    let took = at - open;
                    // 4 s of silence, 1 s for the pong: the probe was lost.
                    assert!(took > Duration::from_millis(4500), "{adapter}: {took:?}");
                    assert!(took < Duration::from_secs(5) + SLACK, "{adapter}: {took:?}");
                });
                scope.spawn(move || {
                    kept.connected(Duration::from_secs(10));
                    let end = Instant::now() + Duration::from_secs(7);
                    while let left @ 1.. = end.saturating_duration_since(Instant::now()).as_millis()
                    {
                        let event = kept.next_within(Duration::from_millis(left as u64));
                        assert!(
                            !matches!(event, Some(Event::Disconnected { .. })),
                            "{adapter}: {event:?}"
                        );
                    }
                });
            }
        });
    });
}
