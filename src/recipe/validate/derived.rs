//! What a recipe means whose source is a vendor's disk or AMI, and what only means something there.

use std::collections::BTreeMap;

use super::{Checks, ami};
use crate::notation;
use crate::recipe::{DiskSource, Recipe, Vendor};

/// Checks what differs between an image that is derived from what a vendor made and one that is made from packages.
pub(super) fn check(checks: &mut Checks<'_>, recipe: &Recipe) {
    match recipe.source.vendor() {
        Some(Vendor::Disk(source)) => disk(checks, source),
        Some(Vendor::Ami(source)) => ami::check(checks, source, &recipe.publish),
        None => return no_machine(checks, recipe),
    }
    packages(checks, recipe);
    modules(checks, recipe);
}

fn disk(checks: &mut Checks<'_>, source: &DiskSource) {
    if source.path.is_empty() {
        checks.say("/source/disk/path", "the path of the vendor's disk is empty");
    } else if source.path.chars().any(char::is_control) {
        checks.say("/source/disk/path", format!("{:?} has control characters", source.path));
    }
    if let Some(size) = &source.size {
        checks.parsed("/source/disk/size", notation::size(size));
    }
    if let Some(time) = &source.ssh_timeout {
        checks.parsed("/source/disk/ssh_timeout", notation::duration(time));
    }
}

fn packages(checks: &mut Checks<'_>, recipe: &Recipe) {
    checks.entries("/packages", &recipe.packages, |text| notation::vendor_package(text).map(drop));
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for entry in &recipe.packages {
        let Ok((name, _)) = notation::vendor_package(entry) else { continue };
        if let Some(other) = seen.insert(name, entry) {
            let message = format!("`{name}` is named twice: `{other}` and `{entry}`");
            checks.found.push(checks.document.at_entry("/packages", entry, message));
        }
    }
}

fn modules(checks: &mut Checks<'_>, recipe: &Recipe) {
    for module in &recipe.kernel.modules {
        let message = format!(
            "`{module}`: the initrd of a vendor's disk is the vendor's, and rekiln puts no module into it"
        );
        let found = checks.document.at_entry("/kernel/modules", module, message);
        checks.found.push(found.help(format!(
            "the vendor's kernel has its modules in the root; one that is to be loaded at boot is named in a [[file]], /etc/modules-load.d/{module}.conf"
        )));
    }
}

fn no_machine(checks: &mut Checks<'_>, recipe: &Recipe) {
    for (index, run) in recipe.runs.iter().enumerate() {
        let flags = [
            ("reboot", run.reboot, "nothing runs there to be rebooted"),
            ("expect_disconnect", run.expect_disconnect, "nothing runs there to be disconnected from"),
        ];
        for (key, _, why) in flags.into_iter().filter(|(_, set, _)| *set) {
            let message = format!(
                "{why}: scripts run in a tree, and only on a vendor's disk or AMI ([source] disk, ami) in a machine"
            );
            checks.say(&format!("/run/{index}/{key}"), message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::found;

    const DIGEST: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn derived(disk: &str, rest: &str) -> Vec<String> {
        found(&format!("source = {{ disk = {{ sha256 = '{DIGEST}', {disk} }} }}\n{rest}"))
    }

    #[test]
    fn disks() {
        for (disk, expected) in [
            ("path = 'vendor.qcow2'", None),
            ("path = '/srv/vendor.raw', size = '8G'", None),
            ("path = ''", Some("1:105 the path of the vendor's disk is empty")),
            ("path = 'x', size = '0G'", Some("1:117 `0G` is not a size such as \"256M\" or \"1G\"")),
            ("path = 'x', size = '8GB'", Some("1:117 `8GB` is not a size such as \"256M\" or \"1G\"")),
        ] {
            assert_eq!(derived(disk, ""), expected.into_iter().collect::<Vec<_>>(), "{disk}");
        }
    }

    #[test]
    fn packages_by_exact_name() {
        let packages = |list: &str| derived("path = 'x'", &format!("packages = [{list}]"));
        let good = "'nginx-light=1.22.1-9', 'g++', 'NetworkManager', 'python3.11', 'compat_x', 'vim=2:9.0~rc1-1', \
                    'bash=5.2.26-3.el9'";
        assert_eq!(packages(good), Vec::<String>::new());
        for bad in [
            "nginx*",
            "@web",
            "nginx-",
            "-o",
            "--purge",
            "nginx=",
            "=1",
            "nginx=1 2",
            "a/b",
            "",
            "x=1*",
            "^a$",
        ] {
            let expected = format!(
                "2:13 `{bad}` is not the exact name of a package, or one with a version such as \"nginx=1.22.1-9\""
            );
            assert_eq!(packages(&format!("'{bad}'")), [expected], "{bad}");
        }
        assert_eq!(packages("'nginx', 'nginx=1'"), ["2:22 `nginx` is named twice: `nginx` and `nginx=1`"]);
        assert_eq!(
            found("source = { image = 'base' }\npackages = ['nginx=1']"),
            ["2:13 `nginx=1` is not a Debian package name"]
        );
    }

    #[test]
    fn what_only_a_machine_or_only_a_tree_has() {
        let run = "[[run]]\nscript = 'web/site.conf.hbs'\nreboot = true\nexpect_disconnect = true\n";
        let kernel = "[kernel]\nargs = ['quiet']\n";
        assert_eq!(derived("path = 'x'", &format!("{run}{kernel}")), Vec::<String>::new());
        let modules = derived("path = 'x'", "[kernel]\nmodules = ['loop']");
        assert!(
            modules[0].starts_with("3:12 `loop`: the initrd of a vendor's disk is the vendor's"),
            "{modules:?}"
        );
        assert_eq!(
            found(&format!("source = {{ debian = 'bookworm' }}\n{run}")),
            [
                "4:10 nothing runs there to be rebooted: scripts run in a tree, and only on a vendor's disk or AMI ([source] disk, ami) in a machine",
                "5:21 nothing runs there to be disconnected from: scripts run in a tree, and only on a vendor's disk or AMI ([source] disk, ami) in a machine",
            ]
        );
        let not = run.replace("true", "false");
        assert_eq!(found(&format!("source = {{ debian = 'bookworm' }}\n{not}")), Vec::<String>::new());
    }
}
