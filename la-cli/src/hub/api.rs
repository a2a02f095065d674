//! Requests to the Hub for publishing. hf-hub's own do not wait as `Retry-After` asks, need the right to write for a pull request,
//! and repeat a commit of which they lost the answer.

use super::token::Token;
use super::{endpoint, is_offline};
use anyhow::{bail, Context};
use reqwest::header::{HeaderMap, ACCEPT, AUTHORIZATION, RETRY_AFTER};
use reqwest::{Client, Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt;
use std::time::Duration;

/// How often a request is made that fails for a moment.
const TRIES: u32 = 5;
/// The wait before the second try; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// The longest wait that a server is granted.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// How long a server may say nothing.
const SILENCE: Duration = Duration::from_secs(60);

/// The Hub for one user.
pub struct Api {
    /// Its address, without a slash at the end.
    pub endpoint: String,
    token: Token,
    client: Client,
    runtime: tokio::runtime::Runtime,
}

/// A request.
pub struct Request {
    /// GET or POST.
    pub method: Method,
    /// The part of the address behind the Hub's.
    pub address: String,
    /// What is sent, with its type.
    pub body: Option<(&'static str, Vec<u8>)>,
    /// The type that is asked for, where it matters.
    pub accept: Option<&'static str>,
}

impl Request {
    /// A question.
    pub fn get(address: impl Into<String>) -> Self {
        Self { method: Method::GET, address: address.into(), body: None, accept: None }
    }

    /// A JSON object to send.
    pub fn post(address: impl Into<String>, json: &Value) -> Self {
        Self { method: Method::POST, body: Some(("application/json", json.to_string().into_bytes())), ..Self::get(address) }
    }
}

/// An answer that is no refusal.
pub struct Answer {
    /// Its headers.
    pub headers: HeaderMap,
    /// Its content.
    pub body: Vec<u8>,
}

impl Answer {
    /// The content as JSON of a shape.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        serde_json::from_slice(&self.body)
            .map_err(|error| Refusal { status: None, said: format!("sent an answer that is not as expected: {error}") })
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub struct Refusal {
    /// The HTTP status; none where the server could not be reached or broke off.
    pub status: Option<u16>,
    /// What the server said, or what happened.
    pub said: String,
}

impl Refusal {
    /// Whether the server has no such thing.
    pub fn is_missing(&self) -> bool {
        self.status == Some(404)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Some(status) => write!(f, "answers HTTP {status}: {}", self.said),
            None => f.write_str(&self.said),
        }
    }
}

impl std::error::Error for Refusal {}

impl Api {
    /// Fails without a token, and where the user wants nothing to be asked of the Hub.
    pub fn new() -> anyhow::Result<Self> {
        if is_offline() {
            bail!("HF_HUB_OFFLINE is set; unset it to publish, or see what would be published with --dry-run DIR");
        }
        let endpoint = endpoint();
        let Some(token) = Token::find() else {
            bail!("a token with write access is needed: make one at {endpoint}/settings/tokens, then set HF_TOKEN or run `hf auth login`");
        };
        super::send_no_telemetry();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("requests cannot be made")?;
        let agent = concat!("la-cli/", env!("CARGO_PKG_VERSION"));
        let client = Client::builder().user_agent(agent).connect_timeout(SILENCE).read_timeout(SILENCE).build();
        Ok(Self { endpoint, token, client: client.context("requests cannot be made")?, runtime })
    }

    /// The header that says who asks.
    pub fn authorization(&self) -> anyhow::Result<HeaderMap> {
        let mut value: reqwest::header::HeaderValue =
            format!("Bearer {}", self.token.secret()).parse().context("the token holds characters that no token has")?;
        value.set_sensitive(true);
        Ok([(AUTHORIZATION, value)].into_iter().collect())
    }

    /// The text with the token taken out.
    pub fn hidden(&self, text: &str) -> String {
        self.token.hidden_in(text)
    }

    /// Asks the Hub as the user, once.
    pub fn ask_once(&self, request: &Request) -> Result<Answer, Refusal> {
        self.try_once(request).map_err(|(refusal, _)| refusal)
    }

    /// Asks the Hub as the user, again where it fails for a moment.
    pub fn ask(&self, request: &Request) -> Result<Answer, Refusal> {
        let mut wait = FIRST_WAIT;
        for _ in 1..TRIES {
            let (refusal, asked_to_wait) = match self.try_once(request) {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            let is_brief = matches!(refusal.status, None | Some(408 | 429 | 500 | 502 | 503 | 504));
            if !is_brief || asked_to_wait.is_some_and(|asked| asked > LONGEST_WAIT) {
                return Err(refusal);
            }
            if let Some(asked) = asked_to_wait.filter(|asked| *asked > wait) {
                crate::output::remark!("{}: asks to wait for {} s", self.endpoint, asked.as_secs());
            }
            std::thread::sleep(asked_to_wait.unwrap_or(wait));
            wait *= 2;
        }
        self.ask_once(request)
    }

    fn try_once(&self, request: &Request) -> Result<Answer, (Refusal, Option<Duration>)> {
        let failed = |error: reqwest::Error| {
            (Refusal { status: None, said: format!("does not answer: {}", self.token.hidden_in(&cause(&error))) }, None)
        };
        let address = format!("{}{}", self.endpoint, request.address);
        let mut building = self.client.request(request.method.clone(), address).bearer_auth(self.token.secret());
        if let Some(accept) = request.accept {
            building = building.header(ACCEPT, accept);
        }
        if let Some((kind, body)) = &request.body {
            building = building.header(reqwest::header::CONTENT_TYPE, *kind).body(body.clone());
        }
        self.runtime.block_on(async {
            let response = building.send().await.map_err(failed)?;
            let (status, headers) = (response.status(), response.headers().clone());
            let body = response.bytes().await.map_err(failed)?.to_vec();
            match status.is_success() {
                true => Ok(Answer { headers, body }),
                false => Err((self.refusal(status, &headers, &body), retry_after(&headers))),
            }
        })
    }

    fn refusal(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Refusal {
        let of_body = || Some(serde_json::from_slice::<Value>(body).ok()?.get("error")?.as_str()?.to_string());
        let of_header = || Some(headers.get("x-error-message")?.to_str().ok()?.to_string());
        let usual = || status.canonical_reason().unwrap_or("refused").to_string();
        let said = of_body().or_else(of_header).unwrap_or_else(usual);
        Refusal { status: Some(status.as_u16()), said: self.token.hidden_in(said.trim_end_matches('.')) }
    }
}

/// Seconds that the server asks to wait.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// What an error is due to in the end: reqwest's own words name the address alone.
fn cause(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(error) = last.source() {
        last = error;
    }
    last.to_string()
}
