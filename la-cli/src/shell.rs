//! What a shell and `man` are told of this program, from the definition of its command line: `la-cli completions`, `la-cli man`.

use crate::output::{counted, say};
use anyhow::Context;
use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;
use la_core::files::write_atomically;
use std::path::PathBuf;

/// Options of `la-cli completions`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  la-cli completions bash > la-cli.bash      # then: source la-cli.bash
  la-cli completions zsh > _la-cli           # into a folder of $fpath
  la-cli completions fish > la-cli.fish      # into ~/.config/fish/completions")]
pub struct CompletionsArgs {
    /// Shell
    shell: Shell,
}

/// Runs `la-cli completions`.
pub fn completions(args: &CompletionsArgs, mut program: Command) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut program, "la-cli", &mut script);
    say!("{}", String::from_utf8(script)?.trim_end())
}

/// Options of `la-cli man`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  la-cli man | man -l -      # read the first page
  la-cli man man1            # write all, to be moved to ~/.local/share/man")]
pub struct ManArgs {
    /// Folder for one manual page per command [default: print the main page]
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

/// Runs `la-cli man`.
pub fn man(args: &ManArgs, program: Command) -> anyhow::Result<()> {
    let mut program = program.disable_help_subcommand(true);
    program.build();
    let Some(folder) = &args.folder else { return say!("{}", page(&Man::new(program))?.trim_end()) };
    let shown = folder.display();
    std::fs::create_dir_all(folder).with_context(|| format!("{shown}: expected a folder to write manual pages into"))?;
    let pages = with_subcommands(program).into_iter().map(Man::new).collect::<Vec<_>>();
    for man in &pages {
        let text = page(man)?;
        write_atomically(&folder.join(man.get_filename()), |file| file.write_all(text.as_bytes()))?;
    }
    say!("{shown}: {}; `man -l {}` shows the first", counted(pages.len(), "manual page"), folder.join("la-cli.1").display())
}

fn with_subcommands(command: Command) -> Vec<Command> {
    let below: Vec<Command> = command.get_subcommands().cloned().flat_map(with_subcommands).collect();
    std::iter::once(command).chain(below).collect()
}

/// The text of a page; what ends a help, such as its examples, under headings of its own and a line each.
fn page(man: &Man) -> anyhow::Result<String> {
    let mut text = Vec::new();
    man.render(&mut text)?;
    let text = String::from_utf8(text)?;
    let Some((above, extra)) = text.split_once(".SH EXTRA\n") else { return Ok(text) };
    let (extra, below) = extra.find(".SH ").map_or((extra, ""), |at| extra.split_at(at));
    let extra: String = extra.lines().map(extra_line).collect();
    Ok(format!("{above}{extra}.fi\n{below}"))
}

fn extra_line(line: &str) -> String {
    match line.strip_suffix(':').filter(|_| !line.starts_with(' ')) {
        Some(heading) => format!(".fi\n.SH {}\n.nf\n", heading.to_uppercase()),
        None => format!("{line}\n"),
    }
}
