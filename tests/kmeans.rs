//! k-means.

mod support;

use candle_core::Tensor;
use la_core::kmeans::{cluster, kmeans, ClusterLabels, Kmeans, KmeansConfig};
use support::clouds::{on_threads, tensor, unit_rows};

fn config(num_clusters: usize, max_iters: usize, seed: u64) -> KmeansConfig {
    KmeansConfig { num_clusters, max_iters, seed }
}

fn values(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

fn squared_distance(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum()
}

/// Each label must be of a nearest centroid, the inertia the sum of squared distances; in f64 by brute force.
#[track_caller]
fn assert_nearest(points: &[f32], found: &Kmeans) {
    let centroids = values(&found.centroids);
    let dim = found.centroids.dims()[1];
    let mut inertia = 0.0;
    for (i, point) in points.chunks(dim).enumerate() {
        let distances: Vec<f64> = centroids.chunks(dim).map(|c| squared_distance(point, c)).collect();
        let least = distances.iter().copied().fold(f64::INFINITY, f64::min);
        assert!(distances[found.labels[i] as usize] <= least + 1e-5 * (1.0 + least), "point {i} is not with its nearest centroid");
        inertia += distances[found.labels[i] as usize];
    }
    assert!((found.inertia - inertia).abs() <= 1e-4 * inertia + 1e-9, "inertia {} for {inertia}", found.inertia);
}

#[test]
fn two_pairs_on_a_line_give_their_middles() {
    // From any two starting points Lloyd ends in one of two states; the pairs are the one of least inertia.
    let points = tensor(vec![0.0, 1.0, 10.0, 11.0], 1);
    let best = (0..8).map(|seed| kmeans(&points, &config(2, 20, seed)).unwrap()).min_by(|a, b| a.inertia.total_cmp(&b.inertia)).unwrap();
    let mut centroids = values(&best.centroids);
    centroids.sort_by(f32::total_cmp);
    assert_eq!(centroids, [0.5, 10.5]);
    assert_eq!(best.inertia, 1.0);
    assert!(best.labels[0] == best.labels[1] && best.labels[2] == best.labels[3] && best.labels[0] != best.labels[2]);
}

#[test]
fn every_point_is_with_its_nearest_centroid() {
    for (n, dim, groups, k) in [(500, 3, 10, 7), (1500, 128, 30, 100), (700, 40, 700, 33), (200, 17, 5, 200)] {
        let points = unit_rows(n, dim, groups, 0.4, 1);
        for max_iters in [0, 1, 20] {
            assert_nearest(&points, &kmeans(&tensor(points.clone(), dim), &config(k, max_iters, 5)).unwrap());
        }
    }
}

#[test]
fn points_far_from_unit_length_are_assigned_exactly() {
    let mut points = unit_rows(900, 24, 12, 0.5, 2);
    points.iter_mut().enumerate().for_each(|(i, x)| *x = *x * 1e3 + (i % 24) as f32 * 50.0);
    assert_nearest(&points, &kmeans(&tensor(points.clone(), 24), &config(20, 10, 1)).unwrap());
}

#[test]
fn inertia_never_rises() {
    let points = tensor(unit_rows(3000, 16, 25, 0.6, 3), 16);
    let inertia: Vec<f64> = (0..15).map(|iters| kmeans(&points, &config(40, iters, 9)).unwrap().inertia).collect();
    assert!(inertia.windows(2).all(|pair| pair[1] <= pair[0] * (1.0 + 1e-6)), "{inertia:?}");
    assert!(inertia[14] < 0.9 * inertia[0]);
}

#[test]
fn rounds_stop_where_nothing_changes() {
    let points = tensor(unit_rows(300, 8, 3, 0.05, 4), 8);
    let found = kmeans(&points, &config(3, 1000, 0)).unwrap();
    assert!(found.iters < 50, "{} rounds", found.iters);
}

#[test]
fn no_cluster_is_empty_where_there_are_points_enough() {
    // Most points coincide, so that several of the starting centroids do and all but one of them are left empty.
    let mut points = [1.0, 0.0, 0.0].repeat(500);
    points.extend(unit_rows(40, 3, 40, 1.0, 5));
    let found = kmeans(&tensor(points.clone(), 3), &config(30, 20, 2)).unwrap();
    let mut counts = [0; 30];
    found.labels.iter().for_each(|&label| counts[label as usize] += 1);
    assert!(counts.iter().all(|&count| count > 0), "{counts:?}");
    assert_nearest(&points, &found);
}

#[test]
fn fewer_distinct_points_than_clusters_are_each_on_a_centroid() {
    let points = tensor([[0.0, 1.0], [1.0, 0.0]].concat().repeat(20), 2);
    let found = kmeans(&points, &config(10, 20, 0)).unwrap();
    assert_eq!(found.inertia, 0.0);
}

#[test]
fn as_many_clusters_as_points_leave_no_inertia() {
    let points = tensor(unit_rows(64, 32, 64, 1.0, 6), 32);
    let found = kmeans(&points, &config(64, 20, 0)).unwrap();
    assert_eq!(found.inertia, 0.0);
}

#[test]
fn one_cluster_is_the_mean() {
    let found = kmeans(&tensor(vec![0.0, 0.0, 2.0, 4.0], 2), &config(1, 20, 0)).unwrap();
    assert_eq!(values(&found.centroids), [1.0, 2.0]);
    assert_eq!((found.labels, found.inertia), (vec![0, 0], 10.0));
}

#[test]
fn clusters_do_not_depend_on_the_number_of_threads() {
    let points = tensor(unit_rows(5000, 48, 60, 0.5, 7), 48);
    let runs = [1, 2, 3].map(|threads| on_threads(threads, || kmeans(&points, &config(70, 20, 1)).unwrap()));
    for run in &runs[1..] {
        assert_eq!(run.labels, runs[0].labels);
        assert_eq!(run.inertia.to_bits(), runs[0].inertia.to_bits());
        assert_eq!(values(&run.centroids), values(&runs[0].centroids));
    }
}

#[test]
fn clusterings_are_the_runs_of_consecutive_seeds() {
    let points = tensor(unit_rows(400, 10, 9, 0.5, 8), 10);
    let all = cluster(&points, 3, &config(11, 20, 100)).unwrap();
    assert_eq!((all.num_clusterings, all.num_images()), (3, 400));
    for h in 0..3 {
        let alone = kmeans(&points, &config(11, 20, 100 + h as u64)).unwrap();
        assert_eq!(all.labels[h * 400..(h + 1) * 400], alone.labels);
    }
    assert_ne!(all.labels[..400], all.labels[400..800]);
}

#[test]
fn labels_survive_the_way_through_a_tensor() {
    let labels = ClusterLabels::new(vec![3, 1, 4, 1, 5, 9], 2).unwrap();
    let tensor = labels.to_tensor().unwrap();
    assert_eq!(tensor.dims(), [2, 3]);
    assert_eq!(ClusterLabels::from_tensor(&tensor).unwrap(), labels);
}

/// A line of `faiss_kmeans.tsv`, which `faiss_kmeans.py` wrote.
struct Faiss {
    spread: f32,
    checksum: f64,
    k: usize,
    inertia: f64,
}

fn faiss_figures() -> Vec<Faiss> {
    let lines = include_str!("faiss_kmeans.tsv").lines().skip(1);
    let of = |line: &str| {
        let fields: Vec<f64> = line.split('\t').map(|field| field.parse().unwrap()).collect();
        Faiss { spread: fields[0] as f32, checksum: fields[1], k: fields[2] as usize, inertia: fields[4] }
    };
    lines.map(of).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[test]
fn inertia_is_within_a_hundredth_of_that_of_faiss() {
    let figures = faiss_figures();
    for spread in [1.0, 2.0] {
        let rows = unit_rows(60_000, 128, 500, spread, 1);
        let checksum: f64 = rows.chunks(128).map(|row| f64::from(row[0])).sum();
        let rows = tensor(rows, 128);
        for k in [300, 1000] {
            let faiss: Vec<&Faiss> = figures.iter().filter(|line| line.spread == spread && line.k == k).collect();
            assert!((checksum - faiss[0].checksum).abs() < 1e-2, "these are not the rows that faiss clustered");
            let ours = median((0..3).map(|seed| kmeans(&rows, &config(k, 20, seed)).unwrap().inertia).collect());
            let theirs = median(faiss.iter().map(|line| line.inertia).collect());
            assert!(ours <= 1.01 * theirs, "spread {spread}, k = {k}: inertia {ours}, faiss {theirs}");
        }
    }
}

#[track_caller]
fn refused<T>(result: la_core::Result<T>, message: &str) {
    let error = result.err().expect("should be refused").to_string();
    assert!(error.contains(message), "{error}");
}

#[test]
fn what_cannot_be_clustered_is_refused_by_name() {
    let points = tensor(vec![0.0, 1.0, 2.0], 1);
    refused(kmeans(&points, &config(4, 20, 0)), "number of clusters must be in 1..=3, the number of points, got 4");
    refused(kmeans(&points, &config(0, 20, 0)), "got 0");
    refused(cluster(&points, 2, &config(4, 20, 0)), "number of clusters must be in 1..=3");
    refused(cluster(&points, 0, &config(2, 20, 0)), "number of clusterings");
    refused(kmeans(&tensor(vec![0.0, 0.0, 1.0, f32::NAN], 2), &config(1, 20, 0)), "points must be finite, got NaN in row 1");
    refused(ClusterLabels::new(vec![0; 5], 2), "cluster labels must be a multiple");
    let three = || ClusterLabels::new(vec![0; 6], 3).unwrap();
    refused(three().agreeing(0), "min-agreement must be in 1..=3, the number of clusterings, got 0");
    refused(three().agreeing(4), "got 4");
}
