//! The table as Markdown.

use std::fmt::Write;

use crate::cases::{CASES, Case};
use crate::clients::CLIENTS;
use crate::results::{Results, Row};

const HEAD: &str = "\
# The torture course

What breaks long-lived WebSocket clients, done to ours and to others by one server on one machine (2 cores), over
loopback. The server is the judge: it counts connections, and sees when each ends. `tests/peers/course` runs it again
(`--help` says how to choose clients and cases), and writes this file, `torture.json` and the picture.

![pass or fail of each client in each case](torture.svg)

Every client is asked for the same times: ask after 2 s of silence, dead after 4 s, a dial given up after 3 s, back
after 0.5 s. The settings that come closest are listed at the end. A verdict may be 0.5 s late before it counts as
late. A connection is dead when the server sees it closed or, if that comes first, when the client dials again; both
must happen. Times are median / longest in seconds. A client that has no setting for a case, or no way to take part, is
excused (–) and not counted as failed.

";

pub(crate) fn render(results: &Results) -> String {
    let mut text = String::from(HEAD);
    summary(&mut text, results);
    for case in CASES {
        detail(&mut text, case, results);
    }
    settings(&mut text);
    text.push_str(include_str!("../../../../docs/torture-more.md"));
    text
}

/// Writing into a String does not fail.
macro_rules! put {
    ($text:expr, $($arguments:tt)*) => { let _ = writeln!($text, $($arguments)*); };
}

fn summary(text: &mut String, results: &Results) {
    text.push_str("## Cases passed\n\n| client | passed | failed | excused |\n|---|---|---|---|\n");
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
        "## {}: {}\n\nPasses: {}.\n",
        case.id,
        case.title,
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
    text.push_str(" CPU ms | |\n|---|---|");
    text.push_str(if timed { "---|---|" } else { "" });
    text.push_str("---|---|");
    text.push_str(if counted { "---|---|---|" } else { "" });
    text.push_str("---|---|\n");
    for (client, row) in rows {
        let name = name(client.is_ours(), client.name);
        if row.trials == 0 {
            let empty = " |".repeat(3 + 2 * usize::from(timed) + 3 * usize::from(counted));
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
        put!(text, " {} | {} |", row.cpu_ms, row.what);
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
