//! The pictures of a run: their shape, what they show, and what they refuse.

use la_cli::report::*;
use la_core::data::{Picture, Source};
use la_core::eval::knn::Neighbors;
use std::borrow::Cow;

/// Pictures of one colour each; the class is the index modulo 2, none past index 3.
struct Plain(Vec<String>);

impl Source for Plain {
    fn len(&self) -> usize {
        6
    }
    fn picture(&self, index: usize) -> la_core::Result<Cow<'_, Picture>> {
        let color = [40 * index as u8, 100, 200];
        Ok(Cow::Owned(Picture { width: 28, height: 28, pixels: color.repeat(28 * 28) }))
    }
    fn label(&self, index: usize) -> Option<u32> {
        (index < 4).then_some(index as u32 % 2)
    }
    fn name(&self, index: usize) -> String {
        format!("{index}.png")
    }
    fn class_names(&self) -> &[String] {
        &self.0
    }
}

fn plain() -> Plain {
    Plain(vec!["even".into(), "odd".into()])
}

fn panel() -> NeighborPanel {
    let neighbors = Neighbors { indices: vec![2, 1, 5, 3, 0, 2], scores: vec![0.9, 0.8, 0.7, 0.6, 0.5, 0.4], k: 3 };
    let config = PanelConfig { title: "What lies near".into(), queries: vec![(0, 0), (1, 1)], num_neighbors: 3 };
    neighbor_panel(&plain(), &plain(), &neighbors, &config).unwrap()
}

fn curves(knn: Option<f64>) -> Curves {
    let point = |epoch| CurvePoint {
        epoch,
        is_local_aggregation: epoch > 2,
        loss: 3.0 / epoch as f64,
        knn_top1: knn.map(|k| k + 0.01 * epoch as f64),
    };
    Curves {
        title: "sample".into(),
        knn_protocol: "K = 200, τ = 0.07".into(),
        points: (1..=5).map(point).collect(),
        raw_pixels: knn.map(|_| 0.83),
        random_init: knn.map(|_| 0.7),
        beside: None,
    }
}

fn has_color(image: &image::RgbImage, color: [u8; 3]) -> bool {
    image.pixels().any(|pixel| pixel.0 == color)
}

#[test]
fn a_row_holds_the_query_and_its_neighbours_in_order() {
    let rows = panel().rows;
    let words: Vec<&str> = rows[0].iter().map(|tile| tile.caption.as_str()).collect();
    assert_eq!(words, ["even", "0.90 ✓", "0.80 ✗", "0.70"]);
    let marks: Vec<Mark> = rows[1].iter().map(|tile| tile.mark).collect();
    assert_eq!(marks, [Mark::Query, Mark::Same, Mark::Other, Mark::Other]);
    assert_eq!(rows[0][2].picture.pixels[..3], [40, 100, 200]);
}

#[test]
fn neighbours_past_those_found_are_refused() {
    let neighbors = Neighbors { indices: vec![0], scores: vec![1.0], k: 1 };
    let config = PanelConfig { title: String::new(), queries: vec![(1, 0)], num_neighbors: 1 };
    let error = neighbor_panel(&plain(), &plain(), &neighbors, &config).unwrap_err().to_string();
    assert_eq!(error, "expected neighbours of query 1, got 1 rows");
}

#[test]
fn the_panel_shows_each_picture_in_the_colour_of_its_mark() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("neighbors.png");
    draw_neighbors(&panel(), &path).unwrap();
    let image = image::open(&path).unwrap().to_rgb8();
    for color in [[0, 100, 200], [80, 100, 200], [200, 100, 200], [0, 158, 115], [213, 94, 0], [120, 120, 120]] {
        assert!(has_color(&image, color), "{color:?} is missing");
    }
    // 28 pixels are enlarged three times: rows of 84 + 8 + 22 + 10; the four columns are narrower than a title needs.
    assert_eq!(image.dimensions(), (480, 32 + 34 + 2 * 124));
}

