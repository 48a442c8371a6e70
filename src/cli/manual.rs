//! `lora-eval manual`: shell completions and man pages, for packagers.

use std::path::PathBuf;

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Cli, output};

/// Write shell completions to standard output, or man pages into a folder
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print the completions of this shell
    #[arg(long, value_enum, required_unless_present = "man", conflicts_with = "man")]
    completions: Option<Shell>,
    /// Write the man pages into this folder
    #[arg(long, value_name = "DIR")]
    man: Option<PathBuf>,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let mut command = Cli::command();
    if let Some(shell) = args.completions {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut command, "lora-eval", &mut script);
        return output::print(&String::from_utf8_lossy(&script));
    }
    if let Some(folder) = &args.man {
        std::fs::create_dir_all(folder)?;
        clap_mangen::generate_to(command, folder)?;
    }
    Ok(())
}
