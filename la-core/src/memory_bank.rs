//! The memory bank: one unit row for each training image, a running average of its embeddings.

use crate::{
    error::bail,
    ops::{device::on_gpu, gradients::refuse_tracked, host, normalize::scale_row, parallel, row_sums::dot},
    rng::{Rng, Stream},
    Result,
};
use candle_core::{Device, Tensor};

/// Rows that one piece of work fills.
const BLOCK: usize = 1024;

/// `(N, D)` unit rows, row `i` for training image `i` (Wu et al. 2018, <https://arxiv.org/abs/1805.01978>).
#[derive(Debug)]
pub struct MemoryBank {
    rows: Tensor,
}

impl MemoryBank {
    /// `n` random directions of dimension `dim`, uniform in a cube and then normalised, as published.
    ///
    /// Row `i` depends on `seed` and `i` alone. Fails where `n` or `dim` is 0.
    pub fn random(n: usize, dim: usize, seed: u64, device: &Device) -> Result<Self> {
        if n == 0 || dim == 0 {
            bail!("memory bank must have at least one row and one dimension, got ({n}, {dim})");
        }
        let mut rows = vec![0.0; n * dim];
        parallel::for_each_chunk(&mut rows, BLOCK * dim, |block, rows| {
            for (i, row) in rows.chunks_exact_mut(dim).enumerate() {
                random_row(&mut Rng::new(Stream::Bank, &[seed, (block * BLOCK + i) as u64]), row);
            }
        });
        Ok(Self { rows: host::tensor(rows, (n, dim)).to_device(device)? })
    }

    /// A bank of these rows `(N, D)`, normalised.
    ///
    /// Fails on a row that holds NaN or infinity or is all zeros, and names it; and on rows that track gradients.
    pub fn from_tensor(rows: Tensor) -> Result<Self> {
        refuse_tracked(&rows, "MemoryBank::from_tensor")?;
        let (n, dim) = rows.dims2()?;
        if n == 0 || dim == 0 {
            bail!("memory bank must have at least one row and one dimension, got ({n}, {dim})");
        }
        let mut values = host::read(&host::local(&rows)?, <[f32]>::to_vec)?;
        for (i, row) in values.chunks_exact_mut(dim).enumerate() {
            let norm = dot(row, row).sqrt();
            if !norm.is_finite() || norm == 0.0 {
                bail!("memory bank row {i} must have a finite length above 0, got {norm}");
            }
            scale_row(row, norm);
        }
        Ok(Self { rows: host::tensor(values, (n, dim)).to_device(rows.device())? })
    }

    /// `N`, the number of training images.
    #[allow(clippy::len_without_is_empty)] // No bank is empty.
    pub fn len(&self) -> usize {
        self.rows.dims()[0]
    }

    /// `D`, the embedding dimension.
    pub fn dim(&self) -> usize {
        self.rows.dims()[1]
    }

    /// The rows `(N, D)`; [`MemoryBank::update`] changes them in place, also for whoever cloned this tensor.
    pub fn rows(&self) -> &Tensor {
        &self.rows
    }

    /// Moves rows towards new embeddings: `row ← normalise(m row + (1 - m) embedding)`.
    ///
    /// - `indices` `(B,)`: the rows; one that stands twice moves twice, in order.
    /// - `embeddings` `(B, D)`: unit rows.
    /// - `bank_momentum`: `m`, the share of the old row kept, in [0, 1); 0.5 as published.
    ///
    /// Fails on shapes that do not fit, an index beyond the bank, and embeddings that are not finite or track gradients; the bank is
    /// then unchanged.
    /// On a GPU, which is not waited for, an embedding that is not finite leaves its row unchanged instead.
    pub fn update(&mut self, indices: &[u32], embeddings: &Tensor, bank_momentum: f32) -> Result<()> {
        refuse_tracked(embeddings, "MemoryBank::update")?;
        if !(0.0..1.0).contains(&bank_momentum) {
            bail!("memory bank momentum must be in [0, 1), got {bank_momentum}");
        }
        self.check_batch(indices, embeddings)?;
        on_gpu!(self.rows, crate::ops::cuda::rows::update_bank(&self.rows, indices, &embeddings.contiguous()?, bank_momentum));
        let embeddings = host::read(&embeddings.contiguous()?, <[f32]>::to_vec)?;
        if let Some(i) = embeddings.iter().position(|x| !x.is_finite()) {
            bail!("embedding of image {} must be finite, got {}", indices[i / self.dim()], embeddings[i]);
        }
        let dim = self.dim();
        host::write(&self.rows, |rows| {
            for (&index, embedding) in indices.iter().zip(embeddings.chunks_exact(dim)) {
                mix_row(&mut rows[index as usize * dim..][..dim], embedding, bank_momentum);
            }
        })
    }

    /// Fails unless `embeddings` is `(B, D)` and `indices` are B rows of this bank.
    pub(crate) fn check_batch(&self, indices: &[u32], embeddings: &Tensor) -> Result<()> {
        if indices.is_empty() || embeddings.dims() != [indices.len(), self.dim()] {
            bail!(
                "embeddings must have shape ({}, {}) for {} indices and at least one row, got {:?}",
                indices.len(),
                self.dim(),
                indices.len(),
                embeddings.dims()
            );
        }
        match indices.iter().find(|&&i| i as usize >= self.len()) {
            Some(index) => bail!("index must be below the memory bank's length {}, got {index}", self.len()),
            None => Ok(()),
        }
    }
}

fn random_row(rng: &mut Rng, row: &mut [f32]) {
    row.iter_mut().for_each(|value| *value = rng.uniform_in(-1.0, 1.0));
    let norm = dot(row, row).sqrt();
    if norm == 0.0 {
        row[0] = 1.0;
    } else {
        scale_row(row, norm);
    }
}

fn mix_row(row: &mut [f32], embedding: &[f32], bank_momentum: f32) {
    row.iter_mut().zip(embedding).for_each(|(old, new)| *old = bank_momentum * *old + (1.0 - bank_momentum) * new);
    let norm = dot(row, row).sqrt();
    if norm > 0.0 {
        scale_row(row, norm);
    } else {
        // Opposite directions cancelled: the new one stands.
        row.copy_from_slice(embedding);
    }
}
