//! The map of a bank: what it keeps together, and that nothing but the bank decides on it.

use la_cli::map::{map, MapConfig};
use la_core::search::{Precision, SearchBank};

/// Numbers in -1 to 1 from a linear congruence.
fn numbers(n: usize, mut seed: u64) -> Vec<f32> {
    let mut next = || {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

#[test]
fn a_map_of_few_rows_lies_along_the_two_directions_of_most_variance() {
    // Centre (1, 1, 1); spread 4 along the third axis, 2 along the first, none along the second.
    let rows = [1.0, 1.0, 5.0, 1.0, 1.0, -3.0, 3.0, 1.0, 1.0, -1.0, 1.0, 1.0];
    let points = map(&SearchBank::from_rows(&rows, 3, Precision::F32).unwrap(), &MapConfig::default()).unwrap();
    for (point, expected) in points.iter().zip([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]) {
        assert!((point[0] - expected[0]).abs() < 1e-5 && (point[1] - expected[1]).abs() < 1e-5, "{points:?}");
    }
    let one = SearchBank::from_rows(&[1.0, 2.0, 3.0], 3, Precision::F32).unwrap();
    assert_eq!(map(&one, &MapConfig::default()).unwrap(), [[0.0, 0.0]]);
    // Two rows lie on a line, whatever its direction.
    let two = SearchBank::from_rows(&[0.3, 0.7, 0.1, 0.9, 0.2, 0.5], 3, Precision::F32).unwrap();
    let ends = map(&two, &MapConfig::default()).unwrap();
    assert!(ends.iter().all(|end| end[0].abs() == 1.0 && end[1] == 0.0), "{ends:?}");
}

/// Unit rows around `groups` directions, row `i` in group `i % groups`.
fn grouped_rows(count: usize, groups: usize, dim: usize, spread: f32) -> Vec<f32> {
    let (centres, noise) = (numbers(groups * dim, 21), numbers(count * dim, 22));
    let row = |i: usize| {
        let values: Vec<f32> = (0..dim).map(|d| centres[i % groups * dim + d] + spread * noise[i * dim + d]).collect();
        let length = values.iter().map(|x| x * x).sum::<f32>().sqrt();
        values.into_iter().map(move |x| x / length)
    };
    (0..count).flat_map(row).collect()
}

/// How often the point nearest to a point, by brute force, is of its group.
fn kept_together(points: &[[f32; 2]], groups: usize) -> f64 {
    let distance = |a: [f32; 2], b: [f32; 2]| (a[0] - b[0]).hypot(a[1] - b[1]);
    let nearest = |i: usize| {
        let others = (0..points.len()).filter(|&j| j != i);
        others.min_by(|&a, &b| distance(points[i], points[a]).total_cmp(&distance(points[i], points[b]))).unwrap()
    };
    (0..points.len()).filter(|&i| nearest(i) % groups == i % groups).count() as f64 / points.len() as f64
}

#[test]
fn a_map_keeps_groups_together_that_no_plane_parts() {
    // Thirty directions in 24 dimensions: two principal components lay many of them over each other.
    let bank = SearchBank::from_rows(&grouped_rows(900, 30, 24, 0.4), 24, Precision::F32).unwrap();
    let with = |config: MapConfig| map(&bank, &config).unwrap();
    let points = with(MapConfig::default());
    let extent = points.iter().flatten().fold(0.0f32, |largest, x| largest.max(x.abs()));
    assert!(extent <= 1.0 && extent > 0.999, "{extent}");
    let plane = with(MapConfig { num_neighbors: 900, ..MapConfig::default() });
    let few = with(MapConfig { max_laid_out: 600, ..MapConfig::default() });
    let kept = [plane, few, points].map(|points| kept_together(&points, 30));
    assert!(kept[0] < 0.6 && kept[1] > 0.95 && kept[2] > 0.98, "principal components, some laid out, all laid out: {kept:?}");
}

#[test]
fn a_map_is_the_same_for_any_number_of_threads_and_finite_for_equal_rows() {
    let bank = SearchBank::from_rows(&grouped_rows(200, 5, 8, 0.5), 8, Precision::F16).unwrap();
    let with = |threads| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| map(&bank, &MapConfig::default()).unwrap())
    };
    assert_eq!(with(1), with(3));
    let equal = SearchBank::from_rows(&[0.6, 0.8].repeat(40), 2, Precision::F32).unwrap();
    assert!(map(&equal, &MapConfig::default()).unwrap().iter().flatten().all(|x| x.is_finite()));
    let refused = map(&bank, &MapConfig { epochs: 0, ..MapConfig::default() }).unwrap_err().to_string();
    assert!(refused.contains("counts of at least 1"), "{refused}");
}
