//! `rekiln id`.

use super::Context;
use crate::bake;
use crate::error::Result;
use crate::repository::Repository;

/// Arguments of `rekiln id`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The recipes to identify.
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// The id of the debug variant: with a root shell on the console.
    #[arg(long)]
    debug: bool,
    /// Also print everything that the id covers, as JSON on standard error; two outputs can be compared.
    #[arg(long)]
    inputs: bool,
}

/// Runs the command and returns the exit code.
///
/// # Errors
/// An unknown or invalid recipe, and a lock that is missing or does not fit.
#[expect(clippy::needless_pass_by_value, reason = "all commands are called alike")]
pub fn run(context: &Context, args: Args) -> Result<u8> {
    let repository = Repository::open(&context.repo)?;
    for name in &args.images {
        let links = repository.links(name)?;
        let inputs = bake::identity::inputs(&links, args.debug);
        let id = inputs.id();
        context.output.line(if args.images.len() == 1 { id.to_string() } else { format!("{id}  {name}") });
        context.output.json(&serde_json::json!({
            "image": name,
            "id": id,
            "inputs": if args.inputs { Some(&inputs) } else { None },
        }));
        if args.inputs && !context.output.is_json() {
            let text = serde_json::to_string_pretty(&inputs).unwrap_or_default();
            eprintln!("{text}");
        }
    }
    Ok(0)
}
