//! What a measurement gives: times, memory, and their names.

use crate::output::say;
use candle_core::Device;
use la_core::ops::device::gpu_memory;
use serde::{Serialize, Serializer};
use serde_json::Value;
use std::time::Instant;

/// Named figures in the order in which they are printed.
#[derive(Default)]
pub struct Figures(Vec<(&'static str, Value)>);

impl Figures {
    /// The figures of `bench`, with the threads that were measured.
    pub fn of(bench: &'static str) -> Self {
        Self::default().with("bench", bench).with("threads", rayon::current_num_threads())
    }

    /// One more.
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.0.push((name, value.into()));
        self
    }

    /// The largest resident memory of the process so far, where the system tells.
    pub fn with_peak(self) -> Self {
        self.with("peak_rss_mb", la_core::train::peak_rss_mb())
    }

    /// The GPU's name and the most memory that was held on it, where `device` is one.
    pub fn with_gpu(self, device: &Device) -> Self {
        match gpu_memory(device) {
            Some((peak, name)) => self.with("gpu", name).with("peak_gpu_mb", peak),
            None => self,
        }
    }

    /// Prints them, one a line or all in one line of JSON.
    pub fn print(&self, json: bool) -> anyhow::Result<()> {
        if json {
            return say!("{}", serde_json::to_string(self)?);
        }
        let width = self.0.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        self.0.iter().try_for_each(|(name, value)| say!("{name:width$}  {}", readable(value)))
    }
}

impl Serialize for Figures {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// Four digits of a measured value.
fn readable(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "unknown".to_string(),
        Value::Number(number) if number.is_f64() => four_digits(number.as_f64().unwrap_or(f64::NAN)),
        Value::Object(parts) => parts.iter().map(|(name, value)| format!("{name} {}", readable(value))).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// `x` with four digits, or as many as the whole number has.
pub fn four_digits(x: f64) -> String {
    let digits = if x == 0.0 { 0 } else { x.abs().log10().floor() as i32 };
    format!("{x:.*}", (3 - digits).clamp(0, 9) as usize)
}

/// Seconds that repetitions took, the shortest first.
pub struct Times(Vec<f64>);

impl Times {
    /// Seconds of each of `rounds` calls of `f`, after `warmups` that are not counted.
    pub fn measure(warmups: usize, rounds: usize, mut f: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<Self> {
        let mut seconds = Vec::new();
        for round in 0..warmups + rounds {
            let started = Instant::now();
            f()?;
            if round >= warmups {
                seconds.push(started.elapsed().as_secs_f64());
            }
        }
        Ok(Self::of(seconds))
    }

    /// Seconds that were measured elsewhere.
    pub fn of(mut seconds: Vec<f64>) -> Self {
        seconds.sort_by(f64::total_cmp);
        Self(seconds)
    }

    /// The middle one; the mean of the two in the middle where their number is even.
    pub fn median(&self) -> f64 {
        let n = self.0.len();
        (self.0[(n - 1) / 2] + self.0[n / 2]) / 2.0
    }

    /// The shortest one.
    pub fn min(&self) -> f64 {
        self.0[0]
    }

    /// Adds both to `figures`.
    pub fn add_to(&self, figures: Figures) -> Figures {
        figures.with("rounds", self.0.len()).with("median_s", self.median()).with("min_s", self.min())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_lies_in_the_middle() {
        assert_eq!(Times::of(vec![9.0, 1.0, 2.0]).median(), 2.0);
        assert_eq!(Times::of(vec![4.0, 1.0, 2.0, 9.0]).median(), 3.0);
        assert_eq!(Times::of(vec![4.0, 1.0, 2.0]).min(), 1.0);
    }

    #[test]
    fn measured_values_keep_four_digits() {
        assert_eq!([0.0, 0.0012345, 1.5, 123.456, 98765.4].map(four_digits), ["0.000", "0.001234", "1.500", "123.5", "98765"]);
    }
}
