//! Configurations of GRUB as distributions write them.

use super::*;

fn entry(files: &[(&str, &str)]) -> Option<grub::Entry> {
    let mut tree = Tree::default();
    for (path, text) in files {
        tree.plant(path, 0o644, text.as_bytes());
    }
    grub::entry(&tree).expect("it reads")
}

fn cmdline(files: &[(&str, &str)]) -> Option<String> {
    entry(files).map(|entry| entry.cmdline.0)
}

/// As `grub-mkconfig` writes it on Debian, shortened.
const DEBIAN: &str = r#"
if [ "${next_entry}" ] ; then
   set default="${next_entry}"
   set next_entry=
else
   set default="0"
fi
function savedefault {
  saved_entry="${chosen}"
}
menuentry 'Debian GNU/Linux' --class debian $menuentry_id_option 'gnulinux-simple-1' {
	load_video
	linux	/boot/vmlinuz-6.1.0-2 root=PARTUUID=aa ro console=tty0 quiet
	initrd	/boot/initrd.img-6.1.0-2
}
submenu 'Advanced options > all' $menuentry_id_option 'gnulinux-advanced-1' {
	menuentry 'Debian, with Linux 6.1.0-2' --class debian $menuentry_id_option 'gnulinux-6.1.0-2' {
		linux	/boot/vmlinuz-6.1.0-2 root=PARTUUID=aa ro second
	}
	menuentry 'Debian, with Linux 6.1.0-1 (recovery mode)' --id old {
		linux	/boot/vmlinuz-6.1.0-1 root=PARTUUID=aa ro single
	}
}
"#;

#[test]
fn the_default_entry_of_a_menu_counts() {
    let of = |default: &str, environment: &str| {
        let text = DEBIAN.replace("set default=\"0\"", &format!("set default=\"{default}\""));
        cmdline(&[("/boot/grub/grub.cfg", &text), ("/boot/grub/grubenv", environment)])
    };
    let first = Some("root=PARTUUID=aa ro console=tty0 quiet".to_owned());
    assert_eq!(of("0", ""), first);
    assert_eq!(of("gnulinux-simple-1", ""), first);
    let second = Some("root=PARTUUID=aa ro second".to_owned());
    for path in ["1>0", "1", "Advanced options > all", "gnulinux-advanced-1>gnulinux-6.1.0-2"] {
        assert_eq!(of(path, ""), second, "{path}");
    }
    assert_eq!(of("gnulinux-advanced-1>old", ""), Some("root=PARTUUID=aa ro single".to_owned()));
    assert_eq!(of("${saved_entry}", "# GRUB Environment Block\nsaved_entry=1>0\n####\n"), second);
    // GRUB takes the first one for one that is not there.
    assert_eq!(of("${saved_entry}", ""), first);
    assert_eq!(of("gone", ""), first);
}

#[test]
fn what_is_started_is_a_kernel_with_its_initial_file_systems() {
    let menu = entry(&[("/boot/grub/grub.cfg", DEBIAN)]).expect("an entry");
    assert_eq!(menu.kernel, "/boot/vmlinuz-6.1.0-2");
    assert_eq!(menu.initrds, ["/boot/initrd.img-6.1.0-2"]);
    let text = "linux /vmlinuz-1\ninitrd /ucode.img /initrd-1\ninitrd /initrd-2\noptions ro\n";
    let specified = entry(&[("/boot/loader/entries/a.conf", text)]).expect("an entry");
    assert_eq!((specified.kernel.as_str(), specified.initrds.len()), ("/vmlinuz-1", 3));
    let without = DEBIAN.replace("\tinitrd\t", "\techo\t");
    assert_eq!(entry(&[("/boot/grub/grub.cfg", &without)]).expect("an entry").initrds, [""; 0]);
}

#[test]
fn entries_of_the_boot_loader_specification() {
    let config = "set kernelopts=\"root=UUID=b ro\"\nset default=\"${saved_entry}\"\ninsmod blscfg\nblscfg\n";
    let entry = |version: &str| {
        format!(
            "title Linux ({version})\nversion {version}\nlinux /boot/vmlinuz-{version}\noptions root=UUID=a v={version} $tuned_params\n"
        )
    };
    let (old, new) = (entry("6.1.9"), entry("6.1.10"));
    let files = [
        ("/boot/grub2/grub.cfg", config),
        ("/boot/loader/entries/abc-6.1.9.conf", old.as_str()),
        ("/boot/loader/entries/abc-6.1.10.conf", new.as_str()),
        ("/boot/loader/entries/abc-0-rescue.conf", "title rescue\noptions rescue\n"),
    ];
    assert_eq!(cmdline(&files), Some("root=UUID=a v=6.1.10".to_owned()));
    let with = |environment| cmdline(&[&files[..], &[("/boot/grub2/grubenv", environment)]].concat());
    assert_eq!(with("saved_entry=abc-6.1.9\n"), Some("root=UUID=a v=6.1.9".to_owned()));
    let named = entry("1").replace("root=UUID=a", "$kernelopts");
    let only = [("/boot/grub2/grub.cfg", config), ("/boot/loader/entries/a.conf", named.as_str())];
    assert_eq!(cmdline(&only), Some("root=UUID=b ro v=1".to_owned()));
    let with = [&only[..], &[("/boot/grub2/grubenv", "kernelopts=root=c x=y z\n")]].concat();
    assert_eq!(cmdline(&with), Some("root=c x=y z v=1".to_owned()));
    assert_eq!(cmdline(&files[1..3]), Some("root=UUID=a v=6.1.10".to_owned()));
    assert_eq!(cmdline(&[]), None);
    assert_eq!(cmdline(&[("/boot/grub/grub.cfg", "menuentry 'x' {\n")]), None);
}
