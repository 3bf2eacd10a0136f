//! The table as Markdown.

use std::fmt::Write;

use crate::cases::{CASES, Case};
use crate::clients::CLIENTS;
use crate::results::{Results, Row};

const HEAD: &str = "\
# The torture course

One server does to our clients and to others what breaks long-lived WebSocket clients. Everything runs on one machine (2
cores), over loopback. `tests/peers/course` builds everything, runs the course, and writes this file, `torture.json` and
the picture.

![pass or fail of each client in each case](torture.svg)

## How to read it

- **The server is the judge.** It counts connections, and sees when each begins and ends. A client's own report counts
  only for messages (T6, T20). Every client runs in a process of its own, with the same command line.
- **The same times for all**: ask after 2 s of silence, dead after 4 s, a dial given up after 3 s, back after 0.5 s.
  [Settings](#settings) shows how each client was configured. If a client has a setting that makes a case pass, the
  setting is used.
- **passed**: passed trials of all trials. A case is passed when every trial is. A client that has no setting for a
  case, or no way to take part, is excused (–); this does not count as failed.
- **time of death**: median / longest, in seconds, from the server's last byte (T8: from the moment when the process
  continued; T11: from accept; `late` of T13, and T23: from the upgrade) to the end of the connection as the server sees
  it or, if that comes first, to the next dial. Up to 0.5 s late still passes. A second dial must follow.
- **recovery**: from that end to the next accept, median / longest, in seconds.
- **false deaths**: connections that the client gave up although the server was healthy, over all trials.
- **connects**, **CPU ms**, **load**: the highest of all trials. The load is the whole machine's average over a minute.
- **lost**, **twice**, **returned**: messages, over all trials.
- The last column describes failed trials, if there are any, by variant. ";

pub(crate) fn render(results: &Results) -> String {
    let mut text = String::from(HEAD);
    summary(&mut text, results);
    for case in CASES {
        detail(&mut text, case, results);
    }
    settings(&mut text);
    text
}

/// Writing into a String does not fail.
macro_rules! put {
    ($text:expr, $($arguments:tt)*) => { let _ = writeln!($text, $($arguments)*); };
}

fn summary(text: &mut String, results: &Results) {
    text.push_str(
        "\n## Cases passed\n\n| client | passed | failed | excused |\n|---|---|---|---|\n",
    );
    for client in CLIENTS {
        let rows: Vec<_> = CASES
            .iter()
            .filter_map(|case| results.get(case, client))
            .collect();
        if rows.is_empty() {
            continue;
        }
        let passed = rows
            .iter()
            .filter(|row| row.trials > 0 && row.passed == row.trials)
            .count();
        let excused = rows.iter().filter(|row| row.trials == 0).count();
        put!(
            text,
            "| {} {} | {passed} | {} | {excused} |",
            name(client.is_ours(), client.name),
            client.version,
            rows.len() - passed - excused
        );
    }
    text.push('\n');
}

fn name(ours: bool, name: &str) -> String {
    if ours {
        format!("**heartbeat {name}**")
    } else {
        name.to_owned()
    }
}

fn detail(text: &mut String, case: &Case, results: &Results) {
    put!(
        text,
        "## {}: {}\n\n{}.\n\nPasses: {}.\n",
        case.id,
        case.title,
        case.world,
        case.rule
    );
    let rows: Vec<_> = CLIENTS
        .iter()
        .filter_map(|client| Some((client, results.get(case, client)?)))
        .collect();
    let any = |test: fn(&Row) -> bool| rows.iter().any(|(_, row)| test(row));
    let timed = case
        .variants
        .iter()
        .any(|variant| variant.judge.bound().is_some());
    let counted = any(|row| row.lost != 0 || row.duplicates != 0 || row.returned != 0);
    text.push_str("| client | passed |");
    text.push_str(if timed {
        " time of death | recovery |"
    } else {
        ""
    });
    text.push_str(" false deaths | connects |");
    text.push_str(if counted {
        " lost | twice | returned |"
    } else {
        ""
    });
    text.push_str(" CPU ms | load | |\n|---|---|");
    text.push_str(if timed { "---|---|" } else { "" });
    text.push_str("---|---|");
    text.push_str(if counted { "---|---|---|" } else { "" });
    text.push_str("---|---|---|\n");
    for (client, row) in rows {
        let name = name(client.is_ours(), client.name);
        if row.trials == 0 {
            let empty = " |".repeat(4 + 2 * usize::from(timed) + 3 * usize::from(counted));
            put!(text, "| {name} | – |{empty} {} |", row.what);
            continue;
        }
        let mark = if row.passed == row.trials {
            "✓"
        } else {
            "✗"
        };
        let _ = write!(text, "| {name} | {mark} {}/{} |", row.passed, row.trials);
        if timed {
            let _ = write!(text, " {} | {} |", pair(row.death), pair(row.recovery));
        }
        let _ = write!(text, " {} | {} |", row.false_deaths, row.connects);
        if counted {
            let _ = write!(
                text,
                " {} | {} | {} |",
                row.lost, row.duplicates, row.returned
            );
        }
        put!(text, " {} | {:.0} | {} |", row.cpu_ms, row.load, row.what);
    }
    text.push('\n');
}

fn pair(pair: Option<(f64, f64)>) -> String {
    pair.map_or("–".into(), |(median, max)| {
        format!("{median:.2} / {max:.2}")
    })
}

fn settings(text: &mut String) {
    text.push_str("## Settings\n\n| client | settings |\n|---|---|\n");
    for client in CLIENTS {
        put!(
            text,
            "| {} {} | {} |",
            name(client.is_ours(), client.name),
            client.version,
            client.settings
        );
    }
    text.push('\n');
}
