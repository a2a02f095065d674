//! L-BFGS: the minimum of a smooth convex function from values and gradients (Liu and Nocedal 1989,
//! <https://doi.org/10.1007/BF01589116>), with a line search that bisects to the weak Wolfe conditions.

use std::collections::VecDeque;

/// Steps whose change of gradient is remembered.
const MEMORY: usize = 10;
/// Sufficient decrease and curvature of a step.
const WOLFE: (f64, f64) = (1e-4, 0.9);
/// Evaluations of one line search; more mean that rounding hides what is left to gain.
const MOST_TRIALS: usize = 20;

/// Value and gradient at a point.
type Function<'a> = dyn FnMut(&[f64]) -> (f64, Vec<f64>) + 'a;

/// When the search ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stop {
    /// Largest component of the gradient that counts as none.
    pub tolerance: f64,
    /// Steps at most.
    pub max_iters: usize,
}

/// Where the search ended.
pub(super) struct Minimum {
    pub point: Vec<f64>,
    pub value: f64,
    pub iterations: usize,
}

/// A point with what the function gives there.
struct At {
    point: Vec<f64>,
    value: f64,
    gradient: Vec<f64>,
}

/// Goes down from `start`; `f` gives value and gradient, and `stepped` is told after each step how many were done.
pub(super) fn minimize(start: Vec<f64>, stop: Stop, f: &mut Function, stepped: &mut dyn FnMut(usize)) -> Minimum {
    let mut at = evaluate(start, f);
    let mut memory: VecDeque<(Vec<f64>, Vec<f64>, f64)> = VecDeque::new();
    let mut iterations = 0;
    while iterations < stop.max_iters && largest(&at.gradient) > stop.tolerance {
        let direction = direction(&at.gradient, &memory);
        let Some(next) = search(&at, &direction, f) else { break };
        let step = difference(&next.point, &at.point);
        let change = difference(&next.gradient, &at.gradient);
        let curvature = dot(&step, &change);
        if curvature > f64::EPSILON * dot(&change, &change) {
            if memory.len() == MEMORY {
                memory.pop_front();
            }
            memory.push_back((step, change, curvature));
        }
        at = next;
        iterations += 1;
        stepped(iterations);
    }
    Minimum { point: at.point, value: at.value, iterations }
}

fn evaluate(point: Vec<f64>, f: &mut Function) -> At {
    let (value, gradient) = f(&point);
    At { point, value, gradient }
}

/// `-H g` by the two-loop recursion, H the inverse Hessian that the remembered steps tell of.
fn direction(gradient: &[f64], memory: &VecDeque<(Vec<f64>, Vec<f64>, f64)>) -> Vec<f64> {
    let mut q: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut shares = Vec::with_capacity(memory.len());
    for (step, change, curvature) in memory.iter().rev() {
        let share = dot(step, &q) / curvature;
        add(&mut q, -share, change);
        shares.push(share);
    }
    // Without a memory the first step has length 1, or less where the gradient is small.
    let scale = match memory.back() {
        Some((_, change, curvature)) => curvature / dot(change, change),
        None => 1.0 / dot(gradient, gradient).sqrt().max(1.0),
    };
    q.iter_mut().for_each(|x| *x *= scale);
    for ((step, change, curvature), share) in memory.iter().zip(shares.iter().rev()) {
        let share = share - dot(change, &q) / curvature;
        add(&mut q, share, step);
    }
    q
}

/// A point along `direction` where the function is low enough and its slope flat enough (Lewis and Overton 2013,
/// <https://doi.org/10.1007/s10107-012-0514-2>); none where no lower one is found.
fn search(from: &At, direction: &[f64], f: &mut Function) -> Option<At> {
    let slope = dot(&from.gradient, direction);
    if slope.is_nan() || slope >= 0.0 {
        return None;
    }
    let (mut low, mut high, mut length) = (0.0, f64::INFINITY, 1.0);
    let mut lowest: Option<At> = None;
    for _ in 0..MOST_TRIALS {
        let mut point = from.point.clone();
        add(&mut point, length, direction);
        let at = evaluate(point, f);
        let is_low = at.value <= from.value + WOLFE.0 * length * slope;
        let is_flat = dot(&at.gradient, direction) >= WOLFE.1 * slope;
        if is_low && is_flat {
            return Some(at);
        }
        if is_low {
            low = length;
            lowest = Some(at);
        } else {
            high = length;
        }
        length = if high.is_finite() { 0.5 * (low + high) } else { 2.0 * length };
    }
    lowest
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |largest, x| x.abs().max(largest))
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(to: &mut [f64], factor: f64, from: &[f64]) {
    to.iter_mut().zip(from).for_each(|(a, b)| *a += factor * b);
}

fn difference(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}
