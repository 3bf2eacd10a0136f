//! `docs/speed.md` and its pictures, from the results of the modes.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use heartbeat_tokio::SharedDialect;
use heartbeat_tokio::core::{Config, Heartbeat};
use serde_json::Value;

use crate::{Result, pictures, results};

/// A figure that should not be above a bound.
struct Goal {
    what: &'static str,
    mode: &'static str,
    row: &'static str,
    column: &'static str,
    at_most: f64,
    /// The reason, printed if the figure is above the bound.
    why: &'static str,
}

const fn goal(
    what: &'static str,
    [mode, row, column]: [&'static str; 3],
    at_most: f64,
    why: &'static str,
) -> Goal {
    Goal {
        what,
        mode,
        row,
        column,
        at_most,
        why,
    }
}

const IN_PLACE: &str = "heartbeat-tokio-in-place";
const TASK: &str = "heartbeat-tokio-task";
const BLOCKING: &str = "heartbeat-blocking-in-place";
const THREAD: &str = "heartbeat-blocking-thread";

const LENT: &str = "heartbeat-tokio-lent";

const ENGINE: &str = "machine, send_queue and timers beside the frames' buffers";
const STACK: &str = "a thread that only sleeps has 8 KiB of its stack resident; the dial and the upgrade \
    touch 16 KiB more, which stay";
const LAYERS: &str = "a turn of the machine and a look at the clock for each wake; the blocking client also waits for \
    the socket with a timeout";
const OUTBOX: &str = "a message that waits is kept until it is written, so that it can be handed back; a raw client \
    copies it into its buffer at once, and forgets it";
const HANDOFF: &str = "a queue with a lock between driver and application, and a wake-up for each turn; in place there is none";
const MESSAGE: &str = "of these, UTF-8 takes 150, the search for heartbeats about 100, and the event with its message the rest; \
    `next_lent` does without the event";
const RECORD: &str = "most of it is decryption, which all clients share";

const GOALS: &[Goal] = &[
    goal(
        "CPU of a received message, of raw tokio-tungstenite, in place",
        ["receive", IN_PLACE, "x the raw one"],
        0.7,
        MESSAGE,
    ),
    goal(
        "the same, task",
        ["receive", TASK, "x the raw one"],
        0.85,
        HANDOFF,
    ),
    goal(
        "the same of raw tokio-tungstenite in a task with a channel, task",
        ["receive", TASK, "x raw in a task"],
        0.6,
        HANDOFF,
    ),
    goal(
        "the same under TLS",
        ["tls", TASK, "x raw in a task"],
        0.6,
        RECORD,
    ),
    goal(
        "CPU of a received message under TLS, of raw tokio-tungstenite, in place",
        ["tls", IN_PLACE, "x the raw one"],
        0.9,
        RECORD,
    ),
    goal(
        "the same, of a raw one with a buffer of 4 KiB",
        ["tls", IN_PLACE, "x raw, 4 KiB"],
        0.9,
        RECORD,
    ),
    goal("the same, task", ["tls", TASK, "x raw, 4 KiB"], 1.0, RECORD),
    goal(
        "CPU of a received message, of raw tungstenite, blocking in place",
        ["receive", BLOCKING, "x raw sync"],
        0.8,
        MESSAGE,
    ),
    goal(
        "the same, blocking thread",
        ["receive", THREAD, "x raw sync"],
        1.1,
        HANDOFF,
    ),
    goal(
        "instructions of a received message, in place",
        ["instructions", IN_PLACE, "instructions"],
        620.0,
        MESSAGE,
    ),
    goal(
        "the same, task",
        ["instructions", TASK, "instructions"],
        690.0,
        HANDOFF,
    ),
    goal(
        "the same, blocking in place",
        ["instructions", BLOCKING, "instructions"],
        560.0,
        MESSAGE,
    ),
    goal(
        "the same, lent",
        ["instructions", LENT, "instructions"],
        400.0,
        MESSAGE,
    ),
    goal(
        "latency of a message that comes alone, p50, of raw tokio-tungstenite, in place",
        ["latency", IN_PLACE, "x the raw one"],
        1.05,
        LAYERS,
    ),
    goal(
        "the same, task",
        ["latency", TASK, "x the raw one"],
        1.05,
        HANDOFF,
    ),
    goal(
        "the same, p99, in place",
        ["latency", IN_PLACE, "p99, x the raw one"],
        1.1,
        LAYERS,
    ),
    goal(
        "the same, task",
        ["latency", TASK, "p99, x the raw one"],
        1.1,
        HANDOFF,
    ),
    goal(
        "CPU of a message of 16 B received, of raw tokio-tungstenite, in place",
        ["sizes", "heartbeat-tokio-in-place, received", "x, 16 B"],
        1.0,
        MESSAGE,
    ),
    goal(
        "CPU of a message of 1 KiB received, of raw tokio-tungstenite, in place",
        ["sizes", "heartbeat-tokio-in-place, received", "x, 1 KiB"],
        1.0,
        MESSAGE,
    ),
    goal(
        "CPU of a message of 16 KiB received, of raw tokio-tungstenite, in place",
        ["sizes", "heartbeat-tokio-in-place, received", "x, 16 KiB"],
        1.0,
        MESSAGE,
    ),
    goal(
        "CPU of a message of 100 KiB received, of raw tokio-tungstenite, in place",
        ["sizes", "heartbeat-tokio-in-place, received", "x, 100 KiB"],
        1.0,
        MESSAGE,
    ),
    goal(
        "CPU of a message of 1 MiB received, of raw tokio-tungstenite, in place",
        ["sizes", "heartbeat-tokio-in-place, received", "x, 1 MiB"],
        1.0,
        MESSAGE,
    ),
    goal(
        "CPU of a message of 16 B received, of raw tokio-tungstenite, task",
        ["sizes", "heartbeat-tokio-task, received", "x, 16 B"],
        1.0,
        HANDOFF,
    ),
    goal(
        "CPU of a message of 1 KiB received, of raw tokio-tungstenite, task",
        ["sizes", "heartbeat-tokio-task, received", "x, 1 KiB"],
        1.0,
        HANDOFF,
    ),
    goal(
        "CPU of a message of 16 KiB received, of raw tokio-tungstenite, task",
        ["sizes", "heartbeat-tokio-task, received", "x, 16 KiB"],
        1.0,
        HANDOFF,
    ),
    goal(
        "CPU of a message of 100 KiB received, of raw tokio-tungstenite, task",
        ["sizes", "heartbeat-tokio-task, received", "x, 100 KiB"],
        1.0,
        HANDOFF,
    ),
    goal(
        "CPU of a message of 1 MiB received, of raw tokio-tungstenite, task",
        ["sizes", "heartbeat-tokio-task, received", "x, 1 MiB"],
        1.0,
        HANDOFF,
    ),
    goal(
        "CPU of a message of 16 B sent, of raw tokio-tungstenite, in place",
        ["sizes", "heartbeat-tokio-in-place, sent", "x, 16 B"],
        1.0,
        OUTBOX,
    ),
    goal(
        "CPU of a message of 1 KiB sent, of raw tokio-tungstenite, in place",
        ["sizes", "heartbeat-tokio-in-place, sent", "x, 1 KiB"],
        1.0,
        OUTBOX,
    ),
    goal(
        "CPU of a message of 16 KiB sent, of raw tokio-tungstenite, in place",
        ["sizes", "heartbeat-tokio-in-place, sent", "x, 16 KiB"],
        1.0,
        OUTBOX,
    ),
    goal(
        "CPU of a message of 100 KiB sent, of raw tokio-tungstenite, in place",
        ["sizes", "heartbeat-tokio-in-place, sent", "x, 100 KiB"],
        1.0,
        OUTBOX,
    ),
    goal(
        "CPU of a message of 1 MiB sent, of raw tokio-tungstenite, in place",
        ["sizes", "heartbeat-tokio-in-place, sent", "x, 1 MiB"],
        1.0,
        OUTBOX,
    ),
    goal(
        "CPU of a message of 16 B sent, of raw tokio-tungstenite, task",
        ["sizes", "heartbeat-tokio-task, sent", "x, 16 B"],
        1.0,
        OUTBOX,
    ),
    goal(
        "CPU of a message of 1 KiB sent, of raw tokio-tungstenite, task",
        ["sizes", "heartbeat-tokio-task, sent", "x, 1 KiB"],
        1.0,
        OUTBOX,
    ),
    goal(
        "CPU of a message of 16 KiB sent, of raw tokio-tungstenite, task",
        ["sizes", "heartbeat-tokio-task, sent", "x, 16 KiB"],
        1.0,
        OUTBOX,
    ),
    goal(
        "CPU of a message of 100 KiB sent, of raw tokio-tungstenite, task",
        ["sizes", "heartbeat-tokio-task, sent", "x, 100 KiB"],
        1.0,
        OUTBOX,
    ),
    goal(
        "CPU of a message of 1 MiB sent, of raw tokio-tungstenite, task",
        ["sizes", "heartbeat-tokio-task, sent", "x, 1 MiB"],
        1.0,
        OUTBOX,
    ),
    goal(
        "bytes an idle connection holds, in place",
        ["idle", IN_PLACE, "bytes each"],
        7680.0,
        ENGINE,
    ),
    goal(
        "the same, task",
        ["idle", TASK, "bytes each"],
        7680.0,
        ENGINE,
    ),
    goal(
        "the same, blocking, with its thread",
        ["idle", THREAD, "bytes each"],
        16384.0,
        STACK,
    ),
    goal(
        "wake-ups between heartbeats, in place",
        ["idle", IN_PLACE, "wakes, quiet"],
        0.0,
        TICKS,
    ),
    goal("the same, task", ["idle", TASK, "wakes, quiet"], 0.0, TICKS),
    goal(
        "the same, blocking thread",
        ["idle", THREAD, "wakes, quiet"],
        0.0,
        TICKS,
    ),
    goal(
        "GB of memory of 100 000 clients",
        ["crowd", IN_PLACE, "GB PSS"],
        0.9,
        ENGINE,
    ),
    goal(
        "lost among these",
        ["crowd", IN_PLACE, "lost"],
        0.0,
        "see the run's output",
    ),
    goal(
        "CPU µs for a ping and its pong",
        ["crowd", IN_PLACE, "CPU us a pong"],
        50.0,
        LAYERS,
    ),
    goal(
        "ms until a death is noticed, beyond the bound, p50",
        ["detection", IN_PLACE, "p50 ms late"],
        2.0,
        MILLIS,
    ),
    goal(
        "the same, p99",
        ["detection", IN_PLACE, "p99 ms late"],
        20.0,
        BUSY,
    ),
    goal(
        "deaths noticed early",
        ["detection", IN_PLACE, "early"],
        0.0,
        "a defect",
    ),
    goal(
        "healthy connections lost meanwhile",
        ["detection", IN_PLACE, "others lost"],
        0.0,
        BUSY,
    ),
    goal(
        "CPU of a message that comes alone, of raw tokio-tungstenite, in place",
        ["trickle", IN_PLACE, "x the raw one"],
        1.0,
        LAYERS,
    ),
    goal(
        "the same, task",
        ["trickle", TASK, "x the raw one"],
        1.0,
        HANDOFF,
    ),
    goal(
        "the same of raw tungstenite, blocking in place",
        ["trickle", BLOCKING, "x the raw one"],
        1.0,
        LAYERS,
    ),
    goal(
        "ping answered, of a bare echo, in place",
        ["ping", IN_PLACE, "x a bare echo"],
        1.05,
        LAYERS,
    ),
    goal(
        "the same, task",
        ["ping", TASK, "x a bare echo"],
        1.05,
        HANDOFF,
    ),
    goal(
        "the same, blocking in place",
        ["ping", BLOCKING, "x a bare echo"],
        1.05,
        LAYERS,
    ),
    goal(
        "CPU of a sent message, of raw tokio-tungstenite, in place",
        [
            "send",
            "heartbeat-tokio-in-place, one by one",
            "x the raw one",
        ],
        1.1,
        OUTBOX,
    ),
    goal(
        "the same, 64 at once",
        [
            "send",
            "heartbeat-tokio-in-place, 64 at once",
            "x the raw one",
        ],
        1.0,
        OUTBOX,
    ),
    goal(
        "the same, 64 at once, task",
        ["send", "heartbeat-tokio-task, 64 at once", "x the raw one"],
        1.2,
        OUTBOX,
    ),
    goal(
        "the same of raw tungstenite, 64 at once, blocking in place",
        [
            "send",
            "heartbeat-blocking-in-place, 64 at once",
            "x the raw one",
        ],
        1.1,
        OUTBOX,
    ),
    goal(
        "the same, 64 at once, blocking thread",
        [
            "send",
            "heartbeat-blocking-thread, 64 at once",
            "x the raw one",
        ],
        1.1,
        OUTBOX,
    ),
    goal(
        "CPU of a sent message, of raw tokio-tungstenite, one by one, task",
        ["send", "heartbeat-tokio-task, one by one", "x the raw one"],
        1.1,
        HANDOFF,
    ),
    goal(
        "the same of raw tungstenite, blocking thread (it takes several at once, the raw one does not)",
        [
            "send",
            "heartbeat-blocking-thread, one by one",
            "x the raw one",
        ],
        1.1,
        HANDOFF,
    ),
    goal(
        "KiB more at the peak of a million messages to a slow reader than at a tenth, task",
        ["backpressure", TASK, "KiB more"],
        1024.0,
        "what may wait is bounded by `Options::send_queue`",
    ),
    goal(
        "the same, blocking thread",
        ["backpressure", THREAD, "KiB more"],
        1024.0,
        "one thread allocates memory that the other frees, and the allocator keeps some for both. With four million messages it was 1576",
    ),
    goal(
        "ratio of the most expensive message to the cheapest, 1 to 10 000 connections, in place",
        ["scale", IN_PLACE, "most/least"],
        1.5,
        "one connection sleeps after every message, many seldom do; raw tokio-tungstenite's row says how much of it is the kernel's and the caches'",
    ),
    goal(
        "the same, task",
        ["scale", TASK, "most/least"],
        1.5,
        "as above",
    ),
];

/// Figures of the core in instructions, by their names in the record.
const RECORDED: &[(&str, &str, f64)] = &[
    (
        "instructions of a step for a data message",
        "step: data",
        60.0,
    ),
    (
        "instructions of a step for a tick that is not due",
        "step: a tick that is not due",
        30.0,
    ),
];

const SIZE: &str = "the anchors of an open connection take 232, statistics 160, and the rest is schedule, random numbers and references. Statistics kept outside and sentinels instead of `Option` would save 220, a thirtieth of an idle connection's memory, but every user would have to carry a second value";

const CORE: &str = "
## The core, and reading over a stream in memory

`cargo run --release -p heartbeat-instructions`, which CI runs: a count more than 3 % above this record is an error. The figures are
instructions, counted by callgrind. None of the first four allocates. `cargo run --release -p heartbeat-core
--example dialect_speed` gives nanoseconds.
";

const TICKS: &str = "tokio's timer wheel wakes up at its slots on the way to a distant deadline, once for the whole process and not for each connection";
const MILLIS: &str =
    "tokio's timer counts whole milliseconds and rounds up, which adds one to two of them";
const BUSY: &str = "the machine has two cores for ten thousand clients and their server";

/// Title and explanation of the columns, in the order of the page.
const MODES: &[(&str, &str, &str)] = &[
    (
        "receive",
        "Received messages",
        "CPU time of the client's process. `x the raw one`: the ratio to the first row, as the median over the rounds. `raw-tokio-tungstenite-task` is tokio-tungstenite in a task with tokio's mpsc channel of 1024 to the application. `-lent`: `InPlace::next_lent` and `recv_lent`.\n\n![CPU time a received message costs](speed/receive.svg)",
    ),
    (
        "tls",
        "The same under TLS",
        "rustls with ring on both sides.",
    ),
    (
        "sizes",
        "Messages of several lengths",
        "CPU ns a message. Sent: as many before each wait as make 64 KiB, 64 at the most. `x`: to the raw client in the same direction, the median of the ratios within a round.",
    ),
    (
        "instructions",
        "The same in instructions",
        "Counted by callgrind, which counts one instruction for each byte of a cleared buffer (`rep stosb`). `floor` reads, finds the frames, checks their UTF-8 and hands out slices of its buffer: no client can take less.",
    ),
    (
        "profiles",
        "The same, built otherwise",
        "`x the first one`: the ratio to the same client built like this workspace, with thin LTO and one codegen unit. Cargo's own defaults are \"no LTO, 16 units\". If speed counts, put this into your `Cargo.toml`. It takes longer to build, so this workspace does without:\n\n```toml\n[profile.release]\nlto = \"fat\"\ncodegen-units = 1\n```",
    ),
    (
        "trickle",
        "Messages that come alone",
        "Each message is one write, and `a second` gives their rate. Tokio's clients are measured against raw tokio-tungstenite, blocking ones against raw tungstenite, both with a 4 KiB buffer.",
    ),
    (
        "latency",
        "How soon a message that comes alone is there",
        "From the server's write until the application has the message, one clock for both processes, which have a processor each. Most of it is the kernel and the processor that wakes.",
    ),
    (
        "ping",
        "Pings answered",
        "The time from the server's ping to the pong, as the server sees it, one ping after the other. The bare echo only reads and writes. On a virtual machine most of this time is the wake-up of a processor. A client that wakes a second thread or task seems to keep the processor from sleeping deeply, and can be faster than the echo. So compare rows of one kind.",
    ),
    (
        "send",
        "Sent messages",
        "One by one: each message is written before the next is made (in place by `InPlace::try_send`; the client is driven only when that is full). The blocking thread is an exception: it takes all waiting messages whenever it runs. 64 at once: 64 messages are made, then written.",
    ),
    (
        "backpressure",
        "A million messages to a server that reads slowly",
        "Resident memory when a tenth of the messages was accepted, and how much it grew from there to its peak.",
    ),
    (
        "scale",
        "One process, many connections",
        "CPU ns for a message, when each message goes to another one of that many connections.",
    ),
    (
        "idle",
        "Idle connections",
        "Bytes each: the resident memory of the client's process with all connections, less that without, divided by their number. Tasks and stacks are included, the kernel's sockets are not. `wakes, quiet`: how often the whole process woke while no heartbeat was due. The rates are over a minute with the default configuration. The blocking client's thread has std's 2 MiB of stack (`RUST_MIN_STACK`), of which only the used part is resident.\n\n![Memory of an idle connection](speed/idle.svg)",
    ),
    (
        "idle-tls",
        "Idle connections under TLS",
        "Bytes each: the resident memory of the client's process with all connections, less that without, divided by their number, 11 s after the last was opened. For every client this includes rustls's own state.",
    ),
    (
        "detection",
        "Deaths noticed",
        "One server in ten falls silent at the same moment; its sockets stay open. Late: the time beyond the last byte heard plus `worst_case_detection()`, until the server sees the end. `others' pings`: the pings that the healthy connections sent, as a share of those due.\n\n![How late deaths are noticed](speed/detection.svg)",
    ),
    (
        "crowd",
        "A crowd",
        "Heartbeats every 30 s, the default configuration, all processes together.",
    ),
];

/// The results of one mode.
struct Page(Value);

impl Page {
    fn load(mode: &str) -> Option<Self> {
        let text = fs::read_to_string(results::folder().join(format!("{mode}.json"))).ok()?;
        Some(Self(serde_json::from_str(&text).ok()?))
    }

    fn rows(&self) -> &[Value] {
        self.0["rows"].as_array().map_or(&[], Vec::as_slice)
    }

    fn columns(&self) -> impl Iterator<Item = (&str, usize)> {
        let columns = self.0["columns"].as_array().into_iter().flatten();
        columns.map(|column| {
            let digits = column[1].as_u64().unwrap_or(0);
            (column[0].as_str().unwrap_or_default(), digits as usize)
        })
    }

    fn figure(&self, row: &str, column: &str) -> Option<f64> {
        let row = self.rows().iter().find(|of| of["name"] == row)?;
        row[column].as_f64()
    }

    /// A column as (name, figure).
    fn column(&self, column: &str) -> Vec<(String, f64)> {
        let rows = self.rows().iter();
        rows.filter_map(|row| Some((row["name"].as_str()?.to_owned(), row[column].as_f64()?)))
            .collect()
    }

    fn table(&self, out: &mut String) -> Result<()> {
        let heads: String = self
            .columns()
            .map(|(name, _)| format!(" {name} |"))
            .collect();
        writeln!(out, "| |{heads}")?;
        writeln!(out, "|---|{}", "---:|".repeat(self.columns().count()))?;
        for row in self.rows() {
            let name = row["name"].as_str().unwrap_or_default();
            let ours = if name.starts_with("heartbeat") {
                "**"
            } else {
                ""
            };
            write!(out, "| {ours}{name}{ours} |")?;
            for (column, digits) in self.columns() {
                match row[column].as_f64() {
                    Some(figure) => write!(out, " {figure:.digits$} |")?,
                    None => write!(out, " – |")?,
                }
            }
            writeln!(out)?;
        }
        Ok(())
    }

    /// When, where and with what settings the mode ran.
    fn origin(&self) -> String {
        let settings = self.0["settings"].as_object().into_iter().flatten();
        let settings = settings.map(|(name, value)| format!("{} {value}", name.replace('_', " ")));
        let settings: Vec<String> = settings.collect();
        let machine = &self.0["machine"];
        format!(
            "{}, {} shared cores, load {} before; {}",
            self.0["date"].as_str().unwrap_or_default(),
            machine["processors"],
            machine["load_before"],
            settings.join(", ")
        )
    }
}

pub(crate) fn write() -> Result<()> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let mut out = HEAD.replace("@ANSWER@", &answer());
    let recorded = fs::read_to_string(docs.join("../tests/instructions/recorded.txt"))?;
    for (what, name, at_most) in RECORDED {
        judge(&mut out, what, counted(&recorded, name), *at_most, "")?;
    }
    let size = size_of::<Heartbeat<Arc<Config>, SharedDialect>>() as f64;
    judge(&mut out, "bytes of a `Heartbeat`", Some(size), 256.0, SIZE)?;
    for goal in GOALS {
        let figure = Page::load(goal.mode).and_then(|page| page.figure(goal.row, goal.column));
        judge(&mut out, goal.what, figure, goal.at_most, goal.why)?;
    }
    write!(out, "{CORE}\n```text\n{recorded}```\n")?;
    for (mode, title, about) in MODES {
        writeln!(out, "\n## {title}\n\n`{COMMAND} {mode}`")?;
        let Some(page) = Page::load(mode) else {
            writeln!(out, "\nNot measured.")?;
            continue;
        };
        writeln!(out, "({}). {about}\n", page.origin())?;
        page.table(&mut out)?;
    }
    draw(&docs.join("speed"))?;
    let file = docs.join("speed.md");
    fs::write(&file, out)?;
    println!("{}", file.display());
    Ok(())
}

