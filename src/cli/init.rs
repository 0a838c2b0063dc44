//! `rekiln init`.

use std::path::{Path, PathBuf};

use super::Context;
use crate::atomic_write::atomic_write;
use crate::error::{Doing as _, Error, Result};
use crate::repository::Repository;

/// Arguments of `rekiln init`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where; a new or empty directory.
    #[arg(value_name = "DIR", required_unless_present = "ci")]
    dir: Option<PathBuf>,
    /// Writes a pipeline that runs what each commit asks for: plan, nightly, apply and rotate. Without DIR, into the
    /// repository that is there.
    #[arg(long, value_enum, value_name = "SYSTEM")]
    ci: Option<System>,
}

/// A system that runs pipelines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum System {
    /// GitHub Actions, and Gitea's and Forgejo's.
    Github,
    /// GitLab CI.
    Gitlab,
    /// Jenkins, as a multibranch pipeline.
    Jenkins,
}

impl System {
    /// Returns where its pipeline is in a repository, and what it says.
    const fn pipeline(self) -> (&'static str, &'static str) {
        match self {
            Self::Github => (".github/workflows/rekiln.yml", include_str!("init/github.yml")),
            Self::Gitlab => (".gitlab-ci.yml", include_str!("init/gitlab.yml")),
            Self::Jenkins => ("Jenkinsfile", include_str!("init/Jenkinsfile")),
        }
    }
}

/// The files of a small repository: those of rekiln's own that its demo and tests use, so that they work.
const FILES: [(&str, &str); 8] = [
    ("images/base.toml", include_str!("../../images/base.toml")),
    ("images/web.toml", include_str!("../../images/web.toml")),
    ("bootstrap/web/site.conf.hbs", include_str!("../../bootstrap/web/site.conf.hbs")),
    ("bootstrap/web/index.html.hbs", include_str!("../../bootstrap/web/index.html.hbs")),
    ("bootstrap/web/nginx-service.conf.hbs", include_str!("../../bootstrap/web/nginx-service.conf.hbs")),
    ("bootstrap/web/tmpfiles.conf.hbs", include_str!("../../bootstrap/web/tmpfiles.conf.hbs")),
    ("fleets/web.toml", include_str!("../../fleets/web.toml")),
    (".gitignore", "/.rekiln/\n"),
];

/// Runs the command and returns the exit code.
///
/// # Errors
/// A directory that holds something, and whatever writing returns.
pub fn run(context: &Context, args: Args) -> Result<u8> {
    let pipeline = args.ci.map(System::pipeline);
    let Some(dir) = args.dir else {
        return pipeline.map_or(Ok(0), |pipeline| add(context, pipeline));
    };
    refuse_used(&dir)?;
    let files: Vec<_> = FILES.into_iter().chain(pipeline).collect();
    for (name, text) in &files {
        let path = dir.join(name);
        let folder = path.parent().unwrap_or(&dir);
        std::fs::create_dir_all(folder).doing(|| format!("creating {}", folder.display()))?;
        std::fs::write(&path, text).doing(|| format!("writing {}", path.display()))?;
        context.output.line(format!("wrote {}", path.display()));
    }
    Repository::load(&dir)?;
    context.output.line(format!(
        "\nNext:\n  cd {}\n  git init && git add . && git commit -m 'images and a fleet'\n  \
         rekiln lock base web     # resolve every input by digest\n  \
         rekiln bake web          # bake, inspect and boot the image once\n  \
         rekiln roll web          # start the fleet, and replace it after every change",
        dir.display()
    ));
    let files: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
    context.output.json(&serde_json::json!({ "event": "init", "dir": dir, "files": files }));
    Ok(0)
}

/// Writes a pipeline into the repository that is there.
fn add(context: &Context, (name, text): (&str, &str)) -> Result<u8> {
    let dir = &context.repo;
    Repository::load(dir)?;
    let path = dir.join(name);
    if path.symlink_metadata().is_ok() {
        return Err(Error::invalid(format!("{} is there already, and is yours", path.display()))
            .hint("put it aside, write the new one, and take from it what you like"));
    }
    let folder = path.parent().unwrap_or(dir);
    std::fs::create_dir_all(folder).doing(|| format!("creating {}", folder.display()))?;
    atomic_write(&path, text.as_bytes())?;
    context.output.line(format!("wrote {}", path.display()));
    context.output.hint("read it before you commit it: its first lines say what the runner must have");
    context.output.json(&serde_json::json!({ "event": "init", "dir": dir, "files": [name] }));
    Ok(0)
}

/// A `.git` may be there: a repository just made is a good place.
fn refuse_used(dir: &Path) -> Result<()> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).doing(|| format!("reading {}", dir.display())),
    };
    for entry in entries {
        let name = entry.doing(|| format!("reading {}", dir.display()))?.file_name();
        if name != ".git" {
            let message = format!("{} is not empty: it has {}", dir.display(), name.display());
            return Err(Error::invalid(message).hint("name a new or empty directory"));
        }
    }
    Ok(())
}
