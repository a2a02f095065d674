//! `la-cli push`: a run or packed weights onto the Hugging Face Hub, in one commit.

mod args;
mod card;
mod contents;
mod plan;

pub use args::PushArgs;

use crate::export::folder::NewFolder;
use crate::hub::api::{Api, Refusal};
use crate::hub::repo::{account, Change, Committed, File, Kind, Repo, State};
use crate::hub::{owner_and_name, upload};
use crate::output::{counted, file_size, remark, say, warning};
use anyhow::{anyhow, bail, Context};
use candle_core::Device;
use contents::README;
use plan::{plan, Earlier, Plan, BUNDLE};
use std::fs;
use std::path::{Path, PathBuf};

/// Runs `la-cli push`.
pub fn run(args: &PushArgs, device: &Device) -> anyhow::Result<()> {
    check_id("OWNER/NAME", &args.repo)?;
    let space = args.space.as_ref().map(|space| space.as_ref().unwrap_or(&args.repo).clone());
    space.as_deref().map_or(Ok(()), |id| check_id("--space", id))?;
    match &args.dry_run {
        Some(folder) => only_write(args, folder, space.as_deref(), device),
        None => publish(args, space, device),
    }
}

fn check_id(what: &str, id: &str) -> anyhow::Result<()> {
    match owner_and_name(id) {
        Some(_) => Ok(()),
        None => bail!("{what}: expected a name such as me/birds, got {id}"),
    }
}

/// `--dry-run`: the folders that would be published.
fn only_write(args: &PushArgs, folder: &Path, space: Option<&str>, device: &Device) -> anyhow::Result<()> {
    let beside = space.map(|_| PathBuf::from(format!("{}-space", folder.display())));
    let new = |path: &Path| match path.exists() {
        true => bail!("--dry-run {}: exists already; name a folder that does not exist", path.display()),
        false => NewFolder::create(path, false).with_context(|| format!("--dry-run {}", path.display())),
    };
    let (model, page) = (new(folder)?, beside.as_deref().map(new).transpose()?);
    contents::make(args, model.path(), page.as_ref().map(NewFolder::path).zip(space), device)?;
    let mut written = vec![(folder, contents::list(model.path())?)];
    model.finish()?;
    if let (Some(page), Some(path)) = (page, &beside) {
        written.push((path, contents::list(page.path())?));
        page.finish()?;
    }
    for (path, files) in written {
        say!("{}: {}, {}; nothing was published", path.display(), counted(files.len(), "file"), file_size(total(&files)))?;
    }
    Ok(())
}

fn total(files: &[File]) -> u64 {
    files.iter().map(|file| file.size).sum()
}

/// A repository that is to be changed.
struct Target {
    repo: Repo,
    branch: String,
    exists: bool,
}

fn publish(args: &PushArgs, space: Option<String>, device: &Device) -> anyhow::Result<()> {
    let api = Api::new()?;
    let model = Target::find(args, &api, Kind::Model, args.repo.clone())?;
    let space = space.map(|id| Target::find(args, &api, Kind::Space, id)).transpose()?;
    let work = tempfile::tempdir().context("there is no place for the files to publish")?;
    let (of_model, of_space) = (work.path().join("model"), work.path().join("space"));
    for folder in [&of_model, &of_space] {
        fs::create_dir(folder).with_context(|| folder.display().to_string())?;
    }
    contents::make(args, &of_model, space.as_ref().map(|space| (of_space.as_path(), space.repo.id.as_str())), device)?;
    model.publish(args, &api, &of_model)?;
    if let Some(space) = &space {
        space.publish(args, &api, &of_space)?;
    }
    if !args.pr {
        say!("use it     la-cli search hf:{} --data FOLDER --query PHOTO", at(args))?;
        if args.bundle && args.revision == "main" {
            say!("            any page that la-cli exported shows its pictures with ?model={} in the address", args.repo)?;
        }
    }
    match space {
        Some(space) => say!("the page   {}", card::direct_address(&space.repo.id)),
        None => Ok(()),
    }
}

/// How commands name the model at the branch.
fn at(args: &PushArgs) -> String {
    match args.revision.as_str() {
        "main" => args.repo.clone(),
        branch => format!("{}@{branch}", args.repo),
    }
}

