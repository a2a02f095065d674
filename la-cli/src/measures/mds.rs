//! Multidimensional scaling: points on a plane whose distances are as near as they can be to given ones.
//!
//! SMACOF (de Leeuw 1977; Borg and Groenen 2005, chapter 8): each round majorises the stress and minimises the majorising
//! function, so it never rises. It begins from classical scaling (Torgerson 1952).

use crate::error::{bail, Result};
use candle_core::Tensor;
use nalgebra::{DMatrix, SymmetricEigen};

/// Rounds at most.
const ROUNDS: usize = 1000;
/// The rounds end where one lowers the stress by less than this share of it.
const LEAST_GAIN: f64 = 1e-6;

/// Points on a plane.
#[derive(Debug, Clone, PartialEq)]
pub struct Mds {
    /// One for each object, their mean at the origin.
    pub points: Vec<[f64; 2]>,
    /// The sum over pairs of the squared difference between distance on the plane and given distance.
    pub stress: f64,
}

/// Points whose distances are near to `distances` `(N, N)`, row by row; the same distances give the same points.
///
/// Fails where these are not N × N, symmetric, finite and at least 0, with 0 on the diagonal.
pub fn mds(distances: &[f64], num_points: usize) -> Result<Mds> {
    check(distances, num_points)?;
    let mut points = classical(distances, num_points);
    let mut last = stress(distances, &points);
    for _ in 0..ROUNDS {
        let next = guttman(distances, &points);
        let now = stress(distances, &next);
        let is_over = last - now < LEAST_GAIN * last;
        if now <= last {
            (points, last) = (next, now);
        }
        if is_over {
            break;
        }
    }
    Ok(Mds { points, stress: last })
}

/// The Euclidean distances `(N, N)` between rows `(N, D)`, row by row.
pub fn distances(rows: &Tensor) -> Result<Vec<f64>> {
    let rows = rows.to_vec2::<f32>()?;
    let between = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum::<f64>().sqrt();
    Ok(rows.iter().flat_map(|a| rows.iter().map(|b| between(a, b))).collect())
}

fn check(distances: &[f64], n: usize) -> Result<()> {
    if n == 0 || distances.len() != n * n {
        bail!("expected {n} x {n} distances, and at least one, got {}", distances.len());
    }
    for (i, row) in distances.chunks(n).enumerate() {
        for (j, &distance) in row.iter().enumerate() {
            if !(distance.is_finite() && distance >= 0.0) || (i == j && distance > 0.0) || distance != distances[j * n + i] {
                bail!("distances must be symmetric, finite and at least 0, with 0 on the diagonal, got {distance} between {i} and {j}");
            }
        }
    }
    Ok(())
}

/// The two first principal coordinates of `-½ J D² J`, `J` the centring; each with its largest value positive.
fn classical(distances: &[f64], n: usize) -> Vec<[f64; 2]> {
    let squared = DMatrix::from_row_slice(n, n, distances).map(|distance| distance * distance);
    let means: Vec<f64> = squared.column_iter().map(|column| column.mean()).collect();
    let mean = means.iter().sum::<f64>() / n as f64;
    let eigen = SymmetricEigen::new(DMatrix::from_fn(n, n, |i, j| -0.5 * (squared[(i, j)] - means[i] - means[j] + mean)));
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
    let mut points = vec![[0.0; 2]; n];
    for (axis, &component) in order.iter().take(2).enumerate() {
        let vector = eigen.eigenvectors.column(component);
        let length = eigen.eigenvalues[component].max(0.0).sqrt();
        let sign = vector.iter().fold(0.0f64, |most, &x| if x.abs() > most.abs() { x } else { most }).signum();
        points.iter_mut().zip(vector.iter()).for_each(|(point, x)| point[axis] = sign * length * x);
    }
    points
}

fn between(a: [f64; 2], b: [f64; 2]) -> f64 {
    (a[0] - b[0]).hypot(a[1] - b[1])
}

fn stress(distances: &[f64], points: &[[f64; 2]]) -> f64 {
    let n = points.len();
    let pairs = (0..n).flat_map(|i| (i + 1..n).map(move |j| (i, j)));
    pairs.map(|(i, j)| (between(points[i], points[j]) - distances[i * n + j]).powi(2)).sum()
}

/// `x_i ← 1/N Σ_j δ_ij (x_i - x_j) / d_ij`: the Guttman transform, where all pairs weigh the same.
fn guttman(distances: &[f64], points: &[[f64; 2]]) -> Vec<[f64; 2]> {
    let n = points.len();
    let moved = |(i, &point): (usize, &[f64; 2])| {
        let mut sum = [0.0; 2];
        for (j, &other) in points.iter().enumerate() {
            let distance = between(point, other);
            if distance > 0.0 {
                let ratio = distances[i * n + j] / distance;
                sum = [sum[0] + ratio * (point[0] - other[0]), sum[1] + ratio * (point[1] - other[1])];
            }
        }
        sum.map(|x| x / n as f64)
    };
    points.iter().enumerate().map(moved).collect()
}
