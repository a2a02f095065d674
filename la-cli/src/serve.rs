//! `la-cli serve`: a search page on this machine, for this machine alone unless told otherwise.

mod compressed;
mod follow;
mod originals;

use crate::export::{are_weights, SiteMaker};
use crate::index::Look;
use crate::interrupt;
use crate::output::{self, say, warning};
use crate::weights::PHOTOS;
use anyhow::{bail, Context};
use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{header, HeaderName, HeaderValue, StatusCode};
use axum::middleware::{from_fn_with_state, Next};
use axum::response::{IntoResponse, Response};
use axum::Router;
use candle_core::Device;
use compressed::Kept;
use follow::Follower;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use originals::Originals;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::TcpListener;
use tower_http::services::ServeDir;
use tower_http::set_header::SetResponseHeaderLayer;

/// Where a port is looked for when none is asked for.
const FIRST_PORT: u16 = 8000;
/// How many ports are tried then.
const NUM_PORTS: u16 = 50;

/// How often it is asked whether to end.
const POLL: Duration = Duration::from_millis(100);

/// How long a page that is being made may keep what was embedded for it after the command is to end.
const LAST_WORK: Duration = Duration::from_secs(5);

/// How long the headers of a request may take, and a connection be idle.
const HEADERS_WITHIN: Duration = Duration::from_secs(15);

/// What every answer says. The first two allow threads that share memory; the last lets edited files show at once.
const HEADERS: [(HeaderName, &str); 4] = [
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-embedder-policy"), "require-corp"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::CACHE_CONTROL, "no-cache"),
];
/// What keeps the pages of others from showing this one or its files, and what allows it.
const FOR_ITSELF: [(HeaderName, &str); 2] = [(RESOURCE_POLICY, "same-origin"), (header::CONTENT_SECURITY_POLICY, "frame-ancestors 'none'")];
const FOR_OTHERS: [(HeaderName, &str); 1] = [(RESOURCE_POLICY, "cross-origin")];
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Options of `la-cli serve`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  la-cli serve --data ~/photos --open    # your pictures, without any training
  la-cli serve runs/mine --port 8080     # the pictures that a run learned from
  la-cli serve site                      # a page that la-cli export has written")]
pub struct ServeArgs {
    /// `photos` (inside this program; needs --data), a run or other weights: their page is made or updated if need be;
    /// or a page that `la-cli export` has written
    #[arg(value_name = "RUN|WEIGHTS|PAGE", default_value = PHOTOS)]
    what: String,
    /// Images to search in; needed unless RUN has them
    #[arg(long, value_name = "SRC")]
    data: Option<String>,
    /// Port [default: the first free one from 8000 on]
    #[arg(long)]
    port: Option<u16>,
    /// Address to listen on; 0.0.0.0 lets other computers on your network open it
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    host: IpAddr,
    /// Let other web sites show the page in a frame
    #[arg(long)]
    embed: bool,
    /// Open the page in the browser
    #[arg(long)]
    open: bool,
}

/// Runs `la-cli serve` until it is interrupted.
pub fn run(args: &ServeArgs, device: &Device) -> anyhow::Result<()> {
    let is_page = args.what != PHOTOS && Path::new(&args.what).join("index.html").exists();
    if let Some(data) = args.data.as_ref().filter(|_| is_page) {
        bail!("--data {data}: {} is a page already; leave --data out, or name a run or weights in its place", args.what);
    }
    let maker = match !is_page && are_weights(&args.what) {
        true => SiteMaker::open(&args.what, args.data.as_deref(), device)?,
        false => Err(PathBuf::from(&args.what)),
    };
    let site = maker.map_or_else(|folder| Ok(Site::as_it_is(folder)), |maker| Site::made(maker, args.host.is_loopback()))?;
    let router = router(root(&site.folder, args.data.as_deref())?, &site, args);
    let shown = args.data.as_deref().unwrap_or(&args.what);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("the server does not start")?;
    let _watch = interrupt::watch()?;
    runtime.block_on(async {
        let listener = listen(args.host, args.port).await?;
        let address = format!("http://{}/", listener.local_addr()?);
        say!("serving {shown} at {address} (Ctrl-C ends it)")?;
        if !args.host.is_loopback() {
            warning!("every machine that reaches {} can see this page", args.host);
        }
        if args.open {
            if let Err(error) = open::that_detached(&address) {
                warning!("no browser could be opened ({error}); open {address} by hand");
            }
        }
        let following = site.follower.map(Follower::start).transpose().context("the pictures cannot be followed")?;
        answer_all(listener, router).await;
        if let Some(following) = following {
            tokio::time::timeout(LAST_WORK, ended(following)).await.ok();
        }
        Ok(())
    })
}

