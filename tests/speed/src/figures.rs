//! `docs/speed.md` and its pictures, from what the modes have written.

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
    /// Said where it is above.
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

const ENGINE: &str = "machine, board, outbox and timers beside tungstenite's buffer; it would take fewer \
    and smaller boxes, and queues that are given back when they are empty";
const STACK: &str = "a thread that only sleeps has 8 KiB of its stack resident; the dial and the upgrade \
    touch 16 KiB more, which stay; it would take a shallower dial";
const LAYERS: &str = "a turn of the machine and a look at the clock for each wake, in the blocking client also a wait for the socket, \
    which one without timers does not need; it would take fewer steps between socket and application";
const OUTBOX: &str = "a message that waits is kept until it is written, to be handed back otherwise; a raw client copies it \
    into its buffer at once, and what becomes of it nobody knows";
const HANDOFF: &str = "a queue with a lock and a wake-up between driver and application, for what one turn brings; it would \
    take whole reads handed over and parsed by whoever takes them; in place there is none";

/// Why a received message takes what it takes, in instructions: tungstenite's part is measured in the same table.
const CODEC: &str = "tungstenite takes most of it, and its kind of reading cannot be had for less without a codec of \
    our own; ours are the search for heartbeats in any order of keys (its cost is in the core's record) and the way through \
    client and event; `heartbeat-messages` is over tokio-websockets";
const BUFFER: &str = "the raw client has a read buffer of 128 KiB, ours 1 KiB and one of 64 KiB while it is busy, which \
    is copied once more; beside the codec's cost, above";

const GOALS: &[Goal] = &[
    goal(
        "instructions of a received message, in place",
        ["instructions", IN_PLACE, "instructions"],
        880.0,
        CODEC,
    ),
    goal(
        "the same, blocking in place",
        ["instructions", BLOCKING, "instructions"],
        830.0,
        CODEC,
    ),
    goal(
        "CPU of a received message, of raw tokio-tungstenite, in place",
        ["receive", IN_PLACE, "x the raw one"],
        0.8,
        BUFFER,
    ),
    goal(
        "the same, task",
        ["receive", TASK, "x the raw one"],
        1.0,
        HANDOFF,
    ),
    goal(
        "the same of raw tungstenite, blocking in place",
        ["receive", BLOCKING, "x raw sync"],
        1.05,
        BUFFER,
    ),
    goal(
        "the same, blocking thread",
        ["receive", THREAD, "x raw sync"],
        1.3,
        HANDOFF,
    ),
    goal(
        "bytes an idle connection holds, in place",
        ["idle", IN_PLACE, "bytes each"],
        8192.0,
        ENGINE,
    ),
    goal(
        "the same, task",
        ["idle", TASK, "bytes each"],
        8192.0,
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
        "of these lost",
        ["crowd", IN_PLACE, "lost"],
        0.0,
        "see the run's output",
    ),
    goal(
        "CPU µs a ping and its pong",
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
        1.1,
        OUTBOX,
    ),
    goal(
        "the same, 64 at once, task",
        ["send", "heartbeat-tokio-task, 64 at once", "x the raw one"],
        1.1,
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
        "one thread allocates what the other frees, and the allocator keeps some for both; with four million messages it was 1576",
    ),
    goal(
        "dearest by cheapest message, 1 to 10 000 connections, in place",
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
        "the same for a tick that is not due",
        "step: a tick that is not due",
        30.0,
    ),
];

const SIZE: &str = "the anchors of an open connection take 232, statistics 160, the rest is schedule, random numbers \
    and references; statistics kept outside and sentinels instead of `Option` would save 220, a thirtieth of what \
    an idle connection holds, and cost everybody a second value to carry";

const CORE: &str = "
## The core, and the way in over a stream in memory

`cargo run --release -p heartbeat-instructions`, which CI runs: more than 3 % above this record is an error. Instructions
each, by callgrind; no allocation in any of the first four. A figure in nanoseconds: `cargo run --release -p heartbeat-core
--example dialect_speed`.
";

const TICKS: &str = "tokio's timer wheel looks at its slots on the way to a distant deadline, for the whole \
    process and not for each connection";
const MILLIS: &str =
    "tokio's timer counts whole milliseconds and rounds up, which is one to two of these";
const BUSY: &str = "the machine has two cores for ten thousand clients and their server";

