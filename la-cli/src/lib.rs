//! `la-cli`: learn embeddings from unlabelled images by Local Aggregation, evaluate them and search with them.
//!
//! The program is [`main`]; the modules that are public are so for its tests.

mod bench;
pub mod data;
mod device;
pub mod digests;
mod embed;
mod error;
mod eval;
mod export;
mod html;
mod hub;
mod index;
mod info;
mod inspect;
mod interrupt;
pub mod map;
pub mod measures;
mod origin;
mod output;
mod pack;
pub mod probe;
mod progress;
mod push;
mod query;
pub mod recipes;
pub mod report;
pub mod run;
mod search;
mod serve;
mod shell;
mod source;
mod train;
mod weights;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser, Subcommand};
use std::process::ExitCode;

/// Learn image embeddings without labels by Local Aggregation, evaluate them and search with them.
///
/// SRC is `sample` (real images inside this program), `fashion-mnist`, `cifar10`, `cifar100`, the path of a folder or
/// file, or `hf:owner/name[/config][:split]`. WEIGHTS is `photos` (inside this program, the default), a .safetensors or
/// .pth file, a folder with model.safetensors, or `hf:owner/name`. RUN is a folder that `la-cli train` has written.
#[derive(Parser)]
#[command(name = "la-cli", version, arg_required_else_help = true)]
#[command(after_help = "Examples:
  la-cli serve --data ~/photos --open               # search your pictures, in the browser
  la-cli search --data ~/photos --query x.jpg       # the same in the terminal
  la-cli train --data ~/photos --out runs/mine      # optional: train a network on them
  la-cli train                                      # try training on the sample, in a few minutes")]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    machine: device::MachineArgs,
    /// Print only results, warnings and errors
    #[arg(long, global = true)]
    quiet: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Train a network; without arguments, on the built-in sample in a few minutes.
    Train(Box<train::TrainArgs>),
    /// Measure kNN accuracy; also linear probes of layers, few labels per class, retrieval, and a comparison of two networks.
    Eval(eval::EvalArgs),
    /// Write the embeddings of a data source to a file, comparable with those of other sources.
    Embed(embed::EmbedArgs),
    /// Find the images of a data source that are most similar to a picture.
    Search(search::SearchArgs),
    /// Find duplicates, leaks between training and test images, outliers and clusters.
    Inspect(inspect::InspectArgs),
    /// Write a page of figures about runs: curves, accuracy, how densely embeddings lie, neighbours, maps.
    Report(report::ReportArgs),
    /// Write a page that embeds pictures and searches in the browser, or files for other viewers.
    Export(export::ExportArgs),
    /// Serve the search page of a folder of pictures, a run, or an exported page.
    Serve(serve::ServeArgs),
    /// Make a folder to publish from a run: f16 weights, model card, accuracy, checksums.
    Pack(pack::PackArgs),
    /// Publish a run or packed weights on the Hugging Face Hub.
    Push(Box<push::PushArgs>),
    /// Say what a run, a weights file or a data source holds.
    Info(info::InfoArgs),
    /// Measure how fast this machine trains, embeds, clusters, searches and loads.
    Bench(bench::BenchArgs),
    /// Write a script that completes commands in a shell.
    Completions(shell::CompletionsArgs),
    /// Write the manual pages of all commands.
    Man(shell::ManArgs),
}

/// Runs the command that the process's arguments name.
pub fn main() -> ExitCode {
    la_core::ops::memory::keep_freed_pages();
    output::silence_panics();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(refusal) => return refuse(refusal),
    };
    match std::panic::catch_unwind(|| run(cli)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) if error.is::<output::StdoutClosed>() => ExitCode::SUCCESS,
        Ok(Err(error)) => match error.downcast_ref::<interrupt::Stopped>() {
            Some(stopped) => output::fail_after_signal(stopped, stopped.signal.exit_code()),
            None => output::fail(&error),
        },
        Err(_) => output::fail_after_panic(),
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    if cli.quiet {
        output::be_quiet();
    }
    let device = cli.machine.prepare()?;
    match cli.command {
        Command::Train(args) => train::run(&args, &device, cli.machine.threads),
        Command::Eval(args) => eval::run(&args, &device),
        Command::Embed(args) => embed::run(&args, &device),
        Command::Search(args) => search::run(&args, &device),
        Command::Inspect(args) => inspect::run(&args, &device),
        Command::Report(args) => report::run(&args, &device),
        Command::Export(args) => export::run(&args, &device),
        Command::Serve(args) => serve::run(&args, &device),
        Command::Pack(args) => pack::run(&args, &device),
        Command::Push(args) => push::run(&args, &device),
        Command::Info(args) => info::run(&args),
        Command::Bench(args) => bench::run(&args, &device),
        Command::Completions(args) => shell::completions(&args, Cli::command()),
        Command::Man(args) => shell::man(&args, Cli::command()),
    }
}

/// Help and version are answers; anything else that clap says is an error like every other, with exit code 1.
fn refuse(mut refusal: clap::Error) -> ExitCode {
    let words: Vec<String> = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    if let Some(tip) = tip(&refusal, &words) {
        refusal.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    // Nobody is left to tell when standard error is closed.
    let _ = refusal.print();
    match refusal.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// What is meant instead, where clap does not say it.
fn tip(refusal: &clap::Error, words: &[String]) -> Option<String> {
    let invalid = [ContextKind::InvalidSubcommand, ContextKind::InvalidArg].into_iter().find_map(|kind| refusal.get(kind));
    let Some(ContextValue::String(invalid)) = invalid else { return None };
    let (before, word) = words.split_at(words.iter().position(|word| word.starts_with(invalid.as_str()))?);
    match refusal.kind() {
        ErrorKind::InvalidSubcommand => Some(format!("expected one of {}", commands_after(before).join(", "))),
        ErrorKind::UnknownArgument if !invalid.starts_with("--") => {
            let option = before.iter().rfind(|word| word.starts_with("--") && !word.contains('='))?;
            Some(format!("if {0} is a value of {option}, write {option}={0}", word[0]))
        }
        _ => None,
    }
}

/// The commands that can be named after these words.
fn commands_after(words: &[String]) -> Vec<String> {
    let mut command = Cli::command();
    while let Some(named) = words.iter().find_map(|word| command.find_subcommand(word)) {
        command = named.clone();
    }
    command.get_subcommands().map(|command| command.get_name().to_string()).collect()
}