/// What is served.
struct Site {
    folder: PathBuf,
    originals: Option<Arc<Originals>>,
    follower: Option<Follower>,
    /// Pages of which the maker is no longer needed keep their folder by it.
    _maker: Option<SiteMaker>,
}

impl Site {
    /// A page that is shown as it is.
    fn as_it_is(folder: PathBuf) -> Self {
        Self { folder, originals: None, follower: None, _maker: None }
    }

    /// The page that `maker` makes; the pictures themselves are for this machine alone.
    fn made(mut maker: SiteMaker, is_local: bool) -> anyhow::Result<Self> {
        let folder = maker.folder().map(Path::to_path_buf);
        let seen = folder.and_then(|folder| Some((Look::at(&folder).ok()?, folder)));
        let made = maker.make(&|_| ())?;
        let has_files = !made.originals.is_empty();
        let originals = (has_files && is_local).then(Arc::<Originals>::default);
        originals.iter().for_each(|originals| originals.add(&made));
        let seen = seen.filter(|_| has_files);
        let (follower, _maker) = match seen {
            Some((seen, pictures)) => (Some(Follower::new(maker, pictures, seen, originals.clone())), None),
            None => (None, Some(maker)),
        };
        Ok(Self { folder: made.folder, originals, follower, _maker })
    }
}

/// Waits for the end of a thread.
async fn ended(thread: JoinHandle<()>) {
    while !thread.is_finished() {
        tokio::time::sleep(POLL).await;
    }
}

/// Answers until the command is interrupted.
async fn answer_all(listener: TcpListener, router: Router) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADERS_WITHIN);
    while interrupt::requested().is_none() {
        match tokio::time::timeout(POLL, listener.accept()).await {
            Ok(Ok((stream, _))) => {
                let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()));
                // One that breaks off is the other side's business.
                tokio::spawn(async move { drop(connection.await) });
            }
            // No file handles are left: some are freed as connections end.
            Ok(Err(_)) => tokio::time::sleep(POLL).await,
            Err(_) => (),
        }
    }
}

fn root(folder: &Path, data: Option<&str>) -> anyhow::Result<PathBuf> {
    let shown = folder.display();
    let serve = output::command(&["serve", "--data", data.unwrap_or("FOLDER")]);
    if !folder.is_dir() {
        bail!("{shown}: there is no such folder; expected photos, a run, weights, or a page that `la-cli export` has written; `{serve}` shows a folder of pictures");
    }
    if !folder.join("index.html").is_file() {
        let serve = if data.is_some() { serve } else { output::command(&["serve", "--data", &folder.to_string_lossy()]) };
        bail!("{shown}: expected a run, weights, or a page with index.html; for a folder of pictures, `{serve}`");
    }
    folder.canonicalize().with_context(|| shown.to_string())
}

