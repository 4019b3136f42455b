//! Figures of all rounds, as a table and as JSON.

use serde_json::json;
use std::collections::BTreeMap;

/// What was measured: by part and figure, a value for each round.
#[derive(Debug, Default)]
pub struct Report(BTreeMap<String, BTreeMap<String, Vec<f64>>>);

impl Report {
    /// Takes in a figure of a round, and says so.
    pub fn add(&mut self, part: &str, figure: &str, value: f64) {
        eprintln!("{part}: {figure} {value:.3}");
        self.0.entry(part.into()).or_default().entry(figure.into()).or_default().push(value);
    }

    /// Takes in quantiles of times in milliseconds.
    pub fn add_times(&mut self, part: &str, what: &str, times: &mut [f64]) {
        for (name, of) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
            self.add(part, &format!("{what} {name} ms"), quantile(times, of));
        }
    }

    /// Median, least and most of each figure, for people.
    pub fn print(&self) {
        println!("{:<44} {:<34} {:>10} {:>10} {:>10} {:>3}", "part", "figure", "median", "least", "most", "n");
        for (part, figures) in &self.0 {
            for (figure, values) in figures {
                let mut sorted = values.clone();
                let (middle, least, most) =
                    (quantile(&mut sorted, 0.5), quantile(&mut sorted, 0.0), quantile(&mut sorted, 1.0));
                println!("{part:<44} {figure:<34} {middle:>10.3} {least:>10.3} {most:>10.3} {:>3}", values.len());
            }
        }
    }

    /// Every figure, for programs: `{part: {figure: [value of each round]}}`.
    pub fn json(&self) -> String {
        json!(self.0).to_string()
    }
}

/// The nearest value at or above that share of all; not a number where there is none. Sorts them.
pub fn quantile(values: &mut [f64], of: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() as f64 * of).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}
