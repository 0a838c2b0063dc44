//! `rekiln man`.

use std::path::PathBuf;

use clap::CommandFactory as _;

use super::{Cli, Context};
use crate::error::{Doing as _, Result};

/// Arguments of `rekiln man`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Writes a page for rekiln and one for each command into this directory, instead of printing the first.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Runs the command and returns the exit code.
///
/// # Errors
/// Whatever writing the pages returns.
pub fn run(context: &Context, args: Args) -> Result<u8> {
    let command = Cli::command();
    if let Some(dir) = args.dir {
        std::fs::create_dir_all(&dir).doing(|| format!("creating {}", dir.display()))?;
        clap_mangen::generate_to(command, &dir).doing(|| format!("writing pages to {}", dir.display()))?;
    } else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page).doing(|| "writing the manual page")?;
        context.output.line(String::from_utf8_lossy(&page).trim_end());
    }
    Ok(0)
}
