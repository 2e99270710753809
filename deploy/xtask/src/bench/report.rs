//! The table of a run.

use std::path::Path;

use serde::Serialize;

/// What was measured, beside what, against which target.
#[derive(Serialize)]
pub struct Row {
    /// What was measured, with its unit.
    #[serde(rename = "row")]
    pub what: String,
    /// Its value.
    pub value: f64,
    /// What it stands beside.
    pub beside: String,
    /// The value of that.
    pub baseline: f64,
    /// `value / baseline`.
    pub ratio: f64,
    /// What the ratio should be, where there is a target.
    pub target: Option<Target>,
    /// Whether it is.
    pub met: Option<bool>,
}

/// A bound on a ratio.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// At least this.
    AtLeast(f64),
    /// Within this part of 1, either way for the worse.
    AtMost(f64),
}

/// Rows as they come: printed at once, kept for the file.
#[derive(Default)]
pub struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// Takes and prints a row.
    pub fn add(
        &mut self,
        row: impl Into<String>,
        value: f64,
        beside: impl Into<String>,
        baseline: f64,
        target: Option<Target>,
    ) {
        let ratio = value / baseline;
        let met = target.map(|target| match target {
            Target::AtLeast(bound) => ratio >= bound,
            Target::AtMost(bound) => ratio <= bound,
        });
        let row = Row { what: row.into(), value, beside: beside.into(), baseline, ratio, target, met };
        if self.rows.is_empty() {
            println!("{:<66} {:>12} {:>12} {:>7}  {:<8} met", "row", "value", "baseline", "ratio", "target");
        }
        println!(
            "{:<66} {:>12} {:>12} {:>7.2}  {:<8} {}",
            row.what,
            figure(value),
            figure(baseline),
            ratio,
            text(target),
            met_text(met)
        );
        println!("    beside {}", row.beside);
        self.rows.push(row);
    }

    /// Writes the rows where they were asked for, and says how many targets were missed.
    pub fn finish(&self, json: Option<&Path>) -> Result<(), Box<dyn std::error::Error>> {
        let missed = self.rows.iter().filter(|row| row.met == Some(false)).count();
        println!("{} rows, {missed} targets missed", self.rows.len());
        if let Some(path) = json {
            std::fs::write(path, serde_json::to_string_pretty(&self.rows)?)?;
        }
        Ok(())
    }
}

/// With as many digits as say something.
fn figure(value: f64) -> String {
    if value < 100.0 { format!("{value:.2}") } else { format!("{value:.0}") }
}

fn text(target: Option<Target>) -> String {
    match target {
        None => String::new(),
        Some(Target::AtLeast(bound)) => format!(">= {bound}"),
        Some(Target::AtMost(bound)) => format!("<= {bound}"),
    }
}

fn met_text(met: Option<bool>) -> &'static str {
    match met {
        None => "",
        Some(true) => "yes",
        Some(false) => "NO",
    }
}
