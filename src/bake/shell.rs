//! Steps as text for a POSIX shell, for a machine that has no rekiln in it.

use super::sandbox::Step;

/// Writes a word so that a shell takes it as it is.
#[must_use]
pub fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Writes a command line.
#[must_use]
pub fn command(argv: &[String]) -> String {
    argv.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

/// Returns the lines that carry out a step; they end the shell (`set -e`) when they fail. What needs the connection, a
/// restart and a program that may cut the connection, has none.
#[must_use]
pub fn lines(step: &Step) -> Option<String> {
    Some(match step {
        Step::Run { argv } => format!("{}\n", command(argv)),
        Step::Write { path, from, mode, owner } => write(path, from, *mode, owner),
        Step::Directory { path } => format!("mkdir -p -- {}\n", quoted(path)),
        Step::Link { path, target } => {
            let new = quoted(&format!("{path}.rekiln-new"));
            let path = quoted(path);
            format!(
                "rm -rf -- {path} {new}\nmkdir -p -- \"$(dirname -- {path})\"\nln -s -- {} {path}\n",
                quoted(target)
            )
        }
        Step::Remove { path } => format!("rm -rf -- {}\n", quoted(path)),
        Step::Empty { path } => {
            let path = quoted(path);
            format!("if [ -d {path} ]; then find {path} -mindepth 1 -xdev -delete; fi\n")
        }
        Step::Unprivilege { except } => {
            let kept: String =
                except.iter().flat_map(|path| [" ! -path ".to_owned(), quoted(path)]).collect();
            format!("find / -xdev -type f -perm /6000{kept} -exec chmod ug-s -- {{}} +\n")
        }
        Step::Normalize { path } => {
            let path = quoted(path);
            format!("if [ -f {path} ]; then sed -i -E 's/^([^:]*:[^:]*:)[^:]*/\\11/' {path}; fi\n")
        }
        Step::RunDetached { .. } | Step::Reboot => return None,
    })
}

/// The file is whole or not there, and no one else reads it before it has its permissions.
fn write(path: &str, from: &str, mode: u32, owner: &str) -> String {
    let new = quoted(&format!("{path}.rekiln-new"));
    let (path, from) = (quoted(path), quoted(from));
    format!(
        "mkdir -p -- \"$(dirname -- {path})\"\ninstall -m 0600 -T -- {from} {new}\nchown -- {} {new}\nchmod {mode:04o} -- {new}\n\
         if [ -d {path} ] && [ ! -L {path} ]; then rm -rf -- {path}; fi\nmv -fT -- {new} {path}\n",
        quoted(owner)
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    use std::process::Command;

    use super::*;
    use crate::process::Run as _;

    fn run(steps: &[Step]) {
        let text: String = steps.iter().filter_map(lines).collect();
        Command::new("sh").args(["-eu", "-s"]).run_with_input(text.as_bytes()).expect("the shell runs it");
    }

    #[test]
    fn steps_do_what_the_sandbox_does() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name).display().to_string();
        let odd = at("it's a \"$(name)\"");
        std::fs::write(at("from"), "text").expect("written");
        std::fs::create_dir_all(at("full/below")).expect("made");
        std::fs::write(at("shadow"), "root:*:19000:0:::::\nx:!:1:0::::\n").expect("written");
        let me = rustix::process::getuid().as_raw();
        let owner = format!("{me}:{}", rustix::process::getgid().as_raw());
        let write = |path: &str| Step::Write {
            path: path.to_owned(),
            from: at("from"),
            mode: 0o4750,
            owner: owner.clone(),
        };
        run(&[
            write(&odd),
            write(&at("new/dir/file")),
            // A directory in the way is replaced, as the sandbox does.
            write(&at("full")),
            Step::Directory { path: at("empty/er") },
            Step::Empty { path: at("empty") },
            Step::Empty { path: at("no such directory") },
            Step::Link { path: at("link/to"), target: "/no'where".to_owned() },
            Step::Link { path: at("link/to"), target: "/no'where".to_owned() },
            Step::Remove { path: at("from") },
            Step::Remove { path: at("no such file") },
            Step::Normalize { path: at("shadow") },
            Step::Normalize { path: at("no such file") },
            Step::Run {
                argv: ["sh", "-c", "printf %s \"$1\" > \"$2\"", "-", "a b", &at("ran")]
                    .map(str::to_owned)
                    .into(),
            },
        ]);
        for path in [odd, at("new/dir/file"), at("full")] {
            let found = std::fs::metadata(&path).expect("written");
            assert_eq!((found.permissions().mode() & 0o7777, found.uid()), (0o4750, me), "{path}");
            assert_eq!(std::fs::read(&path).expect("read"), b"text");
        }
        assert_eq!(std::fs::read_dir(at("empty")).expect("kept").count(), 0);
        assert_eq!(std::fs::read_link(at("link/to")).expect("a link").to_str(), Some("/no'where"));
        assert!(!dir.path().join("from").exists());
        assert_eq!(std::fs::read_to_string(at("shadow")).expect("read"), "root:*:1:0:::::\nx:!:1:0::::\n");
        assert_eq!(std::fs::read(at("ran")).expect("read"), b"a b");
    }
}
