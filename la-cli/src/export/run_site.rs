//! The page of a run or of packed weights, in their own folder, as `la-cli serve` shows it.

use super::rows::Rows;
use super::{folder, say_site, site, PRECISION};
use crate::output::{self, remark};
use crate::source::{not_where_recorded, Split};
use crate::weights::{Encoder, EncoderArgs};
use anyhow::{bail, Context};
use candle_core::Device;
use la_core::digests::sha256;
use la_core::files::write_atomically;
use la_core::run_folder::weights_path;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

/// What the page in the folder `site` was made of: `site.json` beside it, so that publishing the page does not publish this.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Origin {
    /// SHA-256 of the weights.
    weights: String,
    /// The images.
    data: String,
    /// How many of them, where that was a part.
    limit: Option<usize>,
}

/// An [`Origin`] with the page that it is of.
#[derive(Serialize, Deserialize)]
struct Note {
    #[serde(flatten)]
    origin: Origin,
    /// SHA-256 of the page's `manifest.json`.
    manifest: String,
}

/// The page of a run or of packed weights, exported into their folder: with the data that the run records, where no such page
/// of these weights is there, or anew with `data`.
pub fn site_of_run(run: &Path, data: Option<&str>, device: &Device) -> anyhow::Result<PathBuf> {
    let out = run.join("site");
    let has_page = out.join("index.html").is_file();
    let earlier = read_origin(run);
    if has_page && earlier.is_none() && data.is_none() {
        remark!(
            "note: nothing says what {0} was made of; it is shown as it is; to have it made anew, remove it or name --data",
            out.display()
        );
        return Ok(out);
    }
    let weights = sha256(&weights_path(run)?)?;
    let encoder = EncoderArgs { weights: run.display().to_string(), size: None, limit: None }.load(device)?;
    let origin = origin(&encoder, weights, data)?;
    match earlier {
        Some(earlier) if data.is_none() && earlier == origin => return Ok(out),
        Some(earlier) => remark!("note: {} is exported anew: {}", out.display(), difference(&earlier, &origin)),
        None => {}
    }
    folder::check(&out, true)?;
    let rows = Rows::embed(encoder, (&origin.data, Split::Train, origin.limit), None).map_err(|error| match data {
        Some(_) => error,
        None => not_where_recorded(error, &run.to_string_lossy(), &origin.data),
    })?;
    let sizes = site(&rows, (PRECISION, PRECISION), &out, true).with_context(|| {
        let export = output::command(&["export", &run.to_string_lossy(), "--data", &origin.data, "--out", "FOLDER"]);
        format!("{}: its page is not written; `{export}` writes one elsewhere", run.display())
    })?;
    write_origin(run, origin)?;
    say_site(&out, &sizes)?;
    Ok(out)
}

/// What a page of `data`, or of the images that the run records, is made of.
fn origin(encoder: &Encoder, weights: String, data: Option<&str>) -> anyhow::Result<Origin> {
    let recorded = encoder.recorded_data().0;
    let Some(images) = data.or(recorded) else {
        let serve = output::command(&["serve", &encoder.name, "--data", "SRC"]);
        bail!("{}: the run does not say what it was trained on; `{serve}` names the images to search in", encoder.name);
    };
    let limit = if data.is_none() { encoder.recorded_limit() } else { None };
    Ok(Origin { weights, data: images.to_string(), limit })
}

fn difference(earlier: &Origin, now: &Origin) -> String {
    match earlier.weights == now.weights {
        false => "the weights have changed since".into(),
        true if earlier.data == now.data => "with the images as they are now".into(),
        true => format!("it showed {}, not {}", earlier.data, now.data),
    }
}

fn note_path(run: &Path) -> PathBuf {
    run.join("site.json")
}

fn manifest_path(run: &Path) -> PathBuf {
    run.join("site/bundle/manifest.json")
}

/// What the page that lies in the run's folder was made of; nothing where there is none, or another than the note is of.
fn read_origin(run: &Path) -> Option<Origin> {
    let note: Note = serde_json::from_slice(&fs::read(note_path(run)).ok()?).ok()?;
    (sha256(&manifest_path(run)).ok()? == note.manifest).then_some(note.origin)
}

fn write_origin(run: &Path, origin: Origin) -> anyhow::Result<()> {
    let note = serde_json::to_vec_pretty(&Note { origin, manifest: sha256(&manifest_path(run))? })?;
    Ok(write_atomically(&note_path(run), |file| file.write_all(&note))?)
}
