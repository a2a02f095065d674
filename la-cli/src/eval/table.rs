//! Figures as rows: what `--csv` writes and `--json` prints.

use super::figures::{figures, rows_by_class, Figure, Row};
use super::measure::Reached;
use super::EvalArgs;
use crate::measures::intervals::BootstrapConfig;
use crate::output::csv_field;
use anyhow::Context;
use la_core::eval::linear::LinearConfig;
use serde::Serialize;
use std::path::Path;

/// The columns of a CSV file.
const COLUMNS: &str = "weights,data,measure,layer,class,predicted,value,low,high,num_train,num_test,against,difference,difference_low,\
difference_high,p_value,protocol";

/// All rows.
pub struct Table {
    /// The figures of the network.
    pub own: Vec<Row>,
    /// Those of the network it is compared with.
    pub other: Vec<Row>,
    /// The same by class, where wanted.
    pub by_class: Vec<Row>,
}

impl Table {
    /// Of a network, and of another one that it is compared with.
    pub fn new(args: &EvalArgs, reached: &Reached, against: Option<&Reached>) -> anyhow::Result<Self> {
        let others = against.map(|other| (other, figures(other)));
        let own = rows(reached, others.as_ref().map(|(other, figures)| (other.name.as_str(), &figures[..])))?;
        let other = others.as_ref().map_or(Ok(vec![]), |(other, _)| rows(other, None))?;
        let both = std::iter::once(reached).chain(against).filter(|_| args.per_class);
        Ok(Self { own, other, by_class: both.flat_map(|reached| rows_by_class(reached, &blank(reached))).collect() })
    }

    /// Writes all rows to a file.
    pub fn write_csv(&self, path: &Path) -> anyhow::Result<()> {
        let rows = self.own.iter().chain(&self.other).chain(&self.by_class);
        let text: String = std::iter::once(COLUMNS.to_string()).chain(rows.map(line)).map(|line| line + "\n").collect();
        la_core::files::write_atomically(path, |file| file.write_all(text.as_bytes())).with_context(|| format!("--csv {}", path.display()))
    }

    /// One object with everything.
    pub fn json(&self, args: &EvalArgs, reached: &Reached, seconds: f64) -> anyhow::Result<String> {
        let linear = reached.linear;
        Ok(serde_json::to_string(&Json {
            weights: &args.encoder.weights,
            data: &reached.splits.name,
            num_train: reached.num_train,
            num_test: reached.num_test(),
            num_left_out: reached.num_left_out(),
            leave_one_out: args.leave_one_out,
            num_classes: reached.splits.train.class_names().len(),
            knn_top1: reached.knn.top(1) as f32,
            knn_k: reached.knn_config.k,
            knn_temperature: reached.knn_config.temperature,
            linear_top1: linear.map(|linear| linear.top1),
            linear_train_top1: linear.map(|linear| linear.train_top1),
            linear_epochs: linear.map(|_| LinearConfig::default().epochs),
            figures: self.own.iter().chain(&self.other).chain(&self.by_class).collect(),
            seconds,
        })?)
    }
}

fn blank(reached: &Reached) -> Row {
    Row {
        weights: reached.name.clone(),
        data: reached.splits.name.clone(),
        num_train: reached.num_train,
        num_test: reached.num_test(),
        ..Row::default()
    }
}

fn rows(reached: &Reached, others: Option<(&str, &[Figure])>) -> anyhow::Result<Vec<Row>> {
    let config = BootstrapConfig::default();
    let row = |figure: Figure| {
        let interval = figure.interval(&config)?;
        let row = Row { low: interval.map(|i| i.low), high: interval.map(|i| i.high), ..blank(reached) };
        let compared = others.map_or(Ok(None), |(_, others)| figure.against(others, &config))?;
        let (Some((against, _)), Some((_, paired))) = (others, compared) else {
            return Ok(Row { measure: figure.measure, layer: figure.layer, value: figure.value, protocol: figure.protocol, ..row });
        };
        Ok(Row {
            measure: figure.measure,
            layer: figure.layer,
            value: figure.value,
            protocol: figure.protocol,
            against: against.to_string(),
            difference: Some(paired.difference),
            difference_low: Some(paired.interval.low),
            difference_high: Some(paired.interval.high),
            p_value: paired.p_value,
            ..row
        })
    };
    figures(reached).into_iter().map(row).collect()
}

fn line(row: &Row) -> String {
    let number = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
    let fields = [
        csv_field(&row.weights),
        csv_field(&row.data),
        row.measure.clone(),
        row.layer.to_string(),
        csv_field(&row.class),
        csv_field(&row.predicted),
        number(Some(row.value)),
        number(row.low),
        number(row.high),
        row.num_train.to_string(),
        row.num_test.to_string(),
        csv_field(&row.against),
        number(row.difference),
        number(row.difference_low),
        number(row.difference_high),
        number(row.p_value),
        csv_field(&row.protocol),
    ];
    fields.join(",")
}

/// The object that `--json` prints; accuracies in 0–1.
#[derive(Serialize)]
struct Json<'a> {
    weights: &'a str,
    data: &'a str,
    num_train: usize,
    num_test: usize,
    num_left_out: usize,
    leave_one_out: bool,
    num_classes: usize,
    knn_top1: f32,
    knn_k: usize,
    knn_temperature: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    linear_top1: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    linear_train_top1: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    linear_epochs: Option<usize>,
    figures: Vec<&'a Row>,
    seconds: f64,
}
