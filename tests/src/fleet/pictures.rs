//! One SVG for each scenario: dials against capacity for each variant side by side, the share of the fleet
//! that is open, and the distribution of the delays before dials.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::prelude::*;

use super::figures::Figures;
use super::scenario::{SECOND, Scenario};

type Error = Box<dyn std::error::Error + Send + Sync>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// The most points in a line: as many as a screen shows, for a file of a reasonable size.
const COLUMNS: usize = 240;

const SIZE: (u32, u32) = (1000, 640);

/// Distinguishable without red and green (Okabe and Ito's palette).
const COLORS: [RGBColor; 6] = [
    RGBColor(213, 94, 0),
    RGBColor(0, 114, 178),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];
const CAPACITY: RGBColor = RGBColor(90, 90, 90);
const INCIDENT: RGBAColor = RGBAColor(220, 60, 60, 0.12);
const FONT: &str = "sans-serif";

/// The picture of these runs of one scenario, as SVG.
pub(crate) fn draw(scenario: &Scenario, runs: &[Figures]) -> Result<String, Error> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let title = format!(
            "{}: {} clients, {} handshakes/s. Shaded: something is wrong",
            scenario.name, scenario.machines, scenario.farm.handshakes_per_second
        );
        let root = root.titled(&title, (FONT, 20))?;
        let (top, bottom) = root.split_vertically(310);
        let window = window(scenario, runs);
        for (panel, (index, run)) in top
            .split_evenly((1, runs.len()))
            .iter()
            .zip(runs.iter().enumerate())
        {
            dials(panel, scenario, runs, run, COLORS[index % 6], &window)?;
        }
        let (left, right) = bottom.split_horizontally(560);
        share(&left, scenario, runs, &window)?;
        delays(&right, runs)?;
        root.present()?;
    }
    Ok(svg)
}

/// The seconds shown: from a minute before the first incident until two minutes after the whole fleet was
/// back in the last run, or to the end.
fn window(scenario: &Scenario, runs: &[Figures]) -> Range<usize> {
    let seconds = scenario.duration.0.div_ceil(SECOND) as usize;
    let first = scenario.incidents.iter().map(|incident| incident.begins());
    let from = (first.min().unwrap_or(0) / SECOND) as usize;
    let back = runs
        .iter()
        .map(|run| run.back.all)
        .collect::<Option<Vec<_>>>();
    let slowest = back.and_then(|back| back.into_iter().reduce(f64::max));
    let calm = (scenario.calm_from() / SECOND) as usize;
    let to = slowest.map_or(seconds, |slowest| calm + slowest as usize + 120);
    from.saturating_sub(60)..to.min(seconds)
}

/// The largest value in each of at most [`COLUMNS`] columns, with its time in minutes.
fn columns(series: &[u32], window: &Range<usize>) -> Vec<(f64, f64)> {
    let shown = series.get(window.clone()).unwrap_or_default();
    let width = shown.len().div_ceil(COLUMNS).max(1);
    shown
        .chunks(width)
        .enumerate()
        .map(|(column, values)| {
            let most = values.iter().copied().max().unwrap_or(0);
            let minute = (window.start + column * width) as f64 / 60.0;
            (minute, f64::from(most))
        })
        .collect()
}

fn minutes(window: &Range<usize>) -> Range<f64> {
    window.start as f64 / 60.0..window.end as f64 / 60.0
}

/// When an incident is going on, in minutes, cut to the shown range.
fn incidents(scenario: &Scenario, window: &Range<usize>) -> Vec<(f64, f64)> {
    let minutes = minutes(window);
    let minute = |nanos: u64| nanos as f64 / SECOND as f64 / 60.0;
    let incidents = scenario.incidents.iter();
    incidents
        .map(|incident| {
            let (from, to) = (incident.begins(), incident.ends(scenario.farm.nodes));
            (minute(from).max(minutes.start), minute(to).min(minutes.end))
        })
        .collect()
}

