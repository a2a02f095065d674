//! The memory bank.

mod support;

use candle_core::{Device, Tensor};
use la_core::{memory_bank::MemoryBank, ops::normalize::normalize};
use support::{close, golden};

fn rows_of(values: &[f32], dim: usize) -> Tensor {
    Tensor::from_slice(values, (values.len() / dim, dim), &Device::Cpu).unwrap()
}

fn values(bank: &MemoryBank) -> Vec<f32> {
    bank.rows().flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn golden_bank_updates_hold() {
    for name in ["la_base", "la_all_background", "la_tau02_mom09", "la_tiny_k", "la_true_groups", "ir_base", "ir_small"] {
        let golden = golden(name);
        let mut bank = MemoryBank::from_tensor(golden.get("bank").clone()).unwrap();
        let (embeddings, _) = normalize(golden.get("outputs")).unwrap();
        let indices = golden.indices("indices");
        bank.update(&indices, &embeddings, golden.number("momentum") as f32).unwrap();
        let chosen = Tensor::new(indices, &Device::Cpu).unwrap();
        close(&bank.rows().index_select(&chosen, 0).unwrap(), golden.get("new_rows"), 1e-4, name);
    }
}

#[test]
fn half_way_between_two_axes_is_the_diagonal() {
    let mut bank = MemoryBank::from_tensor(rows_of(&[1.0, 0.0, 0.0, 2.0], 2)).unwrap();
    bank.update(&[0], &rows_of(&[0.0, 1.0], 2), 0.5).unwrap();
    let half = 0.5f32.sqrt();
    assert_eq!(values(&bank), [half, half, 0.0, 1.0]);
}

#[test]
fn an_opposite_embedding_replaces_the_row() {
    let mut bank = MemoryBank::from_tensor(rows_of(&[1.0, 0.0], 2)).unwrap();
    bank.update(&[0], &rows_of(&[-1.0, 0.0], 2), 0.5).unwrap();
    assert_eq!(values(&bank), [-1.0, 0.0]);
}

#[test]
fn random_rows_have_unit_length_and_depend_on_the_seed_alone() {
    let bank = MemoryBank::random(2000, 7, 3, &Device::Cpu).unwrap();
    assert_eq!((bank.len(), bank.dim()), (2000, 7));
    for row in values(&bank).chunks(7) {
        assert!((row.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-6);
    }
    let prefix = MemoryBank::random(1500, 7, 3, &Device::Cpu).unwrap();
    assert_eq!(values(&prefix), values(&bank)[..1500 * 7]);
    assert_ne!(values(&MemoryBank::random(2000, 7, 4, &Device::Cpu).unwrap()), values(&bank));
}

#[test]
fn rows_stay_of_unit_length_through_updates() {
    let mut bank = MemoryBank::random(10, 16, 0, &Device::Cpu).unwrap();
    for step in 0..50 {
        let other = MemoryBank::random(3, 16, step, &Device::Cpu).unwrap();
        bank.update(&[1, 9, 4], other.rows(), 0.5).unwrap();
    }
    for row in values(&bank).chunks(16) {
        assert!((row.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5);
    }
}

#[track_caller]
fn refused<T>(result: la_core::Result<T>, message: &str) {
    let error = result.err().expect("should be refused").to_string();
    assert!(error.contains(message), "{error}");
}

#[test]
fn rows_of_zeros_or_nan_are_refused_by_number() {
    refused(MemoryBank::from_tensor(rows_of(&[1.0, 0.0, 0.0, 0.0], 2)), "row 1 must have a finite length above 0");
    refused(MemoryBank::from_tensor(rows_of(&[f32::NAN, 0.0, 1.0, 0.0], 2)), "row 0 must have a finite length above 0");
}

#[test]
fn an_empty_bank_is_refused() {
    refused(MemoryBank::random(0, 4, 0, &Device::Cpu), "at least one row");
    refused(MemoryBank::from_tensor(Tensor::zeros((0, 4), candle_core::DType::F32, &Device::Cpu).unwrap()), "at least one row");
}

#[test]
fn updates_that_do_not_fit_are_refused_and_change_nothing() {
    let mut bank = MemoryBank::random(5, 2, 0, &Device::Cpu).unwrap();
    let before = values(&bank);
    let one = rows_of(&[1.0, 0.0], 2);
    refused(bank.update(&[0], &one, 1.5), "memory bank momentum must be in [0, 1), got 1.5");
    refused(bank.update(&[5], &one, 0.5), "index must be below the memory bank's length 5, got 5");
    refused(bank.update(&[0, 1], &one, 0.5), "embeddings must have shape (2, 2)");
    refused(bank.update(&[], &one, 0.5), "at least one row");
    refused(bank.update(&[3, 2], &rows_of(&[1.0, 0.0, f32::NAN, 0.0], 2), 0.5), "embedding of image 2 must be finite");
    assert_eq!(values(&bank), before);
}
