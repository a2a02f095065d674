//! Figure 4 of the paper: the best and the worst classes on a plane.

use super::super::page::{csv, row, Page, Words};
use super::super::subject::{class_name, embeddings, select, Subject};
use super::super::svg::{class_color, points, Series};
use crate::measures::mds::{distances, mds};

/// Classes of a plane, and the most images of each.
const CLASSES: usize = 6;
const OF_CLASS: usize = 50;

/// A plane of the classes told apart best, and one of those told apart worst.
pub fn add(page: &mut Page, subject: &Subject) -> anyhow::Result<()> {
    let title = "Classes on a plane";
    let Some(counts) = subject.per_class() else {
        page.left_out(title, "it needs a class for every training image.");
        return Ok(());
    };
    let accuracy = |class: usize| counts[class].0 as f64 / counts[class].1 as f64;
    let mut classes: Vec<usize> = (0..counts.len()).filter(|&class| counts[class].1 > 0).collect();
    classes.sort_by(|&a, &b| accuracy(b).total_cmp(&accuracy(a)).then(a.cmp(&b)));
    if classes.len() < 2 {
        page.left_out(title, "it needs images of at least two classes.");
        return Ok(());
    }
    page.section(
        title,
        &format!(
            "Of {}: distances on the plane are as near as they can be to those of the embeddings, figure 4 of the paper.",
            subject.name
        ),
    );
    let is_one = classes.len() <= CLASSES;
    let each = if is_one { classes.len() } else { CLASSES.min(classes.len() / 2) };
    let (best, worst) = (&classes[..each], &classes[classes.len() - each..]);
    let mut charts =
        vec![plane(subject, ("mds-best", if is_one { "All classes." } else { "The classes told apart best." }), best, &accuracy)?];
    if !is_one {
        charts.push(plane(subject, ("mds-worst", "The classes told apart worst."), worst, &accuracy)?);
    }
    let (names, drawn): (Vec<_>, Vec<_>) = charts.into_iter().map(|(words, svg, csv, protocol)| ((words, protocol), (svg, csv))).unzip();
    let words = names.iter().map(|((name, caption), protocol)| Words { name, caption, protocol });
    page.charts(words.zip(drawn).map(|(words, (svg, csv))| (words, svg, csv)).collect());
    Ok(())
}

type Plane = ((&'static str, &'static str), String, String, String);

fn plane(
    subject: &Subject,
    words: (&'static str, &'static str),
    classes: &[usize],
    accuracy: &dyn Fn(usize) -> f64,
) -> anyhow::Result<Plane> {
    let images = &subject.asked.images;
    let of = |class: usize| (0..images.len()).filter(move |&index| images.label(index) == Some(class as u32)).take(OF_CLASS);
    let chosen: Vec<(usize, u32)> = classes.iter().flat_map(|&class| of(class).map(move |index| (class, index as u32))).collect();
    let rows = select(&subject.asked.rows, &chosen.iter().map(|chosen| chosen.1).collect::<Vec<_>>())?;
    let found = mds(&distances(&rows)?, chosen.len())?;
    let placed = || chosen.iter().zip(&found.points);
    let series = |&class: &usize| Series {
        name: format!("{} {:.0} %", class_name(images, class), 100.0 * accuracy(class)),
        color: class_color(class, images.class_names().len()),
        is_dashed: false,
        points: placed().filter(|(chosen, _)| chosen.0 == class).map(|(_, point)| (point[0], point[1])).collect(),
    };
    let svg = points(&classes.iter().map(series).collect::<Vec<_>>(), 4)?;
    let line =
        |((class, _), point): (&(usize, u32), &[f64; 2])| vec![class_name(images, *class), point[0].to_string(), point[1].to_string()];
    let numbers = csv(std::iter::once(row(["class", "x", "y"])).chain(placed().map(line)));
    let num_pairs = chosen.len() * (chosen.len() - 1) / 2;
    let protocol = format!(
        "metric multidimensional scaling (SMACOF from classical scaling) of Euclidean distances between embeddings, the first {OF_CLASS} images of each class; \
         behind each class its kNN accuracy; {}; root mean squared error of a distance {:.3}",
        embeddings(std::slice::from_ref(subject)),
        (found.stress / num_pairs.max(1) as f64).sqrt()
    );
    Ok((words, svg, numbers, protocol))
}