/// The figures that a user asks for first, from the tables.
fn answer() -> String {
    let ratio = |mode: &str, row: &str, column: &str| {
        let figure = Page::load(mode).and_then(|page| page.figure(row, column));
        figure.map_or_else(|| "–".to_owned(), |figure| format!("{figure:.2}"))
    };
    let bytes = |mode: &str, row: &str| {
        let figure = Page::load(mode).and_then(|page| page.figure(row, "bytes each"));
        figure.map_or_else(
            || "–".to_owned(),
            |figure| format!("{:.1} KB", figure / 1000.0),
        )
    };
    let raw = "raw-tokio-tungstenite";
    let small = "raw-tokio-tungstenite-4k";
    format!(
        "A client with heartbeats beside a raw socket of tokio-tungstenite, which has none. `1.00` is the raw socket's cost.\n\n\
         | | in place | task |\n|---|---:|---:|\n\
         | CPU of a received message of 150 bytes | {} | {} |\n\
         | the same under TLS | {} | {} |\n\
         | the same, beside a raw socket in a task with a channel | | {} |\n\
         | CPU of a sent message, 64 at once | {} | {} |\n\
         | time until a message that comes alone is there, p50 | {} | {} |\n\
         | memory of an idle connection ({} with a raw buffer of 4 KiB, {} with the default) | {} | {} |\n\
         | the same under TLS ({} and {}) | {} | {} |",
        ratio("receive", IN_PLACE, "x the raw one"),
        ratio("receive", TASK, "x the raw one"),
        ratio("tls", IN_PLACE, "x the raw one"),
        ratio("tls", TASK, "x the raw one"),
        ratio("receive", TASK, "x raw in a task"),
        ratio("send", &format!("{IN_PLACE}, 64 at once"), "x the raw one"),
        ratio("send", &format!("{TASK}, 64 at once"), "x the raw one"),
        ratio("latency", IN_PLACE, "x the raw one"),
        ratio("latency", TASK, "x the raw one"),
        bytes("idle", small),
        bytes("idle", raw),
        bytes("idle", IN_PLACE),
        bytes("idle", TASK),
        bytes("idle-tls", small),
        bytes("idle-tls", raw),
        bytes("idle-tls", IN_PLACE),
        bytes("idle-tls", TASK),
    )
}

