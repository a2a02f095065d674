//! `la-cli bench growth`: the loss and k-means at several numbers of images, each in a process of its own.

use super::count;
use super::figures::four_digits;
use crate::output::{counted, remark, say, thousands};
use anyhow::{bail, Context};
use serde_json::{json, Value};
use std::process::{Command, Stdio};

/// Images for each cluster, as published (1,281,167 / 30,000).
const PER_CLUSTER: usize = 40;

/// Options of `la-cli bench growth`.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  la-cli bench growth --sizes 1000,10000,100000 --json")]
pub struct GrowthArgs {
    /// Numbers of images [default: 10000,100000,1000000]
    #[arg(long, value_name = "N,N,…", value_delimiter = ',', default_values_t = [10_000, 100_000, 1_000_000], hide_default_value = true, value_parser = count)]
    sizes: Vec<usize>,
    /// Rounds of k-means at every size: few, because a full clustering of a million takes very long
    #[arg(long, value_name = "I", default_value_t = 2, value_parser = count)]
    iters: usize,
}

/// One measurement.
struct Point {
    num_images: usize,
    seconds: f64,
    peak_mb: f64,
}

/// Runs `la-cli bench growth`.
pub fn run(args: &GrowthArgs, json: bool) -> anyhow::Result<()> {
    if args.sizes.len() < 2 {
        bail!("--sizes must be at least two numbers of images, got {}", args.sizes.len());
    }
    let works = [("loss", format!("LA loss and bank update, K = {}, H = 10, B = 128", background(&args.sizes)))]
        .into_iter()
        .chain([("kmeans", format!("k-means, k = N/{PER_CLUSTER}, {}", counted(args.iters, "iteration")))]);
    let mut found = Vec::new();
    for (work, title) in works {
        let points = args.sizes.iter().map(|&n| point(work, n, args)).collect::<anyhow::Result<Vec<_>>>()?;
        found.push(if json { (work, as_json(&title, &points)) } else { (work, print(&title, &points)?) });
    }
    match json {
        true => say!("{}", Value::Object(found.into_iter().map(|(work, value)| (work.to_string(), value)).collect())),
        false => Ok(()),
    }
}

/// The published number, or what the smallest size allows: the same at all sizes.
fn background(sizes: &[usize]) -> usize {
    sizes.iter().copied().min().unwrap_or(1).min(la_core::loss::LaConfig::default().num_background)
}

fn point(work: &str, n: usize, args: &GrowthArgs) -> anyhow::Result<Point> {
    remark!("{work} at {}", counted(n, "image"));
    let clusters = (n / PER_CLUSTER).max(1).to_string();
    let (n_text, iters, background) = (n.to_string(), args.iters.to_string(), background(&args.sizes).to_string());
    let flags = match work {
        "loss" => vec!["--num-images", &n_text, "--num-background", &background],
        _ => vec!["--num-points", &n_text, "--iters", &iters, "--rounds", "1"],
    };
    let figures = measure(&[&[work, "--num-clusters", &clusters], &flags[..]].concat())?;
    let figure = |name: &str| figures[name].as_f64().with_context(|| format!("bench {work} does not say {name} on this system"));
    Ok(Point { num_images: n, seconds: figure("median_s")?, peak_mb: figure("peak_rss_mb")? })
}

/// Runs `la-cli bench` with `args` in a process of its own, because memory that was once used shows in later figures.
fn measure(args: &[&str]) -> anyhow::Result<Value> {
    let threads = rayon::current_num_threads().to_string();
    let mut command = Command::new(std::env::current_exe().context("the path of la-cli is unknown")?);
    let command = command.arg("bench").args(args).args(["--json", "--threads", &threads]).stderr(Stdio::inherit());
    let output = command.output().context("la-cli bench cannot be started")?;
    if !output.status.success() {
        bail!("la-cli bench {} failed", args.join(" "));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The line of best fit of `ln y` over `ln N`, `y = factor · (N / 10⁶)^exponent`, by least squares.
struct Line {
    factor: f64,
    exponent: f64,
}

impl Line {
    fn fit(points: &[Point], y: fn(&Point) -> f64) -> Self {
        let logs: Vec<(f64, f64)> = points.iter().map(|p| ((p.num_images as f64 / 1e6).ln(), y(p).ln())).collect();
        let n = logs.len() as f64;
        let (mean_x, mean_y) = (logs.iter().map(|p| p.0).sum::<f64>() / n, logs.iter().map(|p| p.1).sum::<f64>() / n);
        let covariance: f64 = logs.iter().map(|p| (p.0 - mean_x) * (p.1 - mean_y)).sum();
        let exponent = covariance / logs.iter().map(|p| (p.0 - mean_x).powi(2)).sum::<f64>();
        Self { factor: (mean_y - exponent * mean_x).exp(), exponent }
    }

    fn text(&self, unit: &str) -> String {
        format!("{} {unit} × (N / 1,000,000)^{:.2}", four_digits(self.factor), self.exponent)
    }
}

fn print(title: &str, points: &[Point]) -> anyhow::Result<Value> {
    say!("{title}")?;
    say!("  {:>11}  {:>12}  {:>12}", "N", "seconds", "peak MiB")?;
    for p in points {
        say!("  {:>11}  {:>12}  {:>12}", thousands(p.num_images), four_digits(p.seconds), four_digits(p.peak_mb))?;
    }
    say!("  line of best fit: {}; {}", Line::fit(points, |p| p.seconds).text("s"), Line::fit(points, |p| p.peak_mb).text("MiB"))?;
    Ok(Value::Null)
}

fn as_json(title: &str, points: &[Point]) -> Value {
    let line = |y| {
        let Line { factor, exponent } = Line::fit(points, y);
        json!({"at_a_million": factor, "exponent": exponent})
    };
    let points: Vec<Value> =
        points.iter().map(|p| json!({"num_images": p.num_images, "median_s": p.seconds, "peak_rss_mb": p.peak_mb})).collect();
    json!({"title": title, "points": points, "seconds": line(|p| p.seconds), "peak_mb": line(|p| p.peak_mb)})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_law_is_found_again() {
        let points = [1e4f64, 1e5, 1e6].map(|n| Point { num_images: n as usize, seconds: 3.0 * (n / 1e6).powf(1.5), peak_mb: 7.0 });
        let line = Line::fit(&points, |p| p.seconds);
        assert!((line.exponent - 1.5).abs() < 1e-9 && (line.factor - 3.0).abs() < 1e-9);
        assert!(Line::fit(&points, |p| p.peak_mb).exponent.abs() < 1e-9);
    }
}
