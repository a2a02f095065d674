//! Points that are pulled together along edges and pushed away from points at random.

use super::graph::Graph;
use la_core::rng::{Rng, Stream};

/// Points that push for each pull.
const PUSHES: usize = 5;
/// The longest way of a point in one step, along an axis, at the highest rate.
const LONGEST: f32 = 4.0;

/// Moves `points` for `epochs` rounds, in which an edge of weight `w` pulls `w / max w` times as often as the heaviest.
///
/// Stochastic gradient descent on the cross entropy between weights and `1 / (1 + d²)`: a pull is `-2 / (1 + d²)` of the way, a push
/// `2 / ((0.001 + d²) (1 + d²))`. The rate falls from 1 to 0.
pub(super) fn layout(points: &mut [[f32; 2]], graph: &Graph, epochs: usize) {
    let heaviest = graph.edges.iter().fold(f32::MIN_POSITIVE, |heaviest, edge| heaviest.max(edge.weight));
    let mut rng = Rng::new(Stream::Map, &[]);
    let mut pulls = vec![0.0f32; graph.edges.len()];
    for epoch in 0..epochs {
        let rate = 1.0 - epoch as f32 / epochs as f32;
        for (edge, pulls) in graph.edges.iter().zip(&mut pulls) {
            *pulls += edge.weight / heaviest;
            if *pulls < 1.0 {
                continue;
            }
            *pulls -= 1.0;
            pull(points, edge.from as usize, edge.to as usize, rate);
            for _ in 0..PUSHES {
                let other = rng.below(points.len());
                push(points, edge.from as usize, other, rate);
            }
        }
    }
}

fn pull(points: &mut [[f32; 2]], from: usize, to: usize, rate: f32) {
    let (way, square) = between(points, from, to);
    let factor = -2.0 / (1.0 + square);
    for axis in 0..2 {
        let step = rate * (factor * way[axis]).clamp(-LONGEST, LONGEST);
        points[from][axis] += step;
        points[to][axis] -= step;
    }
}

fn push(points: &mut [[f32; 2]], from: usize, other: usize, rate: f32) {
    let (way, square) = between(points, from, other);
    let factor = 2.0 / ((0.001 + square) * (1.0 + square));
    for axis in 0..2 {
        points[from][axis] += rate * (factor * way[axis]).clamp(-LONGEST, LONGEST);
    }
}

/// From `to` to `from`, and its squared length.
fn between(points: &[[f32; 2]], from: usize, to: usize) -> ([f32; 2], f32) {
    let way = [points[from][0] - points[to][0], points[from][1] - points[to][1]];
    (way, way[0] * way[0] + way[1] * way[1])
}
