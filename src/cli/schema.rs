//! `rekiln schema`.

use schemars::schema_for;

use super::Context;
use crate::error::{Doing as _, Result};
use crate::fleet::Fleet;
use crate::fleet::playbook::Playbook;
use crate::recipe::Recipe;

/// Arguments of `rekiln schema`.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Args {
    /// Of which file.
    #[arg(value_enum)]
    of: Of,
}

/// A kind of file that people write.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Of {
    /// `images/<name>.toml`
    Recipe,
    /// `fleets/<name>.toml`
    Fleet,
    /// `fleets/playbooks/<name>.toml`
    Playbook,
}

/// Runs the command and returns the exit code.
///
/// # Errors
/// None in practice.
pub fn run(context: &Context, args: Args) -> Result<u8> {
    let Args { of } = args;
    let schema = match of {
        Of::Recipe => schema_for!(Recipe),
        Of::Fleet => schema_for!(Fleet),
        Of::Playbook => schema_for!(Playbook),
    };
    if context.output.is_json() {
        context.output.json(&schema);
    } else {
        context.output.line(serde_json::to_string_pretty(&schema).doing(|| "writing the schema")?);
    }
    Ok(0)
}
