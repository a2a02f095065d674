//! The pictures themselves, for the large view of a page: by the number of their row alone, never by a path.

use axum::extract::{Path, Request, State};
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::Router;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;
use tower_http::services::ServeFile;

/// Every answer has it where the server has the pictures: the page then asks for them.
pub const HEADER: HeaderName = HeaderName::from_static("la-originals");

/// The file of each row of a page.
pub struct Originals {
    files: Vec<PathBuf>,
    manifest: PathBuf,
    /// When the page was made that has these rows: another command may make it again meanwhile.
    made: Option<SystemTime>,
}

impl Originals {
    /// Those of the page in `folder`.
    pub fn new(folder: &std::path::Path, files: Vec<PathBuf>) -> Self {
        let manifest = folder.join("bundle/manifest.json");
        Self { files, made: modified(&manifest), manifest }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    fn of(&self, row: &str) -> Option<&PathBuf> {
        self.files.get(row.parse::<usize>().ok()?).filter(|_| modified(&self.manifest) == self.made)
    }
}

fn modified(path: &std::path::Path) -> Option<SystemTime> {
    path.metadata().and_then(|meta| meta.modified()).ok()
}

/// Answers `/original/ROW` with the file of that row.
pub fn router(originals: Originals) -> Router {
    Router::new().route("/original/{row}", get(original)).with_state(Arc::new(originals))
}

async fn original(State(originals): State<Arc<Originals>>, Path(row): Path<String>, request: Request) -> Response {
    let file = originals.of(&row);
    // The file may be gone by now, or be something that never ends.
    match file.filter(|file| file.is_file()) {
        Some(file) => match ServeFile::new(file).try_call(request).await {
            Ok(answer) => answer.map(axum::body::Body::new).into_response(),
            Err(_) => not_found(),
        },
        None => not_found(),
    }
}

fn not_found() -> Response {
    (StatusCode::NOT_FOUND, "not found\n").into_response()
}
