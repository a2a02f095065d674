//! Pages that are read without this program: no script, nothing loaded from elsewhere; in print, in the dark and on a phone.

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use maud::{html, Markup, PreEscaped, DOCTYPE};

const STYLE: &str = include_str!("html.css");
/// Whatever a name holds: a page loads only what lies in it or beside it.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data: file: 'self'";

/// A whole page.
pub fn page(title: &str, body: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body { (body) }
        }
    };
    page.into_string()
}

/// Bytes inside a page, in place of an address.
pub fn data_uri(kind: &str, bytes: &[u8]) -> String {
    format!("data:{kind};base64,{}", STANDARD.encode(bytes))
}
