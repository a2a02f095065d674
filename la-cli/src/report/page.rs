//! The page of a report, and the files beside it.

use super::svg::COLORS;
use super::{FAINT, GRAY, INK};
use crate::html;
use crate::origin;
use crate::output::{csv_field, one_line, shell_line};
use anyhow::Context;
use candle_core::Device;
use maud::{html, Markup, PreEscaped};
use plotters::style::RGBColor;
use serde_json::{json, Value};
use std::fs;
use std::path::Path;

/// Figures and tables by the names of their files, without the ending.
const NAMES: [&str; 18] = [
    "loss",
    "knn",
    "accuracy",
    "layers",
    "local-density",
    "background-density",
    "most-confident",
    "least-confident",
    "mds-best",
    "mds-worst",
    "map",
    "clusters",
    "close-purity",
    "close-size",
    "nmi-by-epoch",
    "ari-by-epoch",
    "per-class",
    "runs",
];

/// Whether a report has a file of this name.
pub fn writes(name: &str) -> bool {
    let of_figure = name.rsplit_once('.').is_some_and(|(stem, ending)| NAMES.contains(&stem) && ["svg", "csv", "jpg"].contains(&ending));
    of_figure || ["index.html", "report.json"].contains(&name)
}

/// A page that grows.
pub struct Page {
    title: String,
    command: String,
    body: Vec<Markup>,
    files: Vec<(String, Vec<u8>)>,
    num_figures: usize,
    figures: serde_json::Map<String, Value>,
}

/// A figure's words.
pub struct Words<'a> {
    /// The name of its files.
    pub name: &'static str,
    /// What it shows, for those who do not see it too.
    pub caption: &'a str,
    /// How it was measured.
    pub protocol: &'a str,
}

impl Page {
    /// A page about the images of this name, with its head.
    pub fn new(data: &str, device: &Device) -> Self {
        let title = format!("Local Aggregation on {}", one_line(data));
        let command = shell_line(&origin::command_line());
        let head = html! {
            h1 { (title) }
            p.how { "Written by la-cli " (env!("CARGO_PKG_VERSION")) " on " (origin::machine(device)) ", all figures and tables by one command:" }
            pre { code { (command) } }
            p { "The figures are those of Zhuang, Zhai and Yamins 2019, on these images. Labels serve evaluation only." }
        };
        Self { title, command, body: vec![head], files: Vec::new(), num_figures: 0, figures: serde_json::Map::new() }
    }

    /// A heading with a paragraph.
    pub fn section(&mut self, title: &str, about: &str) {
        self.body.push(html! { h2 { (title) } p { (about) } });
    }

    /// A heading where nothing could be shown, and why.
    pub fn left_out(&mut self, title: &str, why: &str) {
        self.body.push(html! { h2 { (title) } p { "Left out: " (why) } });
    }

    /// Numbers for `report.json`.
    pub fn note(&mut self, name: &str, value: Value) {
        self.figures.insert(name.into(), value);
    }

    /// Charts, two beside each other where there is room.
    pub fn charts(&mut self, charts: Vec<(Words, String, String)>) {
        let is_pair = charts.len() > 1;
        let figures: Vec<Markup> = charts.into_iter().map(|(words, svg, csv)| self.chart(&words, svg, csv)).collect();
        self.body.push(html! { div class=[is_pair.then_some("pair")] { @for figure in figures { (figure) } } });
    }

    fn chart(&mut self, words: &Words, svg: String, csv: String) -> Markup {
        self.num_figures += 1;
        let inline = recolored(&svg, words.caption);
        self.files.push((format!("{}.svg", words.name), standalone(&svg).into_bytes()));
        self.files.push((format!("{}.csv", words.name), csv.into_bytes()));
        html! { figure { (PreEscaped(inline)) figcaption { (self.under(words, "svg and csv")) } } }
    }

