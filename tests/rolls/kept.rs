//! Backups of members in an Auto Scaling group: a real database listens at each instance's address, and the machine that restores
//! is played, as in `tests/backup/played.rs`.

use std::fs;

use serde_json::Value;

use super::holding::{patroni, with};
use crate::backup::played::{BUCKET, URL, bootable, programs};
use crate::backup::server::{PASSWORD, Server, directory};
use crate::publish::stage::{Ended, REGION, ended};

#[test]
fn a_member_in_a_group_is_copied_and_proved_by_a_machine_of_this_computer() {
    with(&patroni(), "max_copy = '60s'\n", "60s", |site| {
        let stage = site.group.stage;
        stage.cloud.bucket(REGION, BUCKET);
        programs(&stage.path("bin"));
        for image in fs::read_dir(stage.path("store/images")).expect("images").flatten() {
            bootable(&image.path());
        }
        let cloud = stage.cloud.state();
        let running = cloud["instances"].as_array().expect("instances").iter();
        let addresses: Vec<_> = running.filter_map(|instance| instance["private_ip"].as_str()).collect();
        assert_eq!(addresses.len(), 3, "{cloud:#}");
        let dir = directory();
        let server = Server::at(&dir.path().join("data"), &format!("127.0.0.1,{}", addresses.join(",")));
        let password = stage.path("database-password");
        fs::write(&password, "another:one\n").expect("written");
        let file = stage.repo().join("fleets/web.toml");
        let text = fs::read_to_string(&file).expect("a file");
        let backup = format!(
            "{text}[backup]\ntarget = '{URL}?region={REGION}'\nquery = 'SELECT 7'\nat_least = 7\n\
             [backup.login]\nport = {}\npassword_file = '{}'\n[backup.machine]\nmemory = '64M'\ndata = '1G'\n",
            server.port,
            password.display()
        );
        fs::write(&file, backup).expect("written");
        let run = |args: &[&str]| -> Ended {
            let usual = std::env::var("PATH").expect("a path");
            let mut command = stage.command(args);
            command.env("PATH", format!("{}:{usual}", stage.path("bin").display()));
            ended(&mut command)
        };

        let refused = run(&["backup", "run", "web"]).must(1);
        assert!(refused.stderr.contains("password authentication failed"), "{}", refused.stderr);
        assert!(refused.stderr.contains("`[backup.login]`"), "{}", refused.stderr);
        assert!(!refused.stderr.contains("another:one"), "{}", refused.stderr);

        let odd = r"with:signs\of it";
        server.ask(&format!("ALTER ROLE backup PASSWORD '{odd}'"));
        fs::write(&password, format!("{odd}\n")).expect("written");
        let done = run(&["backup", "run", "web"]).must(0);
        let backup = &done.events("backup")[0];
        assert_eq!(backup["proof"]["first"], "7", "{backup:#}");
        let leader = site.cluster.model().leads();
        assert_ne!(backup["source"], Value::from(leader), "one that follows is copied: {backup:#}");
        run(&["backup", "status", "web"]).must(0);
        assert!(!done.stdout.contains(odd) && !done.stderr.contains(odd));
        assert_ne!(odd, PASSWORD);

        // What founds anew is a person's work there, and is not begun.
        let refused = run(&["backup", "restore", "web", "--yes"]).must(2);
        assert!(refused.stderr.contains("is not for"), "{}", refused.stderr);
    });
}
