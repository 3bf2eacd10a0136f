//! The table as a picture: a field for each case and client.

use std::fmt::Write;

use crate::cases::CASES;
use crate::clients::CLIENTS;
use crate::results::Results;

const CELL: usize = 34;
const ROW: usize = 22;
const LEFT: usize = 190;
const TOP: usize = 30;

pub(crate) fn render(results: &Results) -> String {
    let width = LEFT + CELL * CASES.len() + 10;
    let height = TOP + ROW * CLIENTS.len() + 34;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    for (column, case) in CASES.iter().enumerate() {
        let x = LEFT + column * CELL + CELL / 2;
        text(&mut svg, x, TOP - 8, "middle", case.id);
    }
    for (line, client) in CLIENTS.iter().enumerate() {
        let y = TOP + line * ROW;
        let name = if client.is_ours() {
            format!("heartbeat {}", client.name)
        } else {
            client.name.to_owned()
        };
        text(&mut svg, LEFT - 8, y + 15, "end", &name);
        for (column, case) in CASES.iter().enumerate() {
            let Some(row) = results.get(case, client) else {
                continue;
            };
            // Distinguishable without colours, too.
            let (colour, mark) = match () {
                () if row.trials == 0 => ("#e8e8e8", "–"),
                () if row.passed == row.trials => ("#8fd19e", "✓"),
                () if row.passed == 0 => ("#f1948a", "✗"),
                () => ("#f7dc6f", "~"),
            };
            let x = LEFT + column * CELL;
            let _ = writeln!(
                svg,
                "<rect x=\"{x}\" y=\"{y}\" width=\"{}\" height=\"{}\" fill=\"{colour}\"/>",
                CELL - 2,
                ROW - 2
            );
            text(&mut svg, x + CELL / 2 - 1, y + 15, "middle", mark);
        }
    }
    let y = height - 12;
    text(
        &mut svg,
        LEFT,
        y,
        "start",
        "✓ passed   ✗ failed   ~ in some of its trials   – excused",
    );
    svg.push_str("</svg>\n");
    svg
}

fn text(svg: &mut String, x: usize, y: usize, anchor: &str, words: &str) {
    let _ = writeln!(
        svg,
        "<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\">{words}</text>"
    );
}
