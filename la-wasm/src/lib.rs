//! `la-core` for JavaScript: types converted, errors thrown as `Error` with la-core's message.

use la_core::ops::parallel::HELPED;
use la_core::preprocess::{preprocess, Preprocessing};
use la_core::resnet::Encoder;
use la_core::search::{clusters, vote, BankReader, Manifest, Neighbor, SearchBank};
use wasm_bindgen::prelude::*;

/// How sharply the vote prefers nearer neighbours, as in kNN evaluation.
const TEMPERATURE: f32 = 0.07;

/// The network of a bundle, with the way its pictures are prepared.
#[wasm_bindgen]
pub struct Network {
    encoder: Encoder,
    preprocessing: Preprocessing,
}

#[wasm_bindgen]
impl Network {
    /// Reads the weights file of a bundle.
    #[wasm_bindgen(constructor)]
    pub fn new(manifest: &[u8], weights: &[u8]) -> Result<Network, JsError> {
        let manifest = Manifest::parse(manifest)?;
        manifest.model.file.expect_bytes("weights", weights.len())?;
        Ok(Network { encoder: Encoder::read(&manifest.model.config, weights)?, preprocessing: manifest.preprocessing })
    }

    /// The unit-length embedding of a picture: RGBA pixels as a canvas gives them.
    pub fn embed(&self, rgba: &[u8], width: usize, height: usize) -> Result<Vec<f32>, JsError> {
        let image = preprocess(rgba, width, height, &self.preprocessing)?;
        let size = self.preprocessing.size;
        Ok(self.encoder.embed(&image, 1, size, size)?)
    }
}

/// The bank of a bundle, of which rows can be searched while others still come, and what is added to it for the session.
#[wasm_bindgen]
pub struct Bank(BankReader);

#[wasm_bindgen]
impl Bank {
    /// That of a manifest.
    #[wasm_bindgen(constructor)]
    pub fn new(manifest: &[u8]) -> Result<Bank, JsError> {
        Ok(Bank(BankReader::new(Manifest::parse(manifest)?.bank)))
    }

    /// Reads the next bytes of the bank's file.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(), JsError> {
        Ok(self.0.take(bytes)?)
    }

    /// Throws where not all of its file has come.
    pub fn finish(&mut self) -> Result<(), JsError> {
        self.0.whole()?;
        Ok(())
    }

    /// Number of rows that are there.
    #[wasm_bindgen(getter)]
    pub fn length(&self) -> usize {
        self.0.bank().map_or(0, SearchBank::len)
    }

    /// The embedding of a row.
    pub fn row(&self, row: usize) -> Result<Vec<f32>, JsError> {
        Ok(self.rows()?.row(row)?)
    }

    /// Adds an embedding; gives its row.
    pub fn add(&mut self, embedding: &[f32]) -> Result<usize, JsError> {
        Ok(self.0.whole()?.push(embedding)?)
    }

    /// The `k` rows with the largest products with `query`, best first.
    pub fn search(&self, query: &[f32], k: usize) -> Result<Hits, JsError> {
        Ok(Hits(self.rows()?.search(query, k)?))
    }

    /// The rows by cluster, the largest first: for each its number of rows, then these, the most typical first.
    pub fn clusters(&self) -> Result<Vec<u32>, JsError> {
        let clusters = clusters(self.rows()?)?;
        Ok(clusters.iter().flat_map(|rows| std::iter::once(rows.len() as u32).chain(rows.iter().copied())).collect())
    }

    /// The share of each class in the neighbours' weighted vote.
    pub fn vote(&self, hits: &Hits, labels: &[u32], num_classes: usize) -> Vec<f32> {
        vote(&hits.0, labels, num_classes, TEMPERATURE)
    }
}

impl Bank {
    fn rows(&self) -> Result<&SearchBank, JsError> {
        self.0.bank().ok_or_else(|| JsError::new("bank: nothing of it has come yet"))
    }
}

/// Neighbours, best first.
#[wasm_bindgen]
pub struct Hits(Vec<Neighbor>);

#[wasm_bindgen]
impl Hits {
    /// Their rows.
    #[wasm_bindgen(getter)]
    pub fn rows(&self) -> Vec<u32> {
        self.0.iter().map(|neighbor| neighbor.row).collect()
    }

    /// Their products with the query.
    #[wasm_bindgen(getter)]
    pub fn scores(&self) -> Vec<f32> {
        self.0.iter().map(|neighbor| neighbor.score).collect()
    }
}

/// Throws where `manifest` is none that this version reads.
#[wasm_bindgen]
pub fn check_manifest(manifest: &[u8]) -> Result<(), JsError> {
    Manifest::parse(manifest)?;
    Ok(())
}

/// The vectors that this module was built for.
#[wasm_bindgen]
pub fn simd() -> String {
    let name = match (cfg!(target_feature = "simd128"), cfg!(target_feature = "relaxed-simd")) {
        (_, true) => "simd128+relaxed",
        (true, _) => "simd128",
        _ => "none",
    };
    name.into()
}

/// How many threads compute: this one, and those that [`help`].
#[wasm_bindgen]
pub fn threads() -> usize {
    HELPED.threads()
}

/// Never returns: from now on the calling worker, which shares this module's memory, takes part in what another computes.
#[wasm_bindgen]
pub fn help() {
    HELPED.help()
}

/// Says that a worker's [`help`] ended with an exception, so that nobody waits for it.
#[wasm_bindgen]
pub fn abandon() {
    HELPED.abandon();
}