/// A row of the goals.
fn judge(out: &mut String, what: &str, figure: Option<f64>, at_most: f64, why: &str) -> Result<()> {
    let (figure, met) = match figure {
        None => ("–".to_owned(), "not measured".to_owned()),
        // Rounded as it is printed.
        Some(figure) if (figure * 100.0).round() <= at_most * 100.0 => {
            (short(figure), "yes".to_owned())
        }
        Some(figure) => (short(figure), format!("**no**: {why}")),
    };
    let at_most = short(at_most);
    writeln!(out, "| {what} | ≤ {at_most} | {figure} | {met} |")?;
    Ok(())
}

/// The recorded figure with this name.
fn counted(recorded: &str, name: &str) -> Option<f64> {
    let mut lines = recorded
        .lines()
        .filter_map(|line| line.trim().split_once("  "));
    let (figure, _) = lines.find(|(_, of)| *of == name)?;
    figure.parse().ok()
}

fn short(figure: f64) -> String {
    if figure >= 100.0 || figure == figure.round() {
        format!("{figure:.0}")
    } else {
        format!("{figure:.2}")
    }
}

fn draw(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let bars = [
        (
            "receive",
            "CPU ns",
            "CPU ns a received message of 150 bytes",
        ),
        ("idle", "bytes each", "Bytes of memory an idle connection"),
    ];
    for (mode, column, title) in bars {
        if let Some(page) = Page::load(mode) {
            let svg = pictures::bars(title, &page.column(column))?;
            fs::write(folder.join(format!("{mode}.svg")), svg)?;
        }
    }
    if let Some(page) = Page::load("detection") {
        let lines = page.rows().iter().map(|row| {
            let late = row["late_ms"].as_array().into_iter().flatten();
            let name = row["name"].as_str().unwrap_or_default();
            (name.to_owned(), late.filter_map(Value::as_f64).collect())
        });
        let svg = pictures::shares("ms from the bound to the end", &lines.collect::<Vec<_>>())?;
        fs::write(folder.join("detection.svg"), svg)?;
    }
    Ok(())
}

const COMMAND: &str = "cargo run --release --manifest-path tests/speed/Cargo.toml --";

const HEAD: &str = "\
# Speed and size

This page compares the clients of this workspace with others, each through its public interface, against a server that
costs as little as possible, over loopback. The mode `figures` writes it from the other modes' results. `all` measures everything but
`profiles` (about 40 minutes) and writes this page:

```sh
cargo run --release --manifest-path tests/speed/Cargo.toml -- all
```

Clients and servers are processes of their own. CPU time is user and system time together, of the client's process
alone. Ratios are between clients within one run, whose rounds are interleaved. Compare ratios, or figures of one table;
do not compare figures of two machines.

## How much does the heartbeat cost?

@ANSWER@

## Goals

| figure | goal | measured | met |
|---|---:|---:|---|
";
