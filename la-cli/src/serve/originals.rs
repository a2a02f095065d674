//! The pictures themselves, for the large view of a page: by the number of their row alone, never by a path.

use axum::extract::{Path, Request, State};
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::Router;
use std::path::PathBuf;
use std::sync::Arc;
use tower_http::services::ServeFile;

/// Every answer has it where the server has the pictures: the page then asks for them.
pub const HEADER: HeaderName = HeaderName::from_static("la-originals");

/// Answers `/original/ROW` with the file of that row.
pub fn router(files: Vec<PathBuf>) -> Router {
    Router::new().route("/original/{row}", get(original)).with_state(Arc::new(files))
}

async fn original(State(files): State<Arc<Vec<PathBuf>>>, Path(row): Path<String>, request: Request) -> Response {
    let file = row.parse::<usize>().ok().and_then(|row| files.get(row));
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
