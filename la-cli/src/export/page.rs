//! The page itself, as it lies in this program.

use anyhow::Context;
use la_core::files::sha256_of;
use std::fs;
use std::path::Path;

macro_rules! files {
    ($($path:literal),* $(,)?) => { [$(($path, include_bytes!(concat!("../../../web/", $path)))),*] };
}

/// Every file of `web/` that a browser asks for.
static FILES: &[(&str, &[u8])] = &files![
    "index.html",
    "style.css",
    "address.js",
    "bring.js",
    "browse.js",
    "bundle.js",
    "camera.js",
    "client.js",
    "clusters.js",
    "crop.js",
    "download.js",
    "filter.js",
    "gestures.js",
    "grid.js",
    "guard.js",
    "helper.js",
    "kept.js",
    "legend.js",
    "likeness.js",
    "main.js",
    "map.js",
    "names.js",
    "news.js",
    "offline.js",
    "page.js",
    "pictures.js",
    "plot.js",
    "search.js",
    "state.js",
    "sw.js",
    "threads.js",
    "twins.js",
    "view.js",
    "viewer.js",
    "walk.js",
    "worker.js",
    "pkg/la_wasm.js",
    "pkg/la_wasm_bg.wasm",
    "pkg/la_wasm_relaxed_bg.wasm",
    "pkg/la_wasm_threads.js",
    "pkg/la_wasm_threads_bg.wasm",
];

/// Writes the page into `folder`.
pub fn write(folder: &Path) -> anyhow::Result<()> {
    for (name, bytes) in FILES {
        let path = folder.join(name);
        let parent = path.parent().unwrap_or(folder);
        fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
        fs::write(&path, bytes).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// Whether one of its files has this name.
pub fn writes(name: &str) -> bool {
    FILES.iter().any(|(path, _)| *path == name)
}

/// SHA-256 of all its files: another la-cli may have another page.
pub fn digest() -> String {
    sha256_of(FILES.iter().flat_map(|(name, bytes)| [name.as_bytes(), bytes]))
}

/// Length of all its files.
pub fn num_bytes() -> usize {
    FILES.iter().map(|(_, bytes)| bytes.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_page_is_in_the_program() {
        let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("../web");
        let served = |name: &str| [".html", ".css", ".js", ".wasm"].iter().any(|ending| name.ends_with(ending));
        for (folder, prefix) in [(web.clone(), ""), (web.join("pkg"), "pkg/")] {
            for entry in fs::read_dir(folder).unwrap() {
                let name = format!("{prefix}{}", entry.unwrap().file_name().to_string_lossy());
                assert!(!served(&name) || FILES.iter().any(|(path, _)| *path == name), "{name}");
            }
        }
    }
}