/// Title, what the columns need to be said of, in the order of the page.
const MODES: &[(&str, &str, &str)] = &[
    (
        "receive",
        "Received messages",
        "CPU time of the client's process. `x the raw one`: the median of the ratios within a round, to the first row.\n\n![CPU time a received message costs](speed/receive.svg)",
    ),
    (
        "instructions",
        "The same in instructions",
        "Counted by callgrind, which counts the clearing of a buffer (`rep stosb`) by the byte.\n\nHow far it is to the floor: `floor` reads, finds the frames, checks their UTF-8 and hands out slices of its buffer. Between it and `raw-tungstenite` lies that library's codec: a buffer of its own for each message, counted references, its states and errors, limits. Between that and ours lies the search for heartbeats, the count and clock once in 64 messages, and an event with its connection. To come nearer takes another codec below: the fastest of the others need two thirds of tungstenite's instructions, and `heartbeat-messages` shows what our part adds to one of them.",
    ),
    (
        "profiles",
        "The same, built otherwise",
        "`x the first one`: to the same client built as this workspace is, with thin LTO and one codegen unit. Cargo's own defaults are \"no LTO, 16 units\". Where speed counts, put this into your `Cargo.toml`; it takes longer to build, which is why this workspace does without:\n\n```toml\n[profile.release]\nlto = \"fat\"\ncodegen-units = 1\n```",
    ),
    (
        "trickle",
        "Messages that come alone",
        "One write a message, so many a second. Tokio's clients are measured against raw tokio-tungstenite, blocking ones against raw tungstenite, both with a 4 KiB buffer.",
    ),
    (
        "ping",
        "Pings answered",
        "From the server's ping to the pong, as the server sees it, one after the other. The bare echo reads and writes and does nothing else. On a virtual machine most of such a time is a processor that wakes up: a client that wakes a second thread or task seems to keep it from sleeping deeply, and can be faster than the echo; compare rows of one kind.",
    ),
    (
        "send",
        "Sent messages",
        "One by one: each is written before the next is made (in place by `InPlace::try_send`, and the client is driven only where that is full), except by the blocking thread, which takes what there is whenever it runs. 64 at once: each 64 are.",
    ),
    (
        "backpressure",
        "A million messages to a server that reads slowly",
        "Resident memory when a tenth was accepted, and how much more it was at its peak.",
    ),
    (
        "scale",
        "One process, many connections",
        "CPU ns a message, each to another of so many connections.",
    ),
    (
        "idle",
        "Idle connections",
        "Resident memory of the client's process with all connections less that without, by their number; tasks and stacks included, the kernel's sockets not. `wakes, quiet`: how often the whole process woke in a time in which no heartbeat was due. The rates are over a minute with the default configuration. The blocking client's thread has std's 2 MiB of stack (`RUST_MIN_STACK`), of which only what was used is resident.\n\n![Memory of an idle connection](speed/idle.svg)",
    ),
    (
        "detection",
        "Deaths noticed",
        "One server in ten falls silent at the same moment, its sockets stay open. Late: beyond the last byte heard and `worst_case_detection()`, as the server sees the end. `others' pings`: how many the healthy ones sent, of what is due.\n\n![How late deaths are noticed](speed/detection.svg)",
    ),
    (
        "crowd",
        "A crowd",
        "Heartbeats every 30 s, the default configuration, all processes together.",
    ),
];

/// What one mode has written.
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

    /// When, where and with what settings.
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
    let mut out = String::from(HEAD);
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

/// A line of the goals.
fn judge(out: &mut String, what: &str, figure: Option<f64>, at_most: f64, why: &str) -> Result<()> {
    let (figure, met) = match figure {
        None => ("–".to_owned(), "not measured".to_owned()),
        // As it is printed.
        Some(figure) if (figure * 100.0).round() <= at_most * 100.0 => {
            (short(figure), "yes".to_owned())
        }
        Some(figure) => (short(figure), format!("**no**: {why}")),
    };
    let at_most = short(at_most);
    writeln!(out, "| {what} | ≤ {at_most} | {figure} | {met} |")?;
    Ok(())
}

/// What is recorded under this name.
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

The clients of this workspace and others, each through its public interface, against a server that costs as little as
possible, over loopback. Written by `figures` from what the other modes measured; `all` measures everything but
`profiles` (about 20 minutes) and writes this page:

```sh
cargo run --release --manifest-path tests/speed/Cargo.toml -- all
```

Clients and servers are processes of their own. What is said of CPU time is user and system together, of the client's process
alone. Ratios are between clients within one run, whose rounds are interleaved: compare these, and the figures of one table,
not those of two machines.

## Goals

| figure | goal | measured | met |
|---|---:|---:|---|
";
