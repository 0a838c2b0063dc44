//! `rekiln completions`.

use clap::CommandFactory as _;

use super::{Cli, Context};
use crate::error::Result;

/// Arguments of `rekiln completions`.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Args {
    /// For which shell, as in `rekiln completions bash > ~/.local/share/bash-completion/completions/rekiln`.
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

/// Runs the command and returns the exit code.
///
/// # Errors
/// None.
pub fn run(context: &Context, args: Args) -> Result<u8> {
    let mut script = Vec::new();
    let Args { shell } = args;
    clap_complete::generate(shell, &mut Cli::command(), "rekiln", &mut script);
    context.output.line(String::from_utf8_lossy(&script).trim_end());
    Ok(0)
}