impl Target {
    /// Asks, before any work, whether the repository may be changed.
    fn find(args: &PushArgs, api: &Api, kind: Kind, id: String) -> anyhow::Result<Self> {
        // A Space shows its main branch.
        let branch = if kind == Kind::Model { args.revision.clone() } else { "main".into() };
        let repo = Repo { kind, id };
        let user = account(api).map_err(|refusal| explain(&refusal, &repo, api))?;
        let owner = repo.id.split('/').next().unwrap_or_default();
        if user.only_reads() {
            bail!("{}: the token of {} only reads; make one with write access at {}/settings/tokens", repo.id, user.name, api.endpoint);
        }
        if !user.belongs_to(owner) && !args.pr {
            let names: Vec<&str> = std::iter::once(user.name.as_str()).chain(user.orgs.iter().map(|org| org.name.as_str())).collect();
            bail!(
                "{}: the token is of {}, who may write to {}; name one of these, or propose the change with --pr",
                repo.id,
                user.name,
                names.join(", ")
            );
        }
        let found = repo.info(api).map_err(|refusal| explain(&refusal, &repo, api))?;
        match &found {
            None if args.pr => bail!("{}: does not exist, so nothing can be proposed to it; leave --pr out to make it", repo.id),
            Some(info) if args.private && info.private == Some(false) => {
                bail!("{}: exists and is public, which --private does not change; make it private at {}/settings", repo.id, repo.page(api))
            }
            _ => Ok(Self { repo, branch, exists: found.is_some() }),
        }
    }

    /// Makes the repository where it does not exist, and commits what it lacks of `folder`.
    fn publish(&self, args: &PushArgs, api: &Api, folder: &Path) -> anyhow::Result<()> {
        let repo = &self.repo;
        let explain = |refusal: Refusal| explain(&refusal, repo, api);
        self.check_card(api, folder)?;
        if !self.exists {
            repo.create(api, args.private).map_err(explain)?;
        }
        let state = self.state(api).map_err(explain)?;
        let earlier = self.earlier(api, &state).map_err(explain)?;
        self.keep_readme(args, &state, &earlier, folder)?;
        let files = contents::list(folder)?;
        let plan = plan(&files, &state, &earlier);
        if plan.send.is_empty() && plan.delete.is_empty() {
            return say!("{}: holds all of this already; nothing was sent", repo.page(api));
        }
        if plan.delete.iter().any(|path| path.starts_with(BUNDLE)) && !args.bundle {
            remark!("note: the bundle of {} goes, because it is of other weights; --bundle publishes one of these", repo.id);
        }
        let sorted = upload::sort(api, repo, &self.branch, &plan.send, args.pr).map_err(explain)?;
        upload::send(api, repo, &self.branch, &sorted.large, args.pr).map_err(|error| match error.downcast::<Refusal>() {
            Ok(refusal) => explain(refusal),
            Err(error) => error.context(format!("{}: nothing was published; run the same command again", repo.id)),
        })?;
        let change =
            Change { message: &args.message, small: sorted.small, large: sorted.large, deleted: plan.delete.clone(), parent: &state.head };
        let committed = match repo.commit(api, &self.branch, &change, args.pr)? {
            Ok(committed) => committed,
            Err(refusal) => self.look_again(args, api, &change).ok_or_else(|| explain(refusal))?,
        };
        report(repo, api, &plan, &committed)
    }

    fn check_card(&self, api: &Api, folder: &Path) -> anyhow::Result<()> {
        let text = fs::read_to_string(folder.join(README)).context(README)?;
        let (errors, remarks) = self.repo.check_card(api, &text).map_err(|refusal| explain(&refusal, &self.repo, api))?;
        remarks.iter().for_each(|said| remark!("note: the Hub says of {README}: {said}"));
        match errors.is_empty() {
            true => Ok(()),
            false => bail!("{README}: the Hub refuses it: {}", errors.join("; ")),
        }
    }

