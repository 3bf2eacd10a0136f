//! A mode's figures: printed as a table, and kept as JSON for `figures`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Map, Value, json};

use crate::Result;

/// The measurements of one mode.
pub(crate) struct Results {
    mode: &'static str,
    settings: Value,
    columns: Vec<(&'static str, usize)>,
    rows: Vec<Map<String, Value>>,
    /// The machine's load before anything was started, as a one-minute average.
    load: f64,
}

impl Results {
    /// A table with these columns: name, and digits after the decimal point.
    pub(crate) fn new(
        mode: &'static str,
        settings: Value,
        columns: &[(&'static str, usize)],
    ) -> Self {
        Self {
            mode,
            settings,
            columns: columns.to_vec(),
            rows: Vec::new(),
            load: load(),
        }
    }

    /// A row: its name, and one figure for each column (NaN: none).
    pub(crate) fn row(&mut self, name: &str, figures: &[f64]) {
        let mut row = Map::new();
        row.insert("name".into(), json!(name));
        for ((column, _), figure) in self.columns.iter().zip(figures) {
            row.insert((*column).into(), json!(figure));
        }
        self.rows.push(row);
    }

    /// A further note on the last row.
    pub(crate) fn more(&mut self, key: &str, value: Value) {
        if let Some(row) = self.rows.last_mut() {
            row.insert(key.into(), value);
        }
    }

    /// Prints the table and writes the file.
    pub(crate) fn finish(self) -> Result<()> {
        let heads = self.columns.iter().map(|(name, _)| format!("  {name:>10}"));
        println!("{:<30}{}", self.mode, heads.collect::<String>());
        for row in &self.rows {
            let name = row["name"].as_str().unwrap_or_default();
            let cells = self.columns.iter().map(|(column, digits)| {
                let width = column.len().max(10);
                match row.get(*column).and_then(Value::as_f64) {
                    Some(figure) => format!("  {figure:>width$.digits$}"),
                    None => format!("  {:>width$}", "-"),
                }
            });
            println!("{name:<30}{}", cells.collect::<String>());
        }
        let folder = folder();
        fs::create_dir_all(&folder)?;
        let date = Command::new("date").args(["-u", "+%F"]).output()?.stdout;
        let machine = json!({
            "processors": std::thread::available_parallelism()?.get(),
            "load_before": self.load,
        });
        let all = json!({
            "mode": self.mode,
            "date": String::from_utf8(date)?.trim(),
            "machine": machine,
            "settings": self.settings,
            "columns": self.columns,
            "rows": self.rows,
        });
        let file = folder.join(format!("{}.json", self.mode));
        Ok(fs::write(file, serde_json::to_string_pretty(&all)?)?)
    }
}

/// The machine's load over the last minute.
fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let first = text.split(' ').next().and_then(|load| load.parse().ok());
    first.unwrap_or(f64::NAN)
}

/// Where the results are kept.
pub(crate) fn folder() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "target", "figures"]
        .iter()
        .collect()
}

/// The value below which this share of the values is.
pub(crate) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    let at = (last as f64 * share).round() as usize;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

pub(crate) fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}