async fn listen(host: IpAddr, port: Option<u16>) -> anyhow::Result<TcpListener> {
    let Some(port) = port else {
        for port in FIRST_PORT..FIRST_PORT + NUM_PORTS {
            match TcpListener::bind((host, port)).await {
                Err(error) if error.kind() == ErrorKind::AddrInUse => continue,
                outcome => return outcome.with_context(|| format!("--host {host}: cannot listen there")),
            }
        }
        bail!("ports {FIRST_PORT} to {} are all taken; name a free one with --port", FIRST_PORT + NUM_PORTS - 1);
    };
    TcpListener::bind((host, port)).await.map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => anyhow::anyhow!("--port {port}: taken by another program; name another, or leave --port out"),
        ErrorKind::PermissionDenied => anyhow::anyhow!("--port {port}: not allowed; ports from 1024 on are"),
        _ => anyhow::anyhow!("cannot listen on {host} port {port}: {error}"),
    })
}

fn router(root: PathBuf, site: &Site, args: &ServeArgs) -> Router {
    let mut router = Router::new().fallback_service(ServeDir::new(&root)).layer(from_fn_with_state(Arc::new(root), only_inside));
    if let Some(originals) = &site.originals {
        router = router.merge(originals::router(originals.clone()));
    }
    for (name, is_so) in [(originals::HEADER, site.originals.is_some()), (follow::HEADER, site.follower.is_some())] {
        if is_so {
            router = router.layer(SetResponseHeaderLayer::overriding(name, HeaderValue::from_static("yes")));
        }
    }
    router = router.layer(from_fn_with_state(Arc::new(Kept::default()), compressed::answer));
    router = router.layer(from_fn_with_state(args.host.is_loopback(), only_as_this_machine));
    let about_others = if args.embed { &FOR_OTHERS[..] } else { &FOR_ITSELF };
    for (name, value) in HEADERS.iter().chain(about_others) {
        router = router.layer(SetResponseHeaderLayer::overriding(name.clone(), HeaderValue::from_static(value)));
    }
    router
}

/// Refuses what asks under a name of elsewhere: a page of elsewhere whose name was made to lead here could read everything.
async fn only_as_this_machine(State(is_local): State<bool>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if names_this_machine(host, is_local) {
        return next.run(request).await;
    }
    let expected = if is_local { "localhost, 127.0.0.1 or [::1]" } else { "an address, or a name without a domain or in .local" };
    let refusal =
        format!("expected a request to {expected}, got one to {host:?}: `la-cli serve --host ADDRESS` answers to addresses of others\n");
    (StatusCode::FORBIDDEN, refusal).into_response()
}

/// Addresses and names that nobody elsewhere can make lead here; where only this machine is answered, its own.
fn names_this_machine(host: &str, is_local: bool) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    if authority.as_str().contains('@') {
        return false;
    }
    let name = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    match name.parse::<IpAddr>() {
        Ok(address) => address.is_loopback() || !is_local,
        Err(_) => name == "localhost" || (!is_local && !name.is_empty() && !name.strip_suffix(".local").unwrap_or(&name).contains('.')),
    }
}

/// Refuses hidden files, and links that lead out of the folder.
async fn only_inside(State(root): State<Arc<PathBuf>>, request: Request, next: Next) -> Response {
    match is_inside(&root, request.uri().path()) {
        true => next.run(request).await,
        false => (StatusCode::NOT_FOUND, "not found\n").into_response(),
    }
}

fn is_inside(root: &Path, path: &str) -> bool {
    let Ok(path) = percent_encoding::percent_decode_str(path).decode_utf8() else { return false };
    let relative = Path::new(path.trim_start_matches('/'));
    let is_plain = |part: Component| matches!(part, Component::Normal(name) if !name.to_string_lossy().starts_with('.'));
    // Something else than a file may never end.
    let is_file = |path: PathBuf| path.metadata().is_ok_and(|meta| meta.is_file());
    let is_served = |real: PathBuf| real.starts_with(root) && is_file(if real.is_dir() { real.join("index.html") } else { real });
    relative.components().all(is_plain) && root.join(relative).canonicalize().is_ok_and(is_served)
}
