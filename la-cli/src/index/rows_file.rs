//! The file that `la-cli embed` writes, and which takes the place of its pictures in a search or an evaluation.

use super::indexed::Indexed;
use crate::data::OpenConfig;
use crate::output;
use crate::weights::Encoder;
use anyhow::{bail, Context};
use candle_core::{Device, Tensor};
use la_core::data::{Picture, Source, Splits, Subset};
use la_core::rng::{Rng, Stream};
use la_core::tensor_files::{read_tensors, write_tensors};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// The key of the metadata; files of earlier versions have [`NAMES`] alone.
const KEY: &str = "images";
const NAMES: &str = "names";
/// The label of an image without a class.
const NO_LABEL: i64 = -1;

/// What the metadata says of the rows.
#[derive(Serialize, Deserialize)]
struct Header {
    names: Vec<String>,
    #[serde(default)]
    class_names: Vec<String>,
    /// The encoder's identity; none in files of earlier versions.
    #[serde(default)]
    encoder: Option<String>,
}

/// Whether `data` names such a file.
pub fn is_one(data: &str) -> bool {
    let path = Path::new(data);
    path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("safetensors")) && path.is_file()
}

/// Writes `embeddings` (N, D) f32, `labels` (N,) i64 where known, and in the metadata names, class names and the encoder.
pub fn write(path: &Path, indexed: &Indexed, encoder: &Encoder) -> anyhow::Result<()> {
    let images = indexed.images.as_ref();
    let header = Header {
        names: (0..images.len()).map(|index| images.name(index)).collect(),
        class_names: images.class_names().to_vec(),
        encoder: Some(encoder.identity()),
    };
    let mut tensors = vec![("embeddings".to_string(), indexed.rows.clone())];
    tensors.extend(labels(images)?.map(|labels| ("labels".to_string(), labels)));
    Ok(write_tensors(path, &tensors, Some((KEY, serde_json::to_string(&header)?)))?)
}

/// `(N,)` classes, or nothing where no image has one.
fn labels(images: &dyn Source) -> anyhow::Result<Option<Tensor>> {
    let labels: Vec<i64> = (0..images.len()).map(|index| images.label(index).map_or(NO_LABEL, i64::from)).collect();
    if labels.iter().all(|&label| label == NO_LABEL) {
        return Ok(None);
    }
    let count = labels.len();
    Ok(Some(Tensor::from_vec(labels, count, &Device::Cpu)?))
}

/// The rows of the file at `path`, made by `encoder`: all as training images, or `config.limit` of them.
pub fn open(path: &Path, encoder: &Encoder, config: &OpenConfig) -> anyhow::Result<(Splits, Tensor)> {
    let shown = path.display();
    let (tensors, metadata) = read_tensors(path, &Device::Cpu)?;
    let is_ours = "expected a file that `la-cli embed` has written";
    let header = header(&metadata).with_context(|| format!("{shown}: {is_ours}, got one without the names of its images"))?;
    let rows = tensors.get("embeddings").with_context(|| format!("{shown}: {is_ours}, got one without embeddings"))?;
    let (count, _) = rows.dims2().with_context(|| format!("{shown}: {is_ours}"))?;
    let labels = tensors.get("labels").map(|labels| labels.to_vec1::<i64>()).transpose().with_context(|| format!("{shown}: {is_ours}"))?;
    if count == 0 || header.names.len() != count || labels.as_ref().is_some_and(|labels| labels.len() != count) {
        bail!("{shown}: expected a name and a label for each of its {count} embeddings, at least one; make it again with `la-cli embed`");
    }
    check_encoder(path, &header, encoder)?;
    let class_names = class_names(header.class_names, labels.as_deref());
    let is_known = |label: i64| (0..class_names.len() as i64).contains(&label).then_some(label as u32);
    let labels = labels.unwrap_or_default().into_iter().map(is_known).collect();
    let images: Arc<dyn Source> = Arc::new(Names { file: shown.to_string(), names: header.names, labels, class_names });
    let (images, rows) = limited(images, rows, config)?;
    Ok((Splits { name: shown.to_string(), train: images, test: None, unreadable: vec![], notes: vec![] }, rows))
}

fn header(metadata: &HashMap<String, String>) -> Option<Header> {
    if let Some(header) = metadata.get(KEY) {
        return serde_json::from_str(header).ok();
    }
    let names = serde_json::from_str(metadata.get(NAMES)?).ok()?;
    Some(Header { names, class_names: vec![], encoder: None })
}

fn check_encoder(path: &Path, header: &Header, encoder: &Encoder) -> anyhow::Result<()> {
    if header.encoder.as_ref().is_none_or(|identity| *identity == encoder.identity()) {
        return Ok(());
    }
    let (size, precision) = (encoder.size().to_string(), encoder.computing().to_string());
    let out = path.to_string_lossy();
    let again = ["embed", &encoder.name, "--size", &size, "--precision", &precision, "--data", "SRC", "--out", &out, "--force"];
    bail!(
        "{}: its embeddings were not made by {} at {size} px in {precision}; give the weights, --size and --precision that it was made with, \
         or make it again with `{}`",
        path.display(),
        encoder.name,
        output::command(&again)
    )
}

/// The classes as the file has them, or their numbers.
fn class_names(named: Vec<String>, labels: Option<&[i64]>) -> Vec<String> {
    match named.is_empty() {
        true => (0..=labels.into_iter().flatten().copied().max().unwrap_or(NO_LABEL)).map(|class| class.to_string()).collect(),
        false => named,
    }
}

/// The images that `--limit` draws of a folder of as many.
fn limited(images: Arc<dyn Source>, rows: &Tensor, config: &OpenConfig) -> anyhow::Result<(Arc<dyn Source>, Tensor)> {
    let Some(limit) = config.limit.filter(|&limit| limit < images.len()) else { return Ok((images, rows.clone())) };
    let mut drawn = Rng::new(Stream::Subset, &[config.seed]).permutation(images.len());
    drawn.truncate(limit);
    drawn.sort_unstable();
    let rows = rows.index_select(&Tensor::new(&drawn[..], &Device::Cpu)?, 0)?;
    Ok((Arc::new(Subset::new(images, drawn)?), rows))
}

/// Images of which only names and labels are there.
struct Names {
    file: String,
    names: Vec<String>,
    /// Empty where none is known.
    labels: Vec<Option<u32>>,
    class_names: Vec<String>,
}

impl Source for Names {
    fn len(&self) -> usize {
        self.names.len()
    }

    fn picture(&self, index: usize) -> la_core::Result<Cow<'_, Picture>> {
        Err(la_core::Error::invalid(format!(
            "{}: {} holds embeddings, not pictures; name the folder of the pictures with --data",
            self.names[index], self.file
        )))
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.labels.get(index).copied().flatten()
    }

    fn name(&self, index: usize) -> String {
        self.names[index].clone()
    }

    fn class_names(&self) -> &[String] {
        &self.class_names
    }
}
