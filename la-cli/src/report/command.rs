//! `la-cli report`: the figures of the paper on the user's own pictures, as one page.

use super::args::{Data, ReportArgs};
use super::figures;
use super::page::{self, Page};
use super::subject::Subject;
use crate::export::folder::{self, Kind, NewFolder};
use crate::output::{counted, file_size, say};
use anyhow::bail;
use candle_core::Device;
use std::path::Path;

/// What lies in such a folder.
static KIND: Kind = Kind { name: "report", marks: &["report.json"], folders: &[], writes: page::writes };

/// Runs `la-cli report`.
pub fn run(args: &ReportArgs, device: &Device) -> anyhow::Result<()> {
    folder::check_for(&KIND, &args.out, args.force)?;
    if let Some(data) = args.data.as_ref().filter(|data| folder::is_below(&args.out, Path::new(data))) {
        bail!("--out {}: lies among the pictures of {data}; name another place", args.out.display());
    }
    let names = names(&args.runs);
    // Before anything is embedded: a name that is none is told at once.
    let encoders = args.runs.iter().map(|run| Subject::open(run, device)).collect::<anyhow::Result<Vec<_>>>()?;
    let data = Data::of(args, &encoders[0])?;
    let folder = NewFolder::create_for(&KIND, &args.out, args.force)?;
    let mut subjects = Vec::new();
    for ((encoder, name), run) in encoders.into_iter().zip(names).zip(&args.runs) {
        subjects.push(Subject::measure(encoder, (name, Path::new(run)), &data)?);
    }
    let mut page = Page::new(&data.name, device);
    figures::fill(&mut page, &subjects, &data, device)?;
    let (num_figures, num_bytes) = page.write(folder.path())?;
    folder.finish()?;
    say!("{}: {}, {}", args.out.join("index.html").display(), counted(num_figures, "figure"), file_size(num_bytes))
}

/// What each run is called: the end of its path, or all of it where two end alike.
fn names(runs: &[String]) -> Vec<String> {
    let end = |run: &String| Path::new(run).file_name().map_or(run.clone(), |name| name.to_string_lossy().into_owned());
    let is_alone = |name: &String| runs.iter().filter(|run| end(run) == *name).count() == 1;
    runs.iter().map(|run| Some(end(run)).filter(|name| is_alone(name) && !run.starts_with("hf:")).unwrap_or_else(|| run.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_called_by_what_tells_them_apart() {
        let of = |runs: &[&str]| names(&runs.iter().map(|run| run.to_string()).collect::<Vec<_>>());
        assert_eq!(of(&["runs/la", "runs/ir", "hf:me/x"]), ["la", "ir", "hf:me/x"]);
        assert_eq!(of(&["a/run", "b/run"]), ["a/run", "b/run"]);
    }
}
