//! Embedded images.

use candle_core::Tensor;
use la_core::data::Source;
use la_core::files::sha256_of;
use std::sync::Arc;

/// Images with their embeddings.
pub struct Indexed {
    /// Where they are from, for people to read.
    pub name: String,
    /// The images that could be read.
    pub images: Arc<dyn Source>,
    /// `(N, D)`, a unit-length row for each.
    pub rows: Tensor,
}

impl Indexed {
    /// Another one where any image, name or row is.
    pub fn digest(&self) -> anyhow::Result<String> {
        let names = (0..self.images.len()).map(|index| (self.images.name(index) + "\0").into_bytes());
        let rows = self.rows.flatten_all()?.to_vec1::<f32>()?;
        Ok(sha256_of(names.chain(rows.chunks(1 << 12).map(|chunk| chunk.iter().flat_map(|value| value.to_le_bytes()).collect()))))
    }
}
