//! What was found as a folder: contact sheets, a page that shows them with the names of the pictures, and the object of `--json`.

use super::find::{Cluster, Twins, NUM_NEAREST};
use super::text::{about, in_groups, mostly};
use super::{json, Inspected};
use crate::export::folder::Kind;
use crate::html;
use crate::output::{counted, one_line, thousands};
use crate::progress::Progress;
use crate::report::{paint_neighbors, Mark, NeighborPanel, Tile};
use crate::source::images;
use anyhow::Context;
use image::{codecs::jpeg::JpegEncoder, ExtendedColorType, ImageEncoder};
use la_core::data::{Picture, Source};
use la_core::resize::{reduced, View};
use maud::{html, Markup};
use rayon::prelude::*;
use std::fs;
use std::path::Path;

/// What lies in such a folder.
pub static KIND: Kind = Kind { name: "inspection", marks: &["inspect.json"], folders: &[], writes: is_ours };

/// Pictures of a row, and the most groups, pictures of each, and pictures of a cluster on a sheet.
const COLUMNS: usize = 10;
const GROUPS: usize = 100;
const OF_GROUP: usize = 10;
const OF_CLUSTER: usize = 60;
/// A picture is reduced as far as its longer side stays at least this long.
const SIDE: usize = 128;
const QUALITY: u8 = 85;

fn is_ours(name: &str) -> bool {
    let sheets = ["identical.jpg", "near.jpg", "outliers.jpg", "clusters.jpg"];
    let number = name.strip_prefix("cluster-").and_then(|rest| rest.strip_suffix(".jpg"));
    ["index.html", "inspect.json"].contains(&name) || sheets.contains(&name) || number.is_some_and(|number| number.parse::<u32>().is_ok())
}

/// Writes everything into `folder`.
pub fn write(found: &Inspected, folder: &Path) -> anyhow::Result<()> {
    let findings = &found.findings;
    let mut sheets =
        Sheets { found, folder, progress: Progress::new("contact sheets", findings.clusters.len() + 4, "sheets"), num_done: 0 };
    let sections = html! {
        (sheets.groups("identical", "Identical pictures", &findings.identical)?)
        (sheets.groups("near", "Near-duplicates", &findings.near)?)
        (sheets.outliers()?)
        (sheets.clusters()?)
    };
    let body = html! {
        h1 { "Pictures of " (one_line(&found.args.data)) }
        p { (one_line(&found.data)) }
        p.how { "Compared by " (found.weights) "; written by la-cli " (env!("CARGO_PKG_VERSION")) " in response to:" }
        pre { code { (crate::output::shell_line(&crate::origin::command_line())) } }
        (curve(found))
        (sections)
    };
    write_file(folder, "index.html", html::page(&format!("Pictures of {}", one_line(&found.args.data)), &body).as_bytes())?;
    write_file(folder, "inspect.json", json::of(found)?.as_bytes())
}

fn write_file(folder: &Path, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let path = folder.join(name);
    fs::write(&path, bytes).with_context(|| path.display().to_string())
}

fn curve(found: &Inspected) -> Markup {
    html! {
        p { "Pictures that have a duplicate, by how alike every two pictures of a group are at least:" }
        div.wide { table {
            tr { th { "threshold" } @for (threshold, _) in &found.findings.curve { th.number { (threshold) } } }
            tr { td { "images in groups" } @for (_, count) in &found.findings.curve { td.number { (thousands(*count)) } } }
        } }
    }
}

/// A picture of a sheet.
struct Cell {
    image: u32,
    caption: String,
    /// Whether a group begins with it.
    is_first: bool,
}

struct Sheets<'a> {
    found: &'a Inspected<'a>,
    folder: &'a Path,
    progress: Progress,
    num_done: usize,
}

