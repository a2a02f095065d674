//! Whitening against its definition, and what it refuses.

use candle_core::{Device, Tensor};
use la_core::pca::{whitening, Whitening};
use la_core::rng::{Rng, Stream};
use std::collections::HashMap;

fn tensor(values: Vec<f32>, width: usize) -> Tensor {
    let rows = values.len() / width;
    Tensor::from_vec(values, (rows, width), &Device::Cpu).unwrap()
}

/// Rows whose `width` directions differ in strength by a factor of `spread`, mixed by a shear.
fn rows(count: usize, width: usize, spread: f32) -> Tensor {
    let mut rng = Rng::new(Stream::Weights, &[5]);
    let strength = |i: usize| spread.powf(-(i as f32) / (width - 1) as f32);
    let mut values = Vec::new();
    for _ in 0..count {
        let mut row: Vec<f32> = (0..width).map(|i| rng.normal() * strength(i) + i as f32).collect();
        for i in 1..width {
            row[i] += 0.5 * row[i - 1];
        }
        values.extend(row);
    }
    tensor(values, width)
}

/// `weight · x + bias` of every row, before it is brought to unit length.
fn mapped(map: &Whitening, rows: &Tensor) -> Vec<Vec<f64>> {
    let (weight, bias) = (map.weight.to_vec2::<f32>().unwrap(), map.bias.to_vec1::<f32>().unwrap());
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let rows: Vec<Vec<f32>> = rows.to_vec2().unwrap();
    rows.iter().map(|row| weight.iter().zip(&bias).map(|(w, b)| dot(w, row) + f64::from(*b)).collect()).collect()
}

fn covariance(rows: &[Vec<f64>], i: usize, j: usize) -> f64 {
    rows.iter().map(|row| row[i] * row[j]).sum::<f64>() / rows.len() as f64
}

#[test]
fn two_directions_of_unequal_strength_become_equal() {
    // Variances 4 and 1 around (1, 2), by hand: the first component is x / √(4 + 4e-4).
    let map = whitening(&tensor(vec![3.0, 2.0, -1.0, 2.0, 1.0, 3.0, 1.0, 1.0, 3.0, 3.0, -1.0, 1.0, 3.0, 1.0, -1.0, 3.0], 2), 2).unwrap();
    let variances = [24.0 / 8.0, 6.0 / 8.0];
    let expected: Vec<f64> = variances.iter().map(|v: &f64| 1.0 / (v + 1e-4 * 3.0).sqrt()).collect();
    let weight = map.weight.to_vec2::<f32>().unwrap();
    for (i, row) in weight.iter().enumerate() {
        assert!((f64::from(row[i]) - expected[i]).abs() < 1e-6 && row[1 - i].abs() < 1e-6, "{weight:?}");
    }
    let bias = map.bias.to_vec1::<f32>().unwrap();
    assert!((f64::from(bias[0]) + expected[0]).abs() < 1e-6 && (f64::from(bias[1]) + 2.0 * expected[1]).abs() < 1e-6, "{bias:?}");
}

#[test]
fn whitened_rows_have_no_covariance_and_equal_variances() {
    let rows = rows(3000, 12, 5.0);
    let out = mapped(&whitening(&rows, 12).unwrap(), &rows);
    for i in 0..12 {
        let mean = out.iter().map(|row| row[i]).sum::<f64>() / out.len() as f64;
        assert!(mean.abs() < 1e-3, "dimension {i} has mean {mean}");
        for j in 0..=i {
            // The ridge takes at most 1e-4 / spread² of a component's variance.
            let expected = f64::from(u8::from(i == j));
            assert!((covariance(&out, i, j) - expected).abs() < 0.02, "({i}, {j}): {}", covariance(&out, i, j));
        }
    }
}

#[test]
fn fewer_dimensions_are_the_first_of_more() {
    let rows = rows(500, 10, 20.0);
    let (few, all) = (whitening(&rows, 4).unwrap(), whitening(&rows, 10).unwrap());
    assert_eq!(few.dim(), 4);
    assert_eq!(few.weight.to_vec2::<f32>().unwrap(), all.weight.narrow(0, 0, 4).unwrap().to_vec2::<f32>().unwrap());
}

#[test]
fn applied_rows_have_unit_length_and_keep_their_direction() {
    let rows = rows(50, 6, 3.0);
    let map = whitening(&rows, 3).unwrap();
    let unit: Vec<Vec<f32>> = map.apply(&rows).unwrap().to_vec2().unwrap();
    for (unit, row) in unit.iter().zip(mapped(&map, &rows)) {
        let norm = row.iter().map(|x| x * x).sum::<f64>().sqrt();
        assert!(unit.iter().zip(&row).all(|(u, x)| (f64::from(*u) - x / norm).abs() < 1e-4), "{unit:?} {row:?}");
    }
}