#[test]
fn a_large_picture_is_scaled_down_and_keeps_its_shape() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("neighbors.png");
    let picture = Picture { width: 1000, height: 500, pixels: [10, 20, 250].repeat(500_000) };
    let tile = Tile { picture, caption: "a name that is far too long to stand under a picture".into(), mark: Mark::Query };
    draw_neighbors(&NeighborPanel { title: "One".into(), rows: vec![vec![tile]] }, &path).unwrap();
    let image = image::open(&path).unwrap().to_rgb8();
    assert_eq!(image.pixels().filter(|pixel| pixel.0 == [10, 20, 250]).count(), 128 * 64);
}

#[test]
fn a_picture_of_one_pixel_is_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let tile = Tile { picture: Picture { width: 1, height: 1, pixels: vec![9, 9, 9] }, caption: "dot".into(), mark: Mark::Unknown };
    draw_neighbors(&NeighborPanel { title: String::new(), rows: vec![vec![tile]] }, &folder.path().join("dot.png")).unwrap();
}

#[test]
fn curves_show_both_objectives_and_both_lines_to_beat() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("curves.png");
    draw_curves(&curves(Some(0.7)), &path).unwrap();
    let image = image::open(&path).unwrap().to_rgb8();
    for color in [[230, 159, 0], [0, 114, 178], [0, 158, 115], [213, 94, 0]] {
        assert!(has_color(&image, color), "{color:?} is missing");
    }
}

#[test]
fn the_run_beside_is_drawn_with_the_accuracies_and_stretches_the_axis() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("curves.png");
    // The right half holds the accuracies; instance recognition's loss has the same colour in the left half.
    let num_orange = |curves: &Curves| {
        draw_curves(curves, &path).unwrap();
        let image = image::open(&path).unwrap().to_rgb8();
        image.enumerate_pixels().filter(|(x, _, pixel)| *x > 640 && pixel.0 == [230, 159, 0]).count()
    };
    let mut curves = curves(Some(0.7));
    assert_eq!(num_orange(&curves), 0);
    let points = (1..=5).map(|epoch| (epoch, 0.6 + 0.01 * epoch as f64)).collect();
    curves.beside = Some(BesideCurve { name: "instance recognition".into(), points });
    let short = num_orange(&curves);
    assert!(short > 100, "{short} pixels");
    curves.beside = Some(BesideCurve { name: "instance recognition".into(), points: (1..=50).map(|epoch| (epoch, 0.6)).collect() });
    assert!(num_orange(&curves) > 100);
}

#[test]
fn curves_without_labels_show_the_loss_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("curves.png");
    draw_curves(&curves(None), &path).unwrap();
    assert!(!has_color(&image::open(&path).unwrap().to_rgb8(), [0, 158, 115]));
}

#[test]
fn a_loss_that_is_not_finite_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let mut curves = curves(None);
    curves.points[1].loss = f64::NAN;
    curves.points[4].loss = f64::INFINITY;
    draw_curves(&curves, &folder.path().join("curves.png")).unwrap();
}

#[test]
fn one_epoch_is_enough() {
    let folder = tempfile::tempdir().unwrap();
    let mut curves = curves(Some(0.7));
    curves.points.truncate(1);
    draw_curves(&curves, &folder.path().join("curves.png")).unwrap();
}

#[test]
fn no_epoch_is_refused() {
    let error = draw_curves(&Curves::default(), std::path::Path::new("curves.png")).unwrap_err().to_string();
    assert_eq!(error, "curves.png: there is no epoch to draw yet");
}

#[test]
fn an_empty_panel_is_refused() {
    let error = draw_neighbors(&NeighborPanel::default(), std::path::Path::new("n.png")).unwrap_err().to_string();
    assert_eq!(error, "n.png: there are no neighbours to draw");
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let error = draw_curves(&curves(None), std::path::Path::new("/nowhere/curves.png")).unwrap_err().to_string();
    assert!(error.starts_with("/nowhere/curves.png: "), "{error}");
}