    /// What the branch holds. Where there is no such branch, it begins at `main`.
    fn state(&self, api: &Api) -> Result<State, Refusal> {
        let missing = || Refusal { status: None, said: format!("has no branch {}", self.branch) };
        if let Some(state) = self.repo.state(api, &self.branch)? {
            return Ok(state);
        }
        let main = self.repo.state(api, "main")?.ok_or_else(missing)?;
        self.repo.create_branch(api, &self.branch, &main.head)?;
        self.repo.state(api, &self.branch)?.ok_or_else(missing)
    }

    fn earlier(&self, api: &Api, state: &State) -> Result<Earlier, Refusal> {
        let read = |path: &str| match state.files.contains_key(path) {
            true => self.repo.read(api, state, path).map(Some),
            false => Ok(None),
        };
        let sums = read(crate::digests::SUMS)?.unwrap_or_default();
        let readme = read(README)?.map(|content| la_core::files::sha256_of([content]));
        Ok(Earlier::new(&String::from_utf8_lossy(&sums), readme))
    }

    /// Leaves a README on the Hub that was written by hand as it is, unless `--force` says otherwise.
    fn keep_readme(&self, args: &PushArgs, state: &State, earlier: &Earlier, folder: &Path) -> anyhow::Result<()> {
        // A Space that the Hub has just made holds a page and a README of the Hub's.
        if !self.exists || args.force || !earlier.has_other_readme() {
            return Ok(());
        }
        if self.repo.kind == Kind::Space && !earlier.is_ours() {
            bail!("--space {}: exists, and la-cli did not make it; name another, or replace files in it with --force", self.repo.id);
        }
        let readme = folder.join(README);
        if contents::list(folder)?.iter().any(|file| file.path == README && file.is_in(state)) {
            return Ok(());
        }
        warning!("{}: keeps its {README}, which was written or changed by hand; --force replaces it", self.repo.id);
        fs::remove_file(&readme).with_context(|| readme.display().to_string())?;
        Ok(crate::digests::write_sums(folder)?)
    }

    /// Whether a commit was made whose answer was lost.
    fn look_again(&self, args: &PushArgs, api: &Api, change: &Change) -> Option<Committed> {
        let state = self.repo.state(api, &self.branch).ok()??;
        let is_there = change.small.iter().chain(&change.large).all(|file| file.is_in(&state));
        let is_done = !args.pr && is_there && !change.deleted.iter().any(|path| state.files.contains_key(*path));
        is_done.then_some(Committed { pull_request_url: None })
    }
}

fn report(repo: &Repo, api: &Api, plan: &Plan, committed: &Committed) -> anyhow::Result<()> {
    let bytes = file_size(plan.send.iter().map(|file| file.size).sum());
    let mut parts = vec![format!("{} sent, {bytes}", counted(plan.send.len(), "file"))];
    if plan.num_unchanged > 0 {
        parts.push(format!("{} unchanged", plan.num_unchanged));
    }
    if !plan.delete.is_empty() {
        parts.push(format!("{} removed", plan.delete.len()));
    }
    match &committed.pull_request_url {
        Some(url) => say!("proposed   {url} ({})", parts.join(", ")),
        None => say!("published  {} ({})", repo.page(api), parts.join(", ")),
    }
}

/// A refusal in words, with the way out.
fn explain(refusal: &Refusal, repo: &Repo, api: &Api) -> anyhow::Error {
    let (id, endpoint) = (&repo.id, &api.endpoint);
    let what = if repo.kind == Kind::Space { "the Space " } else { "" };
    let way_out = match refusal.status {
        Some(401) => format!("the token is not valid there; make one with write access at {endpoint}/settings/tokens and set HF_TOKEN"),
        Some(403) => format!("the token may not do that; it needs write access to {id} ({endpoint}/settings/tokens)"),
        Some(404) => "check the name; a private repository needs a token that may see it".into(),
        Some(409 | 412) => "somebody else changed it meanwhile, and nothing of theirs was replaced; run the same command again".into(),
        Some(413) => "the server takes no files that large; leave --bundle or --space out, or export fewer pictures".into(),
        Some(429) => "too many requests; wait some minutes and run the same command again".into(),
        Some(500..) | None => "it was not changed; run the same command again later, which sends only what did not arrive".into(),
        _ => "it was not changed".into(),
    };
    anyhow!("{what}{id}: {endpoint} {refusal}; {way_out}")
}
