//! A repository with a recipe `vendor` that is derived from an AMI, and the EC2 that has it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::publish::stage::{Ended, REGION, Stage};
use crate::rolls::stage::{Ground, ground};

/// The account of the tests, and the vendor's.
pub const ACCOUNT: &str = "123456789012";
pub const VENDOR: &str = "136693071363";
/// Disks are sparse; one of a GiB holds a boot sector.
const GIB: u64 = 1 << 30;

/// The EC2 with the vendor's AMI in it.
pub struct Site {
    pub stage: Stage,
    pub ground: Ground,
    pub ami: String,
}

impl Site {
    /// The AMI is of a disk that boots nothing; the instances' addresses begin with `net`.
    pub fn new(net: &str) -> Self {
        let stage = Stage::new();
        let disk = stage.path("vendor.raw");
        fs::write(&disk, [0xeb; 446]).expect("written");
        fs::File::options().write(true).open(&disk).and_then(|file| file.set_len(GIB)).expect("grown");
        Self::of(stage, net, &disk)
    }

    /// The same, of a disk.
    pub fn of(stage: Stage, net: &str, disk: &Path) -> Self {
        stage.cloud.looks(0);
        stage.cloud.control("times", &json!({ "boot": 0, "terminate": 0 }));
        let ground = ground(&stage, 2, net);
        let ami = vendor(&stage, disk, "debian-12-amd64", &json!({ "gib": 2 }));
        stage.no_publish_section();
        let site = Self { stage, ground, ami };
        site.recipe("", "");
        site
    }

    /// Writes the recipe, with more in `[source.ami]` and below, and locks it.
    pub fn recipe(&self, source: &str, rest: &str) {
        self.recipe_of(&self.ami, VENDOR, source, rest);
    }

    pub fn recipe_of(&self, ami: &str, owner: &str, source: &str, rest: &str) {
        let subnets = if source.contains("subnets") {
            String::new()
        } else {
            format!("subnets = {:?}\n", self.ground.subnets)
        };
        let text = format!(
            "[source.ami]\nid = \"{ami}\"\nowner = \"{owner}\"\nregion = \"{REGION}\"\nprivate = true\n{subnets}{source}\n{rest}"
        );
        fs::write(self.stage.repo().join("images/vendor.toml"), text).expect("written");
        self.stage.run(&["lock", "vendor"]).must(0);
    }

    pub fn bake(&self) -> Ended {
        self.stage.run(&["bake", "--no-boot", "vendor"])
    }

    /// Asserts that nothing is left but what was there in the beginning, and returns the instances that there were.
    pub fn nothing_is_left(&self) -> Vec<Value> {
        let state = self.stage.cloud.state();
        let instances = state["instances"].as_array().expect("a list").clone();
        for instance in &instances {
            assert_eq!(instance["state"], "terminated", "{instance}");
        }
        let groups: Vec<&Value> = state["security_groups"].as_array().expect("a list").iter().collect();
        assert!(groups.iter().all(|group| group["name"] == "web"), "{groups:?}");
        let own = |kind: &str| {
            let all = state[kind].as_array().expect("a list").iter();
            all.filter(|one| one["tags"].get("rekiln:run").is_some()).cloned().collect::<Vec<_>>()
        };
        assert_eq!((own("images"), own("snapshots")), (vec![], vec![]));
        assert!(!self.ledger().exists(), "the ledger still has an entry");
        assert_eq!(crate::bake::names(&self.stage.path("store/tmp")), [""; 0]);
        instances
    }

    /// The directory of the ledger's one entry; where it would be when there is none.
    pub fn ledger(&self) -> PathBuf {
        let region = self.stage.path("store/building").join(ACCOUNT).join(REGION);
        match fs::read_dir(&region).ok().and_then(|mut entries| entries.next()) {
            Some(entry) => entry.expect("listed").path(),
            None => region.join("none"),
        }
    }
}

/// Puts a vendor's AMI into EC2 and returns its id.
pub fn vendor(stage: &Stage, disk: &Path, name: &str, more: &Value) -> String {
    let mut given = json!({
        "account": ACCOUNT, "region": REGION, "path": disk, "name": name, "owner": VENDOR, "boot_mode": "legacy-bios",
    });
    for (key, value) in more.as_object().expect("an object") {
        given[key] = value.clone();
    }
    stage.cloud.control("vendor", &given)["ami"].as_str().expect("an id").to_owned()
}
