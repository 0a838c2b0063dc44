//! A bake stops when anything is not what is written down.

use std::fs;
use std::process::Command;

use rekiln::lock::Role;

use super::ground::{Site, ground, names, scratch, turn};

#[test]
fn a_changed_byte_in_the_vault_stops_the_bake() {
    let _turn = turn();
    let dir = scratch();
    let site = ground().empty(dir.path(), "store");
    refuses_damaged(&site, Role::Root);
    // Everything but the kernel is there already.
    let layers = site.store.join("layers");
    fs::remove_dir_all(&layers).expect("removed");
    let link =
        Command::new("cp").arg("-al").arg(ground().site.store.join("layers")).arg(&site.store).status();
    assert!(link.expect("cp runs").success());
    for name in names(&layers) {
        if layers.join(&name).join("initrd").exists() {
            fs::remove_dir_all(layers.join(name)).expect("removed");
        }
    }
    refuses_damaged(&site, Role::Kernel);
}

/// Changes a byte of the first package of base with this role, and sees the bake name it.
fn refuses_damaged(site: &Site, role: Role) {
    let lock = site.lock("base");
    let package = lock.packages.iter().find(|package| package.role == role).expect("a package");
    let path = site.store().vault(package.sha256);
    let whole = fs::read(&path).expect("read");
    let mut bytes = whole.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    // A new file: the old one is a hard link into the shared vault.
    fs::remove_file(&path).expect("removed");
    fs::write(&path, bytes).expect("written");
    let said = site.refused(&["bake", "--no-boot", "base"], 1);
    assert!(said.contains(&package.sha256.to_string()) && said.contains("damaged"), "{said}");
    assert!(said.contains(&package.name), "{said}");
    site.holds_only(&[]);
    fs::write(&path, whole).expect("written");
}

#[test]
fn a_lock_that_does_not_fit_is_refused() {
    let _turn = turn();
    let dir = scratch();
    let site = ground().warm(dir.path());
    site.edit("images/web.toml", "packages = [\"nginx-light\"]", "packages = [\"nginx-light\", \"curl\"]");
    let said = site.refused(&["bake", "--no-boot", "web"], 2);
    assert!(
        said.contains("images/web.lock")
            && said.contains("the package curl is in the recipe and not in the lock"),
        "{said}"
    );
    assert!(said.contains("rekiln lock web"), "{said}");

    let site = ground().warm(&dir.path().join("parent"));
    let base = site.read("images/base.lock");
    site.write("images/base.lock", &base.replace("version = 1\n", "version = 1\n# another\n"));
    let said = site.refused(&["bake", "--no-boot", "web"], 2);
    assert!(said.contains("the lock of the recipe it stands on has changed"), "{said}");

    let site = ground().warm(&dir.path().join("tools"));
    let locked = site.lock("web").tools["mkfs.erofs"].clone();
    site.edit("images/web.lock", &format!("\"mkfs.erofs\" = \"{locked}\""), "\"mkfs.erofs\" = \"0.1\"");
    let said = site.refused(&["bake", "--no-boot", "web"], 1);
    assert!(said.contains(&format!("mkfs.erofs: locked 0.1, here {locked}")), "{said}");
}

#[test]
fn an_unknown_variable_is_an_error_with_its_line() {
    let _turn = turn();
    let dir = scratch();
    let site = ground().warm(dir.path());
    site.edit("bootstrap/web/index.html.hbs", "<h1>{{greeting}}</h1>", "<h1>{{greetign}}</h1>");
    let said = site.refused(&["bake", "--no-boot", "web"], 2);
    assert!(said.contains("bootstrap/web/index.html.hbs:4") && said.contains("greetign"), "{said}");
    assert!(said.contains("`greeting`"), "the nearest right spelling: {said}");
}
