//! The clients, how they are started, and their settings.

use std::path::Path;
use std::process::Command;

pub(crate) struct Client {
    pub(crate) name: &'static str,
    /// The version that the lock files pin. Empty for ours.
    pub(crate) version: &'static str,
    program: Program,
    /// The client's own settings that express the common ones.
    pub(crate) settings: &'static str,
    /// The cases that it cannot take part in, with the reason.
    pub(crate) excused: &'static [(&'static str, &'static str)],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Program {
    Ours,
    Rust,
    Python,
    Node,
}

const NO_TLS: (&str, &str) = ("tls/", "driver built without TLS");
const NO_DATA: (&str, &str) = ("t23", "no such setting");
const OWN_LOOP: (&str, &str) = ("t29", "the application drives it, and is busy");
const ONE_THREAD: (&str, &str) = ("t29", "one thread, and the application keeps it busy");

const fn ours(name: &'static str, excused: &'static [(&'static str, &'static str)]) -> Client {
    Client {
        name,
        version: "",
        program: Program::Ours,
        settings: "`idle_timeout` 4 s, `ping` after 2 s of silence, `pong_timeout` 2 s, `connect_timeout` 3 s, backoff 0.5 s to 4 s, jitter 50 %; T30: `stable_after` 1 s",
        excused,
    }
}

pub(crate) const CLIENTS: &[Client] = &[
    ours("tokio-task", &[]),
    ours("tokio-in-place", &[OWN_LOOP]),
    ours("blocking-thread", &[]),
    ours("blocking-in-place", &[OWN_LOOP]),
    Client {
        name: "tokio-tungstenite",
        version: "0.30",
        program: Program::Rust,
        settings: "a plain loop as programs have it: read timeout 4 s, a ping every 2 s, dial timeout 3 s, reconnect after 0.5 s, doubling to 4 s, reset by a connect",
        excused: &[OWN_LOOP, NO_TLS, NO_DATA],
    },
    Client {
        name: "ezsockets",
        version: "0.7.2",
        program: Program::Rust,
        settings: "`heartbeat` 1 s, `timeout` 3 s (it looks at each heartbeat: 4 s at the latest), `reconnect_interval` 0.5 s; no dial timeout",
        excused: &[NO_TLS, NO_DATA],
    },
    Client {
        name: "stream-tungstenite",
        version: "0.6.1",
        program: Program::Rust,
        settings: "`receive_timeout` 4 s, `connect_timeout` 3 s, exponential retry 0.5 s to 4 s, jitter 10 %; no pings of its own: the driver sends one every 2 s",
        excused: &[NO_TLS, NO_DATA],
    },
    Client {
        name: "fast_websocket_client",
        version: "0.4.1",
        program: Program::Rust,
        settings: "`ping_interval` 2 s, `reconnect_delay` 0.5 s, `connect_timeout` 3 s; no time by which a pong must come can be set",
        excused: &[NO_DATA],
    },
    Client {
        name: "tokio-websocket-client",
        version: "0.2.0",
        program: Program::Rust,
        settings: "over tokio-tungstenite; `ping_interval` 2 s, `retry_delay` 0.5 s, the handler always asks for a retry; dial timeout 3 s in the connector",
        excused: &[NO_TLS, NO_DATA],
    },
    Client {
        name: "alloy",
        version: "2.5.0",
        program: Program::Rust,
        settings: "`keepalive_interval` 2 s, `retry_interval` 0.5 s, unlimited retries; JSON-RPC: sends are requests",
        excused: &[
            NO_TLS,
            NO_DATA,
            ("t6", "its texts are JSON-RPC"),
            ("t20", "its texts are JSON-RPC"),
            ("t27", "its texts are JSON-RPC"),
            ("t28", "its texts are JSON-RPC"),
            ("t29", "its texts are JSON-RPC"),
        ],
    },
    Client {
        name: "nautilus-network",
        version: "0.57.0",
        program: Program::Rust,
        settings: "`heartbeat` 2 s, `idle_timeout_ms` 4000, `reconnect_timeout_ms` 3000, delay 0.5 s to 4 s, factor 2, jitter 250 ms",
        excused: &[NO_DATA],
    },
    Client {
        name: "websockets",
        version: "17.4 (Python)",
        program: Program::Python,
        settings: "`ping_interval` 2, `ping_timeout` 2, `open_timeout` 3, `close_timeout` 1; `async for` reconnects, with its own backoff",
        excused: &[OWN_LOOP, NO_DATA],
    },
    Client {
        name: "aiohttp",
        version: "3.14.5 (Python)",
        program: Program::Python,
        settings: "`heartbeat` 2 (a pong within half of it), connect timeout 3; it does not reconnect: a loop with 0.5 s doubling to 4 s, reset by a connect",
        excused: &[OWN_LOOP, NO_DATA],
    },
    Client {
        name: "websocket-client",
        version: "1.9.2 (Python)",
        program: Program::Python,
        settings: "`run_forever(ping_interval=2, ping_timeout=1, reconnect=0.5)`, `setdefaulttimeout(3)`",
        excused: &[OWN_LOOP, NO_DATA],
    },
    Client {
        name: "reconnecting-websocket",
        version: "4.4.0 (Node)",
        program: Program::Node,
        settings: "over `ws`; `connectionTimeout` 3000, delay 500 to 4000, grow factor 2, `minUptime` 5000; no pings: it cannot detect silence",
        excused: &[ONE_THREAD, NO_DATA],
    },
    Client {
        name: "partysocket",
        version: "1.3.0 (Node)",
        program: Program::Node,
        settings: "the same",
        excused: &[ONE_THREAD, NO_DATA],
    },
    Client {
        name: "phoenix",
        version: "1.8.16 (Node)",
        program: Program::Node,
        settings: "over `ws`; `heartbeatIntervalMs` 2000 (a message; its answer is awaited until the next), `reconnectAfterMs` 500 doubling to 4000; the server answers its heartbeat, other messages pass as they are by `encode` and `decode`",
        excused: &[
            ONE_THREAD,
            NO_DATA,
            ("t13", "it neither sends nor sees pings"),
        ],
    },
];