    /// A picture of pixels.
    pub fn picture(&mut self, words: &Words, jpeg: Vec<u8>, (width, height): (u32, u32)) {
        self.num_figures += 1;
        let figure = html! { figure.whole {
            img src=(html::data_uri("image/jpeg", &jpeg)) alt=(words.caption) width=(width) height=(height);
            figcaption { (self.under(words, "jpg")) }
        } };
        self.files.push((format!("{}.jpg", words.name), jpeg));
        self.body.push(figure);
    }

    fn under(&self, words: &Words, endings: &str) -> Markup {
        html! {
            span.caption { (words.caption) }
            " Protocol: " (words.protocol) ". File: " (words.name) " (" (endings) ")."
            code.command { (self.command) }
        }
    }

    /// A table, its first column words and the others numbers.
    pub fn table(&mut self, words: &Words, head: &[String], rows: &[Vec<String>]) {
        let csv = csv(std::iter::once(head.to_vec()).chain(rows.iter().cloned()));
        self.files.push((format!("{}.csv", words.name), csv.into_bytes()));
        self.body.push(html! {
            div.wide { table {
                thead { tr { @for (place, name) in head.iter().enumerate() { th.number[place > 0] { (name) } } } }
                tbody { @for row in rows { tr { @for (place, cell) in row.iter().enumerate() { td.number[place > 0] { (cell) } } } } }
            } }
            p.how { (self.under(words, "csv")) }
        });
    }

    /// A paragraph.
    pub fn text(&mut self, text: &str) {
        self.body.push(html! { p { (text) } });
    }

    /// Writes all files; gives the number of figures and the page's length.
    pub fn write(self, folder: &Path) -> anyhow::Result<(usize, u64)> {
        let body = html! { @for part in &self.body { (part) } };
        let page = html::page(&self.title, &body).into_bytes();
        let num_bytes = page.len() as u64;
        let json = serde_json::to_vec_pretty(&json!({"command": self.command, "figures": self.figures}))?;
        for (name, bytes) in self.files.into_iter().chain([("index.html".into(), page), ("report.json".into(), json)]) {
            let path = folder.join(name);
            fs::write(&path, bytes).with_context(|| path.display().to_string())?;
        }
        Ok((self.num_figures, num_bytes))
    }
}

/// The colours of charts with the variables of the page's style for them.
fn variables() -> impl Iterator<Item = (RGBColor, String)> {
    let named = [(INK, "ink"), (FAINT, "line"), (GRAY, "soft")].map(|(color, name)| (color, format!("var(--{name})")));
    named.into_iter().chain(COLORS.into_iter().enumerate().map(|(i, color)| (color, format!("var(--c{i})"))))
}

/// A chart for the page: as wide as its place, in the colours of the page.
fn recolored(svg: &str, caption: &str) -> String {
    let (head, rest) = svg.split_once('>').unwrap_or((svg, ""));
    let view = head.split_once("viewBox=").map_or("", |(_, view)| view).split('"').nth(1).unwrap_or_default();
    let head = html! { svg viewBox=(view) role="img" aria-label=(caption) {} }.into_string();
    variables().fold(format!("{}{rest}", head.trim_end_matches("</svg>")), |svg, (RGBColor(r, g, b), variable)| {
        svg.replace(&format!("\"#{r:02X}{g:02X}{b:02X}\""), &format!("\"{variable}\""))
    })
}

/// A chart for itself, on white.
fn standalone(svg: &str) -> String {
    let (head, rest) = svg.split_once('>').unwrap_or((svg, ""));
    format!("{head}>\n<rect width=\"100%\" height=\"100%\" fill=\"#FFFFFF\"/>{rest}")
}

/// Rows as CSV.
pub fn csv(rows: impl IntoIterator<Item = Vec<String>>) -> String {
    rows.into_iter().map(|row| row.iter().map(|text| csv_field(text)).collect::<Vec<_>>().join(",") + "\n").collect()
}

/// Words as a row.
pub fn row<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_string).to_vec()
}