fn dials(
    area: &Area<'_>,
    scenario: &Scenario,
    runs: &[Figures],
    run: &Figures,
    color: RGBColor,
    window: &Range<usize>,
) -> Result<(), Error> {
    let peak = runs.iter().map(|run| run.peak_dials_at_all).max();
    let top = f64::from(peak.unwrap_or(1).max(run.capacity)) * 2.0;
    let caption = format!("{}: {:.1} x capacity", run.variant, run.peak_ratio);
    let mut chart = ChartBuilder::on(area)
        .caption(caption, (FONT, 12))
        .margin(6)
        .x_label_area_size(32)
        .y_label_area_size(58)
        .build_cartesian_2d(minutes(window), (1.0..top).log_scale())?;
    chart
        .configure_mesh()
        .disable_mesh()
        .x_desc("minutes")
        .y_desc("dials/s (log scale)")
        .y_label_formatter(&|value| format!("{value:.0}"))
        .x_labels(6)
        .draw()?;
    let shade = |(from, to)| Rectangle::new([(from, 1.0), (to, top)], INCIDENT.filled());
    chart.draw_series(incidents(scenario, window).into_iter().map(shade))?;
    let positive = |points: Vec<(f64, f64)>| {
        let raise = |(minute, value): (f64, f64)| (minute, value.max(1.0));
        points.into_iter().map(raise)
    };
    chart.draw_series(LineSeries::new(
        positive(columns(&run.counts.dials, window)),
        color.stroke_width(1),
    ))?;
    let capacity = positive(columns(&run.counts.capacity, window));
    chart.draw_series(LineSeries::new(capacity, CAPACITY.stroke_width(2)))?;
    let label = (minutes(window).start, f64::from(run.capacity) * 1.7);
    chart.draw_series([Text::new("capacity", label, (FONT, 12))])?;
    Ok(())
}

fn share(
    area: &Area<'_>,
    scenario: &Scenario,
    runs: &[Figures],
    window: &Range<usize>,
) -> Result<(), Error> {
    let mut chart = ChartBuilder::on(area)
        .caption("share of the fleet that is open", (FONT, 14))
        .margin(6)
        .x_label_area_size(32)
        .y_label_area_size(46)
        .build_cartesian_2d(minutes(window), 0.0..105.0)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc("minutes")
        .y_desc("percent")
        .draw()?;
    let shade = |(from, to)| Rectangle::new([(from, 0.0), (to, 105.0)], INCIDENT.filled());
    chart.draw_series(incidents(scenario, window).into_iter().map(shade))?;
    for (index, run) in runs.iter().enumerate() {
        let color = COLORS[index % 6];
        let machines = f64::from(run.machines);
        let points = columns(&run.open, window);
        let line = points
            .into_iter()
            .map(|(minute, open)| (minute, open * 100.0 / machines));
        chart
            .draw_series(LineSeries::new(line, color.stroke_width(2)))?
            .label(&run.variant)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(3)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.3))
        .label_font((FONT, 12))
        .draw()?;
    Ok(())
}

fn delays(area: &Area<'_>, runs: &[Figures]) -> Result<(), Error> {
    let shares = |run: &Figures| {
        let sum: u64 = run.counts.delays.iter().sum();
        let percent = |count: &u64| *count as f64 * 100.0 / sum.max(1) as f64;
        run.counts.delays.iter().map(percent).collect::<Vec<_>>()
    };
    let all: Vec<_> = runs.iter().map(shares).collect();
    let last = all
        .iter()
        .filter_map(|shares| shares.iter().rposition(|share| *share > 0.0));
    let last = last.max().unwrap_or(1) + 1;
    let top = all.iter().flatten().copied().fold(1.0, f64::max) * 1.2;
    let mut chart = ChartBuilder::on(area)
        .caption("delays before a dial (log scale)", (FONT, 14))
        .margin(6)
        .x_label_area_size(32)
        .y_label_area_size(46)
        .build_cartesian_2d(0.0..last as f64, (0.01..top).log_scale())?;
    chart
        .configure_mesh()
        .disable_mesh()
        .x_desc("seconds")
        .y_desc("percent of all delays")
        .draw()?;
    for (index, shares) in all.iter().enumerate() {
        // A step for each second.
        let steps = shares.iter().take(last).enumerate();
        let line = steps.flat_map(|(second, share)| {
            let share = share.max(0.01);
            [(second as f64, share), ((second + 1) as f64, share)]
        });
        chart.draw_series(LineSeries::new(line, COLORS[index % 6].stroke_width(2)))?;
    }
    Ok(())
}
