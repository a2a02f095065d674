//! All images on a plane.

use super::super::page::{csv, row, Page, Words};
use super::super::subject::{class_name, select, spread, Subject};
use super::super::svg::{class_color, points, Series};
use crate::map::{map, MapConfig};
use la_core::search::{Precision, SearchBank};

/// The most images of the map, and classes that a legend tells apart.
const MOST: usize = 3000;
const MOST_CLASSES: usize = 30;

/// The map of one run.
pub fn add(page: &mut Page, subject: &Subject) -> anyhow::Result<()> {
    let images = &subject.asked.images;
    let chosen = spread(images.len(), MOST);
    let rows = select(&subject.asked.rows, &chosen)?;
    let bank = SearchBank::from_rows(&rows.flatten_all()?.to_vec1::<f32>()?, rows.dim(1)?, Precision::F32)?;
    let places = map(&bank, &MapConfig::default())?;
    let num_classes = images.class_names().len();
    let is_colored = (1..=MOST_CLASSES).contains(&num_classes);
    let class_of = |place: usize| images.label(chosen[place] as usize).map_or(num_classes, |label| label as usize);
    let series = |class: usize| Series {
        name: match is_colored && class < num_classes {
            true => class_name(images, class),
            false => String::new(),
        },
        color: if is_colored && class < num_classes { class_color(class, num_classes) } else { super::super::GRAY },
        is_dashed: false,
        points: (0..places.len())
            .filter(|&at| class_of(at) == class)
            .map(|at| (f64::from(places[at][0]), f64::from(places[at][1])))
            .collect(),
    };
    let svg = points(&(0..=num_classes).map(series).collect::<Vec<_>>(), 3)?;
    let line = |place: usize| {
        let class = if class_of(place) < num_classes { class_name(images, class_of(place)) } else { String::new() };
        vec![images.name(chosen[place] as usize), class, places[place][0].to_string(), places[place][1].to_string()]
    };
    let numbers = csv(std::iter::once(row(["name", "class", "x", "y"])).chain((0..places.len()).map(line)));
    let colors = if is_colored { "in the colour of its class" } else { "without colours, since classes are missing or too many" };
    page.section("Map", &format!("Of {}: each image is a point {colors}; near ones are alike, far ones say little.", subject.name));
    let protocol = format!(
        "UMAP with the kernel 1 / (1 + d²), 15 neighbours, 300 epochs; {} {} images, evenly chosen",
        places.len(),
        if subject.is_leaving_one_out { "training" } else { "test" }
    );
    page.charts(vec![(Words { name: "map", caption: "The map.", protocol: &protocol }, svg, numbers)]);
    Ok(())
}
