//! The pictures themselves, for the large view of a page: by the number of their row alone, never by a path.

use crate::export::MadeSite;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::Router;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use tower_http::services::ServeFile;

/// Every answer has it where the server has the pictures: the page then asks for them.
pub const HEADER: HeaderName = HeaderName::from_static("la-originals");

/// Pages that are open keep their pictures while so many others take their place.
const MOST: usize = 8;

/// The files of the rows of pages, the latest last.
#[derive(Default)]
pub struct Originals(Mutex<Vec<Page>>);

struct Page {
    /// SHA-256 of its names: rows of the same names have the same files.
    names: String,
    files: Vec<PathBuf>,
}

impl Originals {
    /// Adds those of a page.
    pub fn add(&self, made: &MadeSite) {
        let mut pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pages.retain(|page| page.names != made.names);
        pages.push(Page { names: made.names.clone(), files: made.originals.clone() });
        let num_old = pages.len().saturating_sub(MOST);
        pages.drain(..num_old);
    }

    /// The file of a row of the page with these names; a page that does not tell its names must be the only one.
    fn of(&self, row: &str, names: Option<&str>) -> Option<PathBuf> {
        let pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let page = match names {
            Some(names) => pages.iter().find(|page| page.names == names)?,
            None => pages.first().filter(|_| pages.len() == 1)?,
        };
        page.files.get(row.parse::<usize>().ok()?).cloned()
    }
}

/// Answers `/original/ROW?NAMES` with the file of that row of the page whose names have this digest.
pub fn router(originals: Arc<Originals>) -> Router {
    Router::new().route("/original/{row}", get(original)).with_state(originals)
}

async fn original(State(originals): State<Arc<Originals>>, Path(row): Path<String>, request: Request) -> Response {
    let file = originals.of(&row, request.uri().query());
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
