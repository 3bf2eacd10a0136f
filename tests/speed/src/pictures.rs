//! The pictures of `docs/speed.md`, as SVG.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::Result;

const FONT: &str = "sans-serif";

/// Ours and the others, distinguishable without red and green (Okabe and Ito's palette).
const OURS: RGBColor = RGBColor(0, 114, 178);
const OTHERS: RGBColor = RGBColor(160, 160, 160);
const LINES: [RGBColor; 3] = [OURS, RGBColor(213, 94, 0), RGBColor(0, 158, 115)];

/// A bar for each figure, the smallest first.
pub(crate) fn bars(title: &str, figures: &[(String, f64)]) -> Result<String> {
    const WIDTH: i32 = 900;
    const LEFT: i32 = 230;
    const RIGHT: i32 = 90;
    const ROW: i32 = 24;
    const TOP: i32 = 44;
    let mut figures = figures.to_vec();
    figures.sort_by(|(_, one), (_, other)| one.total_cmp(other));
    let most = figures.last().map_or(1.0, |(_, figure)| *figure);
    let height = TOP + ROW * figures.len() as i32 + 12;
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH as u32, height as u32));
        let root = root.into_drawing_area();
        root.fill(&WHITE)?;
        let text = |size: i32, h: HPos| {
            let style = TextStyle::from((FONT, size).into_font());
            style.pos(Pos::new(h, VPos::Center))
        };
        let heading = Text::new(title.to_owned(), (WIDTH / 2, 20), text(18, HPos::Center));
        root.draw(&heading)?;
        for (at, (name, figure)) in figures.iter().enumerate() {
            let middle = TOP + ROW * at as i32 + ROW / 2;
            let end = LEFT + (f64::from(WIDTH - LEFT - RIGHT) * figure / most) as i32;
            let color = if name.starts_with("heartbeat") {
                OURS
            } else {
                OTHERS
            };
            let bar = [(LEFT, middle - 8), (end.max(LEFT + 1), middle + 8)];
            root.draw(&Rectangle::new(bar, color.filled()))?;
            root.draw(&Text::new(
                name.clone(),
                (LEFT - 8, middle),
                text(13, HPos::Right),
            ))?;
            let label = format!("{figure:.0}");
            root.draw(&Text::new(label, (end + 6, middle), text(13, HPos::Left)))?;
        }
        root.present()?;
    }
    Ok(svg)
}

/// The share of the values below each value.
pub(crate) fn shares(unit: &str, lines: &[(String, Vec<f64>)]) -> Result<String> {
    let most = lines.iter().flat_map(|(_, values)| values).copied();
    let most = most.fold(1.0, f64::max);
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (900, 400)).into_drawing_area();
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&root)
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(60)
            .build_cartesian_2d(0.0..most * 1.05, 0.0..1.0)?;
        chart
            .configure_mesh()
            .x_desc(unit)
            .y_desc("share of the deaths")
            .y_label_formatter(&|share| format!("{:.0} %", share * 100.0))
            .light_line_style(TRANSPARENT)
            .draw()?;
        for ((name, values), color) in lines.iter().zip(LINES) {
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            let count = sorted.len() as f64;
            let points = sorted.into_iter().enumerate();
            let points = points.map(|(at, value)| (value, (at + 1) as f64 / count));
            chart
                .draw_series(LineSeries::new(points, color.stroke_width(2)))?
                .label(name)
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 20, y)], color.stroke_width(2))
                });
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerRight)
            .background_style(WHITE)
            .border_style(OTHERS)
            .draw()?;
        root.present()?;
    }
    Ok(svg)
}