#[test]
fn there_are_no_more_dimensions_than_rows_can_tell() {
    assert_eq!(whitening(&rows(5, 8, 2.0), 8).unwrap().dim(), 4);
}

#[test]
fn rows_that_say_nothing_are_refused() {
    let refusal = |rows: Tensor, dim| whitening(&rows, dim).unwrap_err().to_string();
    assert!(refusal(tensor(vec![1.0, 2.0], 2), 2).contains("at least 2 rows"));
    assert!(refusal(rows(5, 3, 2.0), 0).contains("1 dimension"));
    assert!(refusal(tensor(vec![0.1; 30], 3), 2).contains("10 equal ones"));
    assert!(refusal(tensor(vec![1.0, f32::NAN, 0.0, 1.0], 2), 2).contains("NaN"));
}

#[test]
fn a_map_that_is_not_whole_is_refused_with_its_shapes() {
    let map = whitening(&rows(50, 6, 3.0), 3).unwrap();
    let mut tensors: HashMap<String, Tensor> = map.tensors().into_iter().collect();
    assert_eq!(Whitening::from_tensors(&tensors).unwrap().num_features(), 6);
    tensors.insert("readout.bias".into(), tensor(vec![0.0; 4], 4).flatten_all().unwrap());
    let error = Whitening::from_tensors(&tensors).unwrap_err().to_string();
    assert!(error.contains("(D, F)") && error.contains("[3, 6]") && error.contains("[4]"), "{error}");
    assert!(Whitening::from_tensors(&HashMap::new()).unwrap_err().to_string().contains("readout.weight is missing"));
}

/// The largest difference between two maps' cosines of the first rows with each other.
fn largest_difference(a: &Whitening, b: &Whitening, rows: &Tensor) -> f32 {
    let cosines = |map: &Whitening| {
        let rows = map.apply(rows).unwrap();
        rows.matmul(&rows.t().unwrap()).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    cosines(a).iter().zip(cosines(b)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn a_map_that_is_fitted_to_many_rows_whitens_them_whatever_it_was() {
    let (own, other) = (rows(3000, 12, 5.0), rows(300, 12, 1.0));
    let many = Tensor::cat(&vec![&own; 40], 0).unwrap();
    let (before, expected) = (whitening(&other, 12).unwrap(), whitening(&own, 12).unwrap());
    let few = own.narrow(0, 0, 20).unwrap();
    let fitted = before.fitted_to(&many, 12).unwrap();
    let (far, near) = (largest_difference(&before, &expected, &few), largest_difference(&fitted, &expected, &few));
    assert!(far > 0.3 && near < 0.1, "120,000 rows against the map's 1,000: from {far} to {near}");
}

#[test]
fn a_map_that_is_fitted_to_its_own_rows_stays_as_it_is() {
    let own = rows(3000, 12, 5.0);
    let map = whitening(&own, 12).unwrap();
    let difference = largest_difference(&map.fitted_to(&own, 12).unwrap(), &map, &own.narrow(0, 0, 20).unwrap());
    assert!(difference < 1e-4, "{difference}");
}

#[test]
fn a_map_that_is_fitted_to_one_row_is_nearly_what_it_was() {
    let own = rows(3000, 12, 5.0);
    let map = whitening(&own, 12).unwrap();
    let fitted = map.fitted_to(&own.narrow(0, 7, 1).unwrap(), 12).unwrap();
    let difference = largest_difference(&fitted, &map, &own.narrow(0, 0, 20).unwrap());
    assert!(difference < 0.1, "{difference}");
    let row = fitted.apply(&own.narrow(0, 7, 1).unwrap()).unwrap().to_vec2::<f32>().unwrap();
    assert!((row[0].iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5, "it has an embedding: {row:?}");
}

#[test]
fn a_map_of_few_dimensions_can_be_fitted_to_more() {
    let own = rows(3000, 12, 5.0);
    let fitted = whitening(&own, 4).unwrap().fitted_to(&own, 10).unwrap();
    assert_eq!((fitted.dim(), fitted.num_features()), (10, 12));
    let error = fitted.fitted_to(&rows(5, 6, 2.0), 4).unwrap_err().to_string();
    assert!(error.contains("rows of 12 features") && error.contains("5 of 6"), "{error}");
}
