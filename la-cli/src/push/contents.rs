//! What is published: the folder of the model, and with `--space` that of the page.

use super::card;
use super::PushArgs;
use crate::digests::{sha256, write_sums, SUMS};
use crate::export;
use crate::hub::repo;
use crate::index::OpenArgs;
use crate::output::{counted, remark};
use crate::pack::{self, CardArgs, PackArgs};
use crate::run::RunFolder;
use crate::weights;
use anyhow::{bail, Context};
use candle_core::Device;
use la_core::files::{hexadecimal, sha256_of, write_atomically};
use sha1::{Digest, Sha1};
use std::fs;
use std::path::{Path, PathBuf};

/// Bytes by which the Hub tells text from the rest.
const SAMPLE: usize = 512;
/// The card.
pub const README: &str = "README.md";

/// Fills the new folder `model`, and `space` where a page is to be published.
pub fn make(args: &PushArgs, model: &Path, space: Option<(&Path, &str)>, device: &Device) -> anyhow::Result<()> {
    let run = weights::is_run(&args.weights).then_some(&args.weights);
    match run {
        Some(run) => pack_run(run, args, model, device)?,
        None => copy_packed(args, model)?,
    }
    let page = space.map(|(_, id)| card::direct_address(id));
    let readme = model.join(README);
    let text = fs::read_to_string(&readme).with_context(|| readme.display().to_string())?;
    if license(&text) == "unknown" {
        remark!("note: the card states no licence, so nobody knows whether the weights may be used; --license ID states one");
    }
    write(&readme, &card::for_hub(&text, &args.repo, page.as_deref()))?;
    write_sums(model)?;
    if !args.bundle && space.is_none() {
        return Ok(());
    }
    let made = model.join("bundle");
    make_bundle(args, run, model, &made, device)?;
    if let Some((space, _)) = space {
        export::write_page(space)?;
        copy_files(&made, &space.join("bundle"))?;
        write(&space.join(README), &card::of_space(&title(&text), &args.repo, license(&text)))?;
        write_sums(space)?;
    }
    if !args.bundle {
        fs::remove_dir_all(&made).with_context(|| made.display().to_string())?;
    }
    Ok(())
}

fn pack_run(run: &Path, args: &PushArgs, model: &Path, device: &Device) -> anyhow::Result<()> {
    remark!("packing {} and measuring its weights", run.display());
    let work = tempfile::tempdir().context("there is no place to pack the run")?;
    let out = work.path().join("packed");
    pack::pack(&PackArgs { run: run.to_path_buf(), out: out.clone(), card: args.card.clone(), json: false }, device)?;
    copy_files(&out, model)
}

/// The files that `SHA256SUMS` of a packed folder lists: others in it, such as a page that `serve` made, stay here.
fn copy_packed(args: &PushArgs, model: &Path) -> anyhow::Result<()> {
    let folder = &args.weights;
    if !folder.is_dir() {
        let got = if folder.exists() { "a file" } else { "no such folder" };
        bail!("{}: expected the folder of a run, or one that `la-cli pack` wrote, got {got}", folder.display());
    }
    let Ok(sums) = fs::read_to_string(folder.join(SUMS)) else {
        bail!("{}: expected the folder of a run, or one that `la-cli pack` wrote, got a folder that is neither", folder.display());
    };
    let of_data = CardArgs { data: args.card.data.clone(), ..CardArgs::default() };
    if args.card != of_data {
        bail!(
            "{}: is packed already, so its card is written; give the flags of the card to `la-cli pack`, or edit {README}",
            folder.display()
        );
    }
    for (digest, name) in sums.lines().filter_map(|line| line.split_once("  ")) {
        let (from, to) = (folder.join(name), model.join(name));
        if name.contains(['/', '\\']) || name.starts_with('.') {
            bail!("{}: expected names of files in {SUMS}, got {name}", folder.display());
        }
        fs::copy(&from, &to).with_context(|| from.display().to_string())?;
        let got = sha256(&to)?;
        if name != README && got != digest {
            bail!("{}: expected sha256 {digest} (from {SUMS} beside it), got {got}; pack the run again", from.display());
        }
    }
    match model.join(README).is_file() && model.join("model.safetensors").is_file() && model.join("config.json").is_file() {
        true => Ok(()),
        false => bail!("{}: expected model.safetensors, config.json and {README} in {SUMS}; pack the run again", folder.display()),
    }
}

/// The bundle with the published weights and the pictures of `--data`, or those of the run.
fn make_bundle(args: &PushArgs, run: Option<&PathBuf>, model: &Path, bundle: &Path, device: &Device) -> anyhow::Result<()> {
    let recorded = run.map(|run| RunFolder::open(run)?.read_config()).transpose()?;
    let data = args.card.data.clone().or(recorded.as_ref().map(|config| config.train.data.clone()));
    let Some(data) = data else {
        bail!("{}: nothing says which pictures the page is to show; name them with --data", args.weights.display());
    };
    let limit = recorded.filter(|_| args.card.data.is_none()).and_then(|config| config.train.limit);
    let open = OpenArgs { data: &data, limit, use_cache: true };
    let count = export::write_bundle((model, format!("hf:{}", args.repo)), &open, bundle, device)?;
    let seers = if args.private { "those who may see the repository" } else { "everyone" };
    remark!("note: thumbnails and names of {} of {data} are published, for {seers} to see", counted(count, "picture"));
    Ok(())
}

/// The first heading of a card.
fn title(card: &str) -> String {
    card.lines().find_map(|line| line.strip_prefix("# ")).unwrap_or("Find similar pictures").to_string()
}

/// The licence in a card.
fn license(card: &str) -> &str {
    card.lines().find_map(|line| line.strip_prefix("license: ")).unwrap_or("unknown")
}

fn copy_files(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to).with_context(|| to.display().to_string())?;
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name())).with_context(|| entry.path().display().to_string())?;
    }
    Ok(())
}

/// Replaces a text file.
pub fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    Ok(write_atomically(path, |file| file.write_all(text.as_bytes()))?)
}

/// Every file below `folder`, in the order of paths.
pub fn list(folder: &Path) -> anyhow::Result<Vec<repo::File>> {
    let mut files = Vec::new();
    add_files(folder, "", &mut files)?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn add_files(folder: &Path, prefix: &str, files: &mut Vec<repo::File>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
        match entry.file_type()?.is_dir() {
            true => add_files(&entry.path(), &format!("{path}/"), files)?,
            false => files.push(describe(path, entry.path())?),
        }
    }
    Ok(())
}

fn describe(path: String, from: PathBuf) -> anyhow::Result<repo::File> {
    let content = fs::read(&from).with_context(|| from.display().to_string())?;
    let git = Sha1::new().chain_update(format!("blob {}\0", content.len())).chain_update(&content).finalize();
    let sample = content[..content.len().min(SAMPLE)].to_vec();
    Ok(repo::File { path, size: content.len() as u64, sha256: sha256_of([&content]), git: hexadecimal(&git), sample, from })
}
