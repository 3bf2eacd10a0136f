//! The core where there is only a page: callbacks, `setTimeout` and `performance.now()`, no `std` time and no
//! ping frames. A tab in the background, whose timers come up to a minute late, kills no healthy connection.
//!
//! ```sh
//! cargo run -p heartbeat-core --example browser_like
//! ```
//!
//! `Driver` is what a program in WebAssembly would have. `Page` stands in for the browser and the network, in
//! virtual time: 6 minutes pass at once, and always in the same way.

use std::error::Error;
use std::time::Duration;

use heartbeat_core::{
    Action, AnyDialect, Buffer, Cause, Config, ConnId, Dialect as _, Event, Heartbeat, Instant,
    Message, Outgoing, Phase, PingMessage, Reply, TemplateRef, Values, Variables,
};

/// A browser's WebSocket cannot send ping frames, so the client asks by a message.
const DIALECT: &str = r#"{
    "rules": [
        {"json": {"/type": "ping"}, "reply": "{\"type\":\"pong\"}"},
        {"json": {"/type": "pong"}, "pong": true}
    ],
    "ping": {"text": "{\"type\":\"ping\"}", "after_silence": "30s", "pong_timeout": "10s"}
}"#;

fn main() -> Result<(), Box<dyn Error>> {
    let dialect = AnyDialect::from_value(&serde_json::from_str(DIALECT)?)?;
    let config = dialect.configure(&Config::builder().check_interval(None).build()?)?;
    let mut page = Page::default();
    let mut driver = Driver {
        machine: Heartbeat::new(config, dialect, 7, instant(page.now)),
        timeout: None,
    };
    for (second, task) in [
        (0.0, Task::Timeout(0)), // the page has loaded
        (10.0, Task::Message(ConnId::new(1), r#"{"type":"ping"}"#)),
        (20.0, Task::Visible(false)),
        (200.0, Task::Network(false)),
        (310.0, Task::Visible(true)),
        (330.0, Task::Network(true)),
        (360.0, Task::Unload),
    ] {
        page.tasks.push((second * 1000.0, task));
    }
    while let Some(task) = page.next_task() {
        driver.run(&mut page, task);
    }
    assert_eq!(driver.machine.phase(), Phase::Stopped);
    Ok(())
}

/// `performance.now()`, milliseconds with a fraction, as the machine counts.
fn instant(milliseconds: f64) -> Instant {
    Instant::from_nanos((milliseconds * 1e6) as u64)
}

struct Driver {
    machine: Heartbeat<Config, AnyDialect>,
    timeout: Option<u32>,
}

impl Driver {
    /// The callbacks.
    fn run(&mut self, page: &mut Page, task: Task) {
        match task {
            Task::Timeout(_) => self.step(page, Event::Tick),
            Task::Open(conn) => {
                page.log(&format!("connected ({conn})"));
                self.step(page, Event::Connected(conn));
            }
            Task::Message(conn, text) => {
                let class = self.machine.dialect().classify_text(text);
                self.step(page, Event::Received(conn, Message::Text(text)));
                if class.is_for_application() {
                    page.log(&format!("data: {text}"));
                }
            }
            Task::Close(conn, code) => {
                page.log(&format!("ended ({conn}): {code}"));
                self.step(page, Event::Closed(conn, Cause::Close(code)));
            }
            // Somebody looks: what is dead is to be found now, and a planned dial need not be waited for.
            Task::Visible(true) => self.step(page, Event::Kick),
            Task::Unload => self.step(page, Event::Stop),
            Task::Visible(false) | Task::Network(_) => {}
        }
    }

    fn step(&mut self, page: &mut Page, event: Event<'_>) {
        let step = self.machine.step(instant(page.now), event);
        if step.stale {
            page.log("which was an old connection: it changes nothing");
        }
        for action in step.actions {
            match action {
                Action::Connect { conn, attempt, .. } => {
                    page.log(&format!("connecting ({conn}), retry {attempt}"));
                    page.open(conn);
                }
                Action::SendPong { conn, reply } => {
                    page.log("a ping answered");
                    if let Reply::Template(draft) = reply {
                        self.send(page, conn, &draft);
                    }
                }
                Action::SendPing { conn, ping } => {
                    page.log("a ping sent");
                    if let PingMessage::Template(draft) = ping {
                        self.send(page, conn, &draft);
                    }
                }
                Action::Close { conn, .. } | Action::Renew { conn, .. } => page.close(conn),
                // There is no transport to drop: its `onclose` comes whenever it likes.
                Action::Abort { conn, reason } => {
                    page.log(&format!("dropped ({conn}): {reason}"));
                    page.close(conn);
                }
                Action::ReconnectAt { .. } | Action::Check { .. } | Action::Ending { .. } => {}
                Action::GaveUp { reason } => page.log(&format!("gave up: {reason:?}")),
            }
        }
        // One timeout, that of the last step. Rounded up: `setTimeout` drops fractions, and a tick before
        // its time does nothing. Not above 2^31 - 1 ms, which would mean at once.
        if let Some(timeout) = self.timeout.take() {
            page.clear_timeout(timeout);
        }
        self.timeout = step.wake.map(|wake| {
            let wait = wake.saturating_duration_since(instant(page.now));
            let rounded_up = wait + Duration::from_nanos(999_999);
            page.set_timeout(rounded_up.as_millis().min(i32::MAX as u128) as f64)
        });
    }

    fn send(&self, page: &mut Page, conn: ConnId, draft: &TemplateRef<'_>) {
        let (mut buffer, variables) = (Buffer::default(), Variables::new());
        let values = Values {
            unix_ms: 0, // `Date.now()`, for templates that want it
            variables: &variables,
        };
        let message = self.machine.dialect().render(draft, &values, &mut buffer);
        if let Some(Outgoing::Text(text)) = message {
            page.send(conn, text);
        }
    }
}

// ---- the browser, the network and the server, as far as they are needed ------------------------

enum Task {
    Timeout(u32),
    Open(ConnId),
    Message(ConnId, &'static str),
    Close(ConnId, u16),
    Visible(bool),
    Network(bool),
    Unload,
}

#[derive(Default)]
struct Page {
    /// `performance.now()`
    now: f64,
    hidden: bool,
    network_is_down: bool,
    tasks: Vec<(f64, Task)>,
    timeouts: u32,
}

impl Page {
    fn next_task(&mut self) -> Option<Task> {
        // Timers of a hidden page run once a minute, as in Chromium ("intensive throttling").
        let hidden = self.hidden;
        let runs_at = |(at, task): &(f64, Task)| match task {
            Task::Timeout(_) if hidden => (at / 60_000.0).ceil() * 60_000.0,
            _ => *at,
        };
        let times = self.tasks.iter().map(runs_at).enumerate();
        let (index, at) = times.min_by(|(_, a), (_, b)| a.total_cmp(b))?;
        self.now = self.now.max(at);
        let (_, task) = self.tasks.remove(index);
        match task {
            Task::Visible(visible) => {
                self.hidden = !visible;
                self.log(if visible {
                    "the tab is seen again"
                } else {
                    "the tab is in the background"
                });
            }
            Task::Network(works) => {
                self.network_is_down = !works;
                self.log(if works {
                    "the network works again"
                } else {
                    "the network is gone, silently"
                });
            }
            _ => {}
        }
        Some(task)
    }

    fn log(&self, what: &str) {
        println!("{:>8.3} {what}", self.now / 1000.0);
    }

    fn after(&mut self, milliseconds: f64, task: Task) {
        self.tasks.push((self.now + milliseconds, task));
    }

    fn set_timeout(&mut self, milliseconds: f64) -> u32 {
        self.timeouts += 1;
        self.after(milliseconds, Task::Timeout(self.timeouts));
        self.timeouts
    }

    fn clear_timeout(&mut self, timeout: u32) {
        self.tasks
            .retain(|(_, task)| !matches!(task, Task::Timeout(id) if *id == timeout));
    }

    fn open(&mut self, conn: ConnId) {
        match self.network_is_down {
            true => self.after(2000.0, Task::Close(conn, 1006)),
            false => self.after(100.0, Task::Open(conn)),
        }
    }

    fn send(&mut self, conn: ConnId, text: &str) {
        if !self.network_is_down && text == r#"{"type":"ping"}"# {
            self.after(50.0, Task::Message(conn, r#"{"type":"pong"}"#));
        }
    }

    /// A dead peer answers no closing handshake: the browser waits for it in vain.
    fn close(&mut self, conn: ConnId) {
        match self.network_is_down {
            true => self.after(30_000.0, Task::Close(conn, 1006)),
            false => self.after(50.0, Task::Close(conn, 1000)),
        }
    }
}
