//! Answers that are compressed once and kept.

use axum::body::{to_bytes, Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{header, HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use tower::{service_fn, Layer, ServiceExt};
use tower_http::compression::predicate::{DefaultPredicate, NotForContentType, Predicate};
use tower_http::compression::CompressionLayer;

/// Answers longer than this are sent as they are, and no more than twice as many bytes are kept.
const MOST_BYTES: usize = 32 << 20;

/// Compressed answers by path and encoding.
#[derive(Default)]
pub struct Kept(Mutex<HashMap<(String, &'static str), Answer>>);

#[derive(Clone)]
struct Answer {
    /// When the file was changed, and how long it was.
    of: [Option<HeaderValue>; 2],
    headers: HeaderMap,
    body: Bytes,
}

/// Gives the answer in an encoding that the request accepts, where that saves something.
pub async fn answer(State(kept): State<Arc<Kept>>, mut request: Request, next: Next) -> Response {
    let accepted = request.headers_mut().remove(header::ACCEPT_ENCODING).as_ref().and_then(encoding);
    let (path, is_get) = (request.uri().path().to_string(), request.method() == Method::GET);
    let answer = next.run(request).await;
    // Weights and banks are noise to a compressor; pictures are compressed already.
    let compressible = DefaultPredicate::new().and(NotForContentType::const_new("application/octet-stream"));
    match accepted.filter(|_| is_get && answer.status() == StatusCode::OK && compressible.should_compress(&answer)) {
        Some(encoding) => kept.compressed((path, encoding), answer).await,
        None => answer,
    }
}

/// The first encoding that is known and not excluded, brotli before gzip.
fn encoding(accepted: &HeaderValue) -> Option<&'static str> {
    let accepted = accepted.to_str().ok()?;
    let is_accepted = |wanted: &&str| {
        accepted.split(',').any(|one| {
            let (name, quality) = one.split_once(';').unwrap_or((one, ""));
            name.trim() == *wanted && quality.trim().trim_end_matches('0').trim_end_matches('.') != "q="
        })
    };
    ["br", "gzip"].into_iter().find(is_accepted)
}

impl Kept {
    async fn compressed(&self, key: (String, &'static str), answer: Response) -> Response {
        let of = [header::LAST_MODIFIED, header::CONTENT_LENGTH].map(|name| answer.headers().get(name).cloned());
        let length = of[1].as_ref().and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        if length.is_none_or(|length| length > MOST_BYTES) {
            return answer;
        }
        if let Some(kept) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key).filter(|kept| kept.of == of) {
            return (kept.headers.clone(), kept.body.clone()).into_response();
        }
        let (parts, body) = compress(key.1, answer).await.into_parts();
        let Ok(body) = to_bytes(body, 2 * MOST_BYTES).await else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
        let answer = Answer { of, headers: parts.headers, body };
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.values().map(|answer| answer.body.len()).sum::<usize>() + answer.body.len() <= 2 * MOST_BYTES {
            kept.insert(key, answer.clone());
        }
        (answer.headers, answer.body).into_response()
    }
}

async fn compress(encoding: &'static str, answer: Response) -> Response {
    let mut answer = Some(answer);
    let given = service_fn(move |_: Request| {
        let answer = answer.take().unwrap_or_default();
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut request = Request::new(Body::empty());
    request.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static(encoding));
    match CompressionLayer::new().layer(given).oneshot(request).await {
        Ok(answer) => answer.map(Body::new),
        Err(never) => match never {},
    }
}
