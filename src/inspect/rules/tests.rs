//! Each rule's violation is planted in a clean tree and must be found, by that rule.

use std::collections::BTreeSet;

use super::*;
use crate::inspect::erofs::Kind;

fn context() -> Context {
    let args: Vec<String> = profile::KERNEL_ARGS
        .iter()
        .map(|(name, values)| match values.first() {
            Some(&"") => (*name).to_owned(),
            Some(value) => format!("{name}={value}"),
            None => format!("{name}=abc"),
        })
        .collect();
    Context {
        disk: DiskKind::Sealed,
        cmdline: Some(Cmdline(args.join(" "))),
        services: Some(vec!["web".to_owned()]),
        ports: vec!["80/tcp".to_owned()],
    }
}

fn clean() -> Tree {
    let mut tree = Tree::default();
    let sysctl: String =
        profile::SYSCTL.iter().flat_map(|(key, values)| [key, " = ", values[0], "\n"]).collect();
    tree.plant("/usr/lib/sysctl.d/50-a.conf", 0o644, sysctl.as_bytes());
    let deny: String =
        profile::DENIED_MODULES.iter().flat_map(|name| ["install ", name, " /bin/false\n"]).collect();
    tree.plant("/usr/lib/modprobe.d/a.conf", 0o644, deny.as_bytes());
    tree.plant("/etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/bash\nweb:x:9:9::/:/usr/sbin/nologin\n");
    tree.plant("/etc/shadow", 0o640, b"root:*:1::::::\nweb:!:1::::::\n");
    tree.plant("/etc/gshadow", 0o640, b"root:*::\nweb:!::\n");
    tree.plant("/etc/group", 0o644, b"root:x:0:\n");
    tree.plant("/etc/machine-id", 0o644, b"");
    tree.plant("/usr/bin/true", 0o755, b"x");
    tree.plant("/var/lib/dpkg/status", 0o644, b"Package: a\n");
    tree.plant_node("/tmp", Kind::Directory, 0o1777, b"", "");
    tree.plant("/usr/lib/systemd/system/getty@.service", 0o644, b"[Service]\nExecStart=-/sbin/agetty %I\n");
    tree.plant_link("/etc/systemd/system/getty@.service", "/dev/null");
    tree.plant("/usr/lib/systemd/system/web.service", 0o644, b"[Service]\nExecStart=/usr/bin/web\n");
    let sandbox: String =
        profile::SANDBOX.iter().flat_map(|(key, values)| [key, "=", values[0], "\n"]).collect();
    let drop_in = format!("[Service]\n{sandbox}");
    tree.plant("/usr/lib/systemd/system/web.service.d/50-a.conf", 0o644, drop_in.as_bytes());
    tree.plant_link(
        "/etc/systemd/system/multi-user.target.wants/web.service",
        "/usr/lib/systemd/system/web.service",
    );
    tree.plant(
        "/usr/lib/systemd/system/web.socket",
        0o644,
        b"[Socket]\nListenStream=80\nListenStream=/run/a\n",
    );
    tree.plant_link(
        "/etc/systemd/system/sockets.target.wants/web.socket",
        "/usr/lib/systemd/system/web.socket",
    );
    tree
}

fn found(tree: &Tree, context: &Context) -> Vec<Finding> {
    apply(tree, context, &[]).expect("the tree reads")
}

fn add(context: &mut Context, argument: &str) {
    context.cmdline.as_mut().expect("there is one").0.push_str(argument);
}

type Plant = fn(&mut Tree, &mut Context);