impl Client {
    pub(crate) fn is_ours(&self) -> bool {
        self.program == Program::Ours
    }

    pub(crate) fn excuse(&self, path: &str) -> Option<&'static str> {
        let excuse = self.excused.iter().find(|(prefix, _)| {
            path.strip_prefix(prefix).is_some_and(|rest| {
                prefix.ends_with('/') || rest.is_empty() || rest.starts_with('/')
            })
        });
        excuse.map(|(_, why)| *why)
    }

    /// The command that starts it. The program may be missing.
    pub(crate) fn command(&self, target: &Path, sources: &Path) -> Option<Command> {
        let (program, script) = match self.program {
            Program::Ours => (target.join("examples/torture_client"), None),
            Program::Rust => (
                target
                    .join("../peers/release")
                    .join(self.name.replace('_', "-")),
                None,
            ),
            Program::Python => (
                target.join("../peers-python/bin/python"),
                Some(format!("python/{}.py", self.name.replace('-', "_"))),
            ),
            Program::Node => (
                "node".into(),
                Some(format!(
                    "node/{}.js",
                    self.name.replace("reconnecting-", "reconnecting_")
                )),
            ),
        };
        if program.is_absolute() && !program.exists() {
            return None;
        }
        let mut command = Command::new(program);
        if let Some(script) = script {
            command.arg(sources.join(script));
        }
        command.args(["--client", self.name]);
        if self.program == Program::Node {
            let modules = target.join("../peers-node/node_modules");
            if !modules.exists() {
                return None;
            }
            command.env("NODE_PATH", modules);
        }
        Some(command)
    }
}