impl Sheets<'_> {
    /// Pictures in rows, with words under each, as a file of the folder.
    fn write(&mut self, name: &str, title: String, cells: &[Cell]) -> anyhow::Result<Markup> {
        let images = self.found.images.as_ref();
        let tile = |cell: &Cell| Tile {
            picture: small(images, cell.image),
            caption: one_line(&cell.caption),
            mark: if cell.is_first { Mark::Query } else { Mark::Unknown },
        };
        let rows: Vec<Vec<Tile>> = cells.par_chunks(COLUMNS).map(|row| row.iter().map(tile).collect()).collect();
        let (pixels, (width, height)) = paint_neighbors(&NeighborPanel { title: title.clone(), rows })?;
        let mut bytes = Vec::new();
        JpegEncoder::new_with_quality(&mut bytes, QUALITY).write_image(&pixels, width, height, ExtendedColorType::Rgb8)?;
        write_file(self.folder, name, &bytes)?;
        self.num_done += 1;
        self.progress.set(self.num_done);
        Ok(html! { figure.whole { a href=(name) { img src=(name) alt=(title) width=(width) height=(height) loading="lazy"; } } })
    }

    fn groups(&mut self, name: &str, title: &str, groups: &[Twins]) -> anyhow::Result<Markup> {
        let summary = in_groups(groups);
        if groups.is_empty() {
            return Ok(html! { h2 { (title) } p { "None." } });
        }
        let first = groups.iter().take(GROUPS).flat_map(|group| group.images.iter().take(OF_GROUP).enumerate());
        let cells: Vec<Cell> = first.map(|(place, &image)| Cell { image, caption: self.caption(image), is_first: place == 0 }).collect();
        let part = if groups.len() > GROUPS { format!("; the first {GROUPS} groups are shown") } else { String::new() };
        let sheet = self.write(&format!("{name}.jpg"), format!("{title}: {summary}; each group begins at a dark frame"), &cells)?;
        Ok(html! {
            h2 { (title) }
            p { (summary) (part) ". " @if name == "near" { "Every two pictures of a group are at least " (self.found.args.threshold) " alike." } }
            (sheet)
            details {
                summary { "Names" }
                ol { @for group in groups { li { (about(group)) ul { @for &image in &group.images { li { (self.named(image)) } } } } } }
            }
        })
    }

    fn outliers(&mut self) -> anyhow::Result<Markup> {
        let first = &self.found.findings.outliers[..self.found.findings.outliers.len().min(OF_CLUSTER)];
        let cells: Vec<Cell> = first.iter().map(|(image, similarity)| alone(*image, format!("{similarity:.2}"))).collect();
        let title = format!("Outliers, with their mean similarity to the {NUM_NEAREST} nearest others");
        let sheet = self.write("outliers.jpg", title, &cells)?;
        Ok(html! {
            h2 { "Outliers" }
            p { "The pictures with the least in common with their " (NUM_NEAREST) " nearest others: strays, or rare ones." }
            (sheet)
            details {
                summary { "Names" }
                ol { @for (image, similarity) in first { li { (format!("{similarity:.3} ")) (self.named(*image)) } } }
            }
        })
    }

    fn clusters(&mut self) -> anyhow::Result<Markup> {
        let clusters = &self.found.findings.clusters;
        let typical: Vec<Cell> = clusters.iter().map(|cluster| alone(cluster.images[0], images(cluster.images.len(), ""))).collect();
        let overview = self.write("clusters.jpg", "The most typical picture of each cluster".into(), &typical)?;
        let mut each = Vec::new();
        for (place, cluster) in clusters.iter().enumerate() {
            each.push(self.cluster(place + 1, cluster)?);
        }
        Ok(html! {
            h2 { "Clusters" }
            p { (counted(clusters.len(), "cluster")) " by k-means, the largest first, each by its most typical picture: the nearest to its centroid." }
            (overview)
            @for sheet in each { (sheet) }
        })
    }

    fn cluster(&mut self, number: usize, cluster: &Cluster) -> anyhow::Result<Markup> {
        let mostly = mostly(self.found, &cluster.images).map_or(String::new(), |mostly| format!(", {}", one_line(&mostly)));
        let title = format!("Cluster {number}: {}{mostly}", images(cluster.images.len(), ""));
        let cells: Vec<Cell> = spread(&cluster.images).into_iter().map(|image| alone(image, self.caption(image))).collect();
        let sheet = self.write(&format!("cluster-{number:02}.jpg"), title.clone(), &cells)?;
        Ok(html! { details { summary { (title) } (sheet) } })
    }

    /// The name of the file, after the side of the split.
    fn caption(&self, image: u32) -> String {
        let name = self.found.images.name(image as usize);
        let name = name.rsplit('/').next().unwrap_or(&name);
        self.found.side(image).map_or_else(|| name.to_string(), |side| format!("{side}: {name}"))
    }

    fn named(&self, image: u32) -> Markup {
        let side = self.found.side(image).map_or(String::new(), |side| format!("{side}: "));
        html! { (side) code { (one_line(&self.found.place(image))) } }
    }
}

/// A picture of no group.
fn alone(image: u32, caption: String) -> Cell {
    Cell { image, caption, is_first: false }
}

/// Of a cluster's images as many as a sheet holds: the most typical half of it, then others evenly down to the least typical.
fn spread(cluster: &[u32]) -> Vec<u32> {
    let (first, rest) = cluster.split_at(cluster.len().min(OF_CLUSTER / 2));
    let count = rest.len().min(OF_CLUSTER - OF_CLUSTER / 2);
    let others = (1..=count).map(|i| rest[i * rest.len() / count - 1]);
    first.iter().copied().chain(others).collect()
}

/// The picture no larger than a tile needs; gray where it cannot be read any more.
fn small(images: &dyn Source, image: u32) -> Picture {
    let gray = Picture { width: 1, height: 1, pixels: vec![128; 3] };
    let Ok(picture) = images.picture(image as usize) else { return gray };
    let factor = 1 << (picture.width.max(picture.height) / SIDE).max(1).ilog2();
    let view = View { width: picture.width, height: picture.height, pixels: &picture.pixels };
    reduced(view, factor).map_or(gray, |(width, height, pixels)| Picture { width, height, pixels })
}