const VIOLATIONS: &[(&str, Plant)] = &[
    ("ssh-server", |tree, _| tree.plant("/usr/sbin/sshd", 0o755, b"x")),
    ("ssh-server", |tree, _| tree.plant("/usr/lib/systemd/system/ssh.service", 0o644, b"[Service]\n")),
    ("getty", |tree, _| tree.plant("/usr/lib/systemd/system/serial-getty@.service", 0o644, b"[Service]\n")),
    ("getty", |tree, _| tree.plant("/usr/lib/systemd/system/debug-shell.service", 0o644, b"[Service]\n")),
    ("getty", |tree, _| {
        tree.plant(
            "/etc/systemd/system/x.service",
            0o644,
            b"[Service]\nExecStart=-/bin/sh\nStandardInput=tty-force\n",
        );
        tree.plant_link("/etc/systemd/system/basic.target.wants/x.service", "../x.service");
    }),
    ("password", |tree, _| tree.plant("/etc/shadow", 0o640, b"root:$y$j9T$abc:1::::::\n")),
    ("password", |tree, _| tree.plant("/etc/shadow", 0o640, b"root::1::::::\n")),
    ("password", |tree, _| tree.plant("/etc/shadow", 0o640, b"root:!$6$abc:1::::::\n")),
    ("password", |tree, _| tree.plant("/etc/passwd", 0o644, b"root::0:0:root:/root:/bin/bash\n")),
    ("authorized-keys", |tree, _| tree.plant("/root/.ssh/authorized_keys", 0o600, b"ssh-ed25519 A\n")),
    ("authorized-keys", |tree, _| tree.plant("/etc/ssh/authorized_keys.d/x", 0o600, b"ssh-ed25519 A\n")),
    ("cloud-agent", |tree, _| tree.plant("/usr/bin/amazon-ssm-agent", 0o755, b"x")),
    ("cloud-agent", |tree, _| tree.plant("/usr/bin/cloud-init", 0o755, b"x")),
    ("uid0", |tree, _| {
        tree.plant("/etc/passwd", 0o644, b"root:x:0:0::/:/bin/sh\ntoor:x:0:0::/:/usr/sbin/nologin\n");
    }),
    ("login-shell", |tree, _| {
        tree.plant("/etc/passwd", 0o644, b"root:x:0:0::/:/bin/sh\nann:x:1:1::/:/bin/bash\n");
    }),
    ("setuid", |tree, _| tree.plant("/usr/bin/x", 0o4755, b"x")),
    ("setuid", |tree, _| tree.plant("/usr/bin/x", 0o2755, b"x")),
    ("capabilities", |tree, _| {
        tree.plant("/usr/bin/x", 0o755, b"x");
        let value = vec![1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let node = tree.get_mut("/usr/bin/x").expect("it is planted");
        node.xattrs.insert("security.capability".to_owned(), value);
    }),
    ("privilege-tool", |tree, _| tree.plant("/usr/bin/sudo", 0o755, b"x")),
    ("privilege-tool", |tree, _| {
        tree.plant(
            "/etc/sudoers.d/90-cloud-init-users",
            0o440,
            b"# User rules\nubuntu ALL=(ALL) NOPASSWD:ALL\n",
        );
    }),
    ("world-writable", |tree, _| tree.plant("/etc/x", 0o666, b"x")),
    ("world-writable", |tree, _| tree.plant_node("/srv/x", Kind::Directory, 0o777, b"", "")),
    ("path-owner", |tree, _| tree.get_mut("/usr/bin/true").expect("it is there").uid = 9),
    ("device-node", |tree, _| tree.plant_node("/dev/sda", Kind::Block(8, 0), 0o600, b"", "")),
    ("kernel-cmdline", |_, context| add(context, " init=/bin/sh")),
    ("kernel-cmdline", |_, context| add(context, " rekiln.debug=1")),
    ("kernel-cmdline", |_, context| add(context, " lockdown=none")),
    ("kernel-cmdline", |_, context| {
        let cmdline = context.cmdline.as_mut().expect("there is one");
        cmdline.0 = cmdline.0.replace("init_on_alloc=1", "");
    }),
    ("kernel-cmdline", |_, context| context.cmdline = None),
    ("sysctl", |tree, _| tree.plant("/etc/sysctl.d/99-x.conf", 0o644, b"kernel.sysrq = 1\n")),
    ("sysctl", |tree, _| tree.plant("/etc/sysctl.d/50-a.conf", 0o644, b"")),
    ("module-deny", |tree, _| tree.plant("/etc/modprobe.d/a.conf", 0o644, b"")),
    ("denied-module", |tree, _| tree.plant("/usr/lib/modules/6.1/kernel/net/sctp/sctp.ko", 0o644, b"x")),
    ("service-sandbox", |tree, _| {
        tree.plant("/etc/systemd/system/web.service.d/99-x.conf", 0o644, b"[Service]\nNoNewPrivileges=no\n");
    }),
    ("service-sandbox", |_, context| context.services = Some(vec!["missing".to_owned()])),
    ("listening-socket", |_, context| context.ports.clear()),
    ("package-manager", |tree, _| tree.plant("/usr/bin/apt-get", 0o755, b"x")),
    ("package-manager", |tree, _| tree.plant("/var/lib/apt/lists/x", 0o644, b"x")),
    ("host-key", |tree, _| tree.plant("/etc/ssh/ssh_host_rsa_key", 0o600, b"x")),
    ("machine-id", |tree, _| tree.plant("/etc/machine-id", 0o444, b"0123456789abcdef0123456789abcdef\n")),
    ("machine-id", |tree, _| {
        let text = b"network:\n  ethernets:\n    ens5:\n      match: {macaddress: 06:1a:2b:3c:4d:5e}\n";
        tree.plant("/etc/netplan/50-cloud-init.yaml", 0o600, text);
    }),
    ("machine-id", |tree, _| {
        tree.plant("/etc/udev/rules.d/70-persistent-net.rules", 0o644, b"SUBSYSTEM==\"net\"\n");
    }),
    ("machine-secret", |tree, _| tree.plant("/var/lib/dhcp/dhclient.ens5.leases", 0o644, b"lease {\n")),
    ("machine-secret", |tree, _| {
        tree.plant("/var/lib/NetworkManager/internal-1-ens5.lease", 0o644, b"ADDRESS=1\n");
    }),
    ("machine-secret", |tree, _| tree.plant("/var/lib/cloud/instances/i-0123/user-data.txt", 0o600, b"")),
    ("machine-secret", |tree, _| {
        tree.plant_link("/var/lib/cloud/instance", "/var/lib/cloud/instances/i-0123");
    }),
    ("machine-secret", |tree, _| tree.plant("/var/lib/systemd/random-seed", 0o600, b"x")),
    ("history", |tree, _| tree.plant("/root/.bash_history", 0o600, b"")),
    ("log", |tree, _| tree.plant("/var/log/dpkg.log", 0o644, b"x")),
    ("cache", |tree, _| tree.plant("/var/cache/ldconfig/aux-cache", 0o600, b"x")),
    ("credential-file", |tree, _| tree.plant("/root/.netrc", 0o600, b"machine a login b\n")),
    ("secret", |tree, _| tree.plant("/etc/x.pem", 0o600, b"-----BEGIN RSA PRIVATE KEY-----\n")),
    ("secret", |tree, _| tree.plant("/opt/x", 0o600, b"key = AKIAIOSFODNN7EXAMPLE\n")),
];

#[test]
fn a_clean_tree_has_no_finding() {
    assert_eq!(found(&clean(), &context()), []);
}

#[test]
fn every_rule_finds_its_violation() {
    for (rule, plant) in VIOLATIONS {
        let (mut tree, mut context) = (clean(), context());
        plant(&mut tree, &mut context);
        let found: BTreeSet<String> =
            found(&tree, &context).into_iter().map(|finding| finding.rule).collect();
        assert!(found.contains(*rule), "{rule} found {found:?}");
    }
    let tested: BTreeSet<&str> = VIOLATIONS.iter().map(|(rule, _)| *rule).collect();
    let all: BTreeSet<&str> = RULES.iter().map(|rule| rule.name).collect();
    assert_eq!(tested, all, "every rule has a violation here");
}

/// What the profile demands of a vendor's disk is the same but for what its kind makes impossible or necessary.
#[test]
fn the_kind_of_disk_counts_where_it_must() {
    let (mut tree, mut context) = (clean(), context());
    context.disk = DiskKind::Foreign;
    let cmdline = context.cmdline.as_mut().expect("there is one");
    cmdline.0 = cmdline.0.replace("rekiln.image=abc rekiln.roothash=abc", "");
    let rules = |tree: &Tree, context: &Context| -> Vec<(String, String)> {
        found(tree, context).into_iter().map(|finding| (finding.rule, finding.reason)).collect()
    };
    let missing = rules(&tree, &context);
    assert!(missing.len() == 1 && missing[0].1.contains("ProtectSystem"), "{missing:?}");
    let drop_in = b"[Service]\nProtectSystem=strict\n";
    tree.plant("/usr/lib/systemd/system/web.service.d/60-a.conf", 0o644, drop_in);
    assert_eq!(rules(&tree, &context), []);
    tree.plant("/tmp/left", 0o600, b"x");
    tree.plant("/run/left.json", 0o600, b"{}");
    assert_eq!(found(&tree, &context).iter().filter(|finding| finding.rule == "cache").count(), 2);
    context.disk = DiskKind::Sealed;
    assert!(found(&tree, &context).iter().all(|finding| finding.rule == "kernel-cmdline"));
}

#[test]
fn exceptions_accept_what_they_name_and_no_more() {
    let mut tree = clean();
    tree.plant("/usr/bin/x", 0o4755, b"x");
    tree.plant("/usr/bin/y", 0o4755, b"x");
    let exception = |rule: &str, path: &str| Exception {
        rule: rule.to_owned(),
        path: Some(path.to_owned()),
        why: "because".to_owned(),
    };
    let exceptions =
        [exception("setuid", "/usr/bin/x"), exception("log", "/var/log/x"), exception("nonsense", "/")];
    let found = apply(&tree, &context(), &exceptions).expect("the tree reads");
    let seen: Vec<_> =
        found.iter().map(|f| (f.rule.as_str(), f.path.as_str(), f.excepted.is_some())).collect();
    assert_eq!(
        seen,
        [
            ("setuid", "/usr/bin/x", true),
            ("setuid", "/usr/bin/y", false),
            ("unused-exception", "/", false),
            ("unused-exception", "/var/log/x", false),
        ]
    );
}
